/**
 * A directory that was opened once and is used by that, whatever its path becomes meanwhile: names are looked up in it alone,
 * and no symbolic link is followed on the way to what is below it.
 *
 * On Linux /proc/self/fd/N/name is what openat(N, name) is elsewhere. Other systems give Node nothing of the kind: there the
 * directory's identity is compared before each use, which finds what was exchanged before, and nothing in the moment between.
 *
 * Names are bytes, as strings of one character for each (latin1).
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  linkSync,
  lstatSync,
  lutimesSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  symlinkSync,
  unlinkSync,
} from "node:fs";
import type { BigIntStats } from "node:fs";
import { systemCode } from "../errors.ts";
import { bytesOfText } from "./text.ts";

const DESCRIPTORS = "/proc/self/fd";
const HAS_DESCRIPTORS: boolean = process.platform === "linux" && existsSync(DESCRIPTORS);
/** Systems without a flag have nothing for it to mean. */
const NOFOLLOW = constants.O_NOFOLLOW ?? 0;
const NONBLOCK = constants.O_NONBLOCK ?? 0;
const DIRECTORY = constants.O_DIRECTORY ?? 0;

export class OpenDirectory implements Disposable {
  /** Undefined where directories have no descriptors that names can be looked up in. */
  readonly descriptor: number | undefined;
  readonly #path: string;
  readonly #identity: BigIntStats;

  private constructor(path: string, follows: boolean) {
    if (HAS_DESCRIPTORS) {
      const flags = constants.O_RDONLY | DIRECTORY | (follows ? 0 : NOFOLLOW);
      this.descriptor = openSync(bytesOf(path), flags);
      this.#path = `${DESCRIPTORS}/${this.descriptor}`;
      this.#identity = fstatSync(this.descriptor, { bigint: true });
    } else {
      this.#path = path;
      this.#identity = lstatSync(bytesOf(path), { bigint: true });
      if (!this.#identity.isDirectory()) throw notDirectory(path);
    }
  }

  /** By a path of this machine, whose links are followed: it is its user's own. Throws as the system does. */
  static at(path: string): OpenDirectory {
    return new OpenDirectory(bytesOfText(path), true);
  }

  /** What the directory was when it was opened. */
  get stats(): BigIntStats {
    return this.#identity;
  }

  /** The directory of that name in this one. Throws as the system does, ENOTDIR or ELOOP for a symbolic link. */
  open(name: string): OpenDirectory {
    this.#verify();
    return new OpenDirectory(`${this.#path}/${name}`, false);
  }

  /** The names in it, in the order of their bytes. */
  names(): string[] {
    this.#verify();
    const names = readdirSync(bytesOf(this.#path), { encoding: "latin1" });
    return names.sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  }

  /** What is there by that name, links not followed; undefined where nothing is. */
  stat(name: string): BigIntStats | undefined {
    return lstatSync(this.#at(name), { bigint: true, throwIfNoEntry: false });
  }

  /** A descriptor of the file, to be read. A named pipe is open at once, and a symbolic link is ELOOP. */
  openFile(name: string): number {
    return openSync(this.#at(name), constants.O_RDONLY | NOFOLLOW | NONBLOCK);
  }

  /** A descriptor of a new file, to be written; EEXIST where anything is there by that name. */
  createFile(name: string, mode: number): number {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | NOFOLLOW;
    return openSync(this.#at(name), flags, mode);
  }

  makeDirectory(name: string, mode: number): void {
    mkdirSync(this.#at(name), mode);
  }

  makeSymlink(name: string, target: string): void {
    symlinkSync(bytesOf(target), this.#at(name));
  }

  readSymlink(name: string): string {
    return readlinkSync(this.#at(name), { encoding: "latin1" });
  }

  /** Another name for the file `from` of another directory, or of this one. */
  link(name: string, directory: OpenDirectory, from: string): void {
    linkSync(directory.#at(from), this.#at(name));
  }

  rename(from: string, to: string): void {
    renameSync(this.#at(from), this.#at(to));
  }

  remove(name: string): void {
    unlinkSync(this.#at(name));
  }

  removeDirectory(name: string): void {
    rmdirSync(this.#at(name));
  }

  /** The time of a symbolic link itself. */
  setLinkTime(name: string, time: number | string): void {
    lutimesSync(this.#at(name), time, time);
  }

  /** The path of a name in it, for what has no descriptor; only where `descriptor` is undefined. */
  pathOf(name: string): Buffer {
    return this.#at(name);
  }

  close(): void {
    if (this.descriptor !== undefined) closeSync(this.descriptor);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #at(name: string): Buffer {
    this.#verify();
    return bytesOf(`${this.#path}/${name}`);
  }

  #verify(): void {
    if (this.descriptor !== undefined) return;
    const now = lstatSync(bytesOf(this.#path), { bigint: true });
    if (now.ino !== this.#identity.ino || now.dev !== this.#identity.dev) throw notDirectory(this.#path);
  }
}

function bytesOf(path: string): Buffer {
  return Buffer.from(path, "latin1");
}

function notDirectory(path: string): Error {
  return Object.assign(new Error(`ENOTDIR: another file took the place of the directory ${path}`), {
    code: "ENOTDIR",
    syscall: "open",
  });
}

/**
 * Goes from path to path of a tree, in its order, with the directories above the current one open: each is opened once, in the
 * one above it.
 */
export class DirectoryCursor implements Disposable {
  readonly top: OpenDirectory;
  readonly #open: { readonly name: string; readonly directory: OpenDirectory }[] = [];
  readonly #onLeave: (depth: number, directory: OpenDirectory) => void;

  /** `top` stays the caller's. `onLeave` hears of each directory below it before it is closed, with its number of names. */
  constructor(
    top: OpenDirectory,
    onLeave: (depth: number, directory: OpenDirectory) => void = () => undefined,
  ) {
    this.top = top;
    this.#onLeave = onLeave;
  }

  /** The directory of these names below the top. Throws as opening it does. */
  move(names: readonly string[]): OpenDirectory {
    let common = 0;
    while (common < names.length && this.#open[common]?.name === names[common]) common++;
    this.leave(common);
    for (const name of names.slice(common)) {
      const above = this.#open.at(-1)?.directory ?? this.top;
      this.#open.push({ name, directory: above.open(name) });
    }
    return this.#open.at(-1)?.directory ?? this.top;
  }

  /** Leaves the directories of more than `depth` names. */
  leave(depth: number): void {
    while (this.#open.length > depth) {
      const { directory } = this.#open.at(-1)!;
      this.#onLeave(this.#open.length, directory);
      this.#open.pop();
      directory.close();
    }
  }

  [Symbol.dispose](): void {
    for (const { directory } of this.#open.splice(0)) directory.close();
  }
}

/** Whether the error says that there is no such file, or that a part of its path is none. */
export function isAbsent(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR", "ELOOP"].includes(systemCode(error));
}
