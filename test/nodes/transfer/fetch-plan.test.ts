/** The plan of fetches among peers that lie, fail and die, in simulated time: a seed that fails is one run to repeat. */
import { describe, expect, test } from "vitest";
import { FETCH_REFS_IN_FLIGHT_MAX, REFS_PER_REQUEST_MAX } from "../../../nodes/limits.ts";
import { FetchPlan } from "../../../nodes/transfer/fetch-plan.ts";
import type { FetchAction } from "../../../nodes/transfer/fetch-plan.ts";
import { SimulatedClock } from "../../sim/clock.ts";
import { Random } from "../../sim/random.ts";

/** How a peer behaves that is asked for what it may have. */
type Manner = "honest" | "claims all" | "sends wrong bytes" | "is gone";

interface SimulatedPeer {
  readonly name: string;
  readonly manner: Manner;
  readonly has: ReadonlySet<string>;
  /** Milliseconds for a question, and for each chunk. */
  readonly latency: number;
  readonly perChunk: number;
}

class World {
  readonly clock = new SimulatedClock();
  readonly plan = new FetchPlan<SimulatedPeer>();
  readonly got = new Map<string, SimulatedPeer>();
  readonly gone = new Map<string, unknown>();
  readonly fetches = new Map<SimulatedPeer, number>();
  readonly cancelled = new Set<number>();
  readonly #inFlight = new Map<SimulatedPeer, number>();
  readonly #asked = new Set<string>();
  readonly #fetching = new Set<string>();
  readonly #open = new Map<number, { readonly peer: SimulatedPeer; readonly chunks: readonly string[] }>();

  tell(event: (now: number) => void): void {
    event(this.clock.now);
    for (const action of this.plan.takeActions()) this.#do(action);
  }

  want(chunks: readonly string[], peers: readonly SimulatedPeer[]): void {
    this.tell((now) => this.plan.want(chunks, peers, now));
  }

  run(): void {
    while (this.clock.step());
  }

