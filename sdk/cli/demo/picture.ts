/** The picture that examples/mandelbrot.ts computes, as a terminal can show it. */

/** What the program makes when it is told nothing else; a byte is a point. */
export const PICTURE_WIDTH = 1200;
export const PICTURE_HEIGHT = 900;

const COLUMNS = 64;
const LINES = 24;
/** From what leaves the set at once to what stays in it. */
const RAMP = " .:-=+*#%@";
/** Colours of the 256 of a terminal: blue, over violet and orange, to yellow. */
const COLOURS = [
  17, 18, 19, 20, 26, 32, 38, 44, 80, 116, 152, 187, 222, 221, 220, 214, 208, 202, 196, 160, 124, 88, 52,
] as const;
const BLACK = 16;

/** Lines of text; with `hasColours`, every character is two points, one above the other. */
export function drawPicture(points: Uint8Array, hasColours: boolean): string[] {
  const rank = ranks(points);
  const at = (column: number, row: number, rows: number): number => {
    const x = Math.floor(((column + 0.5) / COLUMNS) * PICTURE_WIDTH);
    const y = Math.floor(((row + 0.5) / rows) * PICTURE_HEIGHT);
    return points[y * PICTURE_WIDTH + x]!;
  };
  const colourOf = (point: number): number =>
    point === 0 ? BLACK : COLOURS[Math.floor(rank[point]! * COLOURS.length)]!;
  const characterOf = (point: number): string =>
    point === 0 ? RAMP.at(-1)! : RAMP[Math.floor(rank[point]! * (RAMP.length - 1))]!;
  return Array.from({ length: LINES }, (_, line) => {
    let text = "";
    for (let column = 0; column < COLUMNS; column++) {
      text += hasColours
        ? `\u001b[38;5;${colourOf(at(column, 2 * line, 2 * LINES))};48;5;${colourOf(at(column, 2 * line + 1, 2 * LINES))}m▀`
        : characterOf(at(column, line, LINES));
    }
    return hasColours ? `${text}\u001b[0m` : text;
  });
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
