/** Chunks that a client may have kept: what is there is read there, and the rest where it is stored. */
import type { Ref } from "../../packets/digest.ts";
import { readEach } from "../../runtime/read-each.ts";
import type { ChunkPlacer, ChunkSource, PlacedPieces } from "../../runtime/contracts/chunks.ts";
import type { Store } from "../../runtime/store/store.ts";

export class NearSource implements ChunkPlacer {
  /** Undefined where nothing is kept, or it is not open any more. */
  near: Pick<Store, "has" | "read" | "place" | "close"> | undefined;
  readonly #far: ChunkSource;

  constructor(far: ChunkSource) {
    this.#far = far;
  }

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    const found = await this.#readNear(refs, signal);
    signal?.throwIfAborted();
    const lacking = refs.filter((_, index) => found[index] === undefined);
    const rest = lacking.length === 0 ? [] : await this.#far.read(lacking, signal);
    let next = 0;
    return refs.map((_, index) => found[index] ?? rest[next++]!);
  }

  /** From now on all is read where it is stored. */
  async close(): Promise<void> {
    const { near } = this;
    this.near = undefined;
    await near?.close();
  }

  async place(
    refs: readonly Ref[],
    pieces: PlacedPieces,
    file: number,
    signal?: AbortSignal,
  ): Promise<boolean> {
    return (await this.near?.place(refs, pieces, file, signal)) ?? false;
  }

  /** Whatever is wrong with what is kept, one goes without it. */
  async #readNear(
    refs: readonly Ref[],
    signal: AbortSignal | undefined,
  ): Promise<(Uint8Array | undefined)[]> {
    const { near } = this;
    const found: (Uint8Array | undefined)[] = [];
    if (near === undefined || refs.length === 0) return found;
    try {
      const there = await near.has(Buffer.concat(refs), signal);
      const places = [...there.keys()].filter((index) => there[index] === 1);
      const chunks = await readEach(
        near,
        places.map((index) => refs[index]!),
        signal,
      );
      chunks.forEach((chunk, row) => {
        if (chunk instanceof Uint8Array) found[places[row]!] = chunk;
      });
    } catch {
      signal?.throwIfAborted();
    }
    return found;
  }
}
