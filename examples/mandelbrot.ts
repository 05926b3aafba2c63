/**
 * A picture of the Mandelbrot set: each line of the input is the number of a row, each byte of the output a point of one. It is
 * 0 within the set, and larger the longer a point outside takes to leave.
 *
 *   seq 0 899 | pfs put - --name rows
 *   pfs run examples/mandelbrot.ts rows --split 40 --out mandelbrot.gray
 *   (printf 'P5 1200 900 255\n'; pfs cat mandelbrot.gray) > mandelbrot.pgm
 *
 * Rows take unequally long, so there are to be more splits than workers: who is done early takes the next.
 */
import { defineProgram, lines } from "packetfs";

/** `x` and `y` are the middle of the picture, `scale` how much of the plane it is high. */
interface Picture {
  readonly width: number;
  readonly height: number;
  readonly x: number;
  readonly y: number;
  readonly scale: number;
  readonly steps: number;
}

const DEFAULT: Picture = { width: 1200, height: 900, x: -0.65, y: 0, scale: 2.4, steps: 6000 };

/** After how many steps a point has left, 0 where it has not. */
function stepsToLeave(x: number, y: number, stepsMax: number): number {
  let real = 0;
  let imaginary = 0;
  for (let step = 1; step <= stepsMax; step++) {
    const realSquare = real * real;
    const imaginarySquare = imaginary * imaginary;
    if (realSquare + imaginarySquare > 4) return step;
    imaginary = 2 * real * imaginary + y;
    real = realSquare - imaginarySquare + x;
  }
  return 0;
}

export default defineProgram({
  input: lines(),
  yields: "bytes",
  init: (args: Partial<Picture> | null): Picture => ({ ...DEFAULT, ...args }),
  map: (line, { state: { width, height, x, y, scale, steps } }) => {
    const row = new Uint8Array(width);
    const imaginary = y + (Number(line) / height - 0.5) * scale;
    for (let column = 0; column < width; column++) {
      const real = x + ((column - width / 2) / height) * scale;
      const left = stepsToLeave(real, imaginary, steps);
      row[column] = left === 0 ? 0 : 1 + Math.floor(254 * Math.sqrt(left / (steps + 1)));
    }
    return row;
  },
});
