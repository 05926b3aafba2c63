/** The progress line: what it says of work whose speed is known, on a clock that the test sets. */
import { stripVTControlCharacters } from "node:util";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { Output } from "../../../sdk/cli/output.ts";
import { Progress } from "../../../sdk/cli/progress.ts";

const MB = 1_000_000;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance"] });
  Object.defineProperty(process.stderr, "columns", { value: 80, configurable: true });
});
afterEach(() => {
  vi.useRealTimers();
});

/** What is shown of work that begins after a while and then goes on evenly; each with the seconds that were truly left. */
function shownOf(
  beginsMs: number,
  takesMs: number,
  steps: number,
  label = "words",
): { left: number; text: string }[] {
  const output = new Output({ json: false, quiet: false, verbose: false });
  const shown: { left: number; text: string }[] = [];
  let left = 0;
  Object.defineProperty(output, "showsProgress", { value: true });
  output.status = (text) => void shown.push({ left, text });
  const progress = new Progress(output, label);
  progress.update(0, steps * MB);
  vi.advanceTimersByTime(beginsMs);
  for (let step = 1; step <= steps; step++) {
    vi.advanceTimersByTime(takesMs / steps);
    left = (takesMs / 1000) * (1 - step / steps);
    progress.update(step * MB, steps * MB, `${step}/${steps} packets`);
  }
  return shown;
}

describe("what is left", () => {
  it("is not guessed of work that is short, or has few steps", () => {
    for (const [beginsMs, takesMs, steps] of [
      [1200, 1200, 50],
      [100, 60_000, 9],
    ] as const) {
      const shown = shownOf(beginsMs, takesMs, steps);
      expect(shown.length).toBeGreaterThan(5);
      expect(shown.filter(({ text }) => text.includes("left"))).toEqual([]);
    }
  });

  it("is what is left of long work, however late that began", () => {
    const told = shownOf(30_000, 60_000, 100).flatMap(({ left, text }) => {
      const [, minutes = "0", seconds = "0"] = /(?:(\d+)m)? ?(?:(\d+)s)? left$/.exec(text) ?? [];
      return text.endsWith(" left") ? [{ left, told: Number(minutes) * 60 + Number(seconds) }] : [];
    });
    expect(told.length).toBeGreaterThan(80);
    for (const { left, told: seconds } of told) expect(Math.abs(seconds - left)).toBeLessThan(1.5);
  });

  it("fits one line of the terminal, with a bar that never grows", () => {
    const lines = shownOf(0, 600_000, 1000).map(({ text }) => stripVTControlCharacters(text));
    for (const line of lines) expect(line.length).toBeLessThan(80);
    const bars = lines.map((line) => /[━─]*/.exec(line.slice("words  ".length))![0].length);
    expect(bars[0]).toBeGreaterThan(20);
    expect(bars).toEqual(bars.toSorted((a, b) => b - a));
  });

  it("leaves out the speed before the bar, and never has the bar back that had no room", () => {
    const lines = shownOf(0, 60_000, 100, "word-count.ts").map(({ text }) => stripVTControlCharacters(text));
    for (const line of lines) expect(line.length).toBeLessThan(80);
    expect(lines.at(-2)).toMatch(/^word-count\.ts {2}[━─]{8,} .* packets {2}.* left$/);
    expect(lines.at(-2)).not.toContain("B/s");
  });

  it("begins anew with work that begins anew", () => {
    const output = new Output({ json: false, quiet: false, verbose: false });
    let shown = "";
    Object.defineProperty(output, "showsProgress", { value: true });
    output.status = (text) => void (shown = stripVTControlCharacters(text));
    const progress = new Progress(output, "words");
    for (let step = 1; step <= 20; step++) {
      vi.advanceTimersByTime(500);
      progress.update(step * MB, 100 * MB, `${step}/100 packets`);
    }
    expect(shown).toMatch(/20 % .* left$/);
    vi.advanceTimersByTime(30_000);
    progress.update(2 * MB, 100 * MB, "2/100 packets");
    expect(shown).toMatch(/ 2 % +2 MB of 100 MB +2\/100 packets$/);
  });

  it("says what is done with a file, each step from its beginning, and with whom", () => {
    const output = new Output({ json: false, quiet: false, verbose: false });
    const shown: string[] = [];
    Object.defineProperty(output, "showsProgress", { value: true });
    output.status = (text) => void shown.push(stripVTControlCharacters(text));
    const progress = new Progress(output, "words");
    vi.advanceTimersByTime(500);
    progress.updateStep(40 * MB, 100 * MB, { doing: "reading", bytes: 80 * MB });
    vi.advanceTimersByTime(500);
    progress.updateStep(60 * MB, 100 * MB, {
      doing: "sending",
      bytes: 20 * MB,
      peer: "a hub of a long name",
    });
    vi.advanceTimersByTime(500);
    progress.updateStep(30 * MB, 100 * MB, { doing: "receiving", bytes: 30 * MB, peer: "lab1" });
    expect(shown[0]).toMatch(/ 80 % +80 MB of 100 MB .*reading$/);
    expect(shown[1]).toMatch(/ 20 % +20 MB of 100 MB .*to a hub of a …$/);
    expect(shown[2]).toMatch(/ 30 % +30 MB of 100 MB .*from lab1$/);
    for (const line of shown) expect(line.length).toBeLessThan(80);
  });
});
