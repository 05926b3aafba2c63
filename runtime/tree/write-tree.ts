/**
 * Writes a stored directory, or one in it, to a directory of this machine, where others may write at the same time. Nothing is
 * written outside of it whatever they do: a name is looked up in the directory that is open (open-directory.ts), no symbolic link is followed, and a
 * file is made anew and takes the place of what was there.
 */
import {
  close,
  closeSync,
  fchmodSync,
  fstatSync,
  ftruncateSync,
  futimesSync,
  read,
  writeSync,
} from "node:fs";
import { chmodSync, mkdirSync, utimesSync } from "node:fs";
import { promisify } from "node:util";
import { TREE_MODE_MAX, TreeType, isInRun } from "../../packets/tree.ts";
import type { TreeEntry } from "../../packets/tree.ts";
import { systemCode } from "../errors.ts";
import { TREE_COMPARE_BYTES, TREE_FILES_AT_ONCE } from "../limits.ts";
import { executeInto } from "../stream/execute-into.ts";
import { turnOver } from "../turns.ts";
import { DirectoryCursor, OpenDirectory, isAbsent } from "./open-directory.ts";
import { fileError } from "./scan.ts";
import type { StoredTree } from "./stored-tree.ts";
import { bytesOfText, textOf } from "./text.ts";
import { PathNames } from "./tree-order.ts";
import { TreeReader } from "./tree-reader.ts";
import type { ViewedEntry } from "./tree-view.ts";
import { Step, blocked, givenMode, partName } from "./write-plan.ts";
import type { WritePlan, WriteTreeOptions } from "./write-plan.ts";

const readAsync = promisify(read);
const closeAsync = promisify(close);

const OWN_FILE_MODE = 0o600;
const OWN_DIRECTORY_MODE = 0o700;
const STOPPED = new Error("something else of the directory could not be written");
/** What file systems without hard links answer, and those that have no room for one more. */
const NO_LINKS = ["EPERM", "ENOTSUP", "EMLINK", "EXDEV", "ENOSYS"];

export interface WrittenTree {
  /** Files whose bytes were written, and those bytes. */
  readonly files: number;
  readonly bytes: number;
}

/**
 * Does what a plan says. Rejects with PFS_TARGET_BLOCKED, PFS_FILE_FAILED, the signal's reason, and as reading the tree does; what
 * was written until then stays, and another try goes on behind it.
 */
export async function writeTree(
  tree: StoredTree,
  path: string,
  plan: WritePlan,
  options: WriteTreeOptions,
  onProgress: (bytes: number, total: number) => void = () => undefined,
): Promise<WrittenTree> {
  let top: OpenDirectory;
  try {
    if (plan.steps[0] === Step.CREATE) mkdirSync(path, { mode: OWN_DIRECTORY_MODE });
    top = OpenDirectory.at(path);
  } catch (error) {
    throw fileError(error, "write", bytesOfText(path));
  }
  const writing = new TreeWriting(tree, top, plan, options, onProgress);
  try {
    return await writing.write();
  } finally {
    await writing.close();
    top.close();
  }
}

class TreeWriting {
  readonly #tree: StoredTree;
  readonly #top: OpenDirectory;
  readonly #plan: WritePlan;
  readonly #options: WriteTreeOptions;
  readonly #onProgress: (bytes: number) => void;
  readonly #cursor: DirectoryCursor;
  /** For the files that hard links name, which are elsewhere. */
  readonly #linked: DirectoryCursor;
  readonly #reader: TreeReader;
  /** Ends what is under way when something fails. */
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  /** Large files that are written under their own names: nothing of their directories is needed for that. */
  readonly #writing = new Set<Promise<void>>();
  /** The entries of the directories that are open, by their number of names. */
  readonly #open: TreeEntry[] = [];
  #files = 0;
  #bytes = 0;

