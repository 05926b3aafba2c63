/**
 * Finds out the refs of chunks and keeps none, for those who ask what would be stored, or whose chunks lie elsewhere: what is claimed
 * of it is taken for there. Of many bytes a thread of its own finds them out, while the next ones are read and cut.
 */
import { Worker } from "node:worker_threads";
import { refsOf } from "../block.ts";
import type { Block } from "../block.ts";
import { builtUrl } from "../built.ts";
import type { ChunkSink, Lease, WrittenChunks } from "../contracts/chunks.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { HASH_ASIDE_BYTES } from "../limits.ts";

/** What comes back of each block that goes to the thread, in order. */
export interface HashedBlock {
  readonly refs: Uint8Array;
  readonly buffer: ArrayBuffer;
}

export class HashingSink implements ChunkSink, Pick<Lease, "claim">, AsyncDisposable {
  #bytes = 0;
  #thread: HashThread | undefined;

  async write(block: Uint8Array<ArrayBuffer>, lengths: Uint32Array<ArrayBuffer>): Promise<WrittenChunks> {
    this.#bytes += block.byteLength;
    // Little is done before a thread has begun.
    const isAside = this.#thread !== undefined || this.#bytes >= HASH_ASIDE_BYTES;
    const hashed = isAside
      ? await (this.#thread ??= new HashThread()).hash({ block, lengths })
      : { refs: refsOf({ block, lengths }), buffer: block.buffer };
    return { ...hashed, newChunks: 0, newBytes: 0, storedBytes: 0 };
  }

  async claim(refs: Uint8Array): Promise<Uint8Array> {
    return new Uint8Array(refs.length / REF_BYTES).fill(1);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread?.end();
  }
}

class HashThread {
  readonly #worker: Worker;
  readonly #waiting: PromiseWithResolvers<HashedBlock>[] = [];
  #ended: Error | undefined;

  constructor() {
    const url = builtUrl(new URL("./hashing-worker.ts", import.meta.url));
    this.#worker = new Worker(url, { execArgv: [], name: "packetfs-hash" });
    this.#worker.on("message", (hashed: HashedBlock) => this.#waiting.shift()?.resolve(hashed));
    this.#worker.on("error", (error) => this.#fail(error));
    this.#worker.on("exit", () => this.#fail(new Error("the thread that hashes has ended")));
  }

  async hash(block: Block): Promise<HashedBlock> {
    if (this.#ended !== undefined) throw this.#ended;
    const hashed = Promise.withResolvers<HashedBlock>();
    this.#waiting.push(hashed);
    this.#worker.postMessage(block, [block.block.buffer]);
    return await hashed.promise;
  }

  async end(): Promise<void> {
    await this.#worker.terminate();
  }

  #fail(error: Error): void {
    this.#ended ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(this.#ended);
  }
}
