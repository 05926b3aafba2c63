/**
 * One operation of the disk fails, whichever it is: what it was needed for is told so and can be done again, and nothing else
 * is lost.
 */
import { rmSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { PacketfsError, hasCode } from "../../../packets/errors.ts";
import { diskError } from "../../../runtime/store/disk.ts";
import { Store } from "../../../runtime/store/store.ts";
import type { WriterThread } from "../../../runtime/store/writer/thread.ts";
import { FaultyDisk, openWriter, systemError } from "./faulty-disk.ts";
import type { DiskOperation } from "./faulty-disk.ts";
import { namesOf, randomBytes, temporaryDirectory } from "./store-fixture.ts";

/** 1 has each operation fail; otherwise each so many-th of them, from the number of the error on. */
const STEP = Number(process.env["PACKETFS_TEST_STEP"] ?? 23);
/** Nothing is decided by it: it ends what hangs. */
const HANGING_MS = 240_000 + 12_000_000 / STEP;
/** Small segments, so that a few chunks fill some. */
const SEGMENT_BYTES = 40_000;
const FILES = 24;

/** What the store has acknowledged: the root of each name. */
type Held = Map<string, Buffer>;

class Workload {
  readonly held: Held = new Map();
  readonly errors: unknown[] = [];
  readonly #writer: WriterThread;

  constructor(writer: WriterThread) {
    this.#writer = writer;
  }

  async run(): Promise<void> {
    for (let file = 0; file < FILES; file++) await this.#put(`f${file}`, file);
    for (let file = 0; file < FILES; file += 2) await this.#remove(`f${file}`);
    await this.#twice(() => this.#collect());
    for (let file = 0; file < FILES; file += 3) await this.#put(`f${file}`, file + 100);
    await this.#twice(() => this.#collect());
    for (let file = 0; file < FILES; file += 4) await this.#put(`g${file}`, file + 100);
  }

  async #put(name: string, chunk: number): Promise<void> {
    const bytes = randomBytes(`nth ${chunk}`, 8000 + chunk);
    const root = sha256(bytes);
    const binding = { name, root, length: bytes.byteLength };
    if (chunk % 2 === 1)
      return await this.#twice(async () => {
        await this.#writer.putWhole(bytes.slice(), Uint32Array.of(bytes.byteLength), binding, {});
        this.held.set(name, Buffer.from(root));
      });
    await this.#twice(async () => {
      const id = this.#writer.openWriter();
      try {
        const { refs } = await this.#writer.write(id, bytes.slice(), Uint32Array.of(bytes.byteLength));
        await this.#writer.bind(id, { name, root: refs, length: bytes.byteLength }, {});
        this.held.set(name, Buffer.from(refs));
      } finally {
        this.#writer.closeWriter(id);
      }
    });
  }

  async #remove(name: string): Promise<void> {
    await this.#twice(() => this.#writer.removeName(name, {}));
    this.held.delete(name);
  }

  async #collect(): Promise<void> {
    try {
      await this.#writer.beginGc();
      for (const root of this.held.values()) this.#writer.markLive(root);
      await this.#writer.sweep();
    } finally {
      this.#writer.endGc();
    }
  }

  /** Does it again when it fails: then it has to succeed, since only one operation ever fails. */
  async #twice(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.errors.push(error);
      await work();
    }
  }
}

async function open(directory: string, disk: FaultyDisk, errors: unknown[]): ReturnType<typeof openWriter> {
  const options = { disk, segmentBytesMax: SEGMENT_BYTES };
  try {
    return await openWriter(directory, options);
  } catch (error) {
    errors.push(diskError(error));
    return openWriter(directory, options);
  }
}

async function expectHeld(directory: string, held: Held, readOnly: boolean, when: string): Promise<void> {
  await using store = await Store.open(directory, { readOnly });
  expect(await namesOf(store), when).toEqual([...held.keys()].toSorted());
  for (const [name, root] of held) {
    const record = (await store.catalog.resolve(name))!;
    expect(refToHex(record.root), `${name} ${when}`).toBe(refToHex(root));
    expect((await store.read([root]))[0]!.byteLength).toBe(record.length);
  }
  expect(await store.verify(), when).toMatchObject({ damaged: [], lostRecords: 0 });
}

/** Where there is no room gc frees segments piece by piece. */
test.each([
  ["ENOSPC", "PFS_STORE_FULL", 0],
  ["EIO", "PFS_STORE_IO", 0],
  ["EIO", "PFS_STORE_IO", Infinity],
  ["EMFILE", "PFS_STORE_IO", Infinity],
])(
  "any operation may fail with %s (%s) where %d bytes are free",
  async (system, code, free) => {
    for (let failing = 1 + (system.length % STEP); ; failing += STEP) {
      await using directory = await temporaryDirectory();
      const hit: DiskOperation[] = [];
      const disk = new FaultyDisk((operation, number) => {
        if (number !== failing) return;
        hit.push(operation);
        throw systemError(system);
      });
      disk.free = free;
      const errors: unknown[] = [];
      // The second time there is something to recover.
      const first = await open(directory.path, disk, errors);
      const id = first.writer.openWriter();
      await first.writer.write(id, randomBytes("nth", 9000), Uint32Array.of(9000)).catch((error: unknown) => {
        errors.push(error);
      });
      await first.abandon();
      const { writer, abandon } = await open(directory.path, disk, errors);
      const workload = new Workload(writer);
      await workload.run();
      errors.push(...workload.errors);
      const when = `after operation ${failing} (${hit.join()}) failed with ${system}`;
      expect(errors.length, when).toBeLessThanOrEqual(1);
      for (const error of errors) {
        expect(error, when).toBeInstanceOf(PacketfsError);
        expect(hasCode(error, code), `${String(error)} ${when}`).toBe(true);
      }
      await abandon();
      await expectHeld(directory.path, workload.held, false, when);
      rmSync(join(directory.path, "index.db"));
      await expectHeld(directory.path, workload.held, true, `${when}, without the index`);
      if (hit.length === 0) return;
    }
  },
  HANGING_MS,
);
