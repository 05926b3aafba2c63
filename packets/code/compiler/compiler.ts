/**
 * Compiles packet code to WebAssembly: a module whose one function runs over the records between two addresses and adds
 * them to the numbers at the beginning of its memory (registers.ts). Bytes and lines are looked at sixteen at a time. The
 * addresses are at most 32 MiB apart, so that sums of bytes in lanes of 32 bits do not overflow.
 *
 * What it computes is what interpreter.ts says; a test compares the two on random programs.
 */
import { Aggregate, Filter, Records } from "../format.ts";
import type { Code } from "../format.ts";
import { moduleBytes } from "./assembler.ts";
import { containsFunction, lines } from "./lines.ts";
import { Registers } from "./registers.ts";
import { rows } from "./rows.ts";

/** The module of a program, for a memory of at least so many pages of 64 KiB. CRC32 has none: zlib's is faster. */
export function compileCode(code: Code, memoryPages: number): Uint8Array<ArrayBuffer> | undefined {
  if (code.aggregate === Aggregate.CRC32) return undefined;
  const registers = new Registers(code);
  registers.loadState();
  if (code.records === Records.LINES) lines(registers);
  else rows(registers);
  registers.storeState();
  const { f, at } = registers;
  f.get(at);
  const functions = code.filter === Filter.CONTAINS ? [f, containsFunction(code)] : [f];
  return moduleBytes(functions, memoryPages);
}
