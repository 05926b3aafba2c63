/**
 * Where the rows of a CSV begin. Whether a line end ends a row depends on all that stands before it in the file, so a
 * split is scanned first, from every state that it could begin in at once; what a job knows of its splits then adds up to
 * the state that each does begin in, and to where its rows are, whatever the dialect.
 *
 * The states see what the guest's parser sees, and no fields: where that one refuses a row, any state will do.
 */
import type { ReaderSpec } from "./readers.ts";

export type CsvSpec = ReaderSpec & { readonly kind: "csv" };

/** What the next unit of text finds. */
const State = {
  /** A row begins. */
  row: 0,
  /** A row begins, but for an LF that belongs to the CR before it. */
  afterCr: 1,
  /** A field begins that is not the row's first, or spaces before one that are trimmed. */
  field: 2,
  plain: 3,
  quoted: 4,
  escaped: 5,
  /** Behind a quote that ends the field unless another follows. */
  closing: 6,
  closed: 7,
  comment: 8,
} as const;
type State = (typeof State)[keyof typeof State];
const STATES = 9;

const Unit = { other: 0, lf: 1, cr: 2, separator: 3, quote: 4, escape: 5, comment: 6, space: 7 } as const;
const UNITS = 8;
const LF = 0x0a;
const CR = 0x0d;
const NONE = -1;

/** What becomes of a split that begins in some state. */
interface Outcome {
  /** The state behind it. */
  readonly end: number;
  /** Where its first row begins, in bytes from its beginning; -1 where none does. */
  readonly first: number;
}

/** Outcomes by the state that the split begins in. */
export type CsvScan = readonly Outcome[];

/** Of a state that no split begins in. */
const NOWHERE: Outcome = { end: State.row, first: NONE };

/** The state at the beginning of a file. */
export const CSV_START: number = State.row;

export class CsvRows {
  /** Those that a split of this dialect can begin in. */
  readonly states: readonly number[];
  readonly #next: Uint8Array;
  readonly #units = new Uint8Array(256);
  readonly #unitBytes: 1 | 2;
  /** Which byte of a unit of two is the low one. */
  readonly #low: 0 | 1;
  /** Whether, outside of quotes, a byte says which state is behind it. */
  readonly #isSimple: boolean;
  readonly #quote: number;

  /** `separator` stands for the dialect's own where the file names one. */
  constructor(spec: CsvSpec, separator: string = spec.separator) {
    const { quote = '"', escape = quote, comment, trim = false, encoding } = spec;
    const set = (character: string | undefined, unit: number): void => {
      if (character !== undefined && character !== "") this.#units[character.charCodeAt(0)] = unit;
    };
    if (trim) {
      set(" ", Unit.space);
      set("\t", Unit.space);
    }
    set(comment, Unit.comment);
    if (quote !== "") {
      set(escape, Unit.escape);
      set(quote, Unit.quote);
    }
    set(separator, Unit.separator);
    this.#units[LF] = Unit.lf;
    this.#units[CR] = Unit.cr;
    this.#next = transitions(escape === quote);
    this.#unitBytes = encoding === "utf-16le" || encoding === "utf-16be" ? 2 : 1;
    this.#low = encoding === "utf-16be" ? 1 : 0;
    this.states = Object.values(State).filter(
      (state) =>
        (state !== State.escaped || escape !== quote) && (state !== State.comment || comment !== undefined),
    );
    this.#isSimple = this.#unitBytes === 1 && escape === quote && comment === undefined && !trim;
    this.#quote = quote === "" ? NONE : quote.charCodeAt(0);
  }

  /**
   * The state behind `bytes`, which begin in `state`, up to the first row that begins in them at byte `from` or later:
   * that one's place is `first`, and -1 where there is none.
   */
  read(bytes: Uint8Array, state: number, from = 0): Outcome {
    const next = this.#next;
    const size = this.#unitBytes;
    let at = state;
    for (let index = 0; index + size <= bytes.byteLength; index += size) {
      const unit = this.#unitAt(bytes, index);
      if (index >= from && (at === State.row || (at === State.afterCr && unit !== Unit.lf))) {
        return { end: at, first: index };
      }
      at = next[at * UNITS + unit]!;
    }
    return { end: at, first: NONE };
  }

  /** Reads a split piece by piece, from all states at once. Its first byte stands at `position`. */
  scan(position: number): CsvScanner {
    return new CsvScanner(this, position);
  }

