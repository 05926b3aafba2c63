/**
 * What has to be done so that a directory of this machine is like a stored one. Looks at what is there, and changes nothing;
 * whoever does it believes none of it, for others may write there meanwhile.
 */
import { randomBytes } from "node:crypto";
import type { BigIntStats } from "node:fs";
import { TREE_MODE_MAX, TreeType } from "../../packets/tree.ts";
import type { TreeEntry } from "../../packets/tree.ts";
import { TreeError, TreeErrorCode } from "../errors.ts";
import { ownMark, PROCESS_MARK, stateOfProcess } from "../process-mark.ts";
import { turnOver } from "../turns.ts";
import type { TreeFilter } from "./filter.ts";
import { DirectoryCursor } from "./open-directory.ts";
import type { OpenDirectory } from "./open-directory.ts";
import { NameCollisions, unwritableName } from "./portable.ts";
import { fileError, microseconds, modeOf } from "./scan.ts";
import { textOf } from "./text.ts";
import { PathNames } from "./tree-order.ts";
import type { ViewedEntry } from "./tree-view.ts";

/** What becomes of an entry. */
export const Step = {
  /** It is as it is to be. */
  LEAVE: 0,
  /** Its time differs. */
  TIME: 1,
  /** Its mode differs, and its time perhaps too. */
  MODE: 2,
  /** Nothing is there by that name. */
  CREATE: 3,
  /** Something is there that is no directory. */
  REPLACE: 4,
  /** A directory is there and is removed, with all that is in it. */
  CLEAR: 5,
} as const;
export type Step = (typeof Step)[keyof typeof Step];

/** setuid and setgid, which hand somebody's rights to whoever runs the file. */
const PRIVILEGES = 0o6000;
/** Windows keeps of a mode whether a file may be written to. */
const MODE_KEPT = process.platform === "win32" ? 0o200 : TREE_MODE_MAX;

export interface WriteTreeOptions {
  readonly filter: TreeFilter;
  /** The directory becomes equal: what is in the way is replaced, and its own mode and time are set. Otherwise what is written joins what is there. */
  readonly isSync: boolean;
  /** What is not in the stored tree is removed, unless the filter leaves it out. */
  readonly deletes: boolean;
  /** setuid and setgid bits are kept. */
  readonly keepsPrivileges: boolean;
  /** Symbolic links that lead out of the directory are left out. */
  readonly hasSafeLinks: boolean;
  readonly signal: AbortSignal;
}

export interface WritePlan {
  readonly view: readonly ViewedEntry[];
  /** A `Step` per entry of the view. */
  readonly steps: Uint8Array;
  /** Directories in which something is done: their times are set again. */
  readonly isTouched: Uint8Array;
  /** What is removed; of a directory all that is in it. */
  readonly removed: readonly Removal[];
  /** What killed processes left here, likewise. */
  readonly left: readonly (readonly string[])[];
  /** Links that are left out. */
  readonly unsafe: readonly number[];
}

export interface Removal {
  /** Of its path. */
  readonly names: readonly string[];
  readonly type: TreeType;
}

/** Whether a file of the machine, which looks alike, has the bytes of the stored one. */
export type HasContent = (directory: OpenDirectory, name: string, file: number) => Promise<boolean>;

/**
 * `top` is undefined where the directory is not there yet. Rejects with PFS_TARGET_BLOCKED {path, reason} for what cannot be, and
 * PFS_FILE_FAILED {path, system}. `hasContent` is asked of files whose length is right, where times are not believed.
 */
export async function planWriting(
  view: readonly ViewedEntry[],
  top: OpenDirectory | undefined,
  options: WriteTreeOptions,
  hasContent: HasContent | undefined,
): Promise<WritePlan> {
  const planning = new Planning(view, top, options, hasContent);
  try {
    return await planning.plan();
  } finally {
    planning.close();
  }
}

/** A directory that is there, and what is in it that the stored tree has not. */
interface Level {
  readonly names: readonly string[];
  readonly others: Set<string>;
}

