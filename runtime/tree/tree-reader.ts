/** The bytes of many small files of a stored tree in their order: what stands near each other is read at once. */
import { TREE_GAP_BYTES_MAX } from "../limits.ts";
import type { StoredTree } from "./stored-tree.ts";

interface Range {
  readonly start: number;
  end: number;
}

export class TreeReader {
  readonly #tree: StoredTree;
  readonly #signal: AbortSignal;
  readonly #ranges: Range[] = [];
  #pieces: AsyncGenerator<Uint8Array> | undefined;
  /** The range that is being read, and where in it the piece that is held begins. */
  #range: Range | undefined;
  #piece: Uint8Array = new Uint8Array(0);
  #at = 0;

  /** `wanted` are the files' places in what the tree's root yields, ascending. */
  constructor(
    tree: StoredTree,
    wanted: Iterable<{ readonly at: number; readonly length: number }>,
    signal: AbortSignal,
  ) {
    this.#tree = tree;
    this.#signal = signal;
    for (const { at, length } of wanted) {
      if (length === 0) continue;
      const last = this.#ranges.at(-1);
      if (last !== undefined && at - last.end <= TREE_GAP_BYTES_MAX)
        last.end = Math.max(last.end, at + length);
      else this.#ranges.push({ start: at, end: at + length });
    }
  }

  /** A file's bytes, to be looked at before the next one is asked for. One that was not wanted is read by itself. */
  read(at: number, length: number): Uint8Array | Promise<Uint8Array> {
    const from = at - this.#at;
    if (from >= 0 && from + length <= this.#piece.byteLength)
      return this.#piece.subarray(from, from + length);
    return this.#read(at, length);
  }

  async close(): Promise<void> {
    await this.#pieces?.return(undefined);
  }

  async #read(at: number, length: number): Promise<Uint8Array> {
    const target = new Uint8Array(length);
    if (length === 0) return target;
    while (this.#range === undefined || at >= this.#range.end) {
      const next = this.#ranges[0];
      if (next === undefined || at < next.start) break;
      await this.close();
      this.#range = this.#ranges.shift()!;
      this.#pieces = this.#tree.bytes(next.start, next.end, this.#signal);
      this.#piece = new Uint8Array(0);
      this.#at = next.start;
    }
    if (this.#range === undefined || at < this.#at || at + length > this.#range.end) {
      await this.#tree.read(at, target, this.#signal);
      return target;
    }
    let filled = 0;
    for (;;) {
      const from = at + filled - this.#at;
      if (from < this.#piece.byteLength) {
        const part = this.#piece.subarray(from, from + length - filled);
        target.set(part, filled);
        filled += part.byteLength;
        if (filled === length) return target;
      }
      const { done, value } = await this.#pieces!.next();
      if (done === true) throw new Error("a stream ended before its range did");
      this.#at += this.#piece.byteLength;
      this.#piece = value;
    }
  }
}
