/**
 * Stores a directory: looks through it, finds out which files are as an earlier version has them, writes the run of the small files
 * and a stream for each large one, and the manifest that says what is where.
 *
 *   directory ─▶ scan ─▶ entries ─▶ run ─┐
 *                          │       large files ─▶ manifest ─▶ CALL manifest, CALL run, CALL large file …, HALT TREE
 *   earlier version ───────┘ what is unchanged
 */
import type { BigIntStats } from "node:fs";
import type { Ref } from "../../packets/digest.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import { TreeType, encodeTree, isInRun } from "../../packets/tree.ts";
import type { TreeEntry } from "../../packets/tree.ts";
import { blockOf } from "../block.ts";
import type { ChunkSink, Lease } from "../contracts/chunks.ts";
import { StreamError, StreamErrorCode, TreeError } from "../errors.ts";
import { TREE_READ_TRIES } from "../limits.ts";
import { ingest } from "../stream/ingest.ts";
import type { Ingested } from "../stream/ingest.ts";
import { calledStreams, streamPieces } from "../stream/leaves.ts";
import { isComplete } from "../stream/walk.ts";
import { inTurns, turnOver } from "../turns.ts";
import { ChangedMeanwhile, DiskFiles } from "./disk-files.ts";
import type { TreeFilter } from "./filter.ts";
import { OpenDirectory } from "./open-directory.ts";
import { chunkPieces, writeRun } from "./run-writer.ts";
import type { EarlierRun, RunFile } from "./run-writer.ts";
import { hardLink, isRefused, markOf, microseconds, modeOf, readError, scanInSteps } from "./scan.ts";
import type { FileMark, ScannedEntry } from "./scan.ts";
import type { StoredTree } from "./stored-tree.ts";
import { bytesOfText, textOf } from "./text.ts";
import { PathNames, sideBySide } from "./tree-order.ts";

/** Where a directory is written to. */
export type TreeSink = ChunkSink & Pick<Lease, "claim">;

export interface StoreTreeOptions {
  /** Leaves out what it does not take. */
  readonly filter: Pick<TreeFilter, "takes">;
  /** A version that is stored: what is unchanged since then is taken from it. */
  readonly earlier?: EarlierTree | undefined;
  /** The earlier version has a name, so that all of it stays: where nothing changed, nothing of it is looked at. Default false. */
  readonly isEarlierKept?: boolean | undefined;
  /** Which entries of the earlier version that are not in the directory stay, by path: none unless given. */
  readonly keeps?: ((path: string, isDirectory: boolean) => boolean) | undefined;
  /** What cannot be read is left out; otherwise it is an error. */
  readonly skipsUnreadable?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called with the bytes of files that were taken in so far, and those that there are, as far as is known. */
  readonly onProgress?: ((bytes: number, total: number) => void) | undefined;
  readonly onSkipped?: ((path: string, reason: string) => void) | undefined;
}

export interface EarlierTree {
  readonly tree: StoredTree;
  /** Whether the file at an index of its manifest is this one still, with the same bytes: then it is not read. */
  readonly isUnchanged: (index: number, entry: TreeEntry, mark: FileMark) => boolean;
  /** Whether a file that is unchanged surely has the bytes that are stored, so that they can be read there. */
  readonly isSure: boolean;
}

/** Its `length` are the bytes of the whole: the manifest's and the files'. */
export interface StoredTreeResult extends Ingested {
  readonly entries: readonly TreeEntry[];
  /** Of each entry that is a file of the directory. */
  readonly marks: readonly (FileMark | undefined)[];
  /** Files that were read. */
  readonly readFiles: number;
}

/** What of the result adds up. */
const SUMS = ["packets", "chunks", "newChunks", "newBytes", "storedBytes"] as const;

/**
 * `openSink` is asked for a place to write to once it is known how many bytes the files have, and not at all where nothing changed; again
 * where the directory has to be looked at again. Chunks are durable when the sink has been flushed. Rejects with PFS_INPUT_CHANGED {path, reason} for what changes each time it is
 * looked at, PFS_FILE_FAILED {path, system}, PFS_TREE_INVALID for more than a tree may have, the signal's reason, and as the sink does.
 */
