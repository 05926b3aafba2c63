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
import { PACKET_BYTES } from "../../packets/layout.ts";
import { lengthSum, packetCount, renumberPackets } from "../../packets/packet.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { GrantAccount } from "../grants/grants.ts";
import { DIRECT_INPUT_BYTES_MAX, DIRECT_PIECE_PACKETS_MAX, GRANT_RENEW_MS } from "../limits.ts";
import type { DirectNode, GrantedMeta } from "../messages.ts";
import { ANY_LANE, GrantedLane } from "./granted-lane.ts";
import type { NodeLinks } from "./node-links.ts";

/** Programs of fewer calls are over before another session would be of use. */
const CALLS_BEFORE = 2;

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
  /** Those in whose places others are by now, until they have answered. */
  readonly #former = new Set<GrantedLane>();
  /** Those that sent what is no answer, or none for very long: the hub deals with them. */
  readonly #shunned = new Set<string>();
  /** How much work those do that are reached through the hub alone. */
  #others = 1;
  /** Within what time an honest node answers a packet, says the hub. */
  #packetMs = 0;
  #relaying = 0;
  #calls = 0;
  /** The calls that there were when it was looked at last. */
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
  exec(frame: Uint8Array, signal?: AbortSignal): Promise<Uint8Array> {
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
    this.#calls++;
    if (this.#renewal === undefined && this.#calls >= CALLS_BEFORE) this.#keepGranted();
    const count = packetCount(frame);
    if (count === 0 || this.#lanes.size === 0 || this.#isForTheHub(frame, count))
      return this.relay(frame, signal);
    const most = this.#isAlone ? count : DIRECT_PIECE_PACKETS_MAX;
    return count <= most ? this.#piece(frame, signal) : this.#pieces(frame, most, signal);
  }

  /** At several nodes, each with `most` packets at a time. */
  async #pieces(frame: Uint8Array, most: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    const count = packetCount(frame);
    // Nothing of a frame is run that has something else in it.
    const own = execPackets(frame, ANY_LANE, 0);
    const pieces: Promise<Uint8Array>[] = [];
    for (let first = 0; first < count; first += most)
      pieces.push(this.#piece(own.subarray(first * PACKET_BYTES, (first + most) * PACKET_BYTES), signal));
    const all = new Uint8Array(own.byteLength);
    let first = 0;
    for (const answers of await Promise.all(pieces)) {
      all.set(answers, first * PACKET_BYTES);
      renumberPackets(all, first, packetCount(answers), first);
      first += packetCount(answers);
    }
    return all;
  }

  get #all(): readonly GrantedLane[] {
    return [...this.#lanes.values(), ...this.#former];
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
    for (const lane of this.#all) lane.end();
  }

  /** Packets that read much go where the bytes are, which the hub knows. Who is alone in running them fetches them anyhow. */
  #isForTheHub(frame: Uint8Array, count: number): boolean {
    return !this.#isAlone && lengthSum(frame, count) > count * DIRECT_INPUT_BYTES_MAX;
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

  /** Asks for grants, now and as long as packets come; how the lanes do is looked at as often, however long the hub takes to answer. */
  #keepGranted(): void {
    if (this.#closing.signal.aborted) return;
    this.#refresh();
    this.#callsThen = this.#calls;
    this.#renewal = setTimeout(() => this.#look(), GRANT_RENEW_MS).unref();
  }

  /** Asks for grants, unless that is being done. */
  #refresh(): void {
    this.#refreshing ??= this.#ask().finally(() => (this.#refreshing = undefined));
  }

  #look(): void {
    this.#renewal = undefined;
    for (const lane of this.#all) lane.look(this.#packetMs);
    const isUsed = this.#calls > this.#callsThen || this.#all.some(({ inFlight }) => inFlight > 0);
    if (isUsed) return this.#keepGranted();
    // Nobody has used it since: what it holds at the nodes is free again, until somebody does.
    this.#calls = 0;
    for (const lane of this.#lanes.values()) lane.leave();
  }

  /** Never rejects: whatever fails, there is the hub. */
  async #ask(): Promise<void> {
    try {
      const { signal } = this.#closing;
      const { nodes, others, packetMs } = await this.#options.ask(signal);
      this.#packetMs = packetMs;
      // A node that cannot be reached keeps nobody from closing the program.
      await unlessAborted(Promise.all(nodes.map((node) => this.#use(node))), signal);
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
      this.#former.delete(lane);
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
      const former = this.#lanes.get(key);
      if (former !== undefined) this.#former.add(former);
      this.#lanes.set(key, lane);
    } catch {
      // The hub loads it there, or says why it cannot be.
    }
  }
}

function keyOf({ id, grant }: DirectNode): string {
  return `${id}.${grant.executor}`;
}

/** Puts a lane's answer to its place among those of a piece, with that as its number. */
function copyAnswer(frame: Uint8Array, index: number, answers: Uint8Array, place: number): void {
  answers.set(frame.subarray(index * PACKET_BYTES, (index + 1) * PACKET_BYTES), place * PACKET_BYTES);
  renumberPackets(answers, place, 1, place);
}

function closedProgram(): WireError {
  return new WireError(WireErrorCode.cancelled, "the program is closed");
}

function packetsAt(frame: Uint8Array, places: readonly number[]): Uint8Array {
  const packets = new Uint8Array(places.length * PACKET_BYTES);
  for (const [index, place] of places.entries())
    packets.set(frame.subarray(place * PACKET_BYTES, (place + 1) * PACKET_BYTES), index * PACKET_BYTES);
  return packets;
}
