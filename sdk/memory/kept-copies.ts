/**
 * Files as they were fetched, in the user's cache, so that one which is edited then can be put as what changed of it: a copy costs a
 * system a fifth of what storing its chunks would, and nothing where file systems share what two files have in common.
 *
 *   <root>.bytes      what the file held
 *   <root>.streams    its streams, back to back; without bytes, too: where the file itself is as it was, they save reading it
 *
 * Nothing in it is believed: chunks are verified when they are read. It is bounded, and those go first that were not used for the longest.
 */
import { randomBytes } from "node:crypto";
import {
  chmod,
  constants,
  copyFile,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  utimes,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { refKey, refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op, PACKET_BYTES } from "../../packets/layout.ts";
import { opAt } from "../../packets/packet.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { PRIVATE_FILE_MODE, makeDirectory } from "../../runtime/durable-file.ts";
import { StoreError, StoreErrorCode } from "../../runtime/errors.ts";
import { HeldFile } from "../../runtime/stream/execute.ts";

/** What a killed process left, and what else is not ours, is removed when it is so old. */
const LEFT_MS = 24 * 60 * 60 * 1000;
const KEPT = /^([0-9a-f]{64})\.(bytes|streams)$/;

export interface KeptCopiesOptions {
  readonly directory: string;
  /** Bytes of disk that it may take. */
  readonly bytesMax: () => Promise<number>;
}

interface Entry {
  bytes: number;
  /** Milliseconds since 1970. */
  usedAt: number;
}

export class KeptCopies {
  readonly directory: string;
  readonly #bytesMax: () => Promise<number>;

  constructor({ directory, bytesMax }: KeptCopiesOptions) {
    this.directory = directory;
    this.#bytesMax = bytesMax;
  }

  /** Keeps a file of this root, or its streams where there is no room for more. Never rejects. */
  async keep(path: string, root: Ref, length: number, streams: Iterable<Uint8Array>): Promise<void> {
    try {
      await makeDirectory(this.directory);
      const packets = Buffer.concat([...streams]);
      if (!(await this.#makeRoom(packets.byteLength))) return;
      await this.#write(this.#path(root, "streams"), (part) =>
        writeFile(part, packets, { mode: PRIVATE_FILE_MODE }),
      );
      if (!(await this.#makeRoom(length, root))) return;
      await this.#write(this.#path(root, "bytes"), async (part) => {
        await copyFile(path, part, constants.COPYFILE_FICLONE);
        await chmod(part, PRIVATE_FILE_MODE);
      });
    } catch {
      // It is only there to save work.
    }
  }

  /** A file of this machine that somebody knows to have this root, where its streams are here. Rejects with the signal's reason alone. */
  async at(path: string, root: Ref, signal?: AbortSignal): Promise<HeldFile | undefined> {
    try {
      const streams = await this.#streams(root);
      const held = await HeldFile.known(path, root, streams, signal);
      const now = new Date();
      await utimes(this.#path(root, "streams"), now, now).catch(() => {});
      return held;
    } catch {
      signal?.throwIfAborted();
      return undefined;
    }
  }

  /** The copy of a file that had this root. Rejects with the signal's reason alone. */
  async copyOf(root: Ref, signal?: AbortSignal): Promise<HeldFile | undefined> {
    return await this.at(this.#path(root, "bytes"), root, signal);
  }

  /** Bytes of disk that it takes. */
  async bytes(): Promise<number> {
    return sumOf(await this.#entries());
  }

  /** Removes all of it. Rejects as the system does. */
  async clear(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }

  #path(root: Ref, kind: "bytes" | "streams"): string {
    return join(this.directory, `${refToHex(root)}.${kind}`);
  }

  async #write(path: string, write: (part: string) => Promise<void>): Promise<void> {
    const part = `${path}.${randomBytes(4).toString("hex")}.new`;
    try {
      await write(part);
      await rename(part, path);
    } finally {
      await rm(part, { force: true });
    }
  }

  async #streams(root: Ref): Promise<ChunkSource> {
    const packets = await readFile(this.#path(root, "streams"));
    const found = new Map<string, Uint8Array>();
    for (let at = 0, index = 0; index < packets.byteLength / PACKET_BYTES; index++) {
      if (opAt(packets, index) !== Op.HALT) continue;
      const end = (index + 1) * PACKET_BYTES;
      const frame = packets.subarray(at, end);
      found.set(refKey(sha256(frame)), frame);
      at = end;
    }
    return {
      read: async (refs) =>
        refs.map((ref) => {
          const frame = found.get(refKey(ref));
          if (frame !== undefined) return frame;
          const hex = refToHex(ref);
          throw new StoreError(StoreErrorCode.chunkMissing, `stream ${hex} was not kept`, { ref: hex });
        }),
    };
  }

  /** Whether there is room for so many bytes more; others go for it, and `kept` does not. */
  async #makeRoom(bytes: number, kept?: Ref): Promise<boolean> {
    const max = await this.#bytesMax();
    const entries = await this.#entries();
    const keptBytes = kept === undefined ? 0 : (entries.get(refToHex(kept))?.bytes ?? 0);
    if (bytes + keptBytes > max) return false;
    let used = sumOf(entries);
    for (const [name, entry] of [...entries].toSorted(([, a], [, b]) => a.usedAt - b.usedAt)) {
      if (used + bytes <= max) break;
      if (kept !== undefined && name === refToHex(kept)) continue;
      for (const kind of ["bytes", "streams"])
        await rm(join(this.directory, `${name}.${kind}`), { force: true });
      used -= entry.bytes;
    }
    return used + bytes <= max;
  }

  /** By root. What nobody knows is removed when it is old, and takes room until then. */
  async #entries(): Promise<Map<string, Entry>> {
    const entries = new Map<string, Entry>();
    for (const name of await readdir(this.directory).catch(() => [])) {
      const path = join(this.directory, name);
      const found = await stat(path).catch(() => undefined);
      if (found === undefined) continue;
      const [, root = name, kind] = KEPT.exec(name) ?? [];
      if (kind === undefined && Date.now() - found.mtimeMs > LEFT_MS) {
        await rm(path, { recursive: true, force: true }).catch(() => {});
        continue;
      }
      const entry = entries.get(root) ?? { bytes: 0, usedAt: 0 };
      entries.set(root, entry);
      entry.bytes += found.size;
      // A copy keeps none of its file's times, and who uses one touches its streams.
      if (kind !== "bytes") entry.usedAt = found.mtimeMs;
    }
    return entries;
  }
}

function sumOf(entries: ReadonlyMap<string, Entry>): number {
  return [...entries.values()].reduce((sum, { bytes }) => sum + bytes, 0);
}
