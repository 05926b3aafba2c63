/**
 * One row answers one question: how does a thing compare with its floor or rival, measured in the same run? Both sides
 * take turns, so that what the rest of the machine does meets both; a round's figures give one ratio.
 */
import type { Sizes } from "./sizes.ts";

export interface Side {
  readonly name: string;
  /** Does the work once and returns the figure, in the row's unit. */
  readonly measure: () => Promise<number>;
}

export interface Row {
  /** The question, as a person would ask it. */
  readonly question: string;
  readonly unit: string;
  readonly ours: Side;
  /** What ours is compared with; the goal is about the first. */
  readonly rivals: readonly Side[];
  readonly rounds: number;
  /** Of a row that is a point of a curve, there is none. */
  readonly goal?: Goal;
}

/** "≥ 0.35×" is { ratio: 0.35 }; "≤ 1 ms" is { figureMax: 1 }. */
export type Goal =
  | { readonly ratio: number }
  | { readonly figureMin: number }
  | { readonly figureMax: number };

/** What the rows of a section work with. */
export interface Bench {
  /** A folder for files and stores, as fast as the machine has one; it is removed at the end. */
  readonly directory: string;
  readonly sizes: Sizes;
}

/**
 * The rows about one thing. Each is measured before the next is asked for, so that what they share is opened before the first
 * and closed behind the last.
 */
export interface Section {
  (bench: Bench): AsyncIterable<Row>;
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface RowResult {
  /** The section's name. */
  readonly section: string;
  readonly question: string;
  readonly unit: string;
  readonly ours: { readonly name: string; readonly figure: Spread };
  readonly rivals: readonly { readonly name: string; readonly figure: Spread; readonly ratio: Spread }[];
  readonly goal?: Goal;
  /** Absent where there is no goal. */
  readonly reached?: boolean;
}

export async function runRow(section: string, row: Row): Promise<RowResult> {
  const ours: number[] = [];
  const rivals = row.rivals.map((): number[] => []);
  for (let round = 0; round < row.rounds; round++) {
    ours.push(await row.ours.measure());
    for (const [index, rival] of row.rivals.entries()) rivals[index]!.push(await rival.measure());
  }
  const figure = spreadOf(ours);
  const compared = row.rivals.map(({ name }, index) => ({
    name,
    figure: spreadOf(rivals[index]!),
    ratio: spreadOf(ours.map((value, round) => value / rivals[index]![round]!)),
  }));
  return {
    section,
    question: row.question,
    unit: row.unit,
    ours: { name: row.ours.name, figure },
    rivals: compared,
    ...(row.goal === undefined
      ? {}
      : { goal: row.goal, reached: isReached(row.goal, figure, compared[0]?.ratio) }),
  };
}

function isReached(goal: Goal, figure: Spread, ratio: Spread | undefined): boolean {
  if ("ratio" in goal) return ratio !== undefined && ratio.median >= goal.ratio;
  return "figureMin" in goal ? figure.median >= goal.figureMin : figure.median <= goal.figureMax;
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** Seconds that `work` took. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** So many times the calls of a figure go before the first one. */
const CALLS_BEFORE_TIMES = 8;

/**
 * The median of calls one after the other, in ms, once V8 has compiled what a call needs, whatever it is a call of: its last compiler waits
 * for 3,000 calls of a function, and until then a packet to a remote node takes a fifth more of the main threads' CPU time.
 */
export function medianOf(name: string, calls: number, call: () => Promise<void>): Side {
  let isCompiled = false;
  return {
    name,
    measure: async () => {
      const callsBefore = isCompiled ? calls : calls * CALLS_BEFORE_TIMES;
      isCompiled = true;
      for (let done = 0; done < callsBefore; done++) await call();
      const times: number[] = [];
      for (let done = 0; done < calls; done++) {
        const start = performance.now();
        await call();
        times.push(performance.now() - start);
      }
      return spreadOf(times).median;
    },
  };
}
