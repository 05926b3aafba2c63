import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, test } from "vitest";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { hasCode } from "../../../packets/errors.ts";
import { Store } from "../../../runtime/store/store.ts";
import type { WriterThread } from "../../../runtime/store/writer/thread.ts";
import { FaultyDisk, openWriter, systemError } from "./faulty-disk.ts";
import type { DiskOperation } from "./faulty-disk.ts";
import { failure, get, put, randomBytes, temporaryDirectory } from "./store-fixture.ts";
import { runSync } from "../../suites/run-sync.ts";
import { isSmallDisk } from "../../suites/small-disk.ts";

/** Small segments, so that a few chunks fill some. */
const SEGMENT_BYTES = 60_000;
const PUTS = 12;
/** 1 tries each operation; the others are left to the next run with another remainder. */
const STEP = Number(process.env["PACKETFS_TEST_STEP"] ?? 6);

/** What a store has acknowledged: a name and the chunk that it points to. */
type Acknowledged = Map<string, Buffer>;

function chunkOf(index: number): Uint8Array<ArrayBuffer> {
  return randomBytes(`fault ${index}`, 9000 + index);
}

/** Puts chunks under names, one by one, until one fails; then goes on once. Returns the errors. */
async function putSome(writer: WriterThread, from: number, acknowledged: Acknowledged): Promise<unknown[]> {
  const errors: unknown[] = [];
  for (let index = from; index < from + PUTS && errors.length < 2; index++) {
    const id = writer.openWriter();
    try {
      const chunks = [chunkOf(index), chunkOf(index + 1)];
      const block = Uint8Array.from(Buffer.concat(chunks));
      const { refs } = await writer.write(
        id,
        block,
        Uint32Array.from(chunks, ({ length }) => length),
      );
      const root = Buffer.from(refs.subarray(0, 32));
      await writer.bind(id, { name: `n/${index}`, root, length: chunks[0]!.length }, {});
      acknowledged.set(`n/${index}`, root);
    } catch (error) {
      errors.push(error);
    } finally {
      writer.closeWriter(id);
    }
  }
  return errors;
}

async function expectAll(directory: string, acknowledged: Acknowledged, when: string): Promise<void> {
  await using store = await Store.open(directory);
  for (const [name, root] of acknowledged) {
    const record = await store.catalog.resolve(name);
    expect(record && refToHex(record.root), `${name} ${when}`).toBe(refToHex(root));
    const [chunk] = await store.read([root]);
    expect(chunk!.byteLength).toBe(record!.length);
  }
  expect((await store.verify()).damaged, when).toEqual([]);
}

describe.each([
  ["the disk is full", "ENOSPC", "PFS_STORE_FULL", 0],
  ["the disk does not write", "EIO", "PFS_STORE_IO", 1],
])("when %s", (_what, system, code, remainder) => {
  test("at any moment, what failed was said so, and what did not is there", async () => {
    for (let failing = 4 + remainder; failing < 45; failing += STEP) {
      await using directory = await temporaryDirectory();
      const hit: DiskOperation[] = [];
      const disk = new FaultyDisk((operation, number) => {
        if (number !== failing) return;
        hit.push(operation);
        throw systemError(system);
      });
      const { writer, abandon } = await openWriter(directory.path, { disk, segmentBytesMax: SEGMENT_BYTES });
      const acknowledged: Acknowledged = new Map();
      const errors = await putSome(writer, 0, acknowledged);
      const when = `after operation ${failing} (${hit.join()}) failed`;
      expect(hit, when).toHaveLength(1);
      // A segment's closing sync and a clean-up may fail without any put being concerned.
      expect(errors.length, when).toBeLessThanOrEqual(1);
      for (const error of errors) expect(hasCode(error, code), `${String(error)} ${when}`).toBe(true);
      expect(acknowledged.size, when).toBe(PUTS - errors.length);
      await abandon();
      await expectAll(directory.path, acknowledged, when);
    }
  });

  test("and stays so, nothing is acknowledged, and when it ends the store goes on", async () => {
    await using directory = await temporaryDirectory();
    let isFull = false;
    const disk = new FaultyDisk((operation) => {
      if (isFull && operation !== "truncate" && operation !== "remove") throw systemError(system);
    });
    const { writer, abandon } = await openWriter(directory.path, { disk, segmentBytesMax: SEGMENT_BYTES });
    const acknowledged: Acknowledged = new Map();
    await putSome(writer, 0, acknowledged);
    isFull = true;
    const before = new Map(acknowledged);
    expect(await putSome(writer, 100, acknowledged)).toHaveLength(2);
    expect(await putSome(writer, 200, acknowledged)).toHaveLength(2);
    expect(acknowledged).toEqual(before);
    isFull = false;
    expect(await putSome(writer, 300, acknowledged)).toEqual([]);
    await abandon();
    await expectAll(directory.path, acknowledged, "after the disk was full for a while");
  });
});

test("a sync that fails takes back what writers were told, and they learn of it", async () => {
  await using directory = await temporaryDirectory();
  let fails = false;
  const disk = new FaultyDisk((operation) => {
    if (fails && operation === "sync") throw systemError("EIO");
  });
  const { writer, abandon } = await openWriter(directory.path, { disk });
  const [first, second, bystander] = [writer.openWriter(), writer.openWriter(), writer.openWriter()];
  const chunk = chunkOf(1);
  const write = (id: number): Promise<{ newChunks: number }> =>
    writer.write(id, chunk.slice(), Uint32Array.of(chunk.length));
  expect(await write(first)).toMatchObject({ newChunks: 1 });
  // It found the chunk that the other writer wrote, and relies on it.
  expect(await write(second)).toMatchObject({ newChunks: 0 });
  fails = true;
  await expect(writer.flush(first)).rejects.toMatchObject({ code: "PFS_STORE_IO" });
  fails = false;
  await expect(writer.flush(second)).rejects.toMatchObject({ code: "PFS_STORE_IO" });
  await expect(write(first)).rejects.toMatchObject({ code: "PFS_STORE_IO" });
  await writer.flush(bystander);
  // The chunk is not there any more, so it is written again.
  expect(await write(bystander)).toMatchObject({ newChunks: 1 });
  await writer.flush(bystander);
  await writer.bind(bystander, { name: "kept", root: sha256(chunk), length: chunk.length }, {});
  await abandon();
  await expectAll(directory.path, new Map([["kept", Buffer.from(sha256(chunk))]]), "after a failed sync");
});

