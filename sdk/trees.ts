/** Directories as stored files, the same for a directory and a hub: only where names and chunks come from differs. */
import { realpath } from "node:fs/promises";
import { refFromHex, refToHex, sameBytes } from "../packets/digest.ts";
import type { Ref } from "../packets/digest.ts";
import { PacketfsError, hasCode } from "../packets/errors.ts";
import { Stream } from "../packets/stream-reader.ts";
import { TreeType } from "../packets/tree.ts";
import type { TreeEntry } from "../packets/tree.ts";
import type { NameRecord } from "../runtime/contracts/catalog.ts";
import type { ChunkSource, ChunkStore, StoreWriter } from "../runtime/contracts/chunks.ts";
import { TreeError, TreeErrorCode, systemCode } from "../runtime/errors.ts";
import { fileNotFound, findFile } from "../runtime/find-file.ts";
import type { StoredFiles } from "../runtime/find-file.ts";
import { readEach } from "../runtime/read-each.ts";
import { HashingSink } from "../runtime/stream/ingest.ts";
import { isStreamFault } from "../runtime/stream/walk.ts";
import { ContentComparison, differences } from "../runtime/tree/compare-trees.ts";
import type { SameContent } from "../runtime/tree/compare-trees.ts";
import { TreeFilter } from "../runtime/tree/filter.ts";
import { DirectoryCursor, OpenDirectory } from "../runtime/tree/open-directory.ts";
import { storeTree } from "../runtime/tree/store-tree.ts";
import type { EarlierTree, StoredTreeResult, TreeSink } from "../runtime/tree/store-tree.ts";
import { StoredTree } from "../runtime/tree/stored-tree.ts";
import { bytesOfText, textOf } from "../runtime/tree/text.ts";
import { readTreeIndex, rememberTree, treeIndexKey } from "../runtime/tree/tree-index.ts";
import { PathNames } from "../runtime/tree/tree-order.ts";
import { viewOf } from "../runtime/tree/tree-view.ts";
import { Step, planWriting } from "../runtime/tree/write-plan.ts";
import type { WritePlan, WriteTreeOptions as WritingOptions } from "../runtime/tree/write-plan.ts";
import { hasSameBytes, writeTree } from "../runtime/tree/write-tree.ts";
import { checkName, fileInfo, rangeIn } from "./files.ts";
import { UsageError, fileError } from "./errors.ts";
import type {
  FileInfo,
  FileKind,
  GetOptions,
  PutTreeOptions,
  PutTreeResult,
  SyncTreeOptions,
  SyncTreeResult,
  TransferInfo,
  Tree,
  TreeDifference,
  TreeEntryInfo,
  WriteTreeOptions,
  WriteTreeResult,
} from "./packetfs.ts";

/** Where directories are stored. */
export interface TreePlace {
  readonly files: StoredFiles;
  /** What tells it from other places. */
  readonly id: string;
  /** Where it is remembered which files of this machine were stored. */
  readonly indexes: string;
  /** Begins to store a directory. */
  begin(how: TreeBeginning): Promise<TreeStoring>;
}

export interface TreeBeginning {
  readonly name: string | undefined;
  /** Versions that are stored and may be like it, the most alike first. */
  readonly versions: readonly Ref[];
  /** Whether the bytes of files that stay as they are stored are to be taken from there, and not from the directory. */
  readonly namesWhatIsThere: boolean;
}

/** A directory that is being stored. */
export interface TreeStoring extends AsyncDisposable {
  /** What is stored there, read from where it is nearest. */
  readonly source: ChunkSource;
  /** What of the work is done when all is written to the sink, 0 to 1: the rest is done by `finish`. */
  readonly writtenShare: number;
  /** Where a directory whose files have so many bytes is written to; the same place if it is asked for once more. */
  openSink(bytes: number): Promise<TreeSink>;
  /** Makes it durable, and gives it its name. `onProgress` hears of how much of this is done, 0 to 1. */
  finish(stored: StoredTreeResult, onProgress?: (share: number) => void): Promise<FinishedTree>;
}