  /**
   * Where the next quote stands, if nothing but quotes and the last byte of what is before it can say in which state that
   * ends: then it need not be read. -1 where it must be read.
   */
  nextQuote(bytes: Uint8Array, from: number): number {
    if (!this.#isSimple) return NONE;
    const found = this.#quote === NONE ? NONE : bytes.indexOf(this.#quote, from);
    return found < 0 ? bytes.byteLength : found;
  }

  /** The state behind bytes `from` to `to`, which begin in `state`. `isPlain`: as `nextQuote` says, there is no quote. */
  advance(bytes: Uint8Array, from: number, to: number, state: number, isPlain: boolean): number {
    const next = this.#next;
    const units = this.#units;
    if (isPlain) return state === State.quoted ? state : next[State.plain * UNITS + units[bytes[to - 1]!]!]!;
    let at = state;
    if (this.#unitBytes === 1) {
      for (let index = from; index < to; index++) at = next[at * UNITS + units[bytes[index]!]!]!;
    } else {
      for (let index = from; index < to; index += 2) at = next[at * UNITS + this.#unitAt(bytes, index)]!;
    }
    return at;
  }

  #unitAt(bytes: Uint8Array, index: number): number {
    if (this.#unitBytes === 1) return this.#units[bytes[index]!]!;
    return bytes[index + 1 - this.#low] === 0 ? this.#units[bytes[index + this.#low]!]! : Unit.other;
  }
}

/** The separator that a file names in a first line of its own, `sep=;`, given that line. */
export function namedSeparator(csv: CsvSpec, line: Uint8Array): string | undefined {
  const { encoding = "utf-8", quote = '"', escape = "", comment = "" } = csv;
  const isWide = encoding === "utf-16le" || encoding === "utf-16be";
  const units: number[] = [];
  for (let at = 0; at < line.byteLength; at += isWide ? 2 : 1) {
    const [low, high] = encoding === "utf-16be" ? [line[at + 1]!, line[at]!] : [line[at]!, line[at + 1]!];
    units.push(isWide ? low | (high << 8) : line[at]!);
  }
  const found = /^(?:\xef\xbb\xbf|\ufeff)?(?:sep|Sep|SEP)=([ -~\t])[\r\n]*$/.exec(
    String.fromCharCode(...units),
  )?.[1];
  return found === undefined || [quote, escape, comment].includes(found) ? undefined : found;
}

/** Starting states that have met, and the state that they are in. */
interface Path {
  state: number;
  readonly begun: number[];
  /** Whether some of them have seen no row yet. */
  waits: boolean;
}

/**
 * States that meet have one future, so after a few bytes little more is left than two of them: within quotes and outside.
 * Each keeps the states that it began as, with the first row that each of those has seen.
 */
export class CsvScanner {
  readonly #rows: CsvRows;
  readonly #first = new Float64Array(STATES).fill(NONE);
  #paths: Path[];
  #position: number;

  constructor(rows: CsvRows, position: number) {
    this.#rows = rows;
    this.#position = position;
    this.#paths = rows.states.map((state) => ({ state, begun: [state], waits: true }));
  }

  /** Whole units, in order. */
  push(bytes: Uint8Array): void {
    const BLOCK = 1024;
    const rows = this.#rows;
    const end = bytes.byteLength;
    for (let from = 0; from < end;) {
      const quote = rows.nextQuote(bytes, from);
      const isPlain = quote > from;
      const to = isPlain ? quote : Math.min(end, quote === from ? from + 1 : from + BLOCK);
      for (const path of this.#paths) this.#advance(path, bytes, from, to, isPlain);
      // Two are left for long, within quotes and outside.
      if (this.#paths.length > 2) this.#meet();
      from = to;
    }
    this.#position += end;
  }

  result(): CsvScan {
    const outcomes = Array.from({ length: STATES }, () => NOWHERE);
    for (const { state, begun } of this.#paths) {
      for (const start of begun) outcomes[start] = { end: state, first: this.#first[start]! };
    }
    return outcomes;
  }

  #advance(path: Path, bytes: Uint8Array, from: number, to: number, isPlain: boolean): void {
    const rows = this.#rows;
    // Within quotes, no row begins before the next one.
    if (path.waits && !(isPlain && path.state === State.quoted)) {
      const { end, first } = rows.read(bytes.subarray(from, to), path.state);
      path.state = end;
      if (first === NONE) return;
      for (const start of path.begun) {
        if (this.#first[start] === NONE) this.#first[start] = this.#position + from + first;
      }
      path.waits = false;
      path.state = rows.advance(bytes, from + first, to, end, isPlain);
    } else {
      path.state = rows.advance(bytes, from, to, path.state, isPlain);
    }
  }

  #meet(): void {
    const met: Path[] = [];
    for (const path of this.#paths) {
      const other = met.find(({ state }) => state === path.state);
      if (other === undefined) met.push(path);
      else {
        other.begun.push(...path.begun);
        other.waits ||= path.waits;
      }
    }
    this.#paths = met;
  }
}

function transitions(doubles: boolean): Uint8Array {
  const next = new Uint8Array(STATES * UNITS);
  const set = (state: State, to: State, ends: Partial<Record<keyof typeof Unit, State>> = {}): void => {
    for (const [name, unit] of Object.entries(Unit)) {
      next[state * UNITS + unit] = ends[name as keyof typeof Unit] ?? to;
    }
  };
  const lineEnds = { lf: State.row, cr: State.afterCr };
  const ends = { ...lineEnds, separator: State.field };
  const begins = { ...ends, quote: State.quoted, space: State.field };
  set(State.row, State.plain, { ...begins, comment: State.comment });
  set(State.afterCr, State.plain, { ...begins, comment: State.comment });
  set(State.field, State.plain, begins);
  set(State.plain, State.plain, ends);
  set(
    State.quoted,
    State.quoted,
    doubles ? { quote: State.closing } : { quote: State.closed, escape: State.escaped },
  );
  set(State.escaped, State.quoted);
  set(State.closing, State.plain, { ...ends, quote: State.quoted, space: State.closed });
  set(State.closed, State.plain, { ...ends, space: State.closed });
  set(State.comment, State.comment, lineEnds);
  return next;
}

/** What states have an index of an outcome each, half a byte, and then outcomes of five bytes. */
const SCAN_HEAD_BYTES = (STATES + 1) >> 1;
const OUTCOME_BYTES = 5;
/** No scan is longer. */
export const SCAN_BYTES_MAX: number = SCAN_HEAD_BYTES + STATES * OUTCOME_BYTES;

/** A scan in as few bytes as most fit into a packet: by state, which of the outcomes behind it is its own. */
export function encodeScan(scan: CsvScan): Uint8Array<ArrayBuffer> {
  const distinct = new Map<string, Outcome>();
  const keys = scan.map((outcome) => {
    const key = `${outcome.end},${outcome.first}`;
    distinct.set(key, outcome);
    return key;
  });
  const order = [...distinct.keys()];
  const bytes = new Uint8Array(SCAN_HEAD_BYTES + distinct.size * OUTCOME_BYTES);
  keys.forEach((key, state) => {
    bytes[state >> 1]! |= order.indexOf(key) << ((state & 1) * 4);
  });
  const view = new DataView(bytes.buffer);
  [...distinct.values()].forEach(({ end, first }, index) => {
    const at = SCAN_HEAD_BYTES + index * OUTCOME_BYTES;
    bytes[at] = end;
    view.setInt32(at + 1, first, true);
  });
  return bytes;
}

/** Undefined for what is no scan of a split of `length` bytes. */
export function decodeScan(bytes: Uint8Array, length: number): CsvScan | undefined {
  const count = (bytes.byteLength - SCAN_HEAD_BYTES) / OUTCOME_BYTES;
  if (!Number.isInteger(count) || count < 1 || count > STATES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const scan: Outcome[] = [];
  for (let state = 0; state < STATES; state++) {
    const at = SCAN_HEAD_BYTES + ((bytes[state >> 1]! >> ((state & 1) * 4)) & 15) * OUTCOME_BYTES;
    if (at >= bytes.byteLength) return undefined;
    const outcome = { end: bytes[at]!, first: view.getInt32(at + 1, true) };
    if (outcome.end >= STATES || outcome.first < NONE || outcome.first > length) return undefined;
    scan.push(outcome);
  }
  return scan;
}

/** Where the rows of each split are, of splits that stand one behind the other in a file. */
export interface RowRange {
  readonly from: number;
  readonly length: number;
  /** Its end is known to be one of a row. */
  readonly whole: boolean;
}

/**
 * The rows of each split, given the scans of all splits of a file: `ends[i]` is where the i-th ends, and the next begins.
 * A split in which no row begins has none.
 */
export function rowRanges(
  scans: readonly CsvScan[],
  ends: readonly number[],
  recordBytesMax: number,
): RowRange[] {
  let state: number = CSV_START;
  const starts = scans.map((scan, index) => {
    const { end, first } = scan[state]!;
    state = end;
    return first === NONE ? NONE : (index === 0 ? 0 : ends[index - 1]!) + first;
  });
  const ranges: RowRange[] = [];
  let next = ends.at(-1) ?? 0;
  for (let index = starts.length - 1; index >= 0; index--) {
    const end = ends[index]!;
    const from = starts[index]!;
    if (from === NONE) {
      ranges[index] = { from: end, length: 0, whole: true };
      continue;
    }
    // A row that is too long is not read to its end: whoever reads this split finds it, and says where it begins.
    const whole = next - end <= recordBytesMax;
    ranges[index] = { from, length: (whole ? next : end) - from, whole };
    next = from;
  }
  return ranges;
}
