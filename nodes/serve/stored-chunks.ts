/**
 * Which chunks the holder of a key stored first, in a file, so that what gc frees of them does not count any more:
 *
 *   ref (32 bytes) │ bytes of the chunk (4, little-endian) │ ref │ bytes │ …
 */
import { open, rename, rm } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { refAt, refKey } from "../../packets/digest.ts";
import { readInteger32, writeInteger32 } from "../../packets/integer.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { PRIVATE_FILE_MODE } from "../../runtime/durable-file.ts";
import type { ChunkSizes } from "../../runtime/contracts/chunks.ts";
import { turnOver } from "../../runtime/turns.ts";
import { STORED_CHUNKS_PAGE } from "../limits.ts";

const ROW_BYTES: number = REF_BYTES + 4;
const PAGE_BYTES: number = STORED_CHUNKS_PAGE * ROW_BYTES;

export class StoredChunks {
  readonly #path: string;
  #last: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.#path = path;
  }

  /** Adds those of these chunks that were not there before: `isNew` has a byte for each. */
  add(refs: Uint8Array, lengths: Uint32Array, isNew: Uint8Array): Promise<void> {
    const rows: Uint8Array[] = [];
    for (const [index, length] of lengths.entries()) {
      if (isNew[index] !== 1) continue;
      const row = new Uint8Array(ROW_BYTES);
      row.set(refAt(refs, index));
      writeInteger32(row, REF_BYTES, length);
      rows.push(row);
    }
    return this.#next(async () => {
      if (rows.length === 0) return;
      await this.#using("a", async (file) => {
        const { size } = await file.stat();
        // A crash can have torn the last one.
        if (size % ROW_BYTES > 0) await file.truncate(size - (size % ROW_BYTES));
        await file.appendFile(Buffer.concat(rows));
      });
    });
  }

  /** How long the list is, for `recount` after chunks were freed. */
  rows(): Promise<number> {
    return this.#next(() =>
      this.#using("a", async (file) => Math.floor((await file.stat()).size / ROW_BYTES)),
    );
  }

  /**
   * Forgets the chunks that are not there any more, and resolves with their bytes. What is in the list twice was freed, and
   * stored again behind the first `before` rows: it counts once.
   */
  recount(store: ChunkSizes, before: number): Promise<number> {
    return this.#next(async () => {
      const temporary = `${this.#path}.new`;
      await rm(temporary, { force: true });
      const freed = await this.#using("a+", async (file) => {
        const again: Set<string> = new Set();
        for await (const page of pagesOf(file, before))
          for (let at = 0; at < page.byteLength; at += ROW_BYTES) again.add(refKey(refOf(page, at)));
        const kept = await open(temporary, "wx", PRIVATE_FILE_MODE);
        try {
          return await keepThere({ file, kept, store, again, before });
        } finally {
          await kept.close();
        }
      });
      await rename(temporary, this.#path);
      return freed;
    });
  }

  /** Forgets all of them. */
  clear(): Promise<void> {
    return this.#next(() => rm(this.#path, { force: true }));
  }

  /** One thing at a time. */
  #next<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  async #using<T>(flags: string, work: (file: FileHandle) => Promise<T>): Promise<T> {
    const file = await open(this.#path, flags, PRIVATE_FILE_MODE);
    try {
      return await work(file);
    } finally {
      await file.close();
    }
  }
}

interface Recount {
  readonly file: FileHandle;
  readonly kept: FileHandle;
  readonly store: ChunkSizes;
  /** Keys of refs that stand behind the first `before` rows. */
  readonly again: ReadonlySet<string>;
  readonly before: number;
}

/** Copies the rows of chunks that are there, and says how many bytes the others had. */
async function keepThere({ file, kept, store, again, before }: Recount): Promise<number> {
  let freed = 0;
  let row = 0;
  for await (const page of pagesOf(file, 0)) {
    const count = page.byteLength / ROW_BYTES;
    const refs = new Uint8Array(count * REF_BYTES);
    for (let index = 0; index < count; index++) refs.set(refOf(page, index * ROW_BYTES), index * REF_BYTES);
    const sizes = await store.sizes(refs);
    const rows: Uint8Array[] = [];
    for (let index = 0; index < count; index++, row++) {
      const at = index * ROW_BYTES;
      const isOld = row < before && again.has(refKey(refOf(page, at)));
      if (sizes[index]! > 0 && !isOld) rows.push(page.subarray(at, at + ROW_BYTES));
      else freed += readInteger32(page, at + REF_BYTES);
    }
    await kept.appendFile(Buffer.concat(rows));
    await turnOver();
  }
  return freed;
}

/** The whole rows of a list from one of them on, many at a time. */
async function* pagesOf(file: FileHandle, first: number): AsyncGenerator<Uint8Array, void, undefined> {
  for (let at = first * ROW_BYTES; ;) {
    const { bytesRead, buffer } = await file.read(new Uint8Array(PAGE_BYTES), 0, PAGE_BYTES, at);
    const whole = bytesRead - (bytesRead % ROW_BYTES);
    if (whole === 0) return;
    yield buffer.subarray(0, whole);
    at += whole;
  }
}

function refOf(page: Uint8Array, at: number): Uint8Array {
  return page.subarray(at, at + REF_BYTES);
}