export async function storeTree(
  openSink: (bytes: number) => Promise<TreeSink>,
  path: string,
  options: StoreTreeOptions,
): Promise<StoredTreeResult> {
  for (let tries = 1; ; tries++) {
    let top: OpenDirectory;
    try {
      top = OpenDirectory.at(path);
    } catch (error) {
      throw readError(error, bytesOfText(path));
    }
    try {
      return await new TreeStoring(openSink, top, options).store();
    } catch (error) {
      if (!(error instanceof ChangedMeanwhile)) throw error;
      if (tries < TREE_READ_TRIES) continue;
      const shown = textOf(error.path);
      throw new StreamError(
        StreamErrorCode.inputChanged,
        `${shown} changed each time it was read: ${error.reason}`,
        { path: shown, reason: error.reason },
      );
    } finally {
      top.close();
    }
  }
}

/** An entry on its way into the manifest. */
interface Item {
  entry: TreeEntry;
  mark: FileMark | undefined;
  /** The file of the earlier version whose bytes it has; -1 where they are read. */
  earlier: number;
  /** The names of its path, where it is a file of the directory. */
  names: readonly string[] | undefined;
  /** It turned out that it cannot be read. */
  isLeftOut: boolean;
}

class TreeStoring {
  readonly #openSink: (bytes: number) => Promise<TreeSink>;
  readonly #top: OpenDirectory;
  readonly #options: StoreTreeOptions;
  readonly #signal: AbortSignal;
  readonly #files: DiskFiles;
  #opened: TreeSink | undefined;
  #readFiles = 0;
  #done = 0;
  #total = 0;

  constructor(openSink: (bytes: number) => Promise<TreeSink>, top: OpenDirectory, options: StoreTreeOptions) {
    this.#openSink = openSink;
    this.#top = top;
    this.#options = options;
    this.#signal = options.signal ?? new AbortController().signal;
    this.#files = new DiskFiles(top);
  }

  async store(): Promise<StoredTreeResult> {
    try {
      const items = await this.#items();
      const { earlier, isEarlierKept = false } = this.#options;
      if (isEarlierKept && isSame(items, earlier?.tree.manifest.entries ?? []))
        return unchanged(items, earlier!);
      this.#total = items.reduce((sum, { entry }) => sum + entry.length, 0);
      this.#opened = await this.#openSink(this.#total);
      const written: Ingested[] = [];
      // The run first: a file of it that grew out of it is found before anything large is read.
      const run = await this.#writeRun(items.filter(({ entry }) => isInRun(entry)));
      if (run !== undefined) written.push(run);
      const large = await this.#writeLarge(items, written);
      const { entries, marks } = settled(items);
      const manifest = await ingest(this.#sink, oneOf(encodeTree(entries)), { signal: this.#signal });
      written.push(manifest);
      const top = await this.#writeTop((writer) => {
        writer.call(manifest.root, 0, manifest.length);
        if (run !== undefined) writer.call(run.root, 0, run.length);
        for (const { root, length } of large) writer.call(root, 0, length);
      });
      written.push(top);
      const sums = { packets: 0, chunks: 0, newChunks: 0, newBytes: 0, storedBytes: 0 };
      for (const each of written) for (const field of SUMS) sums[field] += each[field];
      return { root: top.root, length: top.length, entries, marks, readFiles: this.#readFiles, ...sums };
    } finally {
      this.#files[Symbol.dispose]();
    }
  }

