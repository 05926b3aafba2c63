/** Pauses of those who did harm: short, longer when it happens again, forgotten by and by, and nobody else's. */
import { expect, test } from "vitest";
import { PAUSE_MS_MAX, PAUSE_MS_MIN, PENALTIES_MAX, PENALTY_HALF_LIFE_MS } from "../../../nodes/limits.ts";
import { Penalties } from "../../../nodes/wire/zeromq/penalties.ts";

test("a pause is of one key at one address", () => {
  const penalties = new Penalties();
  expect(penalties.penalize("key", "10.0.0.1", 0)).toBe(PAUSE_MS_MIN);
  expect(penalties.pauseOf("key", "10.0.0.1", 1)).toBe(PAUSE_MS_MIN - 1);
  expect(penalties.pauseOf("key", "10.0.0.2", 1)).toBe(0);
  expect(penalties.pauseOf("other", "10.0.0.1", 1)).toBe(0);
  expect(penalties.pauseOf("key", "10.0.0.1", PAUSE_MS_MIN)).toBe(0);
});

test("pauses grow with harm that is repeated, up to a bound, and shrink with time", () => {
  const penalties = new Penalties();
  const pauses = Array.from({ length: 20 }, () => penalties.penalize("key", "here", 0));
  expect(pauses.slice(0, 4)).toEqual([1, 2, 4, 8].map((times) => times * PAUSE_MS_MIN));
  expect(Math.max(...pauses)).toBe(PAUSE_MS_MAX);
  // After ten half-lives, twenty offences count for a fiftieth of one.
  const later = penalties.penalize("key", "here", 10 * PENALTY_HALF_LIFE_MS);
  expect(later).toBeGreaterThan(PAUSE_MS_MIN);
  expect(later).toBeLessThan(1.02 * PAUSE_MS_MIN);
});

test("the latest offenders are remembered, and no more of them than there may be", () => {
  const penalties = new Penalties();
  for (let key = 0; key <= PENALTIES_MAX; key++) {
    penalties.penalize(`key ${key}`, "here", 0);
    penalties.penalize("key 1", "here", 0);
  }
  expect(penalties.pauseOf("key 0", "here", 1)).toBe(0);
  expect(penalties.pauseOf("key 1", "here", 1)).toBeGreaterThan(0);
  expect(penalties.pauseOf(`key ${PENALTIES_MAX}`, "here", 1)).toBeGreaterThan(0);
});