export interface FinishedTree {
  /** What has the name now; undefined where there is none. */
  readonly record: NameRecord | undefined;
  /** What it cost, where `finish` brought it to another machine. */
  readonly sent: Partial<Pick<PutTreeResult, "newChunks" | "newBytes" | "storedBytes" | "transfer">>;
}

/** Storing that writes to a store of this machine. */
export function storingHere(store: ChunkStore, name: string | undefined): TreeStoring {
  let opened: Promise<StoreWriter> | undefined;
  const writer = (): Promise<StoreWriter> => (opened ??= store.openWriter());
  return {
    source: store,
    writtenShare: 1,
    openSink: writer,
    finish: async ({ root, length }) => {
      const written = await writer();
      if (name !== undefined) return { record: await written.bind({ name, root, length }), sent: {} };
      await written.flush();
      return { record: undefined, sent: {} };
    },
    [Symbol.asyncDispose]: async () => await (await opened)?.close(),
  };
}

const NEVER = new AbortController().signal;

export async function putTree(
  place: TreePlace,
  path: string,
  options: PutTreeOptions = {},
): Promise<PutTreeResult> {
  const { name, checksum = false } = options;
  checkName(name);
  const filter = new TreeFilter(options.filter);
  const directory = await directoryAt(path);
  const key = treeIndexKey(place.id, directory);
  const known = checksum ? undefined : await readTreeIndex(place.indexes, key);
  const kept = name === undefined ? [] : await place.files.catalog.history(name);
  const [current] = kept;
  const versions = [...(known === undefined ? [] : [known.root]), ...kept.map((record) => record.root)];
  await using storing = await place.begin({ name, versions: unlike(versions), namesWhatIsThere: false });
  const tree =
    known === undefined ? undefined : await openEarlier(storing.source, known.root, options.signal);
  const isKnown = known !== undefined && tree?.manifest.entries.length === known.entries;
  const earlier: EarlierTree | undefined = isKnown
    ? {
        tree: tree!,
        isSure: true,
        isUnchanged: (index, entry, mark) =>
          tree!.manifest.entries[index]!.mtime === entry.mtime && known.isUnchanged(index, mark),
      }
    : undefined;
  const readAt = Date.now();
  const progress = new StoringProgress(storing, options.onProgress);
  const stored = await storeTree((bytes) => storing.openSink(bytes), directory, {
    ...storeOptions(options),
    onProgress: progress.written,
    filter,
    earlier,
    isEarlierKept: isKnown && current !== undefined && sameBytes(current.root, known.root),
  });
  const { root, marks } = stored;
  const { sent } = await storing.finish(stored, progress.finished);
  if (!isKnown || !sameBytes(root, known.root) || stored.readFiles > 0)
    await rememberTree(place.indexes, key, { root, readAt, marks });
  return { ...reportOf(stored), ...sent, ...(name === undefined ? {} : { name }) };
}

/** Says of storing a directory how far it is, in bytes of its files. */
class StoringProgress {
  readonly written: (bytes: number, total: number) => void;
  readonly finished: (share: number) => void;

  constructor(storing: TreeStoring, onProgress: PutTreeOptions["onProgress"] = () => undefined) {
    let all = 0;
    this.written = (bytes, total) => {
      all = total;
      onProgress(bytes * storing.writtenShare, total);
    };
    this.finished = (share) => {
      const { writtenShare } = storing;
      onProgress(all * (writtenShare + (1 - writtenShare) * share), all);
    };
  }
}

/** Each once. */
function unlike(roots: readonly Ref[]): Ref[] {
  return [...new Map(roots.map((root) => [refToHex(root), root])).values()];
}

