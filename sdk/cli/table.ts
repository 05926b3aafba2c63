/** Rows in columns that fit the terminal. */
import { displayWidth, truncate } from "./format.ts";

export interface Column {
  readonly title: string;
  readonly align?: "left" | "right";
  /** The column may be cut when the terminal is too narrow. */
  readonly shrinks?: boolean;
}

const GAP = "  ";
const SHRUNK_WIDTH_MIN = 8;

/** The widths of columns for these rows, at most `width` in all if what shrinks can make it so. */
export function columnWidths(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number,
): number[] {
  const widths = columns.map((column, index) =>
    rows.reduce((most, row) => Math.max(most, displayWidth(row[index]!)), displayWidth(column.title)),
  );
  const total = (): number => widths.reduce((sum, each) => sum + each, GAP.length * (columns.length - 1));
  for (;;) {
    const excess = total() - width;
    const widest = columns.reduce(
      (best, column, index) =>
        column.shrinks === true &&
        widths[index]! > SHRUNK_WIDTH_MIN &&
        (best < 0 || widths[index]! > widths[best]!)
          ? index
          : best,
      -1,
    );
    if (excess <= 0 || widest < 0) return widths;
    // One step per turn, so that several wide columns end up alike.
    widths[widest] = widths[widest]! - 1;
  }
}

/** One row as a line without trailing spaces. */
export function tableLine(
  columns: readonly Column[],
  widths: readonly number[],
  row: readonly string[],
): string {
  return row
    .map((cell, index) => {
      const text = truncate(cell, widths[index]!);
      const padding = " ".repeat(Math.max(0, widths[index]! - displayWidth(text)));
      return columns[index]!.align === "right" ? padding + text : text + padding;
    })
    .join(GAP)
    .trimEnd();
}
