/**
 * How often each byte occurs in a file, by a kernel in WGSL: GPU.js has neither bytes nor atomics.
 *
 *   pfs put photos.tar
 *   pfs run examples/kernels/histogram.ts photos.tar
 *
 * Its counts are integers, so that every engine gives the same ones. For bytes that no GPU has yet, a CPU is the faster one: they are
 * counted in less time than they are sent there.
 */
import { block, bytes, defineKernel, defineProgram, u32 } from "packetfs";
import source from "./histogram.wgsl";

const histogram = defineKernel({
  name: "histogram",
  kind: "wgsl",
  inputs: { data: bytes(["n"]) },
  output: u32([256], { atomic: true }),
  operations: "2 * n",
  result: "exact",
  workgroup: { size: [256], count: ["n / 65536"] },
  source,
  cpu({ data }) {
    // Four tables, since a byte often is the one before: adding to a number waits until it was written.
    const counts = new Uint32Array(4 * 256);
    const end = data.length & ~3;
    for (let at = 0; at < end; at += 4) {
      counts[data[at]!]!++;
      counts[256 + data[at + 1]!]!++;
      counts[512 + data[at + 2]!]!++;
      counts[768 + data[at + 3]!]!++;
    }
    for (let at = end; at < data.length; at++) counts[data[at]!]!++;
    return counts
      .subarray(0, 256)
      .map((count, byte) => count + counts[256 + byte]! + counts[512 + byte]! + counts[768 + byte]!);
  },
});

export default defineProgram({
  input: block(16 * 1024 ** 2),
  map: (data) => histogram({ data }),
  combine: (a: Uint32Array, b) => a.map((count, byte) => count + b[byte]!),
  // A job counts more than 32 bits hold.
  reduce: (counts) => Array.from(counts),
});