  get #sink(): TreeSink {
    return this.#opened!;
  }

  /** What the directory has, and what stays of the earlier version. */
  async #items(): Promise<Item[]> {
    const { filter, skipsUnreadable = false, onSkipped = () => undefined, earlier, keeps } = this.#options;
    const scanned = await inTurns(
      abortable(scanInSteps(this.#top, { filter, skipsUnreadable, onSkipped }), this.#signal),
    );
    const before = earlier?.tree.manifest.entries ?? [];
    const entries = scanned.map(({ entry }) => entry);
    const merge = new Merge(scanned, earlier, keeps);
    for (const pair of sideBySide(entries, before)) {
      const over = turnOver();
      if (over !== undefined) await over;
      merge.add(pair.left, pair.right);
    }
    return merge.items();
  }

  async #writeRun(items: readonly Item[]): Promise<Ingested | undefined> {
    if (items.every(({ entry }) => entry.length === 0)) return undefined;
    const earlier = await this.#earlierRun(items);
    const files = items.map((item) => this.#runFile(item, earlier !== undefined));
    const run = await writeRun(this.#sink, files, earlier, (bytes) => {
      this.#signal.throwIfAborted();
      this.#progress(bytes);
    });
    this.#done = run.length;
    return run.length === 0 ? undefined : run;
  }

  /** The run of the earlier version, if any of its files is in this one, and which of its chunks are there for sure. */
  async #earlierRun(items: readonly Item[]): Promise<EarlierRun | undefined> {
    const { earlier } = this.#options;
    if (earlier === undefined || !items.some((item) => item.earlier >= 0)) return undefined;
    const { tree } = earlier;
    const { bytes, runBytes } = tree.manifest;
    const pieces = await streamPieces(tree.source, tree.root, bytes, bytes + runBytes, this.#signal);
    const chunks = chunkPieces(pieces);
    const claimed = await this.#sink.claim(chunks.refs);
    const has = new Uint8Array(pieces.at.length);
    for (const [index, piece] of chunks.pieces.entries()) has[piece] = claimed[index]!;
    return { pieces, has, length: runBytes };
  }

  #runFile(item: Item, isKnown: boolean): RunFile {
    const { earlier, entry } = item;
    if (earlier < 0) {
      const file: RunFile = {
        length: entry.length,
        before: undefined,
        // One that is empty is as it was when it was looked at, whatever somebody writes to it now.
        read: (_from, target) => {
          if (entry.length > 0) file.length = this.#readSmall(item, target);
        },
      };
      return file;
    }
    const { tree, isSure } = this.#options.earlier!;
    const begins = tree.manifest.at[earlier]!;
    const { mark, names } = item;
    return {
      length: entry.length,
      before: isKnown ? begins - tree.manifest.bytes : undefined,
      read: (from, target) => {
        const wanted = target.subarray(0, entry.length - from);
        if (wanted.byteLength === 0) return undefined;
        if (!isSure || mark === undefined) return tree.read(begins + from, wanted, this.#signal);
        this.#files.readUnchanged(names!, mark, from, wanted);
        return undefined;
      },
    };
  }

  /** Reads a file, which may have changed since it was looked at. Gives its length. */
  #readSmall(item: Item, target: Uint8Array): number {
    try {
      const { stats, length } = this.#files.readSmall(item.names!, target);
      this.#readFiles++;
      this.#settle(item, stats, length);
      return length;
    } catch (error) {
      this.#leaveOut(item, error);
      return 0;
    }
  }

  #settle(item: Item, stats: BigIntStats, length: number): void {
    item.entry = { ...item.entry, length, mode: modeOf(stats), mtime: microseconds(stats.mtimeNs) };
    item.mark = markOf(stats);
  }

  /** Throws the error, unless it says that the file cannot be read and such files are left out. */
  #leaveOut(item: Item, error: unknown): void {
    const { skipsUnreadable, onSkipped } = this.#options;
    const cause = error instanceof TreeError ? error.cause : error;
    if (skipsUnreadable !== true || !isRefused(cause)) throw error;
    item.isLeftOut = true;
    onSkipped?.(item.names!.join("/"), "it cannot be read");
  }

  /** The streams of the large files, in their order. */
  async #writeLarge(
    items: readonly Item[],
    written: Ingested[],
  ): Promise<{ readonly root: Ref; readonly length: number }[]> {
    const large = items.filter(({ entry }) => entry.type === TreeType.FILE && !isInRun(entry));
    const known = await this.#knownStreams(large);
    const streams: { root: Ref; length: number }[] = [];
    for (const [index, item] of large.entries()) {
      this.#signal.throwIfAborted();
      const root = known[index];
      if (root !== undefined) {
        streams.push({ root, length: item.entry.length });
        this.#done += item.entry.length;
        continue;
      }
      const stored = await this.#readLarge(item);
      if (stored === undefined) continue;
      written.push(stored);
      streams.push(stored);
      this.#done += stored.length;
    }
    return streams;
  }

  /** Of each file that an earlier version has, its stream there, if all of it is there for sure. */
  async #knownStreams(large: readonly Item[]): Promise<(Ref | undefined)[]> {
    const known = large.map((): Ref | undefined => undefined);
    const unchanged = large.flatMap(({ earlier }, index) => (earlier < 0 ? [] : [index]));
    const { tree } = this.#options.earlier ?? {};
    if (tree === undefined || unchanged.length === 0) return known;
    const wanted = unchanged.map((index) => {
      const { entry, earlier } = large[index]!;
      return { at: tree.manifest.at[earlier]!, length: entry.length };
    });
    const called = await calledStreams(tree.source, tree.root, wanted, this.#signal);
    const claim = (refs: Uint8Array): Promise<Uint8Array> => this.#sink.claim(refs);
    for (const [at, index] of unchanged.entries()) {
      const root = called[at];
      if (root === undefined) continue;
      if (await isComplete(tree.source, root, claim, { signal: this.#signal })) known[index] = root;
    }
    return known;
  }

  /** Undefined where it cannot be read and is left out. */
  async #readLarge(item: Item): Promise<Ingested | undefined> {
    const options = {
      signal: this.#signal,
      onProgress: (bytes: number) => this.#progress(this.#done + bytes),
    };
    if (item.names === undefined) {
      const { tree } = this.#options.earlier!;
      const at = tree.manifest.at[item.earlier]!;
      return await ingest(this.#sink, tree.bytes(at, at + item.entry.length, this.#signal), options);
    }
    for (let tries = 1; ; tries++) {
      try {
        const file = this.#files.openLarge(item.names);
        const stored = await ingest(this.#sink, file, { ...options, length: Number(file.stats.size) + 1 });
        this.#readFiles++;
        this.#settle(item, file.stats, stored.length);
        if (isInRun(item.entry)) throw new ChangedMeanwhile(item.names.join("/"), "it was made shorter");
        return stored;
      } catch (error) {
        if (error instanceof ChangedMeanwhile && tries < TREE_READ_TRIES) continue;
        this.#leaveOut(item, error);
        return undefined;
      }
    }
  }

  async #writeTop(write: (writer: StreamWriter) => void): Promise<Ingested> {
    const streams: Uint8Array[] = [];
    const writer = new StreamWriter((_ref, bytes) => streams.push(bytes));
    write(writer);
    const { root, length, packets } = writer.finish({ isTree: true });
    const { block, lengths } = blockOf(streams);
    const { newChunks, newBytes, storedBytes } = await this.#sink.write(block, lengths);
    return { root, length, packets, chunks: streams.length, newChunks, newBytes, storedBytes };
  }

  #progress(bytes: number): void {
    this.#options.onProgress?.(bytes, Math.max(bytes, this.#total));
  }
}

/** Whether nothing is to be read, nor anything but the same. */
function isSame(items: readonly Item[], before: readonly TreeEntry[]): boolean {
  return (
    items.length === before.length &&
    items.every(({ entry, earlier }, index) => {
      const old = before[index]!;
      if (entry.type === TreeType.FILE && entry.length > 0 && earlier !== index) return false;
      return (Object.keys(old) as (keyof TreeEntry)[]).every((field) => entry[field] === old[field]);
    })
  );
}

function unchanged(items: readonly Item[], { tree }: EarlierTree): StoredTreeResult {
  const { bytes, contentBytes } = tree.manifest;
  const nothing = { readFiles: 0, packets: 0, chunks: 0, newChunks: 0, newBytes: 0, storedBytes: 0 };
  return { root: tree.root, length: bytes + contentBytes, ...settled(items), ...nothing };
}

/** What the directory has, side by side with an earlier version, of which some entries stay. */
class Merge {
  readonly #scanned: readonly ScannedEntry[];
  readonly #earlier: EarlierTree | undefined;
  readonly #keeps: StoreTreeOptions["keeps"];
  readonly #items: Item[] = [];
  /** Where each scanned entry stands among the items. */
  readonly #places: number[] = [];
  readonly #names = new PathNames();
  readonly #earlierNames = new PathNames();
  /** The directories of the earlier version that what comes now is in, by their number of names. */
  readonly #above: { index: number; isThere: boolean; keepsAll: boolean }[] = [];
  /** Below a directory of so many names that is no directory any more, nothing stays. */
  #goneBelow = Infinity;
  /** Of each file of the earlier version that stays under some name, the item that it is. */
  readonly #kept = new Map<number, number>();

  constructor(
    scanned: readonly ScannedEntry[],
    earlier: EarlierTree | undefined,
    keeps: StoreTreeOptions["keeps"],
  ) {
    this.#scanned = scanned;
    this.#earlier = earlier;
    this.#keeps = keeps;
  }

  add(left: number, right: number): void {
    const old = right < 0 ? undefined : this.#earlier!.tree.manifest.entries[right]!;
    if (old !== undefined) {
      this.#earlierNames.at(old);
      this.#above.length = Math.min(this.#above.length, old.depth);
      if (old.depth <= this.#goneBelow) this.#goneBelow = Infinity;
    }
    if (left >= 0) this.#addScanned(left, right, old);
    else this.#addEarlier(right, old!);
  }

  items(): Item[] {
    return this.#items;
  }

  #addScanned(left: number, right: number, old: TreeEntry | undefined): void {
    const { entry, mark } = this.#scanned[left]!;
    const names = this.#names.at(entry);
    const isFile = entry.type === TreeType.FILE;
    const isUnchanged =
      isFile &&
      old?.type === TreeType.FILE &&
      old.length === entry.length &&
      this.#earlier!.isUnchanged(right, entry, mark!);
    this.#places[left] = this.#items.length;
    this.#items.push({
      entry: entry.type === TreeType.LINK ? { ...entry, link: this.#places[entry.link]! } : entry,
      mark,
      earlier: isUnchanged ? right : -1,
      names: isFile ? [...names] : undefined,
      isLeftOut: false,
    });
    if (old?.type !== TreeType.DIRECTORY) return;
    if (entry.type === TreeType.DIRECTORY) this.#above.push({ index: right, isThere: true, keepsAll: false });
    else this.#goneBelow = Math.min(this.#goneBelow, old.depth);
  }

  #addEarlier(right: number, old: TreeEntry): void {
    if (this.#keeps === undefined || old.depth > this.#goneBelow) return;
    const isDirectory = old.type === TreeType.DIRECTORY;
    const path = this.#earlierNames.names.join("/");
    const keeps = this.#above.at(-1)?.keepsAll === true || this.#keeps(path, isDirectory);
    if (isDirectory) this.#above.push({ index: right, isThere: false, keepsAll: keeps });
    if (!keeps) return;
    for (const above of this.#above) {
      if (above.isThere) continue;
      above.isThere = true;
      this.#keep(above.index, this.#earlier!.tree.manifest.entries[above.index]!);
    }
    if (!isDirectory) this.#keep(right, old);
  }

  #keep(right: number, old: TreeEntry): void {
    const { entries } = this.#earlier!.tree.manifest;
    const file = old.type === TreeType.LINK ? old.link : right;
    const first = this.#kept.get(file);
    const isFile = old.type === TreeType.FILE || (old.type === TreeType.LINK && first === undefined);
    const { depth, name } = old;
    if (isFile) this.#kept.set(file, this.#items.length);
    this.#items.push({
      entry: isFile
        ? { ...entries[file]!, depth, name }
        : old.type === TreeType.LINK
          ? hardLink(depth, name, first!)
          : old,
      mark: undefined,
      earlier: isFile ? file : -1,
      names: undefined,
      isLeftOut: false,
    });
  }
}

/** The entries without those that are left out, and the other names of those; hard links name entries by their place. */
function settled(items: readonly Item[]): { entries: TreeEntry[]; marks: (FileMark | undefined)[] } {
  const entries: TreeEntry[] = [];
  const marks: (FileMark | undefined)[] = [];
  const places: number[] = [];
  for (const [index, { entry, mark, isLeftOut }] of items.entries()) {
    const isLink = entry.type === TreeType.LINK;
    if (isLeftOut || (isLink && places[entry.link] === -1)) {
      places[index] = -1;
      continue;
    }
    places[index] = entries.length;
    entries.push(isLink ? { ...entry, link: places[entry.link]! } : entry);
    marks.push(mark);
  }
  return { entries, marks };
}

function* abortable<Result>(
  steps: Generator<void, Result, undefined>,
  signal: AbortSignal,
): Generator<void, Result, undefined> {
  for (;;) {
    signal.throwIfAborted();
    const { done, value } = steps.next();
    if (done === true) return value;
    yield;
  }
}

async function* oneOf(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
