/**
 * Counts words, with a kernel of WebAssembly and the rest in TypeScript. count-words.c says how the kernel is made.
 *
 *   pfs run examples/wasm/count-words.ts book.txt
 */
import { blocks, defineProgram } from "packetfs";
import kernel from "./count-words.wasm";

export default defineProgram({
  input: blocks(),
  map: (block) => ({ words: Number(kernel.call("map", block)), bytes: block.length }),
  combine: (a: { words: number; bytes: number }, b) => ({
    words: a.words + b.words,
    bytes: a.bytes + b.bytes,
  }),
});
