/** What GPUs are likely to have in their memory, by what jobs had computed there. */
import { expect, test } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import { Residency } from "../../../runtime/job/residency.ts";
import { GPU_REST_MS, RESIDENT_STREAMS_MAX } from "../../../runtime/limits.ts";

const stream = (name: string, length = 100): { root: Uint8Array; length: number } => ({
  root: sha256(Buffer.from(name)),
  length,
});
const [a, b, c] = ["a", "b", "c"].map((name) => stream(name)) as [
  ReturnType<typeof stream>,
  ReturnType<typeof stream>,
  ReturnType<typeof stream>,
];

test("streams are there on the class that computed over them, cut as they were, as long as GPUs keep them", () => {
  const residency = new Residency();
  residency.used("gpu", [a, b], "file", 1000, 0);
  expect(residency.has("gpu", [a, b], "file", GPU_REST_MS)).toBe(true);
  expect(residency.has("gpu", [a, c], "file", 0)).toBe(false);
  expect(residency.has("gpu", [a], "ranges", 0)).toBe(false);
  expect(residency.has("other", [a], "file", 0)).toBe(false);
  expect(residency.has("gpu", [a], "file", GPU_REST_MS + 1)).toBe(false);
});

test("what has no room goes, that which was used longest ago first", () => {
  const residency = new Residency();
  for (const [at, each] of [a, b, a, c].entries()) residency.used("gpu", [each], "file", 250, at);
  expect([a, b, c].map((each) => residency.has("gpu", [each], "file", 4))).toEqual([true, false, true]);
  residency.used("gpu", [stream("large", 251)], "file", 250, 5);
  expect([a, c, stream("large")].map((each) => residency.has("gpu", [each], "file", 5))).toEqual([
    false,
    false,
    false,
  ]);
  for (let index = 0; index <= RESIDENT_STREAMS_MAX; index++)
    residency.used("gpu", [stream(String(index), 0)], "file", 250, 6);
  expect(residency.has("gpu", [stream("0")], "file", 6)).toBe(false);
  expect(residency.has("gpu", [stream("1")], "file", 6)).toBe(true);
});
