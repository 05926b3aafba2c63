/**
 * Two cores joined by a made-up connection and a made-up clock. By seed, messages are late, come twice, change places or
 * get lost; whatever happens, every request ends once, with its own answer or with an error.
 */
import { describe, expect, test } from "vitest";
import { EnvelopeFlag, MessageType, encodeEnvelope } from "../../../packets/envelope.ts";
import type { Priority } from "../../../packets/envelope.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { LINK_QUEUE_BYTES_MAX, LINK_WINDOW_BYTES, PEER_LOST_MS, TICK_MS } from "../../../nodes/limits.ts";
import { SessionCore } from "../../../nodes/wire/session/session-core.ts";
import { closedHere } from "../../../nodes/wire/session/errors.ts";
import { Random } from "../../packets/seed.ts";

const { OK, WANT, FILE_DATA, EXEC, PING } = MessageType;

interface Faults {
  readonly twice: number;
  readonly late: number;
  readonly lost: number;
}

interface Outcome {
  readonly answers: string[];
  ends: number;
  error?: PacketfsError;
}

class Side {
  readonly core: SessionCore;
  readonly outcomes = new Map<string, Outcome>();
  readonly #names = new Map<number, string>();
  readonly answered = new Set<string>();
  notified: number[] = [];
  #said = 0;
  closed: PacketfsError | undefined;
  readonly #random: Random;

  constructor(name: string, random: Random) {
    this.core = new SessionCore(name, 0);
    this.#random = random;
  }

