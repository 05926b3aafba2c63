/**
 * Space that is kept for removing names and collecting garbage when the disk is full: a file of no meaning. Whoever makes
 * room may give it up and use what it held; whoever stores anything has to have it back before.
 *
 *   disk │ segments, index … │ reserve │ free │     stores use what is free; when nothing is, they are told PFS_STORE_FULL
 *                            └─ pfs rm, pfs gc: given up, used, and made again of what they freed
 */
import { randomFillSync } from "node:crypto";
import { statSync } from "node:fs";
import {
  RESERVE_BYTES_MAX,
  RESERVE_BYTES_MIN,
  RESERVE_DISK_SHARE,
  SEGMENT_BYTES_MAX,
  SEGMENT_BYTES_MIN,
  SEGMENT_DISK_SHARE,
} from "../../limits.ts";
import type { StorePaths } from "../directory.ts";
import { isDiskFull } from "../disk.ts";
import { systemCode } from "../../errors.ts";
import type { Disk, DiskFile } from "../disk.ts";

const BLOCK_BYTES: number = 64 * 1024;

export class Reserve {
  readonly #paths: StorePaths;
  readonly #disk: Disk;
  #bytes: number;
  #last: Promise<unknown> = Promise.resolve();

  constructor(paths: StorePaths, disk: Disk) {
    this.#paths = paths;
    this.#disk = disk;
    this.#bytes = statSync(paths.reserve, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** What is kept free. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Resolves when at least `bytes` are kept free. Rejects as the disk does; as much as there is room for is kept then. */
  hold(bytes: number): Promise<void> {
    return this.#next(async () => {
      let failure: unknown;
      for (let wanted = bytes; wanted > this.#bytes; wanted = Math.floor(wanted / 2)) {
        try {
          await this.#grow(wanted);
          break;
        } catch (error) {
          failure ??= error;
          if (!isDiskFull(error) || wanted <= RESERVE_BYTES_MIN) break;
        }
      }
      if (failure !== undefined) throw failure;
    });
  }

  /** Gives the space to whoever makes room. */
  release(): Promise<void> {
    return this.#next(async () => {
      if (this.#bytes === 0) return;
      await this.#disk.remove(this.#paths.reserve);
      this.#bytes = 0;
    });
  }

  /** One thing at a time. */
  #next(work: () => Promise<void>): Promise<void> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => {});
    return done;
  }

  async #grow(bytes: number): Promise<void> {
    const { file, isNew } = await this.#open();
    try {
      // Not zeros, which some file systems do not keep at all.
      const block = randomFillSync(new Uint8Array(BLOCK_BYTES));
      const blocks = Array.from({ length: Math.ceil((bytes - this.#bytes) / BLOCK_BYTES) }, () => block);
      await file.write(blocks, this.#bytes);
      await file.sync();
      if (isNew) await this.#disk.syncDirectory(this.#paths.directory);
      this.#bytes += blocks.length * BLOCK_BYTES;
    } catch (error) {
      // A part of it is of no use to anybody.
      await file.truncate(this.#bytes).catch(() => {});
      throw error;
    } finally {
      await file.close();
    }
  }

  async #open(): Promise<{ file: DiskFile; isNew: boolean }> {
    const { reserve } = this.#paths;
    try {
      return { file: await this.#disk.open(reserve), isNew: false };
    } catch (error) {
      if (systemCode(error) !== "ENOENT") throw error;
      return { file: await this.#disk.create(reserve), isNew: true };
    }
  }
}

/** What is kept free beside so many bytes of segments: what they all take up to `bytesMax`, in steps. */
export function reserveBytes(segmentBytes: number, bytesMax: number): number {
  const bytes = 2 ** Math.ceil(Math.log2(Math.max(1, segmentBytes)));
  return Math.min(Math.max(bytes, RESERVE_BYTES_MIN), bytesMax);
}

/** What is kept free on a disk of so many bytes, at most. */
export function reserveBytesMax(diskBytes: number): number {
  const bytes = Math.floor(diskBytes / RESERVE_DISK_SHARE);
  return Math.min(Math.max(bytes, RESERVE_BYTES_MIN), RESERVE_BYTES_MAX);
}

/** How long segments are on a disk of so many bytes. gc copies what is left of one before it frees the rest. */
export function segmentBytes(diskBytes: number): number {
  const bytes = 2 ** Math.floor(Math.log2(Math.max(1, diskBytes / SEGMENT_DISK_SHARE)));
  return Math.min(Math.max(bytes, SEGMENT_BYTES_MIN), SEGMENT_BYTES_MAX);
}
