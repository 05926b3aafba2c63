/**
 * A client's loaded program, whose packets go to nodes that the hub grants without passing through it. What is not granted, does not fit,
 * fails for another reason than its own, or is lost with a node, goes through the hub, which does with it what it does with any packet:
 * so whatever happens here costs time and changes no answer.
 *
 *   exec ──▶ pieces ──┬──▶ a node's lane, under its grant ──▶ answered
 *                     │            └── lost, refused, silent ┐
 *                     └──▶ the hub ◀────────────────────────┘
 */
import { WireError, WireErrorCode } from "../errors.ts";
import { execPackets } from "../../packets/exec-frame.ts";
import { isOwnFault } from "../../packets/faults.ts";
import { Op, PACKET_BYTES } from "../../packets/layout.ts";
import { atOf, fromAt, lengthAt, opAt, packetCount, renumberPacket } from "../../packets/packet.ts";
import { invalidPacket } from "../../packets/validate.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { GrantAccount } from "../grants/grants.ts";
import { DIRECT_INPUT_BYTES_MAX, DIRECT_PIECE_PACKETS_MAX, GRANT_RENEW_MS } from "../limits.ts";
import type { DirectNode, GrantedMeta } from "../messages.ts";
import type { NodeLinks } from "./node-links.ts";
import type { RemoteLane } from "./remote-executor.ts";

/** Programs of fewer calls are over before another session would be of use. */
const CALLS_BEFORE = 2;
/** Lane numbers are the link's; what packets say of theirs is not looked at. */
const ANY_LANE = 1;

export interface DirectProgramOptions {
  /** Asks the hub where packets may go. */
  readonly ask: (signal: AbortSignal) => Promise<GrantedMeta>;
  readonly nodes: NodeLinks;
  /** Has the hub execute packets: n × 64 bytes, answered as `exec` answers. */
  readonly relay: (frame: Uint8Array, signal: AbortSignal | undefined) => Promise<Uint8Array>;
}

export class DirectProgram {
  readonly #options: DirectProgramOptions;
  readonly #lanes = new Map<string, GrantedLane>();
  /** Those that sent what is no answer, or none for very long: the hub deals with them. */
  readonly #shunned = new Set<string>();
  /** How much work those do that are reached through the hub alone. */
  #others = 1;
  /** Within what time an honest node answers a packet, says the hub. */
  #packetMs = 0;
  #relaying = 0;
  #calls = 0;
  /** The calls that there were when grants were asked for last. */
  #callsThen = 0;
  #refreshing: Promise<void> | undefined;
  #renewal: NodeJS.Timeout | undefined;
  readonly #closing = new AbortController();
  /** Packets that nodes answered themselves, and that went through the hub. */
  readonly answered = { direct: 0, relayed: 0 };

  constructor(options: DirectProgramOptions) {
    this.#options = options;
  }

