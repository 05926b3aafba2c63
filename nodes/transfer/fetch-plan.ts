/**
 * Which peer is asked for which chunk: told what happens, it says what to do. It does no I/O and knows no clock of its own,
 * so that a test can let any peers answer, lie and die in any order. `now` is milliseconds of any monotonic clock.
 *
 *   wanted ──▶ asked ──has it──▶ queued ──▶ in flight ──▶ got
 *     ▲          │ has not         │ no room there: the next peer is asked too
 *     └── next ──┴───── failed, lied ◀──────────┘           nobody is left to ask ──▶ gone
 *
 * Peers are asked in the order in which they promise most; only where one has so much to do already that a chunk waits for
 * it is the next one asked too, and then the chunk comes from whichever has room, the faster first. Others are
 * asked in place of a peer that takes long to say what it has. After each call, take the
 * actions and do them.
 */
import { FETCH_REFS_IN_FLIGHT_MAX, REFS_PER_REQUEST_MAX, PEER_LIES_MAX } from "../limits.ts";

export type FetchAction<Peer> =
  /** Ask the peer which of these it has, then tell `answered` or `failed`. */
  | { readonly kind: "ask"; readonly request: number; readonly peer: Peer; readonly chunks: string[] }
  /** Fetch these from the peer, then tell `fetched` or `failed`. */
  | { readonly kind: "fetch"; readonly request: number; readonly peer: Peer; readonly chunks: string[] }
  /** Nobody wants the answer any more; nothing needs to be told of it. */
  | { readonly kind: "cancel"; readonly request: number }
  /** No peer has it that answers. `failure` is what went wrong with the last one that did not just say no. */
  | { readonly kind: "gone"; readonly chunk: string; readonly failure: unknown };

interface WantedChunk<Peer> {
  readonly name: string;
  /** Whom to ask yet, the most promising first. */
  readonly candidates: Peer[];
  /** Whom to ask a second time, because others were asked before they had answered. */
  readonly late: Peer[];
  /** Who has it, as they say. */
  readonly holders: Peer[];
  /** The request that it is part of, 0 for none. */
  request: number;
  failure: unknown;
}

interface PeerState<Peer> {
  readonly peer: Peer;
  /** Chunks that wait for room: the peer has them. */
  readonly queue: Set<WantedChunk<Peer>>;
  /** Chunks that it is sending. */
  inFlight: number;
  /** Requests that it has not answered. */
  requests: number;
  /** How often it lacked what it had said that it has. */
  lies: number;
  /** Chunks per millisecond as of late; 0 before the first have come. */
  rate: number;
}

interface Request<Peer> {
  readonly kind: "ask" | "fetch";
  readonly state: PeerState<Peer>;
  /** In the order that they were named in; what is not wanted any more is left out of `open`. */
  readonly chunks: readonly WantedChunk<Peer>[];
  readonly open: Set<WantedChunk<Peer>>;
  readonly at: number;
}

/** How much the latest request counts in a peer's rate. */
const RATE_WEIGHT = 0.3;

/** Peers are whatever the caller tells apart. */
export class FetchPlan<Peer> {
  readonly #wanted = new Map<string, WantedChunk<Peer>>();
  readonly #peers = new Map<Peer, PeerState<Peer>>();
  readonly #requests = new Map<number, Request<Peer>>();
  readonly #actions: FetchAction<Peer>[] = [];
  #lastRequest = 0;

  takeActions(): FetchAction<Peer>[] {
    return this.#actions.splice(0);
  }

  /** Chunks that are wanted and neither here nor gone. */
  get size(): number {
    return this.#wanted.size;
  }

