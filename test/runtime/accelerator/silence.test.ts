import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { SilenceWatch } from "../../../runtime/accelerator/silence.ts";
import { GPU_SILENCE_LOOKS, GPU_SILENCE_LOOK_MS } from "../../../runtime/limits.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** What it sees, which tests change, and how often it was over. */
function watch(): { progress: number; owes: boolean; overs: number; readonly silence: SilenceWatch } {
  const seen = { progress: 0, owes: true, overs: 0 };
  const silence = new SilenceWatch({
    progress: () => seen.progress,
    owes: () => seen.owes,
    over: () => void seen.overs++,
  });
  return Object.assign(seen, { silence });
}

function look(times: number): void {
  vi.advanceTimersByTime(times * GPU_SILENCE_LOOK_MS);
}

it("is over once, when nothing was done at so many looks in a row", () => {
  const seen = watch();
  look(GPU_SILENCE_LOOKS - 1);
  expect(seen.overs).toBe(0);
  look(1);
  expect(seen.overs).toBe(1);
  look(GPU_SILENCE_LOOKS * 2);
  expect(seen.overs).toBe(1);
});

it("begins anew with whatever is done, and with each moment in which there is nothing to do", () => {
  const seen = watch();
  for (let rounds = 0; rounds < 5; rounds++) {
    look(GPU_SILENCE_LOOKS - 1);
    seen.progress++;
    look(1);
  }
  seen.owes = false;
  look(GPU_SILENCE_LOOKS * 3);
  seen.owes = true;
  look(GPU_SILENCE_LOOKS - 1);
  expect(seen.overs).toBe(0);
  look(1);
  expect(seen.overs).toBe(1);
});

it("is never over once it is closed", () => {
  const seen = watch();
  look(GPU_SILENCE_LOOKS - 1);
  seen.silence.close();
  look(GPU_SILENCE_LOOKS);
  expect(seen.overs).toBe(0);
});
