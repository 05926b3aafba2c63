/**
 * Parts of patches are written by threads of the whole process, in memory that they share with whoever asks: what is old and what
 * is new is put there once, and nothing of it is copied on its way.
 */
import { Worker } from "node:worker_threads";
import { encodePartAside, scratchBytes } from "../../../packets/patch.ts";
import { builtUrl } from "../../built.ts";
import {
  PART_MEMORY_BYTES_MAX,
  PART_MEMORY_STEP_BYTES,
  PART_THREADS_BYTES_BEFORE,
  PART_THREADS_CORES_MIN,
  PART_THREADS_IDLE_MS,
} from "../../limits.ts";
import { SharedSpareMemory } from "../../spare-memory.ts";
import { ThreadPool } from "../../thread-pool.ts";
import { turnOver } from "../../turns.ts";

/** In memory that both see. */
export interface PartToEncode {
  readonly id: number;
  readonly plain: Uint8Array;
  readonly dictionary: Uint8Array;
}

export interface EncodedPart {
  readonly id: number;
  /** Undefined where it would not be smaller. */
  readonly frame: Uint8Array | undefined;
}

export class PartThreads {
  readonly #threads: ThreadPool<PartToEncode, EncodedPart>;
  /** Bytes of parts so far: for a few no thread is started. */
  #bytes = 0;
  /** For what is to be encoded. */
  readonly memory: SharedSpareMemory = new SharedSpareMemory(PART_MEMORY_STEP_BYTES, PART_MEMORY_BYTES_MAX);

  /** On a machine with fewer than `coresMin` cores they are written here, in turns. */
  constructor(coresMin: number = PART_THREADS_CORES_MIN) {
    const make = (): Worker => {
      const url = builtUrl(new URL("./part-thread.ts", import.meta.url));
      return new Worker(url, { execArgv: [], name: "packetfs-patch" });
    };
    this.#threads = new ThreadPool(make, { idleMs: PART_THREADS_IDLE_MS, coresMin });
  }

  /** As packets/patch.ts encodes a part. Both, best of `memory`, must stay as they are until it resolves. */
  async encode(plain: Uint8Array, dictionary: Uint8Array): Promise<Uint8Array | undefined> {
    this.#bytes += plain.byteLength;
    if (this.#bytes >= PART_THREADS_BYTES_BEFORE && this.#threads.ready()) {
      const answer = await this.#threads.run({ plain, dictionary });
      if (answer !== undefined) return answer.frame;
    }
    await turnOver();
    const scratch = this.memory.take(scratchBytes(plain.byteLength));
    try {
      return await encodePartAside(plain, dictionary, scratch);
    } finally {
      this.memory.giveBack(scratch);
    }
  }

  close(): void {
    this.#threads.close();
  }
}

/** Those of this process. */
export const partThreads: PartThreads = new PartThreads();