  constructor(
    tree: StoredTree,
    top: OpenDirectory,
    plan: WritePlan,
    options: WriteTreeOptions,
    onProgress: (bytes: number, total: number) => void,
  ) {
    this.#tree = tree;
    this.#top = top;
    this.#plan = plan;
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#cursor = new DirectoryCursor(top, (depth, directory) => this.#settle(this.#open[depth], directory));
    this.#linked = new DirectoryCursor(top);
    const written = plan.view.filter(
      ({ entry }, index) => entry.type === TreeType.FILE && plan.steps[index]! >= Step.CREATE,
    );
    const total = written.reduce((sum, { entry }) => sum + entry.length, 0);
    this.#onProgress = (bytes) => onProgress(bytes, total);
    const places = written.filter(({ entry }) => isInRun(entry)).map((each) => this.#placeOf(each));
    this.#reader = new TreeReader(tree, places, this.#signal);
  }

  async write(): Promise<WrittenTree> {
    const { view, steps, isTouched, removed, left } = this.#plan;
    for (const names of left) this.#removeLeft(names);
    for (const { names } of removed) {
      await this.#turn();
      this.#inWords(names, () => {
        const directory = this.#cursor.move(names.slice(0, -1));
        makeUsable(directory, Number(directory.stats.mode));
        remove(directory, names.at(-1)!);
      });
    }
    this.#cursor.leave(0);
    const unsafe = new Set(this.#plan.unsafe);
    const paths = new PathNames();
    for (const [index, viewed] of view.entries()) {
      const { entry } = viewed;
      const names = paths.at(entry);
      const isDirectory = entry.type === TreeType.DIRECTORY;
      if (isDirectory) {
        // Those that are left are settled by their own entries, so this one comes after them.
        this.#cursor.leave(Math.max(0, entry.depth - 1));
        this.#open[entry.depth] = entry;
      }
      if (entry.depth === 0 || unsafe.has(index)) continue;
      if (steps[index] === Step.LEAVE && isTouched[index] === 0) continue;
      await this.#turn();
      try {
        await this.#do(index, viewed, names);
      } catch (error) {
        throw fileError(error, "write", names.join("/"));
      }
    }
    this.#cursor.leave(0);
    await Promise.all(this.#writing);
    if (steps[0]! > Step.LEAVE || (isTouched[0] === 1 && this.#options.isSync))
      this.#settle(view[0]!.entry, this.#top);
    return { files: this.#files, bytes: this.#bytes };
  }

  async close(): Promise<void> {
    this.#stop.abort(STOPPED);
    await Promise.allSettled(this.#writing);
    this.#cursor[Symbol.dispose]();
    this.#linked[Symbol.dispose]();
    await this.#reader.close();
  }

  async #turn(): Promise<void> {
    const over = turnOver();
    if (over !== undefined) await over;
    this.#signal.throwIfAborted();
  }

  async #do(index: number, viewed: ViewedEntry, names: readonly string[]): Promise<void> {
    const { entry } = viewed;
    const step = this.#plan.steps[index] as Step;
    // What was open is another directory, if this one is made anew.
    const directory = this.#cursor.move(names.slice(0, -1));
    const { name } = entry;
    if (step === Step.CLEAR) remove(directory, name);
    switch (entry.type) {
      case TreeType.DIRECTORY:
        if (step === Step.REPLACE) directory.remove(name);
        if (step >= Step.CREATE) directory.makeDirectory(name, OWN_DIRECTORY_MODE);
        makeUsable(this.#cursor.move(names), entry.mode);
        return;
      case TreeType.SYMLINK:
        if (step >= Step.CREATE)
          this.#place(directory, name, step, (as) => directory.makeSymlink(as, entry.target));
        if (process.platform !== "win32") directory.setLinkTime(name, timeOf(entry));
        return;
      case TreeType.LINK:
        return await this.#makeLink(directory, names, viewed, step);
      case TreeType.FILE:
        if (step >= Step.CREATE) return await this.#writeFile(directory, names, viewed, step);
        if (this.#touch(directory, entry)) return;
        return await this.#writeFile(directory, names, viewed, Step.REPLACE);
    }
  }

  /** Makes something under its name, or under another one first where something is there. */
  #place(directory: OpenDirectory, name: string, step: Step, make: (as: string) => void): void {
    if (step !== Step.REPLACE) return make(name);
    const part = partName();
    try {
      make(part);
      directory.rename(part, name);
    } catch (error) {
      removeQuietly(directory, part);
      throw error;
    }
  }

  async #makeLink(
    directory: OpenDirectory,
    names: readonly string[],
    viewed: ViewedEntry,
    step: Step,
  ): Promise<void> {
    const { entry } = viewed;
    const { view } = this.#plan;
    const linked = namesOf(view, entry.link);
    try {
      // Directories are made anew on the way, so none of those that were open before is taken.
      this.#linked.leave(0);
      const target = this.#linked.move(linked.slice(0, -1));
      this.#place(directory, entry.name, step, (as) => directory.link(as, target, linked.at(-1)!));
    } catch (error) {
      if (!NO_LINKS.includes(systemCode(error))) throw error;
      const file = view[entry.link]!.entry;
      await this.#writeFile(
        directory,
        names,
        { ...viewed, entry: { ...file, name: entry.name, depth: entry.depth } },
        step,
      );
    }
  }

  async #writeFile(
    directory: OpenDirectory,
    names: readonly string[],
    viewed: ViewedEntry,
    step: Step,
  ): Promise<void> {
    const { entry } = viewed;
    const as = step === Step.REPLACE ? partName() : entry.name;
    let file: number;
    try {
      file = directory.createFile(as, OWN_FILE_MODE);
    } catch (error) {
      if (systemCode(error) === "EEXIST") throw blocked(textOf(entry.name), "something has come to be there");
      throw error;
    }
    if (as === entry.name && !isInRun(entry)) return await this.#writeBeside(file, [...names], viewed);
    try {
      await this.#complete(file, viewed);
      if (as !== entry.name) directory.rename(as, entry.name);
    } catch (error) {
      removeQuietly(directory, as);
      throw error;
    }
    this.#files++;
  }

  /** Goes on when the file is being written, or one of those that are. */
  async #writeBeside(file: number, names: readonly string[], viewed: ViewedEntry): Promise<void> {
    const writing = this.#complete(file, viewed).then(
      () => {
        this.#files++;
        this.#writing.delete(writing);
      },
      (error: unknown) => {
        this.#removeUnfinished(names);
        throw fileError(error, "write", names.join("/"));
      },
    );
    // It is met where all are waited for.
    writing.catch(() => {});
    this.#writing.add(writing);
    if (this.#writing.size >= TREE_FILES_AT_ONCE) await Promise.race(this.#writing);
  }

