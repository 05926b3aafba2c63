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

  /** Makes in `target` what could be found were the power lost now. Without the index, which is SQLite's to keep. */
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

/** Copies the index as it is now. What SQLite has committed it has synchronised. */
export function copyIndex(paths: StorePaths, target: StorePaths): void {
  for (const suffix of ["", "-wal"]) {
    if (existsSync(paths.index + suffix)) copyFileSync(paths.index + suffix, target.index + suffix);
  }
}
