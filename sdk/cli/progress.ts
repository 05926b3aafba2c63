/** One line at the bottom of the terminal: how much is done, how fast, how long still. Silent where stderr is no terminal. */
import { styleText } from "node:util";
import {
  displayWidth,
  formatBytes,
  formatDuration,
  formatRate,
  formatStep,
  pad,
  truncate,
} from "./format.ts";
import type { ProgressStep } from "../packetfs.ts";
import type { Output } from "./output.ts";

const REDRAW_MS = 100;
const BAR_COLUMNS_MAX = 24;
const BAR_COLUMNS_MIN = 8;
const LABEL_COLUMNS_MAX = 24;
/** What amounts and rates take at most, so that the line does not jump about. */
const BYTES_COLUMNS = "12.3 MB".length;
const RATE_COLUMNS = "12.3 MB/s".length;
/** Before work has gone on by so many steps, over so much time, a guess of what is left would only jump about. */
const ESTIMATE_AFTER_STEPS = 10;
const ESTIMATE_AFTER_MS = 1500;

export class Progress {
  readonly #output: Output;
  readonly #label: string;
  #drawnAt = 0;
  /** When the first bytes were done, and how many: what came before was no work on them. */
  #first: { readonly at: number; readonly done: number } | undefined;
  #done = 0;
  #steps = 0;
  /** What the bar has had at least: one that grew again would only distract. */
  #barColumns = BAR_COLUMNS_MAX;
  /** Left out for good once there is no room for it beside a bar. */
  #showsRate = true;

  constructor(output: Output, label: string) {
    this.#output = output;
    this.#label = truncate(label, LABEL_COLUMNS_MAX);
  }

  /** `total` in the same bytes as `done`; without it there is no bar. `note` stands behind the numbers. */
  update(done: number, total?: number, note = ""): void {
    if (!this.#output.showsProgress || !this.#output.drawsBesideBytes) return;
    const now = performance.now();
    // A hub that started again begins the job anew.
    if (done < this.#done) {
      this.#first = undefined;
      this.#done = done;
      this.#steps = 0;
    }
    if (done > this.#done) {
      this.#first ??= { at: now, done };
      this.#done = done;
      this.#steps++;
    }
    if (now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#output.status(this.#text(total, now, note));
  }

  /** As `update`, of a whole file: of several steps each has a bar of its own. */
  updateStep(done: number, total: number | undefined, step: ProgressStep | undefined): void {
    this.update(step?.bytes ?? done, total, step === undefined ? "" : formatStep(step));
  }

  /** Removes the line. */
  end(): void {
    this.#output.status("");
  }

  #text(total: number | undefined, now: number, note: string): string {
    const done = this.#done;
    const { at, done: before } = this.#first ?? { at: now, done };
    const rate = now > at && done > before ? formatRate(done - before, now - at) : "";
    const rates = [pad(rate, RATE_COLUMNS, "right")];
    const notes = note === "" ? [] : [note];
    const room = process.stderr.columns - 1;
    if (total === undefined || total === 0) {
      return truncate([this.#label, formatBytes(done), ...rates, ...notes].join("  "), room);
    }
    const left = ((now - at) / (done - before)) * (total - done);
    const isKnown = this.#steps >= ESTIMATE_AFTER_STEPS && now - at >= ESTIMATE_AFTER_MS && done < total;
    if (isKnown) notes.push(`${formatDuration(Math.ceil(left / 1000) * 1000)} left`);
    const share = Math.min(1, done / total);
    const amounts = [
      `${String(Math.floor(share * 100)).padStart(3)} %`,
      `${formatBytes(done).padStart(BYTES_COLUMNS)} of ${formatBytes(total)}`,
    ];
    const textOf = (): string => [...amounts, ...(this.#showsRate ? rates : []), ...notes].join("  ");
    const barBeside = (text: string): number =>
      Math.min(this.#barColumns, room - displayWidth(this.#label) - displayWidth(text) - 3);
    this.#showsRate &&= barBeside(textOf()) >= BAR_COLUMNS_MIN;
    const text = textOf();
    const bar = (this.#barColumns = barBeside(text));
    return bar < BAR_COLUMNS_MIN
      ? truncate(`${this.#label}  ${text}`, room)
      : `${this.#label}  ${drawBar(share, bar)} ${text}`;
  }
}

/** A bar of so many columns that is filled as far as `share` (0 to 1) says, coloured as `stream` may be. */
export function drawBar(share: number, columns: number, stream: NodeJS.WriteStream = process.stderr): string {
  const filled = Math.round(share * columns);
  const options = { stream };
  return (
    styleText("green", "━".repeat(filled), options) + styleText("dim", "─".repeat(columns - filled), options)
  );
}
