/**
 * Reads the pieces of a plan from the files in which chunks lie, ahead of whoever takes them: what stands next to each other by one
 * call, by the system's threads, which also hash each chunk the first time it is seen.
 */
import { subtle } from "node:crypto";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { decompressAside } from "../../../packets/codec.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { CODE_VERIFIED_MAX, GPU_READ_BYTES, GPU_READS_MAX, READ_GAP_BYTES_MAX } from "../../limits.ts";
import { SpareMemory } from "../../spare-memory.ts";
import type { ReadPlan } from "../read-plan.ts";

/** The bytes are not where the plan says: they were moved or lost, or are others. */
export class UnreadError extends Error {}

interface Run {
  readonly first: number;
  readonly end: number;
}

export class PlanReader {
  readonly #memory = new SpareMemory(GPU_READ_BYTES, GPU_READS_MAX);
  /** Places whose chunks were found to be what their refs say. */
  readonly #verified = new Set<number>();

  /** Hands the pieces over in their order. Rejects with UnreadError, or what `take` rejects with. */
  async read(
    plan: ReadPlan,
    files: readonly string[],
    take: (bytes: Uint8Array) => Promise<void>,
  ): Promise<void> {
    const runs = runsOf(plan);
    const handles = new Map<number, Promise<FileHandle>>();
    const begun: Promise<{ readonly pieces: Uint8Array[]; readonly memory: ArrayBufferLike }>[] = [];
    try {
      for (let index = 0; index < runs.length; index++) {
        while (begun.length < GPU_READS_MAX && index + begun.length < runs.length) {
          const read = this.#readRun(plan, runs[index + begun.length]!, files, handles);
          // Somebody waits for it later, or for an earlier one that failed.
          read.catch(() => undefined);
          begun.push(read);
        }
        const { pieces, memory } = await begun.shift()!;
        for (const piece of pieces) await take(piece);
        this.#memory.giveBack(memory);
      }
    } finally {
      await Promise.allSettled(begun);
      await Promise.allSettled([...handles.values()].map(async (handle) => (await handle).close()));
    }
  }

  async #readRun(
    plan: ReadPlan,
    { first, end }: Run,
    files: readonly string[],
    handles: Map<number, Promise<FileHandle>>,
  ): Promise<{ readonly pieces: Uint8Array[]; readonly memory: ArrayBufferLike }> {
    const { file, offset, storedBytes } = plan;
    const start = offset[first]!;
    const length = offset[end - 1]! + storedBytes[end - 1]! - start;
    const memory = this.#memory.take(length);
    try {
      const number = file[first]!;
      const handle = handles.get(number) ?? open(files[number]!, "r");
      handles.set(number, handle);
      await fill(await handle, memory, start);
    } catch (error) {
      throw new UnreadError("they cannot be read", { cause: error });
    }
    const pieces: Promise<Uint8Array>[] = [];
    for (let row = first; row < end; row++) {
      const at = offset[row]! - start;
      pieces.push(this.#piece(plan, row, memory.subarray(at, at + storedBytes[row]!)));
    }
    return { pieces: await Promise.all(pieces), memory: memory.buffer };
  }

  async #piece(plan: ReadPlan, row: number, stored: Uint8Array<ArrayBuffer>): Promise<Uint8Array> {
    const { codec, plainBytes, from, take, place, refs } = plan;
    const chunk = await decompressAside(stored, codec[row]!, plainBytes[row]!);
    if (chunk === undefined) throw new UnreadError("a chunk does not decompress");
    const where = place[row]!;
    if (!this.#verified.has(where)) {
      const digest = await subtle.digest("SHA-256", chunk as Uint8Array<ArrayBuffer>);
      const ref = Buffer.from(refs.buffer, refs.byteOffset + row * REF_BYTES, REF_BYTES);
      if (!ref.equals(new Uint8Array(digest))) throw new UnreadError("a chunk is not what its ref says");
      if (this.#verified.size === CODE_VERIFIED_MAX) this.#verified.clear();
      this.#verified.add(where);
    }
    const piece = chunk.subarray(from[row]!, from[row]! + take[row]!);
    if (piece.byteLength !== take[row]!) throw new UnreadError("a chunk is shorter than it should be");
    return piece;
  }
}

async function fill(handle: FileHandle, memory: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < memory.byteLength;) {
    const { bytesRead } = await handle.read(memory, done, memory.byteLength - done, position + done);
    if (bytesRead === 0) throw new Error("the file ends before");
    done += bytesRead;
  }
}

/** Rows that one call reads. Chunks follow each other as they were written, with the headers of their records between them. */
function runsOf({ file, offset, storedBytes }: ReadPlan): Run[] {
  const runs: Run[] = [];
  for (let first = 0; first < offset.length;) {
    const start = offset[first]!;
    let end = first + 1;
    for (; end < offset.length; end++) {
      const before = offset[end - 1]! + storedBytes[end - 1]!;
      const behind = offset[end]! + storedBytes[end]!;
      const isNext = file[end] === file[first] && offset[end]! >= before;
      if (!isNext || offset[end]! > before + READ_GAP_BYTES_MAX || behind - start > GPU_READ_BYTES) break;
    }
    runs.push({ first, end });
    first = end;
  }
  return runs;
}