  /** Wants chunks, those left out that are wanted already, from these peers, the most promising first. */
  want(chunks: Iterable<string>, peers: readonly Peer[], now: number): void {
    for (const { peer, queue, requests } of this.#peers.values()) {
      if (queue.size === 0 && requests === 0 && !peers.includes(peer)) this.#peers.delete(peer);
    }
    const fresh: WantedChunk<Peer>[] = [];
    for (const name of chunks) {
      if (this.#wanted.has(name)) continue;
      const chunk: WantedChunk<Peer> = {
        name,
        candidates: [...peers],
        late: [],
        holders: [],
        request: 0,
        failure: undefined,
      };
      this.#wanted.set(name, chunk);
      fresh.push(chunk);
    }
    this.#next(fresh, now);
  }

  /** Nobody wants these any more. */
  drop(names: Iterable<string>, now: number): void {
    const touched = new Set<number>();
    for (const name of names) {
      const chunk = this.#wanted.get(name);
      if (chunk === undefined) continue;
      touched.add(chunk.request);
      this.#forget(chunk);
    }
    for (const number of touched) {
      const request = this.#requests.get(number);
      if (request === undefined || request.open.size > 0) continue;
      this.#end(number);
      this.#actions.push({ kind: "cancel", request: number });
      this.#fill([request.state], now);
    }
  }

  /** The peer said which of the chunks that it was asked about it has: one byte each, 1 where it does. */
  answered(request: number, bits: Uint8Array, now: number): void {
    const ended = this.#end(request);
    if (ended === undefined) return;
    const { state, chunks, open } = ended;
    const others: WantedChunk<Peer>[] = [];
    chunks.forEach((chunk, index) => {
      if (!open.has(chunk)) return;
      if (bits[index] === 1) {
        chunk.holders.push(state.peer);
        state.queue.add(chunk);
      } else if (chunk.holders.length === 0) {
        others.push(chunk);
      }
    });
    this.#fill([state], now);
    this.#next([...others, ...overflowOf(state)], now);
  }

  /** All chunks of the request are here. */
  fetched(request: number, now: number): void {
    const ended = this.#end(request);
    if (ended === undefined) return;
    const { state, chunks, open, at } = ended;
    const rate = chunks.length / Math.max(1, now - at);
    state.rate = state.rate === 0 ? rate : state.rate + RATE_WEIGHT * (rate - state.rate);
    for (const chunk of open) this.#forget(chunk);
    this.#fill([state], now);
  }

  /**
   * The peer takes long to say what it has. Others are asked instead, and it once more when they have not; what it answers to
   * this request is of no use any more where they were.
   */
  overdue(number: number, now: number): void {
    const request = this.#requests.get(number);
    if (request?.kind !== "ask") return;
    const { state, open } = request;
    const elsewhere = [...open].filter(({ candidates }) => candidates.length > 0);
    for (const chunk of elsewhere) {
      open.delete(chunk);
      chunk.request = 0;
      if (chunk.late.includes(state.peer)) continue;
      chunk.late.push(state.peer);
      chunk.candidates.push(state.peer);
    }
    this.#next(elsewhere, now);
  }

  /**
   * The peer did not do what was asked of it. Where it is known that only `lacking` was the reason (it has not what it said
   * that it had), the others are asked of it again; otherwise none of them is.
   */
  failed(request: number, failure: unknown, now: number, lacking?: string): void {
    const ended = this.#end(request);
    if (ended === undefined) return;
    const { kind, state, open } = ended;
    const isOne =
      kind === "fetch" && [...open].some(({ name }) => name === lacking) && ++state.lies <= PEER_LIES_MAX;
    const others: WantedChunk<Peer>[] = [];
    for (const chunk of open) {
      if (isOne && chunk.name !== lacking) {
        state.queue.add(chunk);
        continue;
      }
      chunk.failure = failure;
      remove(chunk.holders, state.peer);
      others.push(chunk);
    }
    this.#queueAtHolders(others);
    this.#fill(this.#peers.values(), now);
    this.#next(
      others.filter(({ holders }) => holders.length === 0),
      now,
    );
  }