const SMALL_DISK_BYTES = 24 * 1024 * 1024;
/** A disk in a namespace of its own, so that nothing of it is left. */
const SMALL_DISK = ["-rm", "sh", "-c", `mount -t tmpfs -o size=${SMALL_DISK_BYTES} tmpfs "$0" && exec "$@"`];

const IS_SMALL = isSmallDisk(tmpdir(), SMALL_DISK_BYTES);
const HAS_SMALL_DISKS = runSync("unshare", [...SMALL_DISK, tmpdir(), ...IS_SMALL]).status === 0;

/** What a child says that has a small disk of its own. */
async function onSmallDisk(script: string): Promise<unknown> {
  await using directory = await temporaryDirectory();
  const child = fileURLToPath(new URL(script, import.meta.url));
  const args = [...SMALL_DISK, directory.path, process.execPath, child, directory.path];
  using filling = spawn("unshare", args, { stdio: ["ignore", "pipe", "inherit"] });
  let output = "";
  filling.stdout.setEncoding("utf8");
  filling.stdout.on("data", (text: string) => (output += text));
  await once(filling, "close");
  return JSON.parse(output);
}

test.skipIf(!HAS_SMALL_DISKS)(
  "names are removed and garbage is collected on a disk that is full",
  async () => {
    const { codes, rooms, ...rest } = (await onSmallDisk("./full-disk-child.ts")) as {
      codes: string[];
      rooms: { removed: number; freedBytes: number }[];
    };
    expect(new Set(codes)).toEqual(new Set(["PFS_STORE_FULL"]));
    expect(rest).toEqual({ full: 0, wrong: [], damaged: [], incomplete: [] });
    // Half of what there was each time, which filled most of the disk.
    for (const { removed, freedBytes } of rooms) {
      expect(removed).toBeGreaterThan(5);
      expect(freedBytes).toBeGreaterThan(5_000_000);
    }
  },
);

test.skipIf(!HAS_SMALL_DISKS)(
  "also where nearly all of a segment is needed that is longer than what is kept free",
  async () => {
    const { storedBytes, removedBytes, freedBytes, ...rest } = (await onSmallDisk(
      "./crowded-disk-child.ts",
    )) as {
      storedBytes: number;
      removedBytes: number;
      freedBytes: number;
    };
    // Nothing failed but the put that found the disk full.
    expect(rest).toEqual({ codes: ["PFS_STORE_FULL"], wrong: [], damaged: [], lostRecords: 0 });
    expect(storedBytes).toBeGreaterThan(15_000_000);
    expect(freedBytes).toBeGreaterThanOrEqual(removedBytes);
  },
);

test.skipIf(!HAS_SMALL_DISKS)(
  "a store whose index is old says that the disk is full, and opens with what was kept free",
  async () => {
    expect(await onSmallDisk("./old-index-child.ts")).toEqual({
      codes: ["PFS_STORE_FULL"],
      left: 0,
      notes: ["the index was older than the segments and was built again"],
      removed: true,
    });
  },
);

test.skipIf(process.platform === "win32")(
  "nothing is acknowledged once the store's directory was deleted",
  async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "store");
    const store = await Store.open(path);
    await put(store, "a", randomBytes("before", 10_000));
    await using writer = await store.openWriter();
    const chunk = chunkOf(0);
    await writer.write(chunk.slice(), Uint32Array.of(chunk.byteLength));
    rmSync(path, { recursive: true });
    expect(await failure(writer.flush())).toMatchObject({ code: "PFS_STORE_IO" });
    expect(await failure(put(store, "b", randomBytes("after", 10_000)))).toMatchObject({
      code: "PFS_STORE_IO",
    });
    expect(await failure(store.catalog.remove("a"))).toMatchObject({ code: "PFS_STORE_IO" });
    await store.close().catch(() => {});
    expect(existsSync(path)).toBe(false);
  },
);

const CHILD = fileURLToPath(new URL("./filling-child.ts", import.meta.url));

test.skipIf(process.platform === "win32")(
  "a process whose files may not grow says so, and goes on reading",
  async () => {
    await using directory = await temporaryDirectory();
    {
      await using store = await Store.open(directory.path);
      await put(store, "before", randomBytes("before", 1_000_000));
    }
    // In blocks of 512 or 1,024 bytes, as the shell has it.
    const limited = `ulimit -f 4000; exec "$0" "$@"`;
    const child = spawn("sh", ["-c", limited, process.execPath, CHILD, directory.path], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    let output = "";
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (text: string) => (output += text));
    await once(child, "close");
    const { codes, acknowledged, before } = JSON.parse(output) as {
      codes: string[];
      acknowledged: string[];
      before: number;
    };
    expect(new Set(codes)).toEqual(new Set(["PFS_STORE_FULL"]));
    expect(before).toBe(1_000_000);
    await using store = await Store.open(directory.path);
    for (const name of acknowledged) {
      expect(Buffer.compare(await get(store, name), randomBytes(name, 700_000))).toBe(0);
    }
    expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
    await put(store, "after", randomBytes("after", 3_000_000));
  },
);
