/**
 * Where a command's words go: stdout carries data and nothing else, stderr is talk. With --json, stdout carries one
 * JSON object, or one per line for lists and events, each with the number of the schema that it follows.
 */
import { once } from "node:events";
import { fstatSync } from "node:fs";
import { styleText } from "node:util";
import { messageOf } from "../../packets/errors.ts";
import { fileError } from "../errors.ts";
import { ExitCode } from "./exit-codes.ts";
import { displayWidth, pad, truncate, wrapWords } from "./format.ts";

/** Raised when a field of the JSON output is renamed, removed or changes its meaning. */
const JSON_SCHEMA = 1;

const GAP = "  ";
/** What a message's second line and those after it begin with. */
const MESSAGE_INDENT = "  ";
/** Eight digits of an id are enough to know it by. */
const SHRUNK_WIDTH_MIN = 9;
const LINE_FEED = 0x0a;
const BATCH_ROWS = 1000;
const BATCH_BYTES = 64 * 1024;
const WIDTH_UNKNOWN = 100;

export interface OutputOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
}

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
  /** The column may be cut when the terminal is too narrow: "first" where its beginning says enough. */
  readonly shrinks?: boolean | "first";
}

/** What a listing shows of one item: cells for people, a record for machines. */
export interface ListItem {
  readonly cells: readonly string[];
  readonly json: Readonly<Record<string, unknown>>;
}

/** A JSON object as --json prints it. */
export function jsonText(value: Readonly<Record<string, unknown>>): string {
  return JSON.stringify({ schema: JSON_SCHEMA, ...value });
}

export class Output {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** stdout is a terminal: aligned tables with headings; otherwise tab-separated lines. */
  readonly isTerminal: boolean = process.stdout.isTTY === true;
  /** stderr is a terminal that a progress line can be drawn on. */
  readonly showsProgress: boolean;
  /** Whoever read stdout has gone; nothing that is written arrives. */
  readonly readerGone: AbortSignal;
  /** stdout carries the bytes of a file, so that JSON must go to stderr. */
  carriesBytes = false;
  #status = "";
  /** The cursor of the terminal stands behind data that did not end its line. */
  #isInLine = false;

