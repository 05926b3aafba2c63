/** The results for people: a table with the spread of every figure. */
import type { RowResult, Spread } from "./harness.ts";

export function formatTable(results: readonly RowResult[]): string {
  const rows = results.flatMap((result) => {
    const { question, unit, ours, rivals } = result;
    return [
      [question, ours.name, figure(ours.figure, unit), "", formatGoal(result)],
      ...rivals.map((rival) => ["", `vs ${rival.name}`, figure(rival.figure, unit), ratio(rival.ratio), ""]),
    ];
  });
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

/** The same as a table of Markdown, a row for each question. */
export function formatMarkdown(results: readonly RowResult[]): string {
  const rows = results.map((result) => {
    const { question, unit, ours, rivals } = result;
    const against = rivals.map((rival) => `${rival.name}, ${figure(rival.figure, unit)}`);
    const ratios = rivals.map((rival) => ratio(rival.ratio));
    return [question, figure(ours.figure, unit), against.join("; "), ratios.join("; "), formatGoal(result)];
  });
  const head = ["question", "ours (min–max)", "against", "ours ÷ it", "goal"];
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");
}

function formatGoal({ goal, reached, unit }: RowResult): string {
  if (goal === undefined) return "";
  const mark = reached === true ? "✓" : "✗";
  if ("ratio" in goal) return `${mark} ≥ ${goal.ratio}×`;
  return "figureMin" in goal
    ? `${mark} ≥ ${round(goal.figureMin)} ${unit}`
    : `${mark} ≤ ${round(goal.figureMax)} ${unit}`;
}

function figure({ median, min, max }: Spread, unit: string): string {
  return `${round(median)} ${unit} (${round(min)}–${round(max)})`;
}

function ratio({ median, min, max }: Spread): string {
  return `${round(median)}× (${round(min)}–${round(max)})`;
}

/** Three digits that matter. */
function round(value: number): string {
  if (value >= 1000) return Math.round(value).toLocaleString("en");
  return String(Number(value.toPrecision(3)));
}
