/** A program that batches run, with the manifest that lanes load it by. */
import type { Ref } from "../../packets/digest.ts";
import type { Batch } from "./batch.ts";

export class ProgramLink {
  readonly number: number;
  /** For people. */
  readonly name: string;
  readonly manifest: Ref;
  readonly batches: Set<Batch> = new Set();
  /** Why it could not be loaded the last time. */
  loadError: unknown;

  constructor(number: number, name: string, manifest: Ref) {
    this.number = number;
    this.name = name;
    this.manifest = manifest;
  }

  add(batch: Batch): void {
    for (const { base, count } of this.batches) {
      if (batch.base < base + count && base < batch.base + batch.count)
        throw new Error("two batches share packets");
    }
    this.batches.add(batch);
  }

  /** The batch that a packet with this `at` belongs to. */
  batchAt(at: number): Batch | undefined {
    for (const batch of this.batches) if (at >= batch.base && at < batch.base + batch.count) return batch;
    return undefined;
  }
}