  /** Its directory may be another one by now: nothing is removed outside. */
  #removeUnfinished(names: readonly string[]): void {
    try {
      this.#linked.leave(0);
      this.#linked.move(names.slice(0, -1)).remove(names.at(-1)!);
    } catch {
      // It is not whole, and has not the time of one that is.
    }
  }

  /** Writes the bytes of a new file, and closes it. */
  async #complete(file: number, viewed: ViewedEntry): Promise<void> {
    const { entry } = viewed;
    try {
      await this.#fill(file, viewed);
      this.#settleFile(file, entry);
    } finally {
      // Closing waits for no disk where little was written.
      if (isInRun(entry)) closeSync(file);
      else await closeAsync(file);
    }
  }

  async #fill(file: number, viewed: ViewedEntry): Promise<void> {
    const { at, length } = this.#placeOf(viewed);
    if (isInRun(viewed.entry)) {
      const reading = this.#reader.read(at, length);
      const bytes = reading instanceof Uint8Array ? reading : await reading;
      for (let done = 0; done < length;) done += writeSync(file, bytes, done, length - done, done);
      this.#bytes += length;
      this.#onProgress(this.#bytes);
      return;
    }
    let written = 0;
    await executeInto(this.#tree.placer, this.#tree.root, file, {
      start: at,
      end: at + length,
      signal: this.#signal,
      leavesHoles: true,
      onProgress: (bytes) => {
        this.#bytes += bytes - written;
        written = bytes;
        this.#onProgress(this.#bytes);
      },
    });
    // A hole at its end was not written.
    ftruncateSync(file, length);
  }

  #placeOf({ file }: ViewedEntry): { readonly at: number; readonly length: number } {
    const { manifest } = this.#tree;
    return { at: manifest.at[file]!, length: manifest.entries[file]!.length };
  }

  /** Sets mode and time of a file that has its bytes. False where it cannot be opened, or is none any more. */
  #touch(directory: OpenDirectory, entry: TreeEntry): boolean {
    let file: number;
    try {
      file = directory.openFile(entry.name);
    } catch {
      return false;
    }
    try {
      const there = fstatSync(file, { bigint: true });
      if (!there.isFile() || Number(there.size) !== entry.length) return false;
      // Another name of the file, outside of the directory, would change with it.
      if (there.nlink > 1n) return false;
      this.#settleFile(file, entry);
      return true;
    } catch (error) {
      // Somebody else's file: a new one takes its place.
      if (["EPERM", "EACCES"].includes(systemCode(error))) return false;
      throw error;
    } finally {
      closeSync(file);
    }
  }

  #settleFile(file: number, entry: TreeEntry): void {
    fchmodSync(file, givenMode(entry, this.#options.keepsPrivileges));
    const time = timeOf(entry);
    futimesSync(file, time, time);
  }

  /** The mode and time of a directory, which everything in it has been written to. */
  #settle(entry: TreeEntry | undefined, directory: OpenDirectory): void {
    if (entry === undefined) return;
    try {
      setMode(directory, givenMode(entry, this.#options.keepsPrivileges));
      const time = timeOf(entry);
      if (directory.descriptor === undefined) utimesSync(directory.pathOf("."), time, time);
      else futimesSync(directory.descriptor, time, time);
    } catch (error) {
      throw fileError(error, "write", entry.name);
    }
  }

  #removeLeft(names: readonly string[]): void {
    try {
      this.#cursor.move(names.slice(0, -1)).remove(names.at(-1)!);
    } catch {
      // Somebody else's to remove.
    }
  }

  #inWords(names: readonly string[], work: () => void): void {
    try {
      work();
    } catch (error) {
      throw fileError(error, "write", names.join("/"));
    }
  }
}

