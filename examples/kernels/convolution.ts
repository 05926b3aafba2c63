/**
 * Frames of 1920 × 1080 floats, as telescopes and renderers give them, each blurred by a Gaussian of 15 × 15: its pixels become
 * weighted sums of those around them. Beyond its border a frame goes on as it ends.
 *
 *   pfs put frames.f32      # float32, little-endian, row by row, frame by frame
 *   pfs run examples/kernels/convolution.ts frames.f32 --out blurred.f32
 */
import { defineKernel, defineProgram, f32, matrix } from "packetfs";
import wasm from "./convolution.wasm";

const WIDTH = 1920;
const HEIGHT = 1080;
/** How wide and tall the weights are: in the source, and in convolution.c too. */
const SIZE = 15;
const SIGMA = 2.5;

const convolve = defineKernel({
  name: "convolve",
  kind: "js",
  inputs: { frame: f32(["height", "width"]), weights: f32([SIZE, SIZE]) },
  output: f32(["height", "width"]),
  result: { relL2: 1e-5, abs: 1e-4 },
  source(frame, weights) {
    let sum = 0;
    for (let j = 0; j < 15; j++) {
      const y = Math.min(Math.max(this.thread.y + j - 7, 0), this.constants.height - 1);
      for (let i = 0; i < 15; i++) {
        const x = Math.min(Math.max(this.thread.x + i - 7, 0), this.constants.width - 1);
        sum += frame[y]![x]! * weights[j]![i]!;
      }
    }
    return sum;
  },
  cpu: ({ frame, weights }, { width }) =>
    new Float32Array(wasm.bytes("convolve", frame, weights, width)!.buffer),
});

/** Weights whose sum is 1. */
function gaussian(): Float32Array {
  const weights = Float32Array.from({ length: SIZE * SIZE }, (_, at) => {
    const [x, y] = [(at % SIZE) - (SIZE >> 1), Math.floor(at / SIZE) - (SIZE >> 1)];
    return Math.exp(-(x * x + y * y) / (2 * SIGMA * SIGMA));
  });
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

export default defineProgram({
  input: matrix({ type: "f32", columns: WIDTH, rows: HEIGHT }),
  yields: "bytes",
  limits: { timeMs: 60_000 },
  init: () => ({ weights: gaussian() }),
  map: (frame, { state: { weights } }) => new Uint8Array(convolve({ frame, weights }).buffer),
});
