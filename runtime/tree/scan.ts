/** What is in a directory and below it, in the order of a manifest, without reading a file. */
import type { BigIntStats } from "node:fs";
import { TREE_MODE_MAX, TreeType } from "../../packets/tree.ts";
import type { TreeEntry } from "../../packets/tree.ts";
import { SYSTEM_REASONS, TreeError, TreeErrorCode, systemCode } from "../errors.ts";
import type { TreeFilter } from "./filter.ts";
import type { OpenDirectory } from "./open-directory.ts";
import { textOf } from "./text.ts";

/** Entries that are looked at between two places at which scanning may be left for a while. */
const STEP_ENTRIES = 32;

/** Tells a file from others, and its state from others: whoever writes to a file changes it. */
export interface FileMark {
  readonly device: bigint;
  readonly file: bigint;
  /** Nanoseconds since 1970. */
  readonly changed: bigint;
}

export interface ScannedEntry {
  readonly entry: TreeEntry;
  /** Of a file. */
  readonly mark: FileMark | undefined;
}

export interface ScanOptions {
  readonly filter: Pick<TreeFilter, "takes">;
  /** Hears of what is left out since it cannot be read, or is no file, directory or link. */
  readonly onSkipped: (path: string, reason: string) => void;
  /** What cannot be read is left out; otherwise it is an error. */
  readonly skipsUnreadable: boolean;
}

/**
 * The directory itself, then everything below it. May be left for a while wherever it yields. Throws PFS_FILE_FAILED, and as
 * opening a directory does that was exchanged meanwhile.
 */
export function* scanInSteps(
  top: OpenDirectory,
  options: ScanOptions,
): Generator<void, ScannedEntry[], undefined> {
  const { filter, onSkipped } = options;
  const found: ScannedEntry[] = [];
  /** Files of more names than one, by who they are. */
  const linked = new Map<string, number>();
  const add = (depth: number, name: string, stats: BigIntStats, type: TreeType, target = ""): void => {
    const entry: TreeEntry = {
      type,
      depth,
      name,
      mode: type === TreeType.SYMLINK ? 0 : modeOf(stats),
      mtime: microseconds(stats.mtimeNs),
      length: type === TreeType.FILE ? Number(stats.size) : 0,
      target,
      link: 0,
      owner: 0,
    };
    found.push({ entry, mark: type === TreeType.FILE ? markOf(stats) : undefined });
  };

  function* visit(directory: OpenDirectory, path: string, depth: number): Generator<void, void, undefined> {
    for (const name of directory.names()) {
      if (found.length % STEP_ENTRIES === 0) yield;
      const whole = path === "" ? name : `${path}/${name}`;
      const stats = directory.stat(name);
      // Removed since the names were read.
      if (stats === undefined || !filter.takes(whole, stats.isDirectory())) continue;
      if (stats.isDirectory()) {
        let below: OpenDirectory;
        try {
          below = directory.open(name);
        } catch (error) {
          if (!options.skipsUnreadable || !isRefused(error)) throw readError(error, whole);
          onSkipped(whole, "it cannot be read");
          continue;
        }
        try {
          add(depth, name, below.stats, TreeType.DIRECTORY);
          yield* visit(below, whole, depth + 1);
        } finally {
          below.close();
        }
      } else if (stats.isSymbolicLink())
        add(depth, name, stats, TreeType.SYMLINK, directory.readSymlink(name));
      else if (stats.isFile()) {
        const key = stats.nlink > 1n ? `${stats.dev} ${stats.ino}` : undefined;
        const link = key === undefined ? undefined : linked.get(key);
        if (link !== undefined) {
          found.push({ entry: hardLink(depth, name, link), mark: undefined });
          continue;
        }
        if (key !== undefined) linked.set(key, found.length);
        add(depth, name, stats, TreeType.FILE);
      } else onSkipped(whole, "it is a device, a pipe or a socket");
    }
  }

  add(0, "", top.stats, TreeType.DIRECTORY);
  try {
    yield* visit(top, "", 1);
  } catch (error) {
    throw readError(error, "");
  }
  return found;
}

export function hardLink(depth: number, name: string, link: number): TreeEntry {
  return { type: TreeType.LINK, depth, name, mode: 0, mtime: 0, length: 0, target: "", link, owner: 0 };
}

export function modeOf(stats: BigIntStats): number {
  return Number(stats.mode) & TREE_MODE_MAX;
}

export function markOf({ dev, ino, ctimeNs }: BigIntStats): FileMark {
  return { device: dev, file: ino, changed: ctimeNs };
}

/** Whole microseconds, rounded down. */
export function microseconds(nanoseconds: bigint): number {
  const whole = Number(nanoseconds / 1000n);
  return nanoseconds < 0n && nanoseconds % 1000n !== 0n ? whole - 1 : whole;
}

export function isRefused(error: unknown): boolean {
  return ["EACCES", "EPERM"].includes(systemCode(error));
}

/** In a directory that is open, these mean something else than elsewhere. */
const REASONS: Readonly<Record<string, string>> = {
  ...SYSTEM_REASONS,
  ENOTDIR: "a part of the path is no directory any more",
  ELOOP: "a symbolic link stands there",
  ENOENT: "it is not there",
};

/** What the system says as one sentence; what is no system's error comes back as it is. */
export function readError(error: unknown, path: string): unknown {
  return fileError(error, "read", path);
}

export function fileError(error: unknown, action: "read" | "write", path: string): unknown {
  const system = systemCode(error);
  if (system === "" || !(error instanceof Error) || !("syscall" in error)) return error;
  const shown = path === "" ? "the directory" : textOf(path);
  return new TreeError(
    TreeErrorCode.fileFailed,
    `cannot ${action} ${shown}: ${REASONS[system] ?? system}`,
    { path: textOf(path), system },
    { cause: error },
  );
}
