/** A shelf of chunks as a source that remembers what was asked of it. */
import { refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { StoreError, StoreErrorCode } from "../../../runtime/errors.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { Shelf } from "../../packets/execute.ts";

export class ShelfSource implements ChunkSource {
  readonly shelf: Shelf = new Shelf();
  /** The refs of each call, as hex. */
  calls: string[][] = [];
  /** Called before a read is answered. */
  beforeAnswer: (refs: readonly Ref[]) => Promise<void> | void = () => {};

  async read(refs: readonly Ref[], signal?: AbortSignal): Promise<Uint8Array[]> {
    signal?.throwIfAborted();
    this.calls.push(refs.map(refToHex));
    await this.beforeAnswer(refs);
    signal?.throwIfAborted();
    return refs.map((ref) => {
      if (this.shelf.has(ref)) return this.shelf.get(ref);
      const hex = refToHex(ref);
      throw new StoreError(StoreErrorCode.chunkMissing, `no ${hex}`, { ref: hex });
    });
  }

  /** How often a chunk was read. */
  count(ref: Ref): number {
    const hex = refToHex(ref);
    return this.calls.flat().filter((call) => call === hex).length;
  }
}
