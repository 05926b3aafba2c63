/**
 * A program without PacketFS: its `map`, called for one record after the other in a bare thread. It takes the very text that
 * nodes are sent, so whoever is faster is not faster by its code.
 */
import { parentPort, workerData } from "node:worker_threads";
import { compileFunction } from "node:vm";

export interface PlainRun {
  /** Of a bundle. */
  readonly code: string;
  readonly records: readonly string[];
}

/** How many records are done; behind the last one, what all of them gave. */
export interface PlainProgress {
  readonly done: number;
  readonly output?: Uint8Array;
}

/** A program that yields bytes, as far as it is needed here. */
interface BytesProgram {
  readonly init?: (args: unknown) => unknown;
  readonly map: (record: string, context: { readonly state: unknown; readonly args: unknown }) => Uint8Array;
}

const port = parentPort!;
const { code, records } = workerData as PlainRun;
const exported: { default?: BytesProgram } = {};
const evaluate = compileFunction(code, ["$exports"]) as (exports: object) => void;
evaluate(exported);
const program = exported.default!;
const context = { args: null, state: program.init?.(null) };
const outputs: Uint8Array[] = [];
for (const record of records) {
  outputs.push(program.map(record, context));
  port.postMessage({ done: outputs.length } satisfies PlainProgress);
}
port.postMessage({ done: outputs.length, output: Buffer.concat(outputs) } satisfies PlainProgress);
