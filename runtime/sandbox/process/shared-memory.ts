/**
 * The way in for bytes: a file on tmpfs that nobody else can open, whose descriptor the executor process inherits. Bytes
 * are written here once and read there once, at memory speed, and packets say where they stand.
 *
 *   parent ── write(offset, bytes) ──▶ [ used | hole | used | hole … ] ──▶ read(offset, length) ── executor process
 *
 * Space is given by first fit out of a list of holes; what is next to each other and free is one hole.
 */
import { randomUUID } from "node:crypto";
import {
  closeSync,
  constants,
  ftruncateSync,
  openSync,
  statfsSync,
  unlinkSync,
  write,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { messageOf } from "../../../packets/errors.ts";
import { SandboxError, SandboxErrorCode, systemCode } from "../../errors.ts";
import { SHARED_MEMORY_IDLE_MS } from "../../limits.ts";

const SHARED_MEMORY_FOLDER = "/dev/shm";
/** Inputs begin at multiples of this, so that typed views of them are aligned. */
const ALIGNMENT = 64;
/** Less than this is written faster than another thread could be asked to. */
const WRITE_SYNC_BYTES_MAX = 64 * 1024;

/**
 * Bytes of tmpfs that executor processes of this process may still come to use, which the system does not know of: a file
 * takes its memory when it is written to. And whether some were not there after all, because others took them.
 */
let promised = 0;
let isShort = false;

interface Hole {
  offset: number;
  bytes: number;
}

export class SharedMemory {
  /** What it was made for. */
  readonly capacity: number;
  /** Read-only and of no use here: the executor process inherits it. */
  readonly childDescriptor: number;
  readonly #descriptor: number;
  /** In order of their offsets, never two side by side. */
  readonly #holes: Hole[];
  /** Bytes taken, by offset. */
  readonly #taken = new Map<number, number>();
  #bytesMax: number;
  #idle: NodeJS.Timeout | undefined;
  #writing = 0;
  #childClosed = false;
  #closed = false;
  /** What of `promised` is this one's. */
  readonly #promised: number;

  /** Throws PFS_SHARED_MEMORY_FAILED when no such file can be made. */
  constructor(bytesMax: number) {
    if (!Number.isSafeInteger(bytesMax) || bytesMax < ALIGNMENT)
      throw new Error("shared memory has at least 64 bytes");
    this.capacity = bytesMax - (bytesMax % ALIGNMENT);
    this.#bytesMax = this.capacity;
    this.#holes = [{ offset: 0, bytes: this.capacity }];
    const { descriptor, childDescriptor, promised: bytes } = openUnlinked(this.capacity);
    this.#descriptor = descriptor;
    this.childDescriptor = childDescriptor;
    this.#promised = bytes;
    promised += bytes;
  }

  /** By which other processes of this user open it, where the system has such a thing. */
  get path(): string | undefined {
    return process.platform === "linux" ? `/proc/${process.pid}/fd/${this.#descriptor}` : undefined;
  }

  /**
   * Keeps its path this file's, though it is closed meanwhile, until what is returned is called: who writes there by its path would
   * write to whatever has got its descriptor's number by then.
   */
  hold(): () => void {
    this.#writing++;
    return () => {
      this.#writing--;
      if (this.#closed) this.#closeWhenQuiet();
    };
  }

  /** Bytes that can be allocated together. */
  get bytesMax(): number {
    return this.#bytesMax;
  }

  /** Makes it smaller than its capacity, or that large again. Nothing may be allocated. */
  limit(bytesMax: number): void {
    if (this.#taken.size > 0 || bytesMax < ALIGNMENT || bytesMax > this.capacity) {
      throw new Error("only empty memory can be limited, and to less than its capacity");
    }
    this.#bytesMax = bytesMax - (bytesMax % ALIGNMENT);
    this.#holes.splice(0, this.#holes.length, { offset: 0, bytes: this.#bytesMax });
  }

  /** Where `bytes` (at least one) may be written, or undefined when there is no room now. */
  alloc(bytes: number): number | undefined {
    if (!(bytes > 0)) throw new Error("nothing needs no room in it");
    const rounded = Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    const index = this.#holes.findIndex((hole) => hole.bytes >= rounded);
    const hole = this.#holes[index];
    if (hole === undefined || this.#closed) return undefined;
    const { offset } = hole;
    hole.offset += rounded;
    hole.bytes -= rounded;
    if (hole.bytes === 0) this.#holes.splice(index, 1);
    this.#taken.set(offset, rounded);
    return offset;
  }

  /** Gives back what `alloc` gave. */
  free(offset: number): void {
    const bytes = this.#taken.get(offset);
    if (bytes === undefined) throw new Error(`nothing is allocated at ${offset}`);
    this.#taken.delete(offset);
    const found = this.#holes.findIndex((hole) => hole.offset > offset);
    const index = found < 0 ? this.#holes.length : found;
    const before = this.#holes[index - 1];
    const after = this.#holes[index];
    if (before !== undefined && before.offset + before.bytes === offset) {
      before.bytes += bytes;
      if (after !== undefined && before.offset + before.bytes === after.offset) {
        before.bytes += after.bytes;
        this.#holes.splice(index, 1);
      }
    } else if (after !== undefined && offset + bytes === after.offset) {
      after.offset = offset;
      after.bytes += bytes;
    } else {
      this.#holes.splice(index, 0, { offset, bytes });
    }
    if (this.#taken.size === 0) this.#restWhenIdle();
  }

  /**
   * Writes bytes at an offset that `alloc` gave, or behind it within its bytes. Rejects with PFS_SHARED_MEMORY_FAILED when the
   * memory is used up.
   */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    if (offset < 0 || offset + bytes.byteLength > this.bytesMax) throw new Error("beyond the shared memory");
    let done = 0;
    while (done < bytes.byteLength) done += await this.#writeSome(offset + done, bytes, done);
  }

  /** The child has it now. */
  closeChildDescriptor(): void {
    if (!this.#childClosed) closeSync(this.childDescriptor);
    this.#childClosed = true;
  }

  /** Frees the memory, once the executor process has closed its side or ended. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#idle);
    promised -= this.#promised;
    this.closeChildDescriptor();
    this.#closeWhenQuiet();
  }

  async #writeSome(offset: number, bytes: Uint8Array, done: number): Promise<number> {
    if (this.#closed) throw memoryError("it is closed");
    const length = bytes.byteLength - done;
    this.#writing++;
    try {
      if (length <= WRITE_SYNC_BYTES_MAX) return writeSync(this.#descriptor, bytes, done, length, offset);
      return await writeLater(this.#descriptor, bytes, done, length, offset);
    } catch (error) {
      if (this.#promised > 0 && systemCode(error) === "ENOSPC") isShort = true;
      throw memoryError(messageOf(error), error);
    } finally {
      this.#writing--;
      if (this.#closed) this.#closeWhenQuiet();
    }
  }

  /** A descriptor's number may name another file as soon as it is closed, and a write on its way would go there. */
  #closeWhenQuiet(): void {
    if (this.#writing === 0) closeSync(this.#descriptor);
  }

  /** An empty file keeps its memory until it is cut; cutting it at once would make busy memory pay for each page again. */
  #restWhenIdle(): void {
    if (this.#idle !== undefined) return void this.#idle.refresh();
    this.#idle = setTimeout(() => {
      if (this.#taken.size === 0 && !this.#closed) ftruncateSync(this.#descriptor, 0);
    }, SHARED_MEMORY_IDLE_MS).unref();
  }
}

function writeLater(
  descriptor: number,
  bytes: Uint8Array,
  from: number,
  length: number,
  offset: number,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  write(descriptor, bytes, from, length, offset, (error, written) => {
    if (error === null) resolve(written);
    else reject(error);
  });
  return promise;
}

interface UnlinkedFile {
  /** To read and write. */
  readonly descriptor: number;
  /** To read. */
  readonly childDescriptor: number;
  /** Bytes of tmpfs that it may come to use. */
  readonly promised: number;
}

/** One new file that no longer has a name. */
function openUnlinked(bytesMax: number): UnlinkedFile {
  if (sharedMemoryHolds(bytesMax)) {
    try {
      return { ...openIn(SHARED_MEMORY_FOLDER), promised: bytesMax };
    } catch {
      // The disk's page cache is the next best.
    }
  }
  try {
    return { ...openIn(tmpdir()), promised: 0 };
  } catch (error) {
    throw memoryError(messageOf(error), error);
  }
}

/** Linux makes files without a name, of which nothing is left when this process is killed; libc calls it so. */
const TMPFILE = 0o20000000 | constants.O_DIRECTORY;

function openIn(folder: string): Omit<UnlinkedFile, "promised"> {
  return (process.platform === "linux" ? openNameless(folder) : undefined) ?? openAndUnlink(folder);
}

/** Undefined where the system, or the file system, has no such thing. */
function openNameless(folder: string): Omit<UnlinkedFile, "promised"> | undefined {
  let descriptor: number | undefined;
  try {
    descriptor = openSync(folder, TMPFILE | constants.O_RDWR, 0o600);
    return { descriptor, childDescriptor: openSync(`/proc/self/fd/${descriptor}`, constants.O_RDONLY) };
  } catch {
    if (descriptor !== undefined) closeSync(descriptor);
    return undefined;
  }
}

function openAndUnlink(folder: string): Omit<UnlinkedFile, "promised"> {
  const path = join(folder, `packetfs-input-${randomUUID()}`);
  const descriptor = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    return { descriptor, childDescriptor: openSync(path, constants.O_RDONLY) };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  } finally {
    unlinkSync(path);
  }
}

/** Shared memory is often small in containers. Once there was too little of it, it is not relied on again. */
function sharedMemoryHolds(bytes: number): boolean {
  return !isShort && sharedMemoryFree() >= promised + bytes;
}

/** Bytes that tmpfs has left; 0 where there is none. */
function sharedMemoryFree(): number {
  try {
    const { bavail, bsize } = statfsSync(SHARED_MEMORY_FOLDER);
    return bavail * bsize;
  } catch {
    return 0;
  }
}

function memoryError(reason: string, cause?: unknown): SandboxError {
  const message = `the executor's shared memory failed: ${reason}`;
  return new SandboxError(SandboxErrorCode.sharedMemoryFailed, message, { reason }, { cause });
}