export async function syncTree(
  place: TreePlace,
  path: string,
  name: string,
  options: SyncTreeOptions = {},
): Promise<SyncTreeResult> {
  checkName(name);
  const { deletes = false, dryRun = false, checksum = false, signal = NEVER } = options;
  const filter = new TreeFilter(options.filter);
  const directory = await directoryAt(path);
  const kept = await place.files.catalog.history(name);
  const [current] = kept;
  await using storing = await place.begin({
    name,
    versions: unlike(kept.map(({ root }) => root)),
    namesWhatIsThere: true,
  });
  const tree = current === undefined ? undefined : await openStored(storing.source, current, name, signal);
  const earlier: EarlierTree | undefined =
    tree === undefined
      ? undefined
      : {
          tree,
          isSure: false,
          isUnchanged: (index, entry) => !checksum && tree.manifest.entries[index]!.mtime === entry.mtime,
        };
  const toStore = {
    ...storeOptions(options),
    filter,
    earlier,
    isEarlierKept: true,
    keeps: deletes
      ? (each: string, isDirectory: boolean): boolean => !filter.takes(each, isDirectory)
      : (): boolean => true,
  };
  const before = tree?.manifest.entries ?? [];
  if (dryRun) {
    await using sink = new HashingSink();
    const { root, length, entries } = await storeTree(async () => sink, directory, toStore);
    using top = OpenDirectory.at(directory);
    const same =
      checksum && tree !== undefined ? onDisk(tree, top, entries, signal) : byTimes(before, entries);
    const changes = await listed(before, entries, same);
    return { root: refToHex(root), length, version: current?.version ?? 0, changes };
  }
  const progress = new StoringProgress(storing, options.onProgress);
  const stored = await storeTree((bytes) => storing.openSink(bytes), directory, {
    ...toStore,
    onProgress: progress.written,
  });
  const { root, length, entries } = stored;
  const isSame = current !== undefined && sameBytes(root, current.root);
  const finished = isSame ? undefined : await storing.finish(stored, progress.finished);
  const version = finished?.record?.version ?? current?.version ?? 0;
  const same =
    checksum && tree !== undefined && !isSame
      ? new ContentComparison(tree, await StoredTree.open(storing.source, root, signal), signal).isSame
      : byTimes(before, entries);
  const changes = await listed(before, entries, same);
  const transfer = finished?.sent.transfer;
  return { root: refToHex(root), length, version, changes, ...(transfer === undefined ? {} : { transfer }) };
}

/** Whether files are the same as far as their times say. */
function byTimes(before: readonly TreeEntry[], after: readonly TreeEntry[]): SameContent {
  return async (left, right) => before[left]!.mtime === after[right]!.mtime;
}

/** Compares stored files with those of a directory that were just looked at. What stays of the stored ones is in no directory. */
function onDisk(
  tree: StoredTree,
  top: OpenDirectory,
  entries: readonly TreeEntry[],
  signal: AbortSignal,
): SameContent {
  const paths = new PathNames();
  const names = entries.map((entry) => [...paths.at(entry)]);
  return async (left, right) => {
    using cursor = new DirectoryCursor(top);
    const path = names[right]!;
    try {
      return await hasSameBytes(tree, cursor.move(path.slice(0, -1)), path.at(-1)!, left, signal);
    } catch (error) {
      // It stays as it is stored.
      if (systemCode(error) === "ENOENT" || systemCode(error) === "ENOTDIR") return true;
      throw error;
    }
  };
}

async function listed(
  before: readonly TreeEntry[],
  after: readonly TreeEntry[],
  same: SameContent,
): Promise<TreeDifference[]> {
  const changes: TreeDifference[] = [];
  for await (const { change, path, before: old, after: now } of differences(before, after, same)) {
    // The directory itself, where nothing was stored before.
    if (path === "" && old === undefined) continue;
    changes.push({ change, path: textOf(path), type: typeName(now ?? old!) });
  }
  return changes;
}

function storeOptions({
  skipsUnreadable,
  signal,
  onProgress,
  onSkipped,
}: PutTreeOptions): Pick<
  Parameters<typeof storeTree>[2],
  "skipsUnreadable" | "signal" | "onProgress" | "onSkipped"
> {
  return {
    skipsUnreadable,
    signal,
    onProgress,
    onSkipped: onSkipped === undefined ? undefined : (path, reason) => onSkipped(textOf(path), reason),
  };
}

function reportOf(stored: StoredTreeResult): PutTreeResult {
  const { root, length, entries, readFiles, packets, chunks, newChunks, newBytes, storedBytes } = stored;
  return {
    root: refToHex(root),
    length,
    entries: entries.length,
    readFiles,
    packets,
    chunks,
    newChunks,
    newBytes,
    storedBytes,
  };
}

async function directoryAt(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (error) {
    throw fileError(error, "read", path);
  }
}