  /**
   * Executes EXEC packets (n × 64 bytes, n ≤ FRAME_PACKETS_MAX), as the hub does: with n RETURN or FAULT packets, the i-th for the i-th.
   * Rejects as that does, or with the signal's reason; what a node has of it goes on then, and nobody waits for it.
   */
  async exec(frame: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted();
    this.#calls++;
    if (this.#renewal === undefined && this.#calls >= CALLS_BEFORE) this.#refresh();
    const count = packetCount(frame);
    if (count === 0 || this.#lanes.size === 0 || this.#isForTheHub(frame, count))
      return await this.relay(frame, signal);
    const most = this.#isAlone ? count : DIRECT_PIECE_PACKETS_MAX;
    if (count <= most) return await this.#piece(frame, signal);
    // Nothing of a frame is run that has something else in it.
    const own = execPackets(frame, ANY_LANE, 0);
    const pieces: Promise<Uint8Array>[] = [];
    for (let first = 0; first < count; first += most)
      pieces.push(this.#piece(own.subarray(first * PACKET_BYTES, (first + most) * PACKET_BYTES), signal));
    const all = new Uint8Array(own.byteLength);
    let first = 0;
    for (const answers of await Promise.all(pieces)) {
      const end = first + packetCount(answers);
      all.set(answers, first * PACKET_BYTES);
      for (let place = first; first > 0 && place < end; place++) renumberPacket(all, place, ANY_LANE, place);
      first = end;
    }
    return all;
  }

  /** Whether one node does it all. */
  get #isAlone(): boolean {
    return this.#lanes.size === 1 && this.#others === 0;
  }

  /** Resolves when all lanes are there that are being loaded under grants. */
  async settled(): Promise<void> {
    await this.#refreshing;
  }

  /** Frees the lanes. What is under way in them rejects with PFS_CANCELLED. */
  async close(): Promise<void> {
    clearTimeout(this.#renewal);
    this.#closing.abort(closedProgram());
    await this.#refreshing;
    for (const lane of this.#lanes.values()) lane.end();
  }

  /** Packets that read much go where the bytes are, which the hub knows. Who is alone in running them fetches them anyhow. */
  #isForTheHub(frame: Uint8Array, count: number): boolean {
    if (this.#isAlone) return false;
    let bytes = 0;
    for (let index = 0; index < count; index++) bytes += lengthAt(frame, index);
    return bytes > count * DIRECT_INPUT_BYTES_MAX;
  }

  /** Answers for packets, numbered from 0, wherever they go. */
  async #piece(frame: Uint8Array, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const lane = this.#laneFor(packetCount(frame));
    const piece = lane?.exec(frame);
    if (lane?.isWaning === true) this.#refresh();
    if (piece === undefined) return await this.relay(frame, signal);
    const missing = await unlessAborted(piece.done, signal);
    const { answers } = piece;
    this.answered.direct += packetCount(answers) - missing.length;
    if (missing.length === 0) return answers;
    this.#closing.signal.throwIfAborted();
    const again = await this.relay(packetsAt(piece.frame, missing), signal);
    for (const [index, place] of missing.entries()) copyAnswer(again, index, answers, place);
    return answers;
  }

  /** The lane that has least to do for what it does, if it has room; undefined when others, behind the hub, have less. */
  #laneFor(count: number): GrantedLane | undefined {
    let best: GrantedLane | undefined;
    let least = this.#others === 0 ? Infinity : (this.#relaying + count) / this.#others;
    for (const lane of this.#lanes.values()) {
      const load = (lane.inFlight + count) / lane.weight;
      if (load > least || lane.room < count || lane.isLeaving) continue;
      best = lane;
      least = load;
    }
    return best;
  }

  /** Has the hub do it. */
  async relay(frame: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    const count = packetCount(frame);
    this.#relaying += count;
    try {
      const answers = await this.#options.relay(frame, signal);
      this.answered.relayed += count;
      return answers;
    } finally {
      this.#relaying -= count;
    }
  }

  /** Asks for grants, now and as long as packets come. */
  #refresh(): void {
    if (this.#closing.signal.aborted || this.#refreshing !== undefined) return;
    this.#callsThen = this.#calls;
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => this.#look(), GRANT_RENEW_MS).unref();
    this.#refreshing = this.#ask().finally(() => (this.#refreshing = undefined));
  }

  #look(): void {
    this.#renewal = undefined;
    for (const lane of this.#lanes.values()) lane.look(this.#packetMs);
    const isUsed =
      this.#calls > this.#callsThen || [...this.#lanes.values()].some(({ inFlight }) => inFlight > 0);
    if (isUsed) return this.#refresh();
    // Nobody has used it since: what it holds at the nodes is free again, until somebody does.
    this.#calls = 0;
    for (const lane of this.#lanes.values()) lane.leave();
  }

  /** Never rejects: whatever fails, there is the hub. */
  async #ask(): Promise<void> {
    try {
      const { nodes, others, packetMs } = await this.#options.ask(this.#closing.signal);
      this.#packetMs = packetMs;
      await Promise.all(nodes.map((node) => this.#use(node)));
      const granted = new Set(nodes.map(keyOf));
      for (const [key, lane] of this.#lanes) if (!granted.has(key)) lane.leave();
      const missing = nodes.filter((node) => !this.#lanes.has(keyOf(node)));
      this.#others = missing.reduce((sum, { weight }) => sum + weight, others);
    } catch {
      // The lanes that there are go on as long as their grants do.
    }
  }

  /** Never rejects. */
  async #use(node: DirectNode): Promise<void> {
    const key = keyOf(node);
    const { grant, weight } = node;
    const known = this.#lanes.get(key);
    if (known !== undefined && !known.isLeaving) return await known.renew(grant, weight);
    const executors = this.#shunned.has(key) ? undefined : await this.#options.nodes.to(node);
    if (executors === undefined) return;
    const lane = new GrantedLane(new GrantAccount(grant), weight, (isOffence) => {
      if (this.#lanes.get(key) === lane) this.#lanes.delete(key);
      if (isOffence) this.#shunned.add(key);
    });
    const { executor, program, isInline } = grant;
    const loading = { executor, grant, program: isInline ? { inline: program } : program };
    try {
      const loaded = await executors.load(loading, lane, this.#closing.signal);
      if (this.#closing.signal.aborted) return await loaded.close();
      // It may be lost again.
      if (lane.isLeaving) return;
      lane.begin(loaded);
      this.#lanes.set(key, lane);
    } catch {
      // The hub loads it there, or says why it cannot be.
    }
  }
}

function keyOf({ id, grant }: DirectNode): string {
  return `${id}.${grant.executor}`;
}

/** Packets that are under way in a lane together. */
interface Piece {
  readonly frame: Uint8Array;
  readonly answers: Uint8Array;
  /** Resolves with the places of those that this lane has no answer to. */
  readonly done: Promise<readonly number[]>;
}

interface Underway {
  readonly base: number;
  readonly count: number;
  readonly answers: Uint8Array;
  /** By place: 1 when it is answered. */
  readonly has: Uint8Array;
  /** Places whose answers are not the program's own. */
  readonly failed: number[];
  left: number;
  /** How often in a row it was looked at and had no new answers, though something that was sent later was done. */
  overtaken: number;
  readonly resolve: (missing: readonly number[]) => void;
}

/** A lane at a node, as a client has it. */
class GrantedLane {
  weight: number;
  /** No more packets go there: it ends with those that it has. */
  isLeaving = false;
  #account: GrantAccount;
  #lane: RemoteLane | undefined;
  readonly #over: (isOffence: boolean) => void;
  readonly #underway = new Map<number, Underway>();
  /** That which was answered last, since answers come one after the other. */
  #latest: Underway | undefined;
  #inFlight = 0;
  #nextAt = 0;
  /** Of what is done, that which was sent last; and what was seen when it was looked at. */
  #lastDone = 0;
  #hasAnswered = false;
  #quiet = 0;

  constructor(account: GrantAccount, weight: number, over: (isOffence: boolean) => void) {
    this.#account = account;
    this.weight = weight;
    this.#over = over;
  }

  begin(lane: RemoteLane): void {
    this.#lane = lane;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get room(): number {
    return this.#account.room;
  }

  /** Whether it is time for another grant. */
  get isWaning(): boolean {
    return this.#account.isWaning;
  }

  /** Sends packets; undefined when they read more than is granted. Throws PFS_PACKET_INVALID {index, reason}. */
  exec(packets: Uint8Array): Piece | undefined {
    const base = this.#nextAt;
    const frame = execPackets(packets, ANY_LANE, base);
    try {
      this.#account.take(frame);
    } catch {
      return undefined;
    }
    const count = packetCount(frame);
    this.#nextAt += count;
    const { promise: done, resolve } = Promise.withResolvers<readonly number[]>();
    const answers = new Uint8Array(frame.byteLength);
    const state = { failed: [], left: count, overtaken: 0 };
    this.#underway.set(base, { base, count, answers, has: new Uint8Array(count), ...state, resolve });
    this.#inFlight += count;
    this.#lane!.exec(frame);
    return { frame, answers, done };
  }

  returned(frame: Uint8Array): void {
    this.#hasAnswered = true;
    const count = packetCount(frame);
    for (let index = 0; index < count;) {
      const piece = this.#pieceAt(atOf(frame, index));
      // Of one that was given up there is none.
      const end = index + (piece === undefined ? 1 : this.#runLength(frame, index, count, piece));
      for (let each = index; each < end; each++) if (!isAnswer(frame, each)) return this.end(true);
      if (piece !== undefined) this.#take(frame, index, end, piece);
      index = end;
    }
  }

  /** How many answers stand one behind the other as their packets do in the piece: mostly all of a frame. */
  #runLength(frame: Uint8Array, first: number, count: number, { base, count: most }: Underway): number {
    const at = atOf(frame, first);
    const longest = Math.min(count - first, base + most - at);
    let length = 1;
    while (length < longest && atOf(frame, first + length) === at + length) length++;
    return length;
  }

  /** Takes over the answers `first` .. `end`, which are to neighbours. */
  #take(frame: Uint8Array, first: number, end: number, piece: Underway): void {
    const start = atOf(frame, first) - piece.base;
    let taken = 0;
    for (let place = start; place < start + end - first; place++) {
      if (piece.has[place] === 1) continue;
      piece.has[place] = 1;
      taken++;
      const index = first + place - start;
      if (opAt(frame, index) === Op.FAULT && !isOwnFault(fromAt(frame, index))) piece.failed.push(place);
    }
    // A second answer to a packet is as good as the first, and those that failed are replaced by the hub's.
    if (taken > 0) {
      piece.answers.set(frame.subarray(first * PACKET_BYTES, end * PACKET_BYTES), start * PACKET_BYTES);
      for (let place = start; piece.base > 0 && place < start + end - first; place++)
        renumberPacket(piece.answers, place, ANY_LANE, place);
    }
    piece.left -= taken;
    piece.overtaken = 0;
    if (piece.left === 0) this.#finish(piece, piece.failed);
  }

  logged(): void {
    // Programs that are loaded by themselves have nobody who reads it.
  }

  noted(): void {}

  lost(): void {
    this.end();
  }

  /** Never rejects: a lane whose grant is not renewed ends with it. */
  async renew(grant: GrantAccount["grant"], weight: number): Promise<void> {
    try {
      await this.#lane!.renew(grant);
    } catch {
      return this.leave();
    }
    const account = new GrantAccount(grant);
    account.inherit(this.#inFlight);
    this.#account = account;
    this.weight = weight;
  }

  /**
   * To be called every GRANT_RENEW_MS. Each packet is answered within `packetMs`, whatever becomes of it: a node that has said nothing
   * for so long, or goes on with others, leaves the rest to the hub.
   */
  look(packetMs: number): void {
    const most = Math.ceil(packetMs / GRANT_RENEW_MS);
    this.#quiet = this.#inFlight > 0 && !this.#hasAnswered ? this.#quiet + 1 : 0;
    this.#hasAnswered = false;
    for (const piece of this.#underway.values()) if (piece.base < this.#lastDone) piece.overtaken++;
    const isLeft = [...this.#underway.values()].some(({ overtaken }) => overtaken > most);
    if (this.#quiet > most || isLeft) this.end(true);
  }

  leave(): void {
    this.isLeaving = true;
    if (this.#inFlight === 0) this.end();
  }

  /** It is lost, or closed: what is under way is done by others. */
  end(isOffence = false): void {
    const lane = this.#lane;
    this.#lane = undefined;
    this.isLeaving = true;
    this.#over(isOffence);
    for (const piece of this.#underway.values()) this.#passOn(piece);
    this.#underway.clear();
    void lane?.close();
  }

  #pieceAt(at: number): Underway | undefined {
    if (this.#latest !== undefined && isIn(this.#latest, at) && this.#latest.left > 0) return this.#latest;
    for (const piece of this.#underway.values()) if (isIn(piece, at)) return (this.#latest = piece);
    return undefined;
  }

  /** The hub does what is not answered. */
  #passOn(piece: Underway): void {
    const missing = [...piece.failed];
    for (let place = 0; place < piece.count; place++) if (piece.has[place] === 0) missing.push(place);
    piece.resolve(missing);
  }

  #finish(piece: Underway, missing: readonly number[]): void {
    this.#underway.delete(piece.base);
    this.#lastDone = Math.max(this.#lastDone, piece.base);
    if (this.#latest === piece) this.#latest = undefined;
    this.#inFlight -= piece.count;
    this.#account.answered(piece.count);
    piece.resolve(missing);
    if (this.isLeaving && this.#inFlight === 0) this.end();
  }
}

function isAnswer(frame: Uint8Array, index: number): boolean {
  if (invalidPacket(frame, index) !== null) return false;
  const op = opAt(frame, index);
  return op === Op.RETURN || op === Op.FAULT;
}

/** Puts a lane's answer to its place among those of a piece, with that as its number. */
function copyAnswer(frame: Uint8Array, index: number, answers: Uint8Array, place: number): void {
  answers.set(frame.subarray(index * PACKET_BYTES, (index + 1) * PACKET_BYTES), place * PACKET_BYTES);
  renumberPacket(answers, place, ANY_LANE, place);
}

function closedProgram(): WireError {
  return new WireError(WireErrorCode.cancelled, "the program is closed");
}

function isIn({ base, count }: Underway, at: number): boolean {
  return at >= base && at < base + count;
}

function packetsAt(frame: Uint8Array, places: readonly number[]): Uint8Array {
  const packets = new Uint8Array(places.length * PACKET_BYTES);
  for (const [index, place] of places.entries())
    packets.set(frame.subarray(place * PACKET_BYTES, (place + 1) * PACKET_BYTES), index * PACKET_BYTES);
  return packets;
}