  #do(action: FetchAction<SimulatedPeer>): void {
    if (action.kind === "gone") {
      expect(this.got.has(action.chunk)).toBe(false);
      this.gone.set(action.chunk, action.failure);
    } else if (action.kind === "cancel") {
      this.cancelled.add(action.request);
      this.#leaves(action.request);
    } else if (action.kind === "ask") {
      this.#ask(action);
    } else {
      this.#fetch(action);
    }
  }

  /** Whether the fetch was still under way. */
  #leaves(request: number): boolean {
    const open = this.#open.get(request);
    if (open === undefined) return false;
    this.#open.delete(request);
    this.#inFlight.set(open.peer, this.#inFlight.get(open.peer)! - open.chunks.length);
    for (const chunk of open.chunks) this.#fetching.delete(chunk);
    return true;
  }

  #ask({ request, peer, chunks }: FetchAction<SimulatedPeer> & { kind: "ask" }): void {
    this.clock.after(peer.latency, () => {
      if (peer.manner === "is gone") return this.tell((now) => this.plan.failed(request, "is gone", now));
      const claims = peer.manner === "claims all";
      const bits = Uint8Array.from(chunks, (chunk) => (claims || peer.has.has(chunk) ? 1 : 0));
      this.tell((now) => this.plan.answered(request, bits, now));
    });
    for (const chunk of chunks) this.#asked.add(`${peer.name} ${chunk}`);
  }

  #fetch({ request, peer, chunks }: FetchAction<SimulatedPeer> & { kind: "fetch" }): void {
    this.fetches.set(peer, (this.fetches.get(peer) ?? 0) + chunks.length);
    const inFlight = (this.#inFlight.get(peer) ?? 0) + chunks.length;
    this.#inFlight.set(peer, inFlight);
    expect(inFlight).toBeLessThanOrEqual(FETCH_REFS_IN_FLIGHT_MAX);
    expect(chunks.length).toBeLessThanOrEqual(REFS_PER_REQUEST_MAX);
    this.#open.set(request, { peer, chunks });
    for (const chunk of chunks) {
      expect(this.#asked.has(`${peer.name} ${chunk}`), "fetched from a peer that was not asked").toBe(true);
      expect(this.#fetching.has(chunk), "fetched twice at a time").toBe(false);
      expect(this.got.has(chunk), "fetched again").toBe(false);
      this.#fetching.add(chunk);
    }
    this.clock.after(peer.latency + peer.perChunk * chunks.length, () => {
      if (!this.#leaves(request)) return;
      const lacking = chunks.find((chunk) => !peer.has.has(chunk));
      if (peer.manner === "sends wrong bytes") {
        return this.tell((now) => this.plan.failed(request, "wrong bytes", now));
      }
      if (lacking !== undefined) {
        return this.tell((now) => this.plan.failed(request, "lacks it", now, lacking));
      }
      for (const chunk of chunks) this.got.set(chunk, peer);
      this.tell((now) => this.plan.fetched(request, now));
    });
  }
}

function peer(name: string, has: Iterable<string>, manner: Manner = "honest", perChunk = 0.1): SimulatedPeer {
  return { name, manner, has: new Set(has), latency: 2, perChunk };
}

const names = (count: number, prefix = "c"): string[] =>
  Array.from({ length: count }, (_, index) => `${prefix}${index}`);

describe("a plan of fetches", () => {
  test("asks the most promising peer first, and others only for what it lacks", () => {
    const world = new World();
    const chunks = names(100);
    const first = peer("first", chunks.slice(0, 60));
    const second = peer("second", chunks);
    world.want(chunks, [first, second]);
    world.run();
    expect([...world.got.values()].filter((one) => one === first)).toHaveLength(60);
    expect(world.fetches.get(second)).toBe(40);
    expect(world.plan.size).toBe(0);
  });

  test("a chunk that is nowhere is gone, and the others are not", () => {
    const world = new World();
    world.want([...names(10), "nowhere"], [peer("a", names(5)), peer("b", names(10))]);
    world.run();
    expect([...world.gone]).toEqual([["nowhere", undefined]]);
    expect(world.got.size).toBe(10);
  });

  test("wants that overlap are one fetch", () => {
    const world = new World();
    const a = peer("a", names(50));
    world.want(names(30), [a]);
    world.want(names(50), [a]);
    world.run();
    expect(world.fetches.get(a)).toBe(50);
  });

  test("a peer that lacks one chunk which it claimed still sends the others", () => {
    const world = new World();
    const liar = peer("liar", names(20), "claims all");
    world.want([...names(20), "claimed"], [liar]);
    world.run();
    expect(world.got.size).toBe(20);
    expect([...world.gone]).toEqual([["claimed", "lacks it"]]);
  });

  test("a peer that claims everything costs a few tries, however much it claims", () => {
    const world = new World();
    const liar = peer("liar", [], "claims all");
    const honest = peer("honest", names(256));
    world.want(names(256), [liar, honest]);
    world.run();
    expect(world.got.size).toBe(256);
    expect(world.fetches.get(liar)).toBeLessThan(256 * 5);
  });

  test("what waits for a busy peer is had from another that has it", () => {
    const world = new World();
    const chunks = names(4000);
    const [slow, fast] = [peer("slow", chunks, "honest", 10), peer("fast", chunks, "honest", 0.01)];
    world.want(chunks, [slow, fast]);
    world.run();
    expect(world.got.size).toBe(4000);
    expect(world.fetches.get(fast)).toBeGreaterThan(3000);
  });

  test("others are asked in place of a peer that takes long to say what it has, and it once more", () => {
    const plan = new FetchPlan<string>();
    const asks = (): FetchAction<string>[] => plan.takeActions().filter(({ kind }) => kind === "ask");
    const askOf = (action: FetchAction<string> | undefined): { request: number; peer: string } => {
      expect(action?.kind).toBe("ask");
      return action as FetchAction<string> & { kind: "ask" };
    };
    plan.want(["c"], ["silent", "other"], 0);
    const first = askOf(asks()[0]);
    expect(first.peer).toBe("silent");
    plan.overdue(first.request, 3_000);
    const second = askOf(asks()[0]);
    expect(second.peer).toBe("other");
    plan.overdue(second.request, 6_000);
    const third = askOf(asks()[0]);
    expect(third.peer).toBe("silent");
    plan.overdue(third.request, 9_000);
    const fourth = askOf(asks()[0]);
    expect(fourth.peer).toBe("other");
    // Nobody is left: it waits for that one.
    plan.overdue(fourth.request, 12_000);
    expect(asks()).toEqual([]);
    plan.failed(first.request, "silence", 13_000);
    plan.answered(fourth.request, Uint8Array.of(1), 13_000);
    const [fetch] = plan.takeActions();
    expect(fetch).toMatchObject({ kind: "fetch", peer: "other", chunks: ["c"] });
    plan.fetched((fetch as FetchAction<string> & { kind: "fetch" }).request, 14_000);
    expect(plan.size).toBe(0);
  });

  test("what nobody wants any more is not fetched, and a request is cancelled when nobody wants any of it", () => {
    const world = new World();
    const slow = peer("slow", names(2000), "honest", 10);
    world.want(names(2000), [slow]);
    world.clock.after(100, () => {
      world.tell((now) => world.plan.drop(names(2000), now));
    });
    world.run();
    expect(world.plan.size).toBe(0);
    expect(world.cancelled.size).toBe(3);
    expect(world.fetches.get(slow)).toBe(FETCH_REFS_IN_FLIGHT_MAX);
    world.want(["c1"], [slow]);
    world.run();
    expect(world.got.has("c1")).toBe(true);
  });
});

describe("among peers of every manner", () => {
  const seeds = Array.from({ length: 150 }, (_, seed) => seed);

  test.each(seeds)("seed %i: what an honest peer has is had, and the rest is gone", (seed) => {
    const random = new Random(seed);
    const world = new World();
    const chunks = names(random.integer(1, 1500));
    const manners: Manner[] = ["honest", "honest", "claims all", "sends wrong bytes", "is gone"];
    const peers = Array.from({ length: random.integer(1, 6) }, (_, index): SimulatedPeer => {
      const part = random.next();
      return {
        name: `p${index}`,
        manner: manners[random.integer(0, manners.length - 1)]!,
        has: new Set(chunks.filter(() => random.chance(part))),
        latency: random.between(0.1, 50),
        perChunk: random.between(0.001, 5),
      };
    });
    const dropped = new Set<string>();
    for (let at = 0; at < chunks.length;) {
      const part = chunks.slice(at, (at += random.integer(1, 400)));
      world.clock.after(random.between(0, 200), () => world.want(part, peers));
    }
    if (random.chance(0.5)) {
      for (const chunk of chunks.filter(() => random.chance(0.1))) {
        world.clock.after(random.between(0, 500), () => {
          if (world.got.has(chunk) || world.gone.has(chunk)) return;
          dropped.add(chunk);
          world.tell((now) => world.plan.drop([chunk], now));
        });
      }
    }
    world.run();
    expect(world.plan.size).toBe(0);
    const honest = peers.filter(({ manner }) => manner === "honest");
    for (const chunk of chunks) {
      const holder = world.got.get(chunk);
      if (holder !== undefined) expect(holder.has.has(chunk)).toBe(true);
      else if (!dropped.has(chunk)) {
        expect(world.gone.has(chunk)).toBe(true);
        expect(honest.some(({ has }) => has.has(chunk))).toBe(false);
      }
    }
  });
});
