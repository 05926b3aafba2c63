/**
 * Goes through everything that names need: a page of names at a time, because most of them need little and all of it is
 * there. Only where something of a page is not, name by name.
 */
import type { Ref } from "../../../packets/digest.ts";
import { isStreamFault, reachable } from "../../stream/walk.ts";
import type { ReachableOptions } from "../../stream/walk.ts";
import type { NameRecord } from "../../contracts/catalog.ts";
import type { ChunkSource } from "../../contracts/chunks.ts";

export interface NameWalkOptions {
  readonly pages: AsyncIterable<readonly NameRecord[]>;
  readonly source: ChunkSource;
  /**
   * Gets everything that the names need, n × 32 bytes at a time, some of it more than once; false when some of it is not
   * there.
   */
  readonly onRefs: (refs: Uint8Array) => Promise<boolean>;
  readonly signal: AbortSignal | undefined;
}

/** A name that lacks something, and those of its streams that cannot be read. */
export interface IncompleteName {
  readonly record: NameRecord;
  readonly unreadable: readonly Ref[];
}

export async function* incompleteNames(
  options: NameWalkOptions,
): AsyncGenerator<IncompleteName, void, undefined> {
  const { pages, signal } = options;
  const known: Set<string> = new Set();
  for await (const page of pages) {
    signal?.throwIfAborted();
    if (await isWhole(options, page, known)) continue;
    for (const record of page) {
      const unreadable: Ref[] = [];
      if (await isWhole(options, [record], known, (ref) => unreadable.push(ref))) continue;
      yield { record, unreadable };
    }
  }
}

/** Whether nothing is missing. What was found joins what is known only then: others that need it lack something too. */
async function isWhole(
  { source, onRefs, signal }: NameWalkOptions,
  records: readonly NameRecord[],
  known: Set<string>,
  onUnreadable?: (ref: Ref) => void,
): Promise<boolean> {
  const found: Set<string> = new Set();
  const seen: ReachableOptions["seen"] = {
    has: (key) => known.has(key) || found.has(key),
    add: (key) => found.add(key),
  };
  const roots = records.map(({ root }) => root);
  let lacksNothing = true;
  const tell = (ref: Ref): void => {
    lacksNothing = false;
    onUnreadable?.(ref);
  };
  try {
    const walk = { signal, seen, ...(onUnreadable === undefined ? {} : { onUnreadable: tell }) };
    for await (const refs of reachable(source, roots, walk)) if (!(await onRefs(refs))) lacksNothing = false;
  } catch (error) {
    if (!isStreamFault(error)) throw error;
    lacksNothing = false;
  }
  if (lacksNothing) for (const key of found) known.add(key);
  return lacksNothing;
}
