/**
 * Embedding search: of a file of vectors of 256 floats, the ten that are most like each of many queries, by their dot product.
 *
 *   pfs put vectors.f32 queries.f32      # float32, little-endian, nothing between
 *   pfs run examples/kernels/search.ts vectors.f32 --with queries=queries.f32
 *
 * Scores of all rows would be more to bring back than the best of each block, which the kernel keeps: search.wgsl.
 */
import { defineKernel, defineProgram, f32, matrix, u32 } from "packetfs";
import wasm from "./search.wasm";
import source from "./search.wgsl";

const WIDTH = 256;
const ROW_BYTES = WIDTH * 4;
/** Rows of which the kernel keeps the best, */
const BLOCK = 1024;
/** and how many those are. All three stand in search.wgsl and search.c too. */
const BEST = 10;
/** Marks a place that no row takes, since there are fewer. */
const NONE = 0xffffffff;

const search = defineKernel({
  name: "search",
  kind: "wgsl",
  inputs: { vectors: f32(["n", WIDTH]), queries: f32(["q", WIDTH]) },
  outputs: { scores: f32(["q", "blocks", BEST]), rows: u32(["q", "blocks", BEST]) },
  operations: `2 * ${WIDTH} * n * q`,
  result: { relL2: 1e-5, abs: 1e-4 },
  workgroup: { size: [16, 16], count: [`n / ${BLOCK}`, "q / 64"] },
  source,
  cpu({ vectors, queries }) {
    const { buffer, byteLength } = wasm.bytes("search", vectors, queries)!;
    const half = byteLength / 2;
    return { scores: new Float32Array(buffer, 0, half / 4), rows: new Uint32Array(buffer, half) };
  },
});

interface Match {
  /** Of the file, from 0. */
  readonly row: number;
  readonly score: number;
}

/** The best first; of those that score the same, the first. */
function best(matches: readonly Match[]): Match[] {
  return matches.toSorted((a, b) => b.score - a.score || a.row - b.row).slice(0, BEST);
}

export default defineProgram({
  input: matrix({ type: "f32", columns: WIDTH, rows: 16 * BLOCK }),
  limits: { timeMs: 60_000 },
  map: (vectors, { offset, files: { queries } }) => {
    const blocks = Math.ceil(vectors.rows / BLOCK);
    const { scores, rows } = search({ vectors, queries: queries! }, { blocks });
    return Array.from({ length: scores.length / blocks / BEST }, (_, query) => {
      const matches: Match[] = [];
      for (let at = query * blocks * BEST; at < (query + 1) * blocks * BEST; at++)
        if (rows[at] !== NONE) matches.push({ row: offset / ROW_BYTES + rows[at]!, score: scores[at]! });
      return best(matches);
    });
  },
  combine: (a: Match[][], b) => a.map((matches, query) => best([...matches, ...b[query]!])),
});
