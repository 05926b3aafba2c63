/** The picture that examples/mandelbrot.ts computes, as a terminal can show it. */

/** What the program makes when it is told nothing else; a byte is a point. */
export const PICTURE_WIDTH = 1200;
export const PICTURE_HEIGHT = 900;

const COLUMNS = 64;
const LINES = 24;
/** From what leaves the set at once to what stays in it. */
const RAMP = " .:-=+*#%@";
/** Of the 256 colours of a terminal: over blue to white, and over yellow to red. */
const COLOURS = [
  17, 18, 19, 20, 26, 32, 38, 44, 80, 116, 152, 188, 230, 229, 228, 227, 221, 220, 214, 208, 202, 160, 124,
] as const;
const BLACK = 16;

/** Lines of text; with `hasColours`, every character is two cells of the picture, one above the other. */
export function drawPicture(points: Uint8Array, hasColours: boolean): string[] {
  const rows = hasColours ? 2 * LINES : LINES;
  const shades = shadesOf(points, rows);
  const shadeAt = (column: number, row: number): number => shades[row * COLUMNS + column]!;
  const colourAt = (column: number, row: number): number => {
    const shade = shadeAt(column, row);
    return shade === 1 ? BLACK : COLOURS[Math.floor(shade * COLOURS.length)]!;
  };
  return Array.from({ length: LINES }, (_, line) => {
    let text = "";
    for (let column = 0; column < COLUMNS; column++) {
      text += hasColours
        ? `\u001b[38;5;${colourAt(column, 2 * line)};48;5;${colourAt(column, 2 * line + 1)}m▀`
        : RAMP[Math.floor(shadeAt(column, line) * (RAMP.length - 1))]!;
    }
    return hasColours ? `${text}\u001b[0m` : text.trimEnd();
  });
}

/** For each cell, row by row, 1 where most of it is in the set, or else the mean rank of its points, below 1. */
function shadesOf(points: Uint8Array, rows: number): Float64Array {
  const rank = ranks(points);
  const shades = new Float64Array(COLUMNS * rows);
  for (let cell = 0; cell < shades.length; cell++) {
    const row = Math.floor(cell / COLUMNS);
    const column = cell % COLUMNS;
    let inside = 0;
    let outside = 0;
    let sum = 0;
    for (let y = edge(row, rows, PICTURE_HEIGHT); y < edge(row + 1, rows, PICTURE_HEIGHT); y++) {
      for (let x = edge(column, COLUMNS, PICTURE_WIDTH); x < edge(column + 1, COLUMNS, PICTURE_WIDTH); x++) {
        const point = points[y * PICTURE_WIDTH + x]!;
        if (point === 0) inside++;
        else outside++;
        sum += rank[point]!;
      }
    }
    shades[cell] = inside > outside ? 1 : sum / outside;
  }
  return shades;
}

/** Where the cell begins that is the `index`-th of `count`. */
function edge(index: number, count: number, size: number): number {
  return Math.floor((index * size) / count);
}

/** For each value of a point outside the set, the share of such points that have less: so that every shade is seen as much as any other. */
function ranks(points: Uint8Array): Float64Array {
  const counts = new Float64Array(256);
  for (const point of points) counts[point]!++;
  const outside = points.length - counts[0]!;
  const rank = new Float64Array(256);
  let before = 0;
  for (let value = 1; value < 256; value++) {
    rank[value] = before / outside;
    before += counts[value]!;
  }
  return rank;
}
