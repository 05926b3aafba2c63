/**
 * A disk that can lose its power: it knows what was synchronised, and makes pictures of what a machine could find after that.
 *
 *   strict    of what was not synchronised any sector may be there or not, and so may any name in a directory
 *   ordered   what was not synchronised is there up to some write, which may be torn, and nothing behind it is
 */
import {
  closeSync,
  copyFileSync,
  existsSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import type { Disk, DiskFile } from "../../../runtime/store/disk.ts";
import type { StorePaths } from "../../../runtime/store/directory.ts";
import type { Random } from "../../packets/seed.ts";

export const PowerLoss = { strict: "strict", ordered: "ordered" } as const;
export type PowerLoss = (typeof PowerLoss)[keyof typeof PowerLoss];

const SECTOR_BYTES = 512;

interface Write {
  readonly file: SimulatedFile;
  readonly position: number;
  readonly bytes: Buffer;
  isDone: boolean;
}

/** What is known of a file whose name was once in its directory. */
interface SimulatedFile {
  readonly path: string;
  durable: Buffer;
  /** Whether its name is in its directory, now and after a loss of power. */
  isThere: boolean;
  isThereDurably: boolean;
}

/** Works on real files, which others read meanwhile; how long its operations take is up to chance, and to nothing else. */
export class SimulatedDisk implements Disk {
  readonly #files: Map<string, SimulatedFile> = new Map();
  readonly #open: Set<DiskFile> = new Set();
  /** What it says of itself. */
  free: number = Infinity;
  readonly #random: Random;
  readonly #onOperation: () => void;
  /** Not synchronised, in the order of their calls. */
  #writes: Write[] = [];

  /** `onOperation` is called before and after each operation: the moments at which the power can go. */
  constructor(random: Random, onOperation: () => void) {
    this.#random = random;
    this.#onOperation = onOperation;
  }

  create(path: string): Promise<DiskFile> {
    return this.#operation(() => {
      const handle = openSync(path, "wx+");
      const file = { path, durable: Buffer.alloc(0), isThere: true, isThereDurably: false };
      this.#files.set(path, file);
      return this.#wrap(handle, file);
    });
  }

  open(path: string): Promise<DiskFile> {
    return this.#operation(() => {
      const durable = readFileSync(path);
      const file = this.#files.get(path) ?? { path, durable, isThere: true, isThereDurably: true };
      this.#files.set(path, file);
      return this.#wrap(openSync(path, "r+"), file);
    });
  }

  remove(path: string): Promise<void> {
    return this.#operation(() => {
      unlinkSync(path);
      const file = this.#files.get(path);
      if (file !== undefined) file.isThere = false;
    });
  }

  async syncDirectory(path: string): Promise<void> {
    const files = [...this.#files.values()].filter((file) => dirname(file.path) === path);
    const before = new Map(files.map((file) => [file, file.isThere]));
    await this.#operation(() => {});
    for (const [file, isThere] of before) file.isThereDurably = isThere;
  }

  async freeBytes(): Promise<number> {
    return this.free;
  }

  /** Closes the files that are open, as the end of a process does. */
  async abandon(): Promise<void> {
    for (const file of this.#open) await file.close();
  }

  /** Makes in `target` what could be found were the power lost now; without the index, see `tornIndex`. */
  losePower(paths: StorePaths, target: StorePaths, mode: PowerLoss): void {
    const random = this.#random;
    const isStrict = mode === PowerLoss.strict;
    mkdirSync(target.segments, { recursive: true });
    copyFileSync(paths.format, target.format);
    const survivors = new Map<SimulatedFile, Buffer>();
    for (const file of this.#files.values()) {
      const isThere = isStrict && random.below(2) === 0 ? file.isThere : file.isThereDurably;
      if (isThere) survivors.set(file, file.durable);
    }
    const kept = isStrict ? this.#writes : this.#writes.slice(0, random.below(this.#writes.length + 1));
    for (const write of kept) {
      const content = survivors.get(write.file);
      if (content === undefined) continue;
      const isTorn = !isStrict && write === kept.at(-1);
      const pieces = isStrict ? sectorsOf(write, random) : [upTo(write, isTorn ? random : undefined)];
      survivors.set(write.file, pieces.reduce(applied, content));
    }
    for (const [{ path }, content] of survivors)
      writeFileSync(join(target.directory, relative(paths.directory, path)), content);
  }

  #wrap(handle: number, simulated: SimulatedFile): DiskFile {
    const opened: DiskFile = {
      write: async (buffers, position) => {
        const bytes = Buffer.concat(buffers);
        const write: Write = { file: simulated, position, bytes, isDone: false };
        this.#writes.push(write);
        await this.#operation(() => writeSync(handle, bytes, 0, bytes.byteLength, position));
        write.isDone = true;
      },
      sync: async () => {
        const covered = this.#writes.filter((write) => write.file === simulated && write.isDone);
        await this.#operation(() => {});
        simulated.durable = covered.reduce(applied, simulated.durable);
        this.#writes = this.#writes.filter((write) => !covered.includes(write));
      },
      truncate: async (length) => {
        await this.#operation(() => ftruncateSync(handle, length));
        simulated.durable = readFileSync(simulated.path);
        this.#writes = this.#writes.filter((write) => write.file !== simulated);
      },
      close: async () => {
        if (this.#open.delete(opened)) closeSync(handle);
      },
    };
    this.#open.add(opened);
    return opened;
  }

  async #operation<T>(work: () => T): Promise<T> {
    this.#onOperation();
    for (let turns = this.#random.below(3); turns > 0; turns--) await nextTurn();
    const result = work();
    for (let turns = this.#random.below(3); turns > 0; turns--) await nextTurn();
    this.#onOperation();
    return result;
  }
}

interface Piece {
  readonly position: number;
  readonly bytes: Buffer;
}

function applied(content: Buffer, { position, bytes }: Piece): Buffer {
  const result = Buffer.alloc(Math.max(content.byteLength, position + bytes.byteLength));
  result.set(content);
  result.set(bytes, position);
  return result;
}

function upTo({ position, bytes }: Write, torn: Random | undefined): Piece {
  return {
    position,
    bytes: torn === undefined ? bytes : bytes.subarray(0, torn.below(bytes.byteLength + 1)),
  };
}

/** The sectors of a write that reached the disk: some of them, in no order. */
function sectorsOf({ position, bytes }: Write, random: Random): Piece[] {
  const share = random.below(5);
  const pieces: Piece[] = [];
  for (let at = 0; at < bytes.byteLength;) {
    const end = Math.min(bytes.byteLength, at + SECTOR_BYTES - ((position + at) % SECTOR_BYTES));
    if (random.below(4) < share) pieces.push({ position: position + at, bytes: bytes.subarray(at, end) });
    at = end;
  }
  return pieces;
}

/** The bytes of SQLite's files. */
export interface IndexFiles {
  readonly database: Buffer;
  readonly log: Buffer;
}

export function readIndex(paths: StorePaths): IndexFiles {
  const [database, log] = ["", "-wal"].map((suffix) => {
    const path = paths.index + suffix;
    return existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
  });
  return { database: database!, log: log! };
}

export function writeIndex(paths: StorePaths, { database, log }: IndexFiles): void {
  if (database.byteLength > 0) writeFileSync(paths.index, database);
  if (log.byteLength > 0) writeFileSync(`${paths.index}-wal`, log);
}

/**
 * What could be found of the index were the power lost while it became `now`. SQLite appends to its log and synchronises it;
 * it takes the log over into the database and synchronises that, and only then writes the log anew from its beginning.
 */
export function tornIndex(before: IndexFiles, now: IndexFiles, random: Random): IndexFiles {
  const isCut = now.log.byteLength < before.log.byteLength;
  if (isCut) return random.below(2) === 0 ? { database: now.database, log: before.log } : now;
  const isLonger = now.log.subarray(0, before.log.byteLength).equals(before.log);
  if (!isLonger) return { database: now.database, log: mixed(before.log, now.log, random) };
  const isTakenOver = !now.database.equals(before.database);
  if (isTakenOver && random.below(2) === 0)
    return { database: mixed(before.database, now.database, random), log: now.log };
  return { database: before.database, log: mixed(before.log, now.log, random) };
}

/** A file in which some of the sectors that differ were written, in no order. */
function mixed(before: Buffer, now: Buffer, random: Random): Buffer {
  const share = random.below(5);
  let content = before;
  for (let position = 0; position < now.byteLength; position += SECTOR_BYTES) {
    const bytes = now.subarray(position, position + SECTOR_BYTES);
    const isSame = before.subarray(position, position + SECTOR_BYTES).equals(bytes);
    if (!isSame && random.below(4) < share) content = applied(content, { position, bytes });
  }
  return content;
}