  /** Asks the next candidate of each chunk. Those that have none and no holder are gone. */
  #next(chunks: readonly WantedChunk<Peer>[], now: number): void {
    const byPeer = new Map<Peer, WantedChunk<Peer>[]>();
    for (const chunk of chunks) {
      if (chunk.request !== 0) continue;
      const peer = chunk.candidates.shift();
      if (peer !== undefined) {
        const asked = byPeer.get(peer);
        if (asked === undefined) byPeer.set(peer, [chunk]);
        else asked.push(chunk);
      } else if (chunk.holders.length === 0) {
        this.#forget(chunk);
        this.#actions.push({ kind: "gone", chunk: chunk.name, failure: chunk.failure });
      }
    }
    for (const [peer, asked] of byPeer) this.#begin("ask", this.#stateOf(peer), asked, now);
  }

  /** Fetches from these peers what waits for them, as far as they have room. */
  #fill(states: Iterable<PeerState<Peer>>, now: number): void {
    for (const state of [...states].sort((one, other) => other.rate - one.rate)) {
      while (state.queue.size > 0 && state.inFlight < FETCH_REFS_IN_FLIGHT_MAX) {
        const room = Math.min(REFS_PER_REQUEST_MAX, FETCH_REFS_IN_FLIGHT_MAX - state.inFlight);
        const chunks: WantedChunk<Peer>[] = [];
        for (const chunk of state.queue) {
          if (chunks.length === room) break;
          for (const holder of chunk.holders) this.#peers.get(holder)?.queue.delete(chunk);
          state.queue.delete(chunk);
          this.#takeBack(chunk);
          chunks.push(chunk);
        }
        this.#begin("fetch", state, chunks, now);
      }
    }
  }

  /** Another peer is being asked about the chunk, which comes from elsewhere now; it may be needed yet. */
  #takeBack(chunk: WantedChunk<Peer>): void {
    const asked = this.#requests.get(chunk.request);
    if (asked === undefined) return;
    asked.open.delete(chunk);
    chunk.candidates.unshift(asked.state.peer);
  }

  #queueAtHolders(chunks: readonly WantedChunk<Peer>[]): void {
    for (const chunk of chunks) for (const holder of chunk.holders) this.#stateOf(holder).queue.add(chunk);
  }

  #begin(kind: "ask" | "fetch", state: PeerState<Peer>, chunks: WantedChunk<Peer>[], now: number): void {
    const request = ++this.#lastRequest;
    for (const chunk of chunks) chunk.request = request;
    state.requests++;
    if (kind === "fetch") state.inFlight += chunks.length;
    this.#requests.set(request, { kind, state, chunks, open: new Set(chunks), at: now });
    this.#actions.push({ kind, request, peer: state.peer, chunks: chunks.map(({ name }) => name) });
  }

  #end(request: number): Request<Peer> | undefined {
    const ended = this.#requests.get(request);
    if (ended === undefined) return undefined;
    this.#requests.delete(request);
    for (const chunk of ended.open) chunk.request = 0;
    ended.state.requests--;
    if (ended.kind === "fetch") ended.state.inFlight -= ended.chunks.length;
    return ended;
  }

  #forget(chunk: WantedChunk<Peer>): void {
    this.#wanted.delete(chunk.name);
    for (const holder of chunk.holders) this.#peers.get(holder)?.queue.delete(chunk);
    this.#requests.get(chunk.request)?.open.delete(chunk);
  }

  #stateOf(peer: Peer): PeerState<Peer> {
    let state = this.#peers.get(peer);
    if (state === undefined) {
      state = { peer, queue: new Set(), inFlight: 0, requests: 0, lies: 0, rate: 0 };
      this.#peers.set(peer, state);
    }
    return state;
  }
}

/** What waits for the peer and might be had elsewhere sooner. */
function overflowOf<Peer>({ queue }: PeerState<Peer>): WantedChunk<Peer>[] {
  return [...queue].filter(({ request, candidates }) => request === 0 && candidates.length > 0);
}

function remove<Item>(list: Item[], item: Item): void {
  const index = list.indexOf(item);
  if (index !== -1) list.splice(index, 1);
}
