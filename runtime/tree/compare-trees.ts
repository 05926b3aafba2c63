/** What differs between two directories, by their manifests; bytes are compared only where those leave it open. */
import { refAt, sameBytes } from "../../packets/digest.ts";
import { TreeType, isInRun } from "../../packets/tree.ts";
import type { TreeEntry } from "../../packets/tree.ts";
import { calledStreams, streamPieces } from "../stream/leaves.ts";
import type { StreamPieces } from "../stream/leaves.ts";
import { TREE_COMPARE_BYTES } from "../limits.ts";
import { turnOver } from "../turns.ts";
import { indexAt } from "./run-writer.ts";
import type { StoredTree } from "./stored-tree.ts";
import { PathNames, sideBySide } from "./tree-order.ts";

export const TreeChange = {
  added: "added",
  removed: "removed",
  /** Other bytes, another target, or something of another type. */
  changed: "changed",
  /** The same bytes with another mode. */
  mode: "mode",
  /** Nothing but the time of modification. */
  time: "time",
} as const;
export type TreeChange = (typeof TreeChange)[keyof typeof TreeChange];

export interface TreeDifference {
  readonly change: TreeChange;
  /** In bytes. */
  readonly path: string;
  /** What it was, and what it is. */
  readonly before: TreeEntry | undefined;
  readonly after: TreeEntry | undefined;
}

/** Whether two files of one length have the same bytes. */
export type SameContent = (before: number, after: number) => Promise<boolean>;

/** In the order of their paths. Of directories the times are of no interest: whatever is done in one changes them. */
export async function* differences(
  before: readonly TreeEntry[],
  after: readonly TreeEntry[],
  sameContent: SameContent,
): AsyncGenerator<TreeDifference, void, undefined> {
  const beforeNames = new PathNames();
  const afterNames = new PathNames();
  for (const { left, right } of sideBySide(before, after)) {
    const over = turnOver();
    if (over !== undefined) await over;
    const old = before[left];
    const now = after[right];
    if (old !== undefined) beforeNames.at(old);
    if (now !== undefined) afterNames.at(now);
    const path = (now === undefined ? beforeNames : afterNames).names.join("/");
    const change =
      old === undefined
        ? TreeChange.added
        : now === undefined
          ? TreeChange.removed
          : await changeOf({ before, after, left, right }, sameContent);
    if (change !== undefined) yield { change, path, before: old, after: now };
  }
}

interface Both {
  readonly before: readonly TreeEntry[];
  readonly after: readonly TreeEntry[];
  readonly left: number;
  readonly right: number;
}

async function changeOf(
  { before, after, left, right }: Both,
  sameContent: SameContent,
): Promise<TreeChange | undefined> {
  // A hard link is the file that it names, whichever of its names comes first.
  const leftFile = before[left]!.type === TreeType.LINK ? before[left]!.link : left;
  const rightFile = after[right]!.type === TreeType.LINK ? after[right]!.link : right;
  const old = before[leftFile]!;
  const now = after[rightFile]!;
  if (old.type !== now.type || old.length !== now.length || old.target !== now.target)
    return TreeChange.changed;
  if (old.type === TreeType.FILE && old.length > 0 && !(await sameContent(leftFile, rightFile)))
    return TreeChange.changed;
  if (old.mode !== now.mode) return TreeChange.mode;
  return old.type !== TreeType.DIRECTORY && old.mtime !== now.mtime ? TreeChange.time : undefined;
}

/** Compares files of two stored trees: by what they are copied from, and by their bytes where that differs. */
export class ContentComparison {
  readonly #before: StoredTree;
  readonly #after: StoredTree;
  readonly #signal: AbortSignal;
  #pieces: Promise<readonly [StreamPieces, StreamPieces]> | undefined;

  constructor(before: StoredTree, after: StoredTree, signal: AbortSignal) {
    this.#before = before;
    this.#after = after;
    this.#signal = signal;
  }

  readonly isSame: SameContent = async (left, right) => {
    const before = this.#before.manifest;
    const after = this.#after.manifest;
    const { length } = before.entries[left]!;
    const places = [before.at[left]!, after.at[right]!] as const;
    const isKnown = isInRun(before.entries[left]!)
      ? await this.#isCopiedAlike(places[0] - before.bytes, places[1] - after.bytes, length)
      : await this.#isOneStream(places, length);
    return isKnown || (await this.#hasSameBytes(places, length));
  };

  async #isOneStream(places: readonly [number, number], length: number): Promise<boolean> {
    const trees = [this.#before, this.#after] as const;
    const [old, now] = await Promise.all(
      trees.map(({ source, root }, side) =>
        calledStreams(source, root, [{ at: places[side]!, length }], this.#signal),
      ),
    );
    return old![0] !== undefined && now![0] !== undefined && sameBytes(old![0], now![0]);
  }

  /** Whether both ranges of the runs are copied from the same places of the same chunks. */
  async #isCopiedAlike(left: number, right: number, length: number): Promise<boolean> {
    this.#pieces ??= Promise.all([this.#piecesOf(this.#before), this.#piecesOf(this.#after)]);
    const [old, now] = await this.#pieces;
    for (let done = 0; done < length;) {
      const a = indexAt(old.at, left + done);
      const b = indexAt(now.at, right + done);
      const inA = left + done - old.at[a]!;
      const inB = right + done - now.at[b]!;
      const ref = refAt(old.refs, a);
      if (!sameBytes(ref, refAt(now.refs, b)) || ref.every((byte) => byte === 0)) return false;
      if (old.from[a]! + inA !== now.from[b]! + inB) return false;
      done += Math.min(old.length[a]! - inA, now.length[b]! - inB);
    }
    return true;
  }

  async #piecesOf({ source, root, manifest }: StoredTree): Promise<StreamPieces> {
    return await streamPieces(source, root, manifest.bytes, manifest.bytes + manifest.runBytes, this.#signal);
  }

  async #hasSameBytes([left, right]: readonly [number, number], length: number): Promise<boolean> {
    const atOnce = Math.min(length, TREE_COMPARE_BYTES);
    const old = this.#before.bytes(left, left + length, this.#signal, atOnce);
    const now = this.#after.bytes(right, right + length, this.#signal, atOnce);
    let a: Uint8Array = new Uint8Array(0);
    let b: Uint8Array = new Uint8Array(0);
    try {
      for (;;) {
        if (a.byteLength === 0) a = (await old.next()).value ?? a;
        if (b.byteLength === 0) b = (await now.next()).value ?? b;
        const both = Math.min(a.byteLength, b.byteLength);
        if (both === 0) return a.byteLength === b.byteLength;
        if (!sameBytes(a.subarray(0, both), b.subarray(0, both))) return false;
        a = a.subarray(both);
        b = b.subarray(both);
      }
    } finally {
      await old.return(undefined);
      await now.return(undefined);
    }
  }
}
