/** What a run of the bench says: tables of figures, and goals that they reach or not. For people as Markdown, for machines as JSON. */

export type Cell = string | number | undefined;

export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly Cell[])[];
}

export interface Goal {
  readonly goal: string;
  readonly unit: string;
  readonly least: number;
  /** Undefined where it could not be measured: there is no GPU, or something that it needs is not here. */
  readonly figure: number | undefined;
}

/** What a part of the bench has found. */
export interface Findings {
  readonly tables: readonly Table[];
  readonly goals: readonly Goal[];
  /** Sentences about answers that are not as they are to be. None is what there is to be. */
  readonly wrong: readonly string[];
}

export interface Report extends Findings {
  readonly machine: Readonly<Record<string, unknown>>;
}

export function isReached({ figure, least }: Goal): boolean {
  return figure !== undefined && figure >= least;
}

export function markdownOf({ tables, goals }: Report): string {
  const reached: Table = {
    title: "Goals",
    columns: ["goal", "at least", "measured", ""],
    rows: goals.map((goal) => [
      goal.goal,
      `${goal.least} ${goal.unit}`,
      goal.figure === undefined ? "not measured" : `${shown(goal.figure)} ${goal.unit}`,
      goal.figure === undefined ? "–" : isReached(goal) ? "✓" : "✗",
    ]),
  };
  return [...tables, ...(goals.length === 0 ? [] : [reached])].map(tableOf).join("\n\n");
}

export function tableOf({ title, columns, rows }: Table): string {
  const lines = [
    columns,
    columns.map(() => "---"),
    ...rows.map((row) => columns.map((_, index) => shown(row[index]))),
  ];
  return [`### ${title}`, "", ...lines.map((line) => `| ${line.join(" | ")} |`)].join("\n");
}

/** Three digits that matter. */
function shown(cell: Cell): string {
  if (cell === undefined) return "–";
  if (typeof cell === "string") return cell;
  if (Math.abs(cell) >= 1000) return Math.round(cell).toLocaleString("en");
  return String(Number(cell.toPrecision(3)));
}