/** A directory that one may not write to is made so while it is written to; its own mode is set when it is left. */
function makeUsable(directory: OpenDirectory, mode: number): void {
  if ((Number(directory.stats.mode) & OWN_DIRECTORY_MODE) === OWN_DIRECTORY_MODE) return;
  try {
    setMode(directory, givenMode({ mode: mode & TREE_MODE_MAX }, false) | OWN_DIRECTORY_MODE);
  } catch (error) {
    if (!["EPERM", "EACCES"].includes(systemCode(error))) throw error;
  }
}

/** Removes what is there, and what is in it. */
function remove(directory: OpenDirectory, name: string): void {
  const there = directory.stat(name);
  if (there === undefined) return;
  if (!there.isDirectory()) return directory.remove(name);
  {
    using below = directory.open(name);
    makeUsable(below, 0);
    for (const each of below.names()) remove(below, each);
  }
  directory.removeDirectory(name);
}

function setMode(directory: OpenDirectory, mode: number): void {
  if (directory.descriptor === undefined) chmodSync(directory.pathOf("."), mode);
  else fchmodSync(directory.descriptor, mode);
}

function namesOf(view: readonly ViewedEntry[], index: number): string[] {
  const names: string[] = [];
  for (let at = index, depth = view[index]!.entry.depth; depth > 0; at--) {
    const { entry } = view[at]!;
    if (entry.depth !== depth) continue;
    names.push(entry.name);
    depth--;
  }
  return names.reverse();
}

/**
 * Seconds, which Node takes as a number of about 240 nanoseconds: in the middle of the microsecond, so that it is that one whichever way it
 * is rounded. Numbers below zero would be taken for "now", and texts are not.
 */
export function timeOf({ mtime }: Pick<TreeEntry, "mtime">): number | string {
  const seconds = (mtime + 0.5) / 1_000_000;
  return seconds < 0 ? String(seconds) : seconds;
}

function removeQuietly(directory: OpenDirectory, name: string): void {
  try {
    directory.remove(name);
  } catch {
    // It was not made, or has its own name by now.
  }
}

/** Whether a file of the machine has the bytes of a stored one. Rejects as reading the stored one does. */
export async function hasSameBytes(
  tree: StoredTree,
  directory: OpenDirectory,
  name: string,
  file: number,
  signal: AbortSignal,
): Promise<boolean> {
  const { manifest } = tree;
  const at = manifest.at[file]!;
  const length = manifest.entries[file]!.length;
  let descriptor: number;
  try {
    descriptor = directory.openFile(name);
  } catch (error) {
    if (isAbsent(error) || ["EACCES", "EPERM"].includes(systemCode(error))) return false;
    throw error;
  }
  try {
    const buffer = Buffer.alloc(Math.min(TREE_COMPARE_BYTES, Math.max(1, length)));
    let position = 0;
    for await (const piece of tree.bytes(at, at + length, signal, buffer.byteLength)) {
      for (let from = 0; from < piece.byteLength;) {
        const wanted = Math.min(buffer.byteLength, piece.byteLength - from);
        const { bytesRead } = await readAsync(descriptor, buffer, 0, wanted, position);
        if (bytesRead === 0 || buffer.compare(piece, from, from + bytesRead, 0, bytesRead) !== 0)
          return false;
        from += bytesRead;
        position += bytesRead;
      }
    }
    return position === length;
  } finally {
    await closeAsync(descriptor);
  }
}