/** The version that is remembered, as long as its manifest is there. */
async function openEarlier(
  source: ChunkSource,
  root: Ref,
  signal: AbortSignal | undefined,
): Promise<StoredTree | undefined> {
  try {
    return await StoredTree.open(source, root, signal);
  } catch (error) {
    if (isStreamFault(error) || error instanceof PacketfsError) return undefined;
    throw error;
  }
}

async function openStored(
  source: ChunkSource,
  { root }: Pick<NameRecord, "root">,
  file: string,
  signal: AbortSignal | undefined,
): Promise<StoredTree> {
  try {
    return await StoredTree.open(source, root, signal);
  } catch (error) {
    if (!hasCode(error, TreeErrorCode.notTree)) throw error;
    throw new TreeError(TreeErrorCode.notTree, `${JSON.stringify(file)} is a file, and no directory`, {
      file,
    });
  }
}

export async function kindsOf(
  files: StoredFiles,
  roots: readonly string[],
): Promise<(FileKind | undefined)[]> {
  const refs = roots.map((root) => {
    const ref = refFromHex(root);
    if (ref === undefined) throw new UsageError(`${JSON.stringify(root)} is no root`);
    return ref;
  });
  return (await readEach(files.source, refs)).map((chunk) => {
    if (!(chunk instanceof Uint8Array)) return undefined;
    try {
      return Stream.parse(chunk).isTree ? "tree" : "file";
    } catch {
      return undefined;
    }
  });
}

/**
 * The stored directory that a text names, and the path in it that stands behind its name. The longest name goes first, as a name may
 * have slashes too. Rejects with PFS_NOT_FOUND {file}, PFS_NOT_A_TREE {file}, and as opening it does.
 */
export async function findTree(
  files: StoredFiles,
  file: string,
  signal?: AbortSignal,
  found: (record: NameRecord) => Promise<void> = async () => {},
): Promise<{ readonly record: NameRecord; readonly tree: StoredTree; readonly path: string }> {
  let name = file.replace(/\/+$/, "");
  for (;;) {
    let record: NameRecord | undefined;
    try {
      record = await findFile(files, name);
    } catch (error) {
      if (!hasCode(error, "PFS_NOT_FOUND")) throw error;
      const slash = name.lastIndexOf("/");
      if (slash <= 0) throw name === file ? error : fileNotFound(file);
      name = name.slice(0, slash);
      continue;
    }
    const path = file.slice(name.length).replace(/^\/+|\/+$/g, "");
    await found(record);
    const tree = await openStored(files.source, record, name, signal);
    return { record, tree, path };
  }
}

/** A file that stands in a stored directory: where its bytes are. Rejects with PFS_NOT_FOUND. */
export async function findInTree(
  files: StoredFiles,
  file: string,
): Promise<{ readonly root: Ref; readonly at: number; readonly length: number }> {
  const { tree, path } = await findTree(files, file).catch((error: unknown) => {
    throw hasCode(error, TreeErrorCode.notTree) ? fileNotFound(file) : error;
  });
  const index = tree.find(bytesOfText(path));
  if (index === undefined) throw fileNotFound(file);
  const { at, length } = tree.extentOf(index, bytesOfText(file));
  return { root: tree.root, at, length };
}

/** What a stored directory is to be written to. */
export interface TreeTarget {
  readonly path: string;
  /** What of it may be like what is stored. */
  readonly filter: Pick<TreeFilter, "takes">;
  /** Bytes of files that are to be written, and of those that are there by the same names. */
  readonly lackingBytes: number;
  readonly thereBytes: number;
}

/** All that is stored under a root, brought to this machine. */
export interface BroughtTree extends AsyncDisposable {
  readonly source: ChunkSource;
  /** What that cost; undefined where it was here. */
  readonly transfer: TransferInfo | undefined;
}

/** Brings a stored directory here before it is written; undefined where its files are read as they are written. */
export type BringTree = (
  record: NameRecord,
  target: TreeTarget,
  signal: AbortSignal,
  onProgress: (share: number) => void,
) => Promise<BroughtTree | undefined>;

