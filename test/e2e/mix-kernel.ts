/** A kernel that computes the same on every engine, as slowly as one likes, and what is known to come of it. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { KERNEL_HISTORY_FILE } from "../../runtime/kernel-history.ts";
import { connect } from "../../sdk/index.ts";
import { until } from "../suites/until.ts";
import { startHub } from "./daemon.ts";

/** How a node is started that has a GPU, as a CPU imitates it. */
export const SOFTWARE = { PACKETFS_GPU_SOFTWARE: "1", LP_NUM_THREADS: "1" } as const;
export const ROWS = 1024;
export const SPLITS = 24;
/** Of a GPU's own time for one call. */
const GPU_MS = 500;
/** What a hub remembers of CPUs here: that they take a second for a thousand operations. So its jobs go to a GPU as long as there is one. */
const SLOW_CPUS = { averages: [{ kernel: "", engineClass: "cpu", bucket: 0, value: 1, calls: 16 }] };

/** Has a hub of that store believe so from its first start on. */
export async function rememberSlowCpus(store: string): Promise<void> {
  await (await startHub({ store })).end("SIGTERM");
  await writeFile(join(store, KERNEL_HISTORY_FILE), JSON.stringify(SLOW_CPUS));
}

/** Resolves when that node's GPU is known to its hub, which is a moment after it has joined. */
export async function untilGpu(clientToken: string, node: string): Promise<void> {
  await using network = await connect(clientToken);
  await until(async () =>
    (await network.nodes()).some(({ label, accelerators }) => label === node && accelerators.length > 0),
  );
}

/** Words mixed `rounds` times and added up. Where the first word of a block is `never`, a GPU never ends with it. */
export function program(rounds: number, never = 0, result = "{ relL2: 0, abs: 0 }"): string {
  return `import { defineKernel, defineProgram, matrix, u32 } from "packetfs";
const mix = defineKernel({
  name: "mix",
  kind: "wgsl",
  inputs: { words: u32(["n", 1]) },
  output: u32(["n"]),
  result: ${result},
  operations: "n * ${rounds}",
  workgroup: { size: [64], count: ["n / 64"] },
  limits: { gpuMs: ${GPU_MS} },
  source: \`fn main(@builtin(global_invocation_id) id: vec3u) {
    if (id.x >= dims.n) { return; }
    var word = words[id.x];
    for (var round = 0u; round < ${rounds}u || (words[0] == ${never}u && words[0] != 0u); round++) {
      word = (word ^ (word >> 15u)) * 2654435761u;
    }
    output[id.x] = word;
  }\`,
  cpu: ({ words }) => words.map((word) => {
    for (let round = 0; round < ${rounds}; round++) word = Math.imul(word ^ (word >>> 15), 2654435761) >>> 0;
    return word;
  }),
});
export default defineProgram({
  input: matrix({ type: "u32", columns: 1, rows: ${ROWS} }),
  map: (rows) => mix({ words: rows }).reduce((sum, word) => sum + word, 0),
  combine: (a: number, b: number) => a + b,
});`;
}

export function sumOf(words: Uint32Array, rounds: number): number {
  return words.reduce((sum, first) => {
    let word = first;
    for (let round = 0; round < rounds; round++) word = Math.imul(word ^ (word >>> 15), 2654435761) >>> 0;
    return sum + word;
  }, 0);
}

export const words: Uint32Array<ArrayBuffer> = Uint32Array.from(
  { length: ROWS * SPLITS },
  (_, index) => index * 40_503 + 1,
);
