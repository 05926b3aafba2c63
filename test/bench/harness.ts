/**
 * One row answers one question: how does a thing compare with its floor or rival, measured in the same run? Both sides
 * take turns, so that what the rest of the machine does meets both; a round's figures give one ratio.
 */

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
  /** "≥ 0.35×" is { ratio: 0.35 }; "≤ 1 ms" is { figureMax: 1 }. */
  readonly goal: { readonly ratio: number } | { readonly figureMin: number } | { readonly figureMax: number };
}

export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface RowResult {
  readonly question: string;
  readonly unit: string;
  readonly ours: { readonly name: string; readonly figure: Spread };
  readonly rivals: readonly { readonly name: string; readonly figure: Spread; readonly ratio: Spread }[];
  readonly goal: Row["goal"];
  readonly reached: boolean;
}

export async function runRow(row: Row): Promise<RowResult> {
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
    question: row.question,
    unit: row.unit,
    ours: { name: row.ours.name, figure },
    rivals: compared,
    goal: row.goal,
    reached: isReached(row.goal, figure, compared[0]?.ratio),
  };
}

function isReached(goal: Row["goal"], figure: Spread, ratio: Spread | undefined): boolean {
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
