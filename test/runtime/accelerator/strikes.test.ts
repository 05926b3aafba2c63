/** Which kernels are barred, and which of very many are forgotten. */
import { expect, test } from "vitest";
import { Strikes } from "../../../runtime/accelerator/strikes.ts";
import { GPU_STRIKES_KEPT_MAX, GPU_STRIKES_MAX } from "../../../runtime/limits.ts";

function strike(strikes: Strikes, module: string, times: number): void {
  for (let time = 0; time < times; time++) strikes.add(module);
}

test("a kernel is barred once it was struck so often, and no other is", () => {
  const strikes = new Strikes();
  strike(strikes, "bad", GPU_STRIKES_MAX - 1);
  expect(strikes.isBarred("bad")).toBe(false);
  strikes.add("bad");
  expect([strikes.isBarred("bad"), strikes.isBarred("good")]).toEqual([true, false]);
});

test("of very many the one struck least recently is forgotten that is not barred", () => {
  const strikes = new Strikes();
  strike(strikes, "barred", GPU_STRIKES_MAX);
  strike(strikes, "old", GPU_STRIKES_MAX - 1);
  strike(strikes, "recent", GPU_STRIKES_MAX - 2);
  for (let index = 3; index < GPU_STRIKES_KEPT_MAX; index++) strikes.add(`other ${index}`);
  // There is room for all of these, and it was struck last.
  strikes.add("recent");
  // For one more there is none.
  strikes.add("one more");
  for (const module of ["barred", "old", "recent"]) strikes.add(module);
  expect(["barred", "old", "recent"].map((module) => strikes.isBarred(module))).toEqual([true, false, true]);
});

test("where all are barred, the oldest is let in again and not the one struck now", () => {
  const strikes = new Strikes();
  const modules = Array.from({ length: GPU_STRIKES_KEPT_MAX }, (_, index) => `kernel ${index}`);
  for (const module of modules) strike(strikes, module, GPU_STRIKES_MAX);
  strike(strikes, "one more", GPU_STRIKES_MAX);
  expect(strikes.isBarred("one more")).toBe(true);
  expect(modules.filter((module) => !strikes.isBarred(module))).toEqual(["kernel 0"]);
});
