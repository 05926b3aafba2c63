/** One line at the bottom of the terminal: how much is done, how fast, how long still. Silent where stderr is no terminal. */
import { styleText } from "node:util";
import { displayWidth, formatBytes, formatDuration, truncate } from "./format.ts";
import type { Output } from "./output.ts";

const REDRAW_MS = 100;
const BAR_COLUMNS_MAX = 24;
const BAR_COLUMNS_MIN = 8;
const LABEL_COLUMNS_MAX = 32;
/** Before this much time has passed a guess of what is left would only jump about. */
const ESTIMATE_AFTER_MS = 1000;

export class Progress {
  readonly #output: Output;
  readonly #label: string;
  readonly #startedAt = performance.now();
  #drawnAt = 0;

  constructor(output: Output, label: string) {
    this.#output = output;
    this.#label = label;
  }

  /** `total` in the same bytes as `done`; without it there is no bar. `note` stands at the end of the line. */
  update(done: number, total?: number, note = ""): void {
    const now = performance.now();
    if (!this.#output.showsProgress || now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#output.status(this.#text(done, total, now - this.#startedAt, note));
  }

  /** Removes the line. */
  end(): void {
    this.#output.status("");
  }

  #text(done: number, total: number | undefined, elapsedMs: number, note: string): string {
    const perSecond = elapsedMs > 0 ? (done / elapsedMs) * 1000 : 0;
    const parts: string[] = [];
    if (total !== undefined && total > 0) {
      const share = Math.min(1, done / total);
      parts.push(`${String(Math.floor(share * 100)).padStart(3)} %`);
      parts.push(`${formatBytes(done)} of ${formatBytes(total)}`, `${formatBytes(perSecond)}/s`);
      if (elapsedMs > ESTIMATE_AFTER_MS && share > 0 && share < 1) {
        parts.push(`${formatDuration((elapsedMs / share) * (1 - share))} left`);
      }
    } else {
      parts.push(formatBytes(done), `${formatBytes(perSecond)}/s`);
    }
    if (note !== "") parts.push(note);
    const label = truncate(this.#label, LABEL_COLUMNS_MAX);
    const room = process.stderr.columns - 1;
    const numbers = parts.join("  ");
    const bar = Math.min(BAR_COLUMNS_MAX, room - displayWidth(label) - displayWidth(numbers) - 3);
    return total === undefined || total === 0 || bar < BAR_COLUMNS_MIN
      ? truncate(`${label}  ${numbers}`, room)
      : `${label}  ${drawBar(Math.min(1, done / total), bar)} ${numbers}`;
  }
}

function drawBar(share: number, columns: number): string {
  const filled = Math.round(share * columns);
  const options = { stream: process.stderr };
  return (
    styleText("green", "━".repeat(filled), options) + styleText("dim", "─".repeat(columns - filled), options)
  );
}
