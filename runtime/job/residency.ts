/**
 * What GPUs are likely to have in their memory: what jobs have had computed over there not long ago. Nobody is asked, since that takes a
 * round trip to each node: who is wrong about it has a job's inputs sent once more. Pure.
 */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { GPU_REST_MS, RESIDENT_STREAMS_MAX } from "../limits.ts";

/** A stream of which kernels of a job get ranges. */
export interface UsedStream {
  readonly root: Ref;
  readonly length: number;
}

interface Kept {
  readonly length: number;
  readonly until: number;
}

export class Residency {
  /** By class of engine and then by stream; of either, those that were used last stand last. */
  readonly #classes = new Map<string, Map<string, Kept>>();

  /**
   * Kernels on GPUs of the class, with so much memory all together, computed over these until now. `how`: what ranges of a stream follow
   * from, since others are sent again.
   */
  used(
    engineClass: string,
    streams: readonly UsedStream[],
    how: string,
    memoryBytes: number,
    now: number,
  ): void {
    const kept = this.#classes.get(engineClass) ?? new Map<string, Kept>();
    this.#classes.delete(engineClass);
    this.#forgetUnused(now);
    this.#classes.set(engineClass, kept);
    for (const { root, length } of streams) {
      const key = keyOf(root, how);
      kept.delete(key);
      kept.set(key, { length, until: now + GPU_REST_MS });
    }
    let bytes = 0;
    for (const { length } of kept.values()) bytes += length;
    // What has no room any more goes first where it was used longest ago.
    for (const [key, { length, until }] of kept) {
      if (until >= now && bytes <= memoryBytes && kept.size <= RESIDENT_STREAMS_MAX) break;
      kept.delete(key);
      bytes -= length;
    }
  }

  /** Machines come and go, and a class with them. */
  #forgetUnused(now: number): void {
    for (const [engineClass, kept] of this.#classes) {
      const until = [...kept.values()].at(-1)?.until ?? -Infinity;
      if (until >= now) break;
      this.#classes.delete(engineClass);
    }
  }

  /** Whether all of these are likely to be there. */
  has(engineClass: string, streams: readonly UsedStream[], how: string, now: number): boolean {
    const kept = this.#classes.get(engineClass);
    return streams.every(({ root }) => (kept?.get(keyOf(root, how))?.until ?? -Infinity) >= now);
  }
}

function keyOf(root: Ref, how: string): string {
  return `${refKey(root)} ${how}`;
}