  constructor(options: OutputOptions) {
    this.json = options.json;
    this.quiet = options.quiet;
    this.verbose = options.verbose;
    const { CI, TERM } = process.env;
    this.showsProgress =
      process.stderr.isTTY === true && !options.quiet && TERM !== "dumb" && (CI === undefined || CI === "");
    const gone = new AbortController();
    this.readerGone = gone.signal;
    process.stdout.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE" || error.code === "EOF") return gone.abort();
      // A full disk behind a redirection, say. Nothing that is printed from now on arrives.
      const told = fileError(error, "write", "to stdout");
      this.complain(`pfs: ${messageOf(told)}`);
      process.exit(ExitCode.failed);
    });
  }

  /** The bytes of a file go where they cannot mix with a line at the bottom of the terminal. */
  get drawsBesideBytes(): boolean {
    return !this.carriesBytes || fstatSync(process.stdout.fd).isFile();
  }

  /** Columns of the terminal that stdout is. */
  get width(): number {
    return process.stdout.isTTY ? process.stdout.columns : WIDTH_UNKNOWN;
  }

  /** Bytes or text to stdout; resolves when there is room for more. */
  async write(data: Uint8Array | string): Promise<void> {
    if (this.readerGone.aborted) return;
    if (this.isTerminal && data.length > 0) {
      this.#erase();
      this.#isInLine = data.at(-1) !== "\n" && data.at(-1) !== LINE_FEED;
    }
    if (process.stdout.write(data)) return;
    await once(process.stdout, "drain", { signal: this.readerGone }).catch(() => undefined);
  }

  /** A line of data. */
  line(text: string): Promise<void> {
    return this.write(`${text}\n`);
  }

  /** A JSON object, on a line of its own. */
  object(value: Readonly<Record<string, unknown>>): Promise<void> {
    return this.line(jsonText(value));
  }

  /**
   * A list of any length: a table on a terminal, tab-separated lines in a pipe, NDJSON with --json. Resolves with how many
   * items there were, or were taken until the reader of stdout had gone.
   */
  async list(
    columns: readonly Column[],
    items: AsyncIterable<ListItem> | Iterable<ListItem>,
  ): Promise<number> {
    let count = 0;
    let widths: number[] | undefined;
    let batch: ListItem[] = [];
    const writeBatch = async (): Promise<void> => {
      const { width } = this;
      if (this.isTerminal && !this.json && widths === undefined) {
        // The first rows settle the widths, so that a list of any length can be shown as it comes.
        widths = columnWidths(
          columns,
          batch.map((item) => item.cells),
          width,
        );
        const titles = columns.map((column) => column.title);
        await this.line(styleText("dim", tableLine(columns, widths, titles), { stream: process.stdout }));
      }
      await this.#lines(batch.map((item) => this.#listLine(columns, widths, item)));
      batch = [];
    };
    for await (const item of items) {
      count++;
      batch.push(item);
      if (batch.length === BATCH_ROWS) await writeBatch();
      if (this.readerGone.aborted) return count;
    }
    if (batch.length > 0) await writeBatch();
    return count;
  }

  #listLine(columns: readonly Column[], widths: number[] | undefined, item: ListItem): string {
    if (this.json) return jsonText(item.json);
    return widths === undefined ? item.cells.join("\t") : tableLine(columns, widths, item.cells);
  }

  async #lines(lines: readonly string[]): Promise<void> {
    let text = "";
    for (const line of lines) {
      text += `${line}\n`;
      if (text.length < BATCH_BYTES) continue;
      await this.write(text);
      text = "";
    }
    if (text !== "") await this.write(text);
  }

  /** Something for people, on stderr; not with --quiet. */
  talk(text: string): void {
    if (!this.quiet) this.#toStderr(text);
  }

  /** Something for people who asked for details. */
  detail(text: string): void {
    if (this.verbose) this.#toStderr(text, (line) => styleText("dim", line, { stream: process.stderr }));
  }

  /** What --quiet does not silence: errors. */
  complain(text: string): void {
    this.#toStderr(text);
  }

  /** The line at the bottom of the terminal that shows how far things are; "" removes it. */
  status(text: string): void {
    if (!this.showsProgress || text === this.#status) return;
    process.stderr.write(text === "" ? "\r\u001b[K" : `\r${text}\u001b[K`);
    this.#status = text;
  }

  /** Resolves when everything has left the process. */
  async flush(): Promise<void> {
    this.status("");
    if (!this.readerGone.aborted)
      await new Promise<void>((resolve) => process.stdout.write("", () => resolve()));
    await new Promise<void>((resolve) => process.stderr.write("", () => resolve()));
  }

  #toStderr(text: string, style: (text: string) => string = (plain) => plain): void {
    const status = this.#status;
    this.#erase();
    if (this.#isInLine && process.stderr.isTTY) process.stderr.write("\n");
    this.#isInLine = false;
    process.stderr.write(`${style(this.#wrapped(text))}\n`);
    this.status(status);
  }

  /** Messages break between words at a terminal. Lines that begin with a space are laid out already. */
  #wrapped(text: string): string {
    const { isTTY, columns } = process.stderr;
    // A terminal that nobody told its width says that it has none.
    if (!isTTY || this.json || columns < SHRUNK_WIDTH_MIN) return text;
    return text
      .split("\n")
      .map((line) => (line.startsWith(" ") ? line : wrapWords(line, columns, MESSAGE_INDENT)))
      .join("\n");
  }

  #erase(): void {
    if (this.#status !== "") this.status("");
  }
}

/** The widths of columns for these rows. Cells are cut only where that makes all lines fit into `width` columns. */
export function columnWidths(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number,
): number[] {
  const wanted = columns.map((column, index) =>
    rows.reduce((most, row) => Math.max(most, displayWidth(row[index]!)), displayWidth(column.title)),
  );
  const widths = [...wanted];
  let excess = wanted.reduce((sum, each) => sum + each, GAP.length * (columns.length - 1)) - width;
  const widestThat = (shrinks: true | "first"): number =>
    columns.reduce(
      (best, column, index) =>
        column.shrinks === shrinks &&
        widths[index]! > SHRUNK_WIDTH_MIN &&
        (best < 0 || widths[index]! > widths[best]!)
          ? index
          : best,
      -1,
    );
  for (; excess > 0; excess--) {
    const first = widestThat("first");
    const widest = first < 0 ? widestThat(true) : first;
    if (widest < 0) return wanted;
    // One step per turn, so that several wide columns end up alike.
    widths[widest]!--;
  }
  return widths;
}

/** One row as a line without trailing spaces. */
export function tableLine(
  columns: readonly Column[],
  widths: readonly number[],
  row: readonly string[],
): string {
  const cells = row.map((cell, index) =>
    pad(truncate(cell, widths[index]!), widths[index]!, columns[index]!.align),
  );
  return cells.join(GAP).trimEnd();
}
