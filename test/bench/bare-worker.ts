/** The rival of the sandbox: the same kernel in a bare worker thread that reads the file itself. */
import { openSync, readSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";

/** What the example's program is outside the sandbox: its functions. */
interface WordCount {
  readonly init: () => unknown;
  readonly map: (
    block: Uint8Array,
    context: { readonly state: unknown; readonly emit: (word: string, count: number) => void },
  ) => void;
}

const module = (await import(new URL("../../examples/word-count.ts", import.meta.url).href)) as {
  default: WordCount;
};
const program = module.default;

const NEWLINE = 10;
/** No line of the corpus is longer. */
const LINE_BYTES_MAX = 4096;

const { path, length } = workerData as { path: string; length: number };
const file = openSync(path, "r");

/** The lines that start in the range. */
function readLines(start: number, end: number): Uint8Array {
  const from = Math.max(0, start - 1);
  const buffer = Buffer.allocUnsafe(Math.min(length, end + LINE_BYTES_MAX) - from);
  let filled = 0;
  while (filled < buffer.length)
    filled += readSync(file, buffer, filled, buffer.length - filled, from + filled);
  const first = start === 0 ? 0 : buffer.indexOf(NEWLINE) + 1;
  const last = end >= length ? buffer.length : buffer.indexOf(NEWLINE, end - from - 1) + 1;
  return buffer.subarray(first, last);
}

parentPort!.on("message", ([start, end]: [number, number]) => {
  const counts = new Map<string, number>();
  const emit = (word: string, count: number): void => void counts.set(word, (counts.get(word) ?? 0) + count);
  program.map(readLines(start, end), { state: program.init(), emit });
  parentPort!.postMessage([...counts]);
});
