/**
 * A source's bytes in blocks that can be handed away, with room before the bytes for what the block before it left over:
 *
 *   │ room: one chunk │ bytes read …                      │
 *              └──┬──┘
 *      the end of the block before, which is not a whole chunk yet
 */
import { isFilling } from "./file-source.ts";
import type { FillingSource } from "./file-source.ts";

export interface SourceBlock {
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** Where the bytes read begin, and end. */
  readonly start: number;
  readonly end: number;
  /** Nothing follows. */
  readonly isLast: boolean;
}

const SPARE_BLOCKS_MAX = 2;
/** Most files are small, so the first block is, and the next ones grow. */
const FIRST_BYTES = 64 * 1024;
const GROWTH = 8;

export class BlockSource {
  readonly #source: FillingSource;
  readonly #room: number;
  readonly #bytes: number;
  #next: Promise<SourceBlock> | undefined;
  #nextBytes = FIRST_BYTES;
  readonly #spare: ArrayBuffer[] = [];

  /** `room` is what a block may leave over, `bytes` what it reads at most. */
  constructor(source: AsyncIterable<Uint8Array>, room: number, bytes: number) {
    this.#source = isFilling(source) ? source : new IterableFilling(source);
    this.#room = room;
    this.#bytes = bytes;
  }

  /** The next block; the one after it is being read already. */
  async next(): Promise<SourceBlock> {
    const block = await (this.#next ?? this.#read(0));
    this.#next = block.isLast ? undefined : this.#read(this.#room);
    // Its failure is met when it is asked for.
    this.#next?.catch(() => {});
    return block;
  }

  /** A block's buffer that came back; the next block may be read into it. */
  reuse(buffer: ArrayBuffer): void {
    if (buffer.byteLength === this.#room + this.#bytes && this.#spare.length < SPARE_BLOCKS_MAX) {
      this.#spare.push(buffer);
    }
  }

  async close(): Promise<void> {
    await this.#source.close();
  }

  async #read(room: number): Promise<SourceBlock> {
    const bytes = this.#nextBytes;
    this.#nextBytes = Math.min(bytes * GROWTH, this.#bytes);
    const spare = bytes === this.#bytes ? this.#spare.pop() : undefined;
    // Not zeroed: only what was read into it is looked at.
    const buffer = new Uint8Array(spare ?? Buffer.allocUnsafeSlow(room + bytes).buffer);
    const filled = await this.#source.fill(buffer.subarray(room));
    return { buffer, start: room, end: room + filled, isLast: filled < bytes };
  }
}

/** Pieces of any size as a source that fills buffers. */
class IterableFilling implements FillingSource {
  readonly #iterator: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = new Uint8Array(0);
  #isDone = false;
  #isWaiting = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#iterator = source[Symbol.asyncIterator]();
  }

  async fill(target: Uint8Array): Promise<number> {
    let filled = 0;
    while (filled < target.byteLength) {
      if (this.#piece.byteLength === 0 && !(await this.#advance())) break;
      const part = this.#piece.subarray(0, target.byteLength - filled);
      target.set(part, filled);
      filled += part.byteLength;
      this.#piece = this.#piece.subarray(part.byteLength);
    }
    return filled;
  }

  async close(): Promise<void> {
    if (this.#isDone) return;
    this.#isDone = true;
    const returned = this.#iterator.return?.();
    // A generator that waits for something hears of it when that comes; nobody has to wait with it.
    if (this.#isWaiting) returned?.catch(() => {});
    else await returned;
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this.#iterator;
  }

  /** False at the end. */
  async #advance(): Promise<boolean> {
    if (this.#isDone) return false;
    this.#isWaiting = true;
    const result = await this.#iterator.next().finally(() => (this.#isWaiting = false));
    if (result.done === true) this.#isDone = true;
    else this.#piece = result.value;
    return result.done !== true;
  }
}
