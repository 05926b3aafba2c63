/**
 * Pictures of the Mandelbrot set, as PNG: one for each line of the input, which says of what.
 *
 *   echo '{ "x": -0.743, "y": 0.131, "scale": 0.02, "steps": 2000 }' | pfs put - --name view.json
 *   pfs run examples/kernels/mandelbrot.ts view.json --out mandelbrot.png
 *
 * mandelbrot.ts in the folder above computes one row by row, on CPUs alone.
 */
import { defineKernel, defineProgram, f32, jsonLines, u32 } from "packetfs";
import { png } from "./png.ts";

/** `x` and `y` are the middle of the picture, `scale` how much of the plane it is high. */
interface View {
  readonly x: number;
  readonly y: number;
  readonly scale: number;
  readonly steps?: number;
  readonly width?: number;
  readonly height?: number;
}

/** After how many steps each point has left, `steps` where it has not. */
const leave = defineKernel({
  name: "leave",
  kind: "js",
  inputs: { left: f32(), top: f32(), step: f32(), steps: u32() },
  output: f32(["height", "width"]),
  maxTrip: { steps: 100_000 },
  // Where points nearly stay, the last bit of one step decides when they leave: the deeper the view, the more of them there are.
  result: { relL2: 0.25, abs: 1 },
  source(left, top, step, steps) {
    const x = left + this.thread.x * step;
    const y = top - this.thread.y * step;
    let real = 0;
    let imaginary = 0;
    let taken = 0;
    for (let i = 0; i < steps; i++) {
      const realSquare = real * real;
      const imaginarySquare = imaginary * imaginary;
      if (realSquare + imaginarySquare > 4) break;
      imaginary = 2 * real * imaginary + y;
      real = realSquare - imaginarySquare + x;
      taken++;
    }
    return taken;
  },
  cpu({ left, top, step, steps }, { width, height }) {
    const { fround } = Math;
    const picture = new Float32Array(width * height);
    for (let at = 0; at < picture.length; at++) {
      const x = fround(left + fround((at % width) * step));
      const y = fround(top - fround(Math.floor(at / width) * step));
      let [real, imaginary, realSquare, imaginarySquare, taken] = [0, 0, 0, 0, 0];
      for (; taken < steps && fround(realSquare + imaginarySquare) <= 4; taken++) {
        imaginary = fround(fround(2 * real * imaginary) + y);
        real = fround(fround(realSquare - imaginarySquare) + x);
        realSquare = fround(real * real);
        imaginarySquare = fround(imaginary * imaginary);
      }
      picture[at] = taken;
    }
    return picture;
  },
});

export default defineProgram({
  input: jsonLines<View>(),
  yields: "bytes",
  limits: { timeMs: 120_000 },
  map: ({ x, y, scale, steps = 1000, width = 1920, height = 1080 }) => {
    const step = scale / height;
    const taken = leave(
      { left: x - (width / 2) * step, top: y + (height / 2) * step, step, steps },
      { width, height },
    );
    // Black within; without, the darker the sooner a point leaves.
    return png(width, height, (at) => (taken[at] === steps ? 0 : 1 + 254 * Math.sqrt(taken[at]! / steps)));
  },
});
