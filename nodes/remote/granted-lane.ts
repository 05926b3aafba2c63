/**
 * A lane at a node, as a client has it under a grant of the hub: packets go there in pieces, and their answers come back in any
 * order, from a node that is not believed. What it has no answer to is for others.
 */
import { execPackets, wrongAnswerAt } from "../../packets/exec-frame.ts";
import { isOwnFault } from "../../packets/faults.ts";
import { Op, PACKET_BYTES } from "../../packets/layout.ts";
import { atOf, fromAt, opAt, packetCount, renumberPackets } from "../../packets/packet.ts";
import type { LaneListener } from "../../runtime/contracts/executor.ts";
import { GrantAccount } from "../grants/grants.ts";
import { DIRECT_SPARE_FRAMES_MAX, GRANT_RENEW_MS } from "../limits.ts";
import type { RemoteLane } from "./remote-executor.ts";

/** What answers say of their lane: its number is the link's, and nobody looks at it. */
export const ANY_LANE = 1;

/** Packets that are under way in a lane together. */
export interface Piece {
  readonly frame: Uint8Array;
  readonly answers: Uint8Array;
  /** Resolves with the places of those that this lane has no answer to. */
  readonly done: Promise<readonly number[]>;
}

interface Underway {
  readonly base: number;
  readonly count: number;
  readonly frame: Uint8Array;
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

export class GrantedLane implements LaneListener {
  weight: number;
  /** No more packets go there: it ends with those that it has. */
  isLeaving = false;
  #account: GrantAccount;
  #lane: RemoteLane | undefined;
  readonly #over: (isOffence: boolean) => void;
  readonly #underway = new Map<number, Underway>();
  /** Memory of frames whose packets are all answered, of one size: new memory for each makes V8 look for garbage all the time. */
  #spare: Uint8Array[] = [];
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
    const lane = this.#lane!;
    const frame = execPackets(packets, lane.number, base, this.#memory(packets.byteLength));
    try {
      this.#account.take(frame);
    } catch {
      return undefined;
    }
    const count = packetCount(frame);
    this.#nextAt += count;
    const { promise: done, resolve } = Promise.withResolvers<readonly number[]>();
    const answers = new Uint8Array(frame.byteLength);
    const has = new Uint8Array(count);
    const piece = { base, count, frame, answers, has, failed: [], left: count, overtaken: 0, resolve };
    this.#underway.set(base, piece);
    this.#inFlight += count;
    lane.exec(frame);
    return { frame, answers, done };
  }

  #memory(bytes: number): Uint8Array {
    const spare = this.#spare.pop();
    if (spare?.byteLength === bytes) return spare;
    this.#spare = [];
    return new Uint8Array(bytes);
  }

  returned(frame: Uint8Array): void {
    this.#hasAnswered = true;
    if (wrongAnswerAt(frame) >= 0) return this.end(true);
    const count = packetCount(frame);
    for (let index = 0; index < count;) {
      const piece = this.#pieceAt(atOf(frame, index));
      // Of one that was given up there is none.
      const end = index + (piece === undefined ? 1 : this.#runLength(frame, index, count, piece));
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
      renumberPackets(piece.answers, start, end - first, start, ANY_LANE);
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
    // The node has the frame, since it has answered it; who lies about that gets bytes of another frame of its own.
    if (missing.length === 0 && this.#spare.length < DIRECT_SPARE_FRAMES_MAX) this.#spare.push(piece.frame);
    piece.resolve(missing);
    if (this.isLeaving && this.#inFlight === 0) this.end();
  }
}

function isIn({ base, count }: Underway, at: number): boolean {
  return at >= base && at < base + count;
}
