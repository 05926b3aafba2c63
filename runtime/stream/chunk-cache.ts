/**
 * The chunks that were read last, verified when they came: packets of one frame and of the next often read the same
 * ones, stream chunks above all. Least recently used chunks go first.
 */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import type { ChunkSource } from "../contracts/chunks.ts";

export class ChunkCache implements ChunkSource {
  readonly #source: ChunkSource;
  readonly #bytesMax: number;
  /** In order of use, the latest last. */
  readonly #chunks = new Map<string, Uint8Array>();
  #bytes = 0;

  constructor(source: ChunkSource, bytesMax: number) {
    this.#source = source;
    this.#bytesMax = bytesMax;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    const found = refs.map((ref) => this.#touch(refKey(ref)));
    const missing = refs.filter((_ref, index) => found[index] === undefined);
    if (missing.length === 0) return found as Uint8Array[];
    const fetched = await this.#source.read(missing, signal);
    missing.forEach((ref, index) => this.#keep(refKey(ref), fetched[index]!));
    let next = 0;
    return found.map((bytes) => bytes ?? fetched[next++]!);
  }

  #touch(key: string): Uint8Array | undefined {
    const bytes = this.#chunks.get(key);
    if (bytes === undefined) return undefined;
    this.#chunks.delete(key);
    this.#chunks.set(key, bytes);
    return bytes;
  }

  #keep(key: string, bytes: Uint8Array): void {
    if (bytes.byteLength > this.#bytesMax || this.#chunks.has(key)) return;
    // A view would keep the whole block alive that its neighbours were read with.
    const own = bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
    this.#chunks.set(key, own);
    this.#bytes += own.byteLength;
    for (const [oldest, { byteLength }] of this.#chunks) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#chunks.delete(oldest);
      this.#bytes -= byteLength;
    }
  }
}