  /** Does one thing that a user of a link may do. */
  act(name: string, now: number): void {
    const random = this.#random;
    if (this.core.closed !== undefined) return;
    const priority = random.below(3) as Priority;
    const chunks = new Uint8Array(random.below(4) === 0 ? random.below(2_000_000) : random.below(2_000));
    if (random.below(5) === 0)
      return this.core.notify({ type: EXEC, priority: 1, meta: { number: this.#said++ } });
    const isStream = random.below(3) === 0;
    const timeoutMs = random.below(4) === 0 ? 50 + random.below(3_000) : undefined;
    const outcome: Outcome = { answers: [], ends: 0 };
    this.outcomes.set(name, outcome);
    const message = { type: WANT, priority, meta: { name, isStream }, chunks };
    const request = this.core.ask(message, { isStream, timeoutMs }, now);
    this.#names.set(request, name);
    if (random.below(12) === 0) this.core.withdraw(request, closedHere());
  }

  carryOut(): void {
    for (const action of this.core.takeActions()) {
      switch (action.kind) {
        case "asked": {
          const { name, isStream } = action.message.meta as { name: string; isStream: boolean };
          expect(this.answered.has(name)).toBe(false);
          this.answered.add(name);
          const parts = isStream ? this.#random.below(8) : 0;
          for (let index = 0; index < parts; index++) {
            const chunks = new Uint8Array(this.#random.below(900_000));
            const priority = this.#random.below(3) as Priority;
            this.core.answer(
              action.request,
              { type: FILE_DATA, priority, meta: `${name} ${index}`, chunks },
              false,
            );
          }
          this.core.answer(action.request, { type: OK, meta: `${name} ${parts} last` }, true);
          break;
        }
        case "notified":
          this.notified.push((action.message.meta as { number: number }).number);
          break;
        case "answered": {
          const outcome = this.outcomes.get(this.#names.get(action.request)!)!;
          outcome.answers.push(action.message.meta as string);
          if (action.isLast) outcome.ends++;
          else this.core.taken(action.request, action.cost);
          break;
        }
        case "failed": {
          const outcome = this.outcomes.get(this.#names.get(action.request)!)!;
          outcome.ends++;
          outcome.error = action.error;
          break;
        }
        case "closed":
          expect(this.closed).toBeUndefined();
          this.closed = action.error;
          break;
        case "silence":
        case "withdrawn":
        case "room":
      }
    }
  }
}

interface Delivery {
  readonly at: number;
  readonly to: Side;
  readonly parts: Uint8Array[];
}

function simulate(seed: number, faults: Faults): { sides: [Side, Side]; maxInFlight: number } {
  const random = new Random(seed);
  const sides: [Side, Side] = [new Side("b", random), new Side("a", random)];
  const wire: Delivery[] = [];
  let arrival = 0;
  let inFlight = 0;
  let maxInFlight = 0;
  let asked = 0;
  for (let now = 0; now < 60_000; now += 10) {
    for (const [index, side] of sides.entries()) {
      if (now < 3_000 && random.below(3) === 0) side.act(`${index}:${asked++}`, now);
      if (now % TICK_MS === 0) side.core.tick(now);
      for (let parts = side.core.next(now); parts !== undefined; parts = side.core.next(now)) {
        const bytes = parts.reduce((sum, part) => sum + part.byteLength, 0);
        // In order, unless this message is one of those that are late.
        arrival = Math.max(arrival, now + 1 + random.below(20));
        const chance = random.below(1000) / 1000;
        if (chance < faults.lost) continue;
        const at = chance < faults.lost + faults.late ? arrival + random.below(100) : arrival;
        wire.push({ at, to: sides[1 - index]!, parts });
        inFlight += bytes;
        if (random.below(1000) / 1000 < faults.twice)
          wire.push({ at: at + random.below(50), to: sides[1 - index]!, parts });
      }
      side.carryOut();
    }
    maxInFlight = Math.max(maxInFlight, inFlight);
    wire.sort((x, y) => x.at - y.at);
    while (wire.length > 0 && wire[0]!.at <= now) {
      const { to, parts } = wire.shift()!;
      inFlight -= parts.reduce((sum, part) => sum + part.byteLength, 0);
      to.core.receive(parts, now);
      to.carryOut();
    }
    if (now > 3_000 && sides.every((side) => [...side.outcomes.values()].every(({ ends }) => ends > 0)))
      break;
  }
  return { sides, maxInFlight };
}

/** Every request ended once, with its own answers in order, or with an error after a beginning of them. */
function check(side: Side): void {
  for (const [name, { answers, ends, error }] of side.outcomes) {
    expect(ends).toBe(1);
    answers.forEach((answer, index) => expect(answer).toMatch(new RegExp(`^${name} ${index}( last)?$`)));
    if (error === undefined) expect(answers.at(-1)).toMatch(/last$/);
  }
  expect(side.notified).toEqual(side.notified.map((_, index) => index));
}

describe("by seed", () => {
  const seeds = Array.from({ length: 6 }, (_, index) => index + 1);

  test.each(seeds)("in order, some twice: everything is answered (%i)", (seed) => {
    const { sides, maxInFlight } = simulate(seed, { twice: 0.2, late: 0, lost: 0 });
    expect(maxInFlight).toBeLessThan(3 * LINK_WINDOW_BYTES);
    for (const side of sides) {
      check(side);
      expect(side.closed).toBeUndefined();
      expect(side.outcomes.size).toBeGreaterThan(20);
      for (const { error } of side.outcomes.values()) {
        if (error !== undefined) expect(["PFS_REQUEST_TIMEOUT", "PFS_LINK_CLOSED"]).toContain(error.code);
      }
    }
  });

  test.each(seeds)("late, lost and twice: it ends, and everything with it (%i)", (seed) => {
    const { sides } = simulate(seed, { twice: 0.1, late: 0.05, lost: 0.02 });
    for (const side of sides) {
      check(side);
      expect(side.closed?.code).toBe("PFS_NODE_LOST");
    }
  });
});

/** Hands everything that one side has to say to the other. */
function deliver(from: SessionCore, to: SessionCore, now: number): number {
  let messages = 0;
  for (let parts = from.next(now); parts !== undefined; parts = from.next(now)) {
    to.receive(parts, now);
    messages++;
  }
  return messages;
}

test("silence is broken twice at least before it is loss", () => {
  const [a, b] = [new SessionCore("b", 0), new SessionCore("a", 0)];
  for (let now = 0; now <= 20_000; now += TICK_MS) {
    a.tick(now);
    b.tick(now);
    deliver(a, b, now);
    deliver(b, a, now);
  }
  expect(a.closed).toBeUndefined();
  const pings = [];
  for (let now = 20_000; b.closed === undefined; now += TICK_MS) {
    a.tick(now);
    b.tick(now);
    for (let parts = a.next(now); parts !== undefined; parts = a.next(now)) pings.push(now);
    if (b.closed !== undefined) expect(now - 20_000).toBeLessThanOrEqual(PEER_LOST_MS + 1_100);
    expect(now).toBeLessThan(20_000 + 2 * PEER_LOST_MS);
  }
  expect(b.closed.code).toBe("PFS_NODE_LOST");
  expect(pings.length).toBeGreaterThanOrEqual(2);
});

test("a process that stood still does not take its own silence for the peer's", () => {
  const core = new SessionCore("peer", 0);
  core.tick(100);
  core.tick(60_000);
  expect(core.closed).toBeUndefined();
  for (let now = 60_000; now < 61_000 + 2 * PEER_LOST_MS; now += TICK_MS) core.tick(now);
  expect(core.closed?.code).toBe("PFS_NODE_LOST");
});

test("a loop that is busy turn after turn does not take its own lateness for the peer's", () => {
  const core = new SessionCore("peer", 0);
  const request = core.ask({ type: WANT }, { timeoutMs: 5_000 }, 0);
  // Turns of 0.9 s: what the peer says waits behind the work of others for half a minute.
  for (let now = 900; now <= 20_000; now += 900) core.tick(now);
  expect(core.takeActions()).toEqual([]);
  core.receive([encodeEnvelope({ type: OK, request, flags: EnvelopeFlag.REPLY, counter: 1 })], 30_000);
  expect(core.takeActions()).toMatchObject([{ kind: "answered", request }]);
  expect(core.closed).toBeUndefined();
});

test("a message that takes long on a slow line is announced, and waited for", () => {
  const [a, b] = [new SessionCore("b", 0), new SessionCore("a", 0)];
  a.notify({ type: EXEC, chunks: new Uint8Array(4 * 1024 * 1024) });
  const announcement = a.next(0)!;
  expect(announcement).toHaveLength(1);
  b.receive(announcement, 0);
  for (let now = 0; now < 15_000; now += TICK_MS) b.tick(now);
  expect(b.closed).toBeUndefined();
  b.receive(a.next(0)!, 15_000);
  expect(b.takeActions().map(({ kind }) => kind)).toContain("notified");
  for (let now = 15_000; now < 15_000 + 2 * PEER_LOST_MS; now += TICK_MS) b.tick(now);
  expect(b.closed?.code).toBe("PFS_NODE_LOST");
});

test("control passes when the window is closed", () => {
  const [a, b] = [new SessionCore("b", 0), new SessionCore("a", 0)];
  for (let count = 0; count < 20; count++)
    a.notify({ type: EXEC, priority: 2, chunks: new Uint8Array(1024 * 1024) });
  while (a.next(0) !== undefined);
  expect(a.bufferedBytes).toBeGreaterThan(10 * 1024 * 1024);
  a.notify({ type: EXEC, priority: 0, meta: "urgent" });
  expect(a.next(0)).toBeDefined();
  expect(a.next(0)).toBeUndefined();
  expect(b.closed).toBeUndefined();
});

test("a peer that never takes anything is too slow in the end", () => {
  const core = new SessionCore("peer", 0);
  const chunks = new Uint8Array(4 * 1024 * 1024);
  for (let count = 0; count < 40 && core.closed === undefined; count++) core.notify({ type: EXEC, chunks });
  expect(core.closed).toMatchObject({ code: "PFS_PEER_SLOW", data: { peer: "peer" } });
  expect(core.bufferedBytes).toBe(0);
  expect(() => core.ask({ type: WANT }, {}, 0)).toThrow(expect.objectContaining({ code: "PFS_PEER_SLOW" }));
});

test("a flood of PING from a peer that does not listen ends its session before it fills memory", () => {
  const core = new SessionCore("peer", 0);
  let said = 0;
  let most = 0;
  while (core.closed === undefined && said < 1_000_000) {
    core.receive([encodeEnvelope({ type: PING, priority: 0, counter: ++said })], 0);
    most = Math.max(most, core.bufferedBytes);
  }
  expect(core.closed).toMatchObject({ code: "PFS_PEER_SLOW" });
  expect(most).toBeGreaterThan(LINK_QUEUE_BYTES_MAX / 2);
  expect(most).toBeLessThanOrEqual(LINK_QUEUE_BYTES_MAX);
  expect(core.bufferedBytes).toBe(0);
});

test("a request that was withdrawn before it left does not leave", () => {
  const core = new SessionCore("peer", 0);
  const request = core.ask({ type: WANT }, {}, 0);
  core.withdraw(request, closedHere());
  expect(core.next(0)).toBeUndefined();
  const sent = core.ask({ type: WANT }, {}, 0);
  expect(core.next(0)).toBeDefined();
  core.withdraw(sent, closedHere());
  // The peer is told of this one.
  expect(core.next(0)).toBeDefined();
  expect(core.takeActions().map(({ kind }) => kind)).toEqual(["failed", "failed"]);
});

test("requests beyond the window wait on this side until others are answered", () => {
  const [a, b] = [new SessionCore("b", 0), new SessionCore("a", 0)];
  const chunks = new Uint8Array(4 * 1024 * 1024);
  for (let count = 0; count < 11; count++) a.ask({ type: WANT, chunks }, {}, 0);
  const waiting: number[] = [];
  const exchange = (): void => {
    for (let round = 0; round < 50; round++) {
      deliver(a, b, 0);
      deliver(b, a, 0);
    }
    for (const action of b.takeActions()) if (action.kind === "asked") waiting.push(action.request);
  };
  exchange();
  expect(waiting).toHaveLength(7);
  expect(a.bufferedBytes).toBeGreaterThan(3 * chunks.byteLength);
  for (const request of waiting.splice(0)) b.answer(request, { type: OK }, true);
  exchange();
  expect(waiting).toHaveLength(4);
  expect(a.bufferedBytes).toBe(0);
});