/** What is done for a directory that is stored on another machine. */
export interface TreeNearer {
  /** Before its manifest is read. */
  readonly found?: (record: NameRecord) => Promise<void>;
  readonly bring?: BringTree;
}

export async function openTree(
  files: StoredFiles,
  file: string,
  signal?: AbortSignal,
  nearer: TreeNearer = {},
): Promise<Tree> {
  const { record, tree, path } = await findTree(files, file, signal, nearer.found);
  const top = tree.find(bytesOfText(path));
  if (top === undefined) throw fileNotFound(file);
  return new OpenTree(record, tree, path, top, nearer.bring);
}

class OpenTree implements Tree {
  readonly info: FileInfo;
  readonly path: string;
  readonly stored: StoredTree;
  readonly #record: NameRecord;
  readonly #top: number;
  readonly #bring: BringTree | undefined;

  constructor(
    record: NameRecord,
    stored: StoredTree,
    path: string,
    top: number,
    bring: BringTree | undefined,
  ) {
    this.info = fileInfo(record);
    this.path = path;
    this.stored = stored;
    this.#record = record;
    this.#top = top;
    this.#bring = bring;
  }

  *entries(): Generator<TreeEntryInfo, void, undefined> {
    const { entries } = this.stored.manifest;
    const end = this.stored.endOf(this.#top);
    const base = entries[this.#top]!.depth;
    const paths = new PathNames();
    for (let index = this.#top; index < end; index++) {
      const { depth, name } = entries[index]!;
      yield this.#infoOf(index, paths.at({ depth: depth - base, name }).join("/"));
    }
  }

  entry(path = ""): TreeEntryInfo | undefined {
    const index = this.#find(path);
    return index === undefined ? undefined : this.#infoOf(index, bytesOfText(path.replace(/^\/+|\/+$/g, "")));
  }

  async *read(path = "", options: Pick<GetOptions, "range" | "signal"> = {}): AsyncGenerator<Uint8Array> {
    const index = this.#find(path);
    const shown = [this.info.name, this.path, path].filter((part) => part !== "").join("/");
    if (index === undefined) throw fileNotFound(shown);
    const { at, length } = this.stored.extentOf(index, bytesOfText(shown));
    const { start, end } = rangeIn(options.range, length, shown);
    yield* this.stored.bytes(at + start, at + end, options.signal);
  }

  async write(directory: string, options: WriteTreeOptions = {}): Promise<WriteTreeResult> {
    const { stored } = this;
    const { sync = false, deletes = false, checksum = false, dryRun = false, signal = NEVER } = options;
    const { keepsPrivileges = false, safeLinks = false } = options;
    if (deletes && !sync) throw new UsageError("deletes goes with sync: other writing removes nothing");
    if (stored.manifest.entries[this.#top]!.type !== TreeType.DIRECTORY)
      throw new UsageError(`${JSON.stringify(this.path)} is no directory`);
    const filter = new TreeFilter(options.filter);
    const how = { filter, isSync: sync, deletes, keepsPrivileges, hasSafeLinks: safeLinks, signal };
    const view = viewOf(stored, this.#top, filter);
    const hasContent = (below: OpenDirectory, name: string, file: number): Promise<boolean> =>
      hasSameBytes(stored, below, name, file, signal);
    const top = openIfThere(directory);
    let plan: WritePlan;
    try {
      plan = await planWriting(view, top, how, checksum ? hasContent : undefined);
    } finally {
      top?.close();
    }
    const told = { entries: view.length, ...changesOf(plan) };
    if (dryRun) return { files: 0, bytes: 0, ...told };
    const { onProgress = () => undefined } = options;
    const target = targetOf(directory, plan, how);
    const { lackingBytes } = target;
    await using brought = await this.#bring?.(this.#record, target, signal, (share) =>
      onProgress((lackingBytes * share) / 2, lackingBytes),
    );
    const tree = brought === undefined ? stored : stored.from(brought.source);
    const transfer = brought?.transfer;
    const done = await writeTree(tree, directory, plan, how, (bytes, total) =>
      onProgress(transfer === undefined ? bytes : (total + bytes) / 2, total),
    );
    return { ...done, ...told, ...(transfer === undefined ? {} : { transfer }) };
  }

  async *diff(
    after: Tree,
    { signal = NEVER }: { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<TreeDifference> {
    if (!(after instanceof OpenTree)) throw new UsageError("a tree is compared with one that openTree gave");
    const everything = new TreeFilter();
    const old = viewOf(this.stored, this.#top, everything);
    const now = viewOf(after.stored, after.#top, everything);
    const comparison = new ContentComparison(this.stored, after.stored, signal);
    const found = differences(
      old.map(({ entry }) => entry),
      now.map(({ entry }) => entry),
      (left, right) => comparison.isSame(old[left]!.file, now[right]!.file),
    );
    for await (const { change, path, before: left, after: right } of found) {
      signal.throwIfAborted();
      yield { change, path: textOf(path), type: typeName(right ?? left!) };
    }
  }

  #find(path: string): number | undefined {
    return this.stored.find([bytesOfText(this.path), bytesOfText(path)].join("/"));
  }

  #infoOf(index: number, path: string): TreeEntryInfo {
    const entry = this.stored.manifest.entries[index]!;
    const file = entry.type === TreeType.LINK ? this.stored.manifest.entries[entry.link]! : entry;
    const { mode, mtime, length, target } = file;
    return {
      path: textOf(path),
      pathBytes: new Uint8Array(Buffer.from(path, "latin1")),
      type: typeName(file),
      mode,
      mtimeMs: mtime / 1000,
      length,
      ...(file.type === TreeType.SYMLINK ? { target: textOf(target) } : {}),
      ...(entry.type === TreeType.LINK ? { linkTo: textOf(this.stored.pathOf(entry.link)) } : {}),
    };
  }
}

/** What is read of the directory: all that is to be like the stored one, or what has a name in it. */
function targetOf(path: string, { view, steps }: WritePlan, how: WritingOptions): TreeTarget {
  const bytes = { lacking: 0, there: 0 };
  const names = new Set<string>();
  const paths = new PathNames();
  for (const [index, { entry }] of view.entries()) {
    const step = steps[index] as Step;
    names.add(paths.at(entry).join("/"));
    if (entry.type !== TreeType.FILE) continue;
    if (step >= Step.CREATE) bytes.lacking += entry.length;
    if (step < Step.CREATE || step === Step.REPLACE) bytes.there += entry.length;
  }
  const filter = how.isSync && how.deletes ? how.filter : { takes: (each: string) => names.has(each) };
  return { path, filter, lackingBytes: bytes.lacking, thereBytes: bytes.there };
}

const CHANGES = {
  [Step.TIME]: "time",
  [Step.MODE]: "mode",
  [Step.CREATE]: "added",
  [Step.REPLACE]: "changed",
  [Step.CLEAR]: "changed",
} as const;

function changesOf({
  view,
  steps,
  removed,
  unsafe,
}: WritePlan): Pick<WriteTreeResult, "changes" | "unsafeLinks"> {
  const paths = new PathNames();
  const texts = view.map(({ entry }) => textOf(paths.at(entry).join("/")));
  const changes = view.flatMap(({ entry }, index): TreeDifference[] => {
    const step = steps[index] as Step;
    // Of directories the times are of no interest, as where two stored ones are compared.
    if (step === Step.LEAVE || index === 0 || (step === Step.TIME && entry.type === TreeType.DIRECTORY))
      return [];
    return [{ change: CHANGES[step], path: texts[index]!, type: typeName(entry) }];
  });
  const gone = removed.map(({ names, type }): TreeDifference => ({
    change: "removed",
    path: textOf(names.join("/")),
    type: typeName({ type }),
  }));
  return { changes: [...gone, ...changes], unsafeLinks: unsafe.map((index) => texts[index]!) };
}

function openIfThere(path: string): OpenDirectory | undefined {
  try {
    return OpenDirectory.at(path);
  } catch (error) {
    if (systemCode(error) === "ENOENT") return undefined;
    throw fileError(error, "write", path);
  }
}

function typeName({ type }: Pick<TreeEntry, "type">): TreeEntryInfo["type"] {
  return type === TreeType.DIRECTORY ? "directory" : type === TreeType.SYMLINK ? "symlink" : "file";
}
