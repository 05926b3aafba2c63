/** What a session makes of a peer that answers pings: by a made-up clock, when its silence about a request is the end of it. */
import { describe, expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import {
  QUESTION_SILENCE_MS,
  SUSPICION_MS,
  TICK_MS,
  TRANSFER_SILENCE_MS,
  WORK_SILENCE_MS,
} from "../../../nodes/limits.ts";
import { SessionCore } from "../../../nodes/wire/session/session-core.ts";

const { OK, WANT, NAME, FILE_REQUEST, FILE_DATA, MAINTENANCE } = MessageType;

/** Hands everything that one side has to say to the other. */
function deliver(from: SessionCore, to: SessionCore, now: number): void {
  for (let parts = from.next(now); parts !== undefined; parts = from.next(now)) to.receive(parts, now);
}

describe("a peer that keeps its session alive and says nothing else", () => {
  /** Two sides whose messages cross at every tick; `work` is what the second does beside answering pings. */
  function quiet(work: (now: number, peer: SessionCore) => void = () => {}): {
    readonly core: SessionCore;
    readonly failures: Map<number, { readonly at: number; readonly error: PacketfsError }>;
    readonly silences: boolean[];
    readonly run: (from: number, to: number) => void;
  } {
    const [core, peer] = [new SessionCore("peer", 0), new SessionCore("this side", 0)];
    const failures = new Map<number, { readonly at: number; readonly error: PacketfsError }>();
    const silences: boolean[] = [];
    const run = (from: number, to: number): void => {
      for (let now = from; now <= to; now += TICK_MS) {
        core.tick(now);
        peer.tick(now);
        work(now, peer);
        deliver(core, peer, now);
        deliver(peer, core, now);
        for (const action of core.takeActions()) {
          if (action.kind === "failed") failures.set(action.request, { at: now, error: action.error });
          if (action.kind === "silence") silences.push(action.isSilent);
        }
      }
      expect(core.closed).toBeUndefined();
    };
    return { core, failures, silences, run };
  }

  test.each([
    ["a question", WANT, QUESTION_SILENCE_MS],
    ["a name", NAME, QUESTION_SILENCE_MS],
    ["chunks", FILE_REQUEST, TRANSFER_SILENCE_MS],
    ["work", MAINTENANCE, WORK_SILENCE_MS],
  ])("lets %s time out, by its kind, and is suspected for a while", (_, type, silenceMs) => {
    const { core, failures, silences, run } = quiet();
    const request = core.ask({ type }, {}, 0);
    expect(core.isSuspect(0)).toBe(false);
    run(0, silenceMs + 1_000);
    const { at, error } = failures.get(request)!;
    expect(error).toMatchObject({ code: "PFS_REQUEST_TIMEOUT", data: { peer: "peer" } });
    expect(at).toBeGreaterThanOrEqual(silenceMs);
    expect(at).toBeLessThanOrEqual(silenceMs + 2 * TICK_MS);
    expect(silences).toEqual([true]);
    expect(core.isSuspect(at + SUSPICION_MS - 1)).toBe(true);
    // Then it may show that it answers.
    expect(core.isSuspect(at + SUSPICION_MS)).toBe(false);
    expect(core.silentMs(at)).toBe(at);
  });

  test("is believed again when it answers what it was silent about, not before", () => {
    let answered: number | undefined;
    const { core, silences, run } = quiet((now, peer) => {
      for (const action of peer.takeActions()) {
        if (action.kind !== "asked" || now < 20_000 || action.message.type !== answered) continue;
        peer.answer(action.request, { type: OK }, true);
      }
    });
    core.ask({ type: WANT }, {}, 0);
    run(0, 20_000);
    expect(core.isSuspect(20_000)).toBe(true);
    answered = NAME;
    core.ask({ type: NAME }, {}, 20_000);
    run(20_000, 21_000);
    expect(core.isSuspect(21_000)).toBe(true);
    answered = WANT;
    core.ask({ type: WANT }, {}, 21_000);
    run(21_000, 22_000);
    expect(core.isSuspect(22_000)).toBe(false);
    expect(core.silentMs(22_000)).toBe(0);
    expect(silences).toEqual([true, false]);
  });

  test("is not what a peer is that says that it is at work, but that has an end where one is set", () => {
    const asked: number[] = [];
    const { core, failures, run } = quiet((now, peer) => {
      for (const action of peer.takeActions()) if (action.kind === "asked") asked.push(action.request);
      if (now % 5_000 === 0) for (const request of asked) peer.atWork(request);
    });
    const work = core.ask({ type: MAINTENANCE }, {}, 0);
    const question = core.ask({ type: WANT }, { timeoutMs: 60_000 }, 0);
    run(0, 600_000);
    expect(failures.has(work)).toBe(false);
    expect(failures.get(question)).toMatchObject({ error: { code: "PFS_REQUEST_TIMEOUT" } });
    expect(failures.get(question)!.at).toBeGreaterThanOrEqual(60_000);
    // All its time used is no silence.
    expect(core.isSuspect(600_000)).toBe(false);
  });

  test("is not what a peer is while this process stands still", () => {
    const { core, failures, run } = quiet();
    core.ask({ type: WANT }, {}, 0);
    run(0, 1_000);
    // Suspended for an hour.
    run(3_600_000, 3_600_000 + QUESTION_SILENCE_MS - 2_000);
    expect(failures.size).toBe(0);
    run(3_600_000 + QUESTION_SILENCE_MS - 2_000, 3_600_000 + QUESTION_SILENCE_MS + 1_000);
    expect(failures.size).toBe(1);
  });

  test("is not what a peer is whose answers are behind others on a slow line", () => {
    const waiting: number[] = [];
    const { core, failures, run } = quiet((now, peer) => {
      for (const action of peer.takeActions()) if (action.kind === "asked") waiting.push(action.request);
      if (now % 10_000 !== 0 || waiting.length === 0) return;
      const chunks = new Uint8Array(1024);
      peer.answer(waiting.shift()!, { type: FILE_DATA, priority: 2, chunks }, true);
    });
    for (let count = 0; count < 12; count++) core.ask({ type: FILE_REQUEST, priority: 2 }, {}, 0);
    run(0, 130_000);
    expect(failures.size).toBe(0);
    expect(core.isSuspect(130_000)).toBe(false);
  });
});
