/** How much a node says beside its answers. */
import { expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { Op } from "../../../packets/layout.ts";
import { encodePacket } from "../../../packets/packet.ts";
import {
  LOG_BURST_CHARACTERS,
  LOG_CHARACTERS_PER_SECOND,
  LOG_TEXT_COST_CHARACTERS,
} from "../../../nodes/limits.ts";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import { LogBudget } from "../../../nodes/serve/log-budget.ts";
import type { Link, OutMessage, Reply, WireMessage } from "../../../nodes/wire/link.ts";
import type { Executor, LaneListener } from "../../../runtime/contracts/executor.ts";

test("texts pass until their characters are used up, and again as time passes", () => {
  const budget = new LogBudget(0);
  const characters = 1024 - LOG_TEXT_COST_CHARACTERS;
  let passed = 0;
  while (budget.admits(characters, 0)) passed++;
  expect(passed).toBe(LOG_BURST_CHARACTERS / 1024);
  expect(budget.takeCut()).toBe(1);
  expect(budget.takeCut()).toBe(0);
  // What was cut has cost as much.
  for (let text = 1; text < LOG_CHARACTERS_PER_SECOND / 1024; text++) {
    expect(budget.admits(characters, 1_000)).toBe(true);
  }
  expect(budget.admits(characters, 1_000)).toBe(false);
  // Time that was not used is saved up to a bound.
  expect(budget.admits(LOG_BURST_CHARACTERS, 1e9)).toBe(false);
  expect(budget.admits(LOG_BURST_CHARACTERS - LOG_TEXT_COST_CHARACTERS, 2e9)).toBe(true);
});

test("whoever goes on is known for a flood, and forgiven when it stops", () => {
  const budget = new LogBudget(0);
  let texts = 0;
  while (!budget.isFlooded) {
    budget.admits(1024 - LOG_TEXT_COST_CHARACTERS, texts++ / 100);
    expect(texts).toBeLessThan((3 * LOG_BURST_CHARACTERS) / 1024);
  }
  expect(texts).toBeGreaterThanOrEqual((2 * LOG_BURST_CHARACTERS) / 1024);
  expect(budget.admits(0, 1_000)).toBe(false);
  expect(budget.admits(0, (2_000 * LOG_BURST_CHARACTERS) / LOG_CHARACTERS_PER_SECOND)).toBe(true);
});

test("empty texts are not free", () => {
  const budget = new LogBudget(0, 2);
  let passed = 0;
  while (budget.admits(0, 0)) passed++;
  expect(passed).toBe((2 * LOG_BURST_CHARACTERS) / LOG_TEXT_COST_CHARACTERS);
});

test("a node whose programs log without end keeps within what its hub takes, and says what it left out", async () => {
  const said: OutMessage[] = [];
  let listener: LaneListener | undefined;
  const executor = {
    id: "executor",
    load: async (_, heard) => {
      listener = heard;
      return { exec: () => undefined, keep: async () => new Uint8Array(32), close: async () => undefined };
    },
  } as Partial<Executor> as Executor;
  const link = {
    peer: { role: "hub", id: "hub" },
    notify: (message: OutMessage) => void said.push(message),
  } as unknown as Link;
  await using lanes = new LaneService(link, { executors: [executor] });
  const packets = encodePacket({ op: Op.LOAD, lane: 1, ref: new Uint8Array(32) });
  const load = { type: MessageType.LOAD, meta: { executor: "executor" }, packets } as unknown as WireMessage;
  await lanes.handlers.get(MessageType.LOAD)!(load, { signal: new AbortController().signal } as Reply);
  const hub = new LogBudget(performance.now(), 2);
  for (let line = 0; line < 100_000; line++) listener!.logged(0, "line");
  const passes = ({ meta }: OutMessage): boolean =>
    hub.admits((meta as { text: string }).text.length, performance.now());
  expect(said.length).toBeGreaterThanOrEqual(LOG_BURST_CHARACTERS / (LOG_TEXT_COST_CHARACTERS + 4));
  expect(said.length).toBeLessThan(100_000);
  expect(said.every(passes)).toBe(true);
  // The node falls silent, until what was too much is paid for.
  const silence = (1000 * LOG_BURST_CHARACTERS) / LOG_CHARACTERS_PER_SECOND;
  await new Promise((resolve) => setTimeout(resolve, silence));
  while (!said.some(({ meta }) => (meta as { kind: string }).kind === "note")) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    listener!.logged(0, "line");
  }
  const note = said.find(({ meta }) => (meta as { kind: string }).kind === "note");
  expect((note!.meta as { text: string }).text).toMatch(/^[0-9]+ logs and notes of this node were left out/);
});