class Planning {
  readonly #view: readonly ViewedEntry[];
  readonly #top: OpenDirectory | undefined;
  readonly #options: WriteTreeOptions;
  readonly #hasContent: HasContent | undefined;
  readonly #cursor: DirectoryCursor | undefined;
  readonly #steps: Uint8Array;
  readonly #isTouched: Uint8Array;
  readonly #removed: Removal[] = [];
  readonly #left: (readonly string[])[] = [];
  readonly #unsafe: number[] = [];
  /** By the number of names: what is there; undefined below what is not. */
  readonly #levels: (Level | undefined)[] = [];
  /** Indexes of the directories above. */
  readonly #above: number[] = [];
  /** Files that stay, by their index in the view: which file of the machine each is. */
  readonly #staying = new Map<number, string>();

  constructor(
    view: readonly ViewedEntry[],
    top: OpenDirectory | undefined,
    options: WriteTreeOptions,
    hasContent: HasContent | undefined,
  ) {
    this.#view = view;
    this.#top = top;
    this.#options = options;
    this.#hasContent = hasContent;
    this.#cursor = top === undefined ? undefined : new DirectoryCursor(top);
    this.#steps = new Uint8Array(view.length);
    this.#isTouched = new Uint8Array(view.length);
  }

  async plan(): Promise<WritePlan> {
    checkNames(this.#view, process.platform);
    const paths = new PathNames();
    for (const [index, { entry }] of this.#view.entries()) {
      const over = turnOver();
      if (over !== undefined) await over;
      this.#options.signal.throwIfAborted();
      const { depth } = entry;
      this.#leave(depth);
      const names = paths.at(entry);
      try {
        const step = depth === 0 ? this.#topStep(entry) : await this.#step(index, names);
        this.#steps[index] = step;
        if (step >= Step.CREATE && depth > 0) this.#isTouched[this.#above[depth - 1]!] = 1;
        if (entry.type !== TreeType.DIRECTORY) continue;
        this.#above[depth] = index;
        this.#levels[depth] = step >= Step.CREATE ? undefined : await this.#enter(names);
      } catch (error) {
        throw fileError(error, "write", names.join("/"));
      }
    }
    this.#leave(0);
    return {
      view: this.#view,
      steps: this.#steps,
      isTouched: this.#isTouched,
      removed: this.#removed,
      left: this.#left,
      unsafe: this.#unsafe,
    };
  }

  close(): void {
    this.#cursor?.[Symbol.dispose]();
  }

  #topStep(entry: TreeEntry): Step {
    if (this.#top === undefined) return Step.CREATE;
    const { isSync } = this.#options;
    return isSync ? this.#touch(entry, this.#top.stats) : Step.LEAVE;
  }

  async #step(index: number, names: readonly string[]): Promise<Step> {
    const { entry } = this.#view[index]!;
    const level = this.#levels[entry.depth - 1];
    level?.others.delete(entry.name);
    if (this.#options.hasSafeLinks && entry.type === TreeType.SYMLINK && leadsOut(entry)) {
      this.#unsafe.push(index);
      return Step.LEAVE;
    }
    if (level === undefined) return Step.CREATE;
    const directory = this.#cursor!.move(names.slice(0, -1));
    const there = directory.stat(entry.name);
    if (there === undefined) return Step.CREATE;
    const path = textOf(names.join("/"));
    if (entry.type === TreeType.DIRECTORY) {
      if (there.isDirectory()) return this.#touch(entry, there);
      if (this.#options.isSync) return Step.REPLACE;
      throw blocked(path, "it is to be a directory, and something else is there");
    }
    if (there.isDirectory()) {
      if (this.#options.isSync && this.#options.deletes) return Step.CLEAR;
      throw blocked(path, "a directory is in its place");
    }
    if (entry.type === TreeType.SYMLINK) {
      if (!there.isSymbolicLink() || directory.readSymlink(entry.name) !== entry.target) return Step.REPLACE;
      return microseconds(there.mtimeNs) === entry.mtime ? Step.LEAVE : Step.TIME;
    }
    const identity = `${there.dev} ${there.ino}`;
    if (entry.type === TreeType.LINK)
      return this.#staying.get(entry.link) === identity ? Step.LEAVE : Step.REPLACE;
    if (!there.isFile() || Number(there.size) !== entry.length) return Step.REPLACE;
    const isNow = microseconds(there.mtimeNs) === entry.mtime;
    const isRight =
      this.#hasContent === undefined
        ? isNow
        : await this.#hasContent(directory, entry.name, this.#view[index]!.file);
    if (!isRight) return Step.REPLACE;
    const step = this.#touch(entry, there);
    // Another name of the file, which may be outside of the directory, would be touched with it.
    if (step !== Step.LEAVE && there.nlink > 1n) return Step.REPLACE;
    this.#staying.set(index, identity);
    return step;
  }

  /** What becomes of a file or directory that is the right one. */
  #touch(entry: TreeEntry, there: BigIntStats): Step {
    const mode = givenMode(entry, this.#options.keepsPrivileges);
    if ((modeOf(there) & MODE_KEPT) !== (mode & MODE_KEPT)) return Step.MODE;
    return microseconds(there.mtimeNs) === entry.mtime ? Step.LEAVE : Step.TIME;
  }

  async #enter(names: readonly string[]): Promise<Level> {
    const found = this.#cursor!.move(names).names();
    const others = new Set<string>();
    for (const name of found) {
      const mark = PART.exec(name)?.[1];
      if (mark === undefined) others.add(name);
      else if ((await stateOfProcess(mark)) === "dead") this.#left.push([...names, name]);
    }
    return { names: [...names], others };
  }

  /** Notes what is in the directories of `depth` names and more that is to be removed. */
  #leave(depth: number): void {
    while (this.#levels.length > depth) {
      const level = this.#levels.pop();
      if (level === undefined || !this.#options.deletes) continue;
      for (const name of level.others) {
        const names = [...level.names, name];
        const there = this.#cursor!.move(level.names).stat(name);
        const isDirectory = there?.isDirectory() === true;
        if (!this.#options.filter.takes(names.join("/"), isDirectory)) continue;
        const isLink = there?.isSymbolicLink() === true;
        const type = isDirectory ? TreeType.DIRECTORY : isLink ? TreeType.SYMLINK : TreeType.FILE;
        this.#removed.push({ names, type });
        this.#isTouched[this.#above[level.names.length]!] = 1;
      }
    }
  }
}

/** The mode that is given to a file or directory of this machine. */
export function givenMode({ mode }: Pick<TreeEntry, "mode">, keepsPrivileges: boolean): number {
  return keepsPrivileges ? mode : mode & ~PRIVILEGES;
}

const PART = new RegExp(`^\\.pfs-(${PROCESS_MARK})-[0-9a-f]{8}\\.part$`);

/** A name for what is written before it takes the place of something. */
export function partName(): string {
  return `.pfs-${ownMark()}-${randomBytes(4).toString("hex")}.part`;
}

/** Throws PFS_TARGET_BLOCKED for names that this system does not have, or takes for one another. */
export function checkNames(view: readonly ViewedEntry[], platform: NodeJS.Platform): void {
  const collisions = new NameCollisions(platform);
  for (const { entry } of view) {
    const reason = entry.depth === 0 ? null : unwritableName(entry.name, platform);
    if (reason !== null) throw blocked(textOf(entry.name), reason);
    const other = collisions.next(entry);
    if (other !== undefined)
      throw blocked(
        textOf(entry.name),
        `this system takes it for ${JSON.stringify(textOf(other))}, which is beside it`,
      );
  }
}

/** Whether a symbolic link of the tree may lead out of its directory: it is absolute, or goes up further than it is deep. */
function leadsOut({ depth, target }: TreeEntry): boolean {
  if (target.startsWith("/")) return true;
  if (process.platform === "win32" && /^[a-z]:|\\/i.test(target)) return true;
  let at = depth - 1;
  for (const name of target.split("/")) {
    if (name === "" || name === ".") continue;
    at += name === ".." ? -1 : 1;
    if (at < 0) return true;
  }
  return false;
}

export function blocked(path: string, reason: string): TreeError {
  return new TreeError(TreeErrorCode.blocked, `cannot write ${path}: ${reason}`, { path, reason });
}
