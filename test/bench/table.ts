/** The results for people: a table with the spread of every figure. */
import type { RowResult, Spread } from "./harness.ts";

export function formatTable(results: readonly RowResult[]): string {
  const rows = results.flatMap(({ question, unit, ours, rivals, goal, reached }) => [
    [question, ours.name, figure(ours.figure, unit), "", `${reached ? "✓" : "✗"} ${formatGoal(goal, unit)}`],
    ...rivals.map(({ name, figure: value, ratio }, index) => [
      "",
      `vs ${name}`,
      figure(value, unit),
      `${round(ratio.median)}× (${round(ratio.min)}–${round(ratio.max)})`,
      index === 0 && "ratio" in goal ? `goal ${goal.ratio}×` : "",
    ]),
  ]);
  const head = ["question", "side", "figure (min–max)", "ours ÷ it", "goal"];
  const widths = head.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column]!))
      .join("  ")
      .trimEnd();
  return [line(head), widths.map((width) => "─".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}

function formatGoal(goal: RowResult["goal"], unit: string): string {
  if ("ratio" in goal) return `≥ ${goal.ratio}×`;
  return "figureMin" in goal ? `≥ ${round(goal.figureMin)} ${unit}` : `≤ ${round(goal.figureMax)} ${unit}`;
}

function figure({ median, min, max }: Spread, unit: string): string {
  return `${round(median)} ${unit} (${round(min)}–${round(max)})`;
}

/** Three digits that matter. */
function round(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}
