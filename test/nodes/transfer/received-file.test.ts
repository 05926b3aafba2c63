/** Roots that are received into files, over real bulk channels. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { Chunker } from "../../../packets/chunker.ts";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { compressPart, writeChunkPatch } from "../../../packets/patch.ts";
import type { Ref } from "../../../packets/digest.ts";
import { Op } from "../../../packets/layout.ts";
import { opAt, refOf } from "../../../packets/packet.ts";
import { FILE_NOTED_BYTES, TRANSFER_TOLD_BYTES } from "../../../nodes/limits.ts";
import type { PartHandle } from "../../../nodes/transfer/part-writer.ts";
import { ReceivedFile } from "../../../nodes/transfer/received-file.ts";
import { DataForm } from "../../../nodes/transfer/replication/messages.ts";
import type { TransferStats } from "../../../nodes/transfer/replication/statistics.ts";
import { SentRoot } from "../../../nodes/transfer/sent-root.ts";
import { TransferChannel } from "../../../nodes/transfer/transfer-channel.ts";
import type { TransferChannelOptions, TransferProgress } from "../../../nodes/transfer/transfer-channel.ts";
import { Identity, keysToJson } from "../../../nodes/wire/trust/keys.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { StoreError, StoreErrorCode } from "../../../runtime/errors.ts";
import { HeldFile } from "../../../runtime/stream/held-file.ts";
import { Random, seededBytes } from "../../packets/seed.ts";
import { ShelfSource } from "../../runtime/stream/shelf-source.ts";
import { until } from "../../suites/until.ts";
import { list } from "../wire/network.ts";
import { openBulkNetwork } from "../wire/bulk/bulk-network.ts";
import type { BulkNetwork } from "../wire/bulk/bulk-network.ts";
import type { Receiving } from "./receiving-main.ts";
import { putFile, storedOpener } from "./stored-root.ts";
import type { StoredUnit } from "./stored-root.ts";

const KILLS = Number(process.env["PACKETFS_TEST_KILLS"] ?? 20);
const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 1);
const MAIN = new URL("./receiving-main.ts", import.meta.url).pathname;
const WINDOW_BYTES = 2 * 1024 * 1024;

let bulk: BulkNetwork;
let folder: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "packetfs-received-"));
  bulk = await openBulkNetwork();
});

afterAll(async () => {
  await bulk.network.close();
  rmSync(folder, { recursive: true });
});

/** A client of somebody who sends so. */
async function clientOf(sender: TransferChannelOptions["open"]): Promise<TransferChannel> {
  const { near, far } = await bulk.open();
  new TransferChannel(far, { isDialer: false, open: sender });
  return new TransferChannel(near, { isDialer: true, open: sender });
}

interface Into {
  readonly root: Ref;
  readonly name: string;
  readonly bases?: readonly Ref[];
  readonly held?: readonly ChunkSource[];
  /** The file as it is used, of the one that is open. */
  readonly as?: (handle: FileHandle) => PartHandle;
  readonly onProgress?: (progress: TransferProgress) => void;
}

async function receive(client: TransferChannel, into: Into): Promise<TransferStats> {
  const { root, name, bases = [], held = [], as = (handle) => handle, onProgress = () => {} } = into;
  const path = join(folder, name);
  const handle = await open(path, "a+").then(async (made) => {
    await made.close();
    return await open(path, "r+");
  });
  const options = { root, handle: as(handle), path, journal: `${path}.journal`, held };
  let file: ReceivedFile | undefined;
  try {
    file = await ReceivedFile.open(options);
    const stats = await client.receive({ root, store: file, bases, onProgress });
    expect(file.isWhole).toBe(true);
    return stats;
  } finally {
    await file?.close();
    await handle.close();
  }
}

function contentOf(name: string): Uint8Array {
  return new Uint8Array(readFileSync(join(folder, name)));
}

/** As sender of patches, and of chunks of which no base has anything. */
function patchOpener(
  source: ShelfSource,
  length: number,
  now?: () => number,
): TransferChannelOptions["open"] {
  return ({ root, bases, resume, resumeRoot }, signal) => {
    const isResumed = resumeRoot !== undefined;
    const sent = new SentRoot(source, {
      root: root!,
      length,
      bases,
      resume: isResumed ? resume : undefined,
      signal,
      ...(now === undefined ? {} : { now }),
    });
    return Promise.resolve({ info: { root: root!, length, isResumed }, sent });
  };
}

describe("a root is received into a file", () => {
  test.each([
    ["as it is stored", storedOpener],
    ["in patches", patchOpener],
  ])("that is new, %s, and then nothing more of it comes", async (how, opener) => {
    const source = new ShelfSource();
    const bytes = seededBytes(`cold ${how}`, 6_000_000);
    const root = putFile(source.shelf, bytes);
    const client = await clientOf(opener(source, bytes.byteLength));
    const progress: TransferProgress[] = [];
    const name = `cold ${how}`;
    const stats = await receive(client, { root, name, onProgress: (now) => progress.push(now) });
    expect(sha256(contentOf(name))).toEqual(sha256(bytes));
    expect(stats.receivedBytes).toBeLessThan(bytes.byteLength * 1.01);
    expect(stats.wrongChunks).toBe(0);
    expect(progress.at(-1)).toEqual({ doneBytes: bytes.byteLength, length: bytes.byteLength });
    const again = await receive(client, { root, name });
    expect(again.messages).toBe(0);
    expect(sha256(contentOf(name))).toEqual(sha256(bytes));
  });

  test("whose chunks are like each other: over a slow link they come together, in fewer bytes", async () => {
    const source = new ShelfSource();
    const random = new Random(SEED);
    const phrases = Array.from({ length: 1000 }, (_, index) => seededBytes(`phrase ${index}`, 200));
    const bytes = Buffer.concat(Array.from({ length: 60_000 }, () => phrases[random.below(1000)]!));
    const chunker = new Chunker({ minBytes: 32_768, averageBytes: 65_536, maxBytes: 131_072 });
    const root = putFile(source.shelf, bytes, chunker);
    const received: number[] = [];
    for (const [name, step] of [
      ["over a fast link", 0.001],
      ["over a slow link", 100],
    ] as const) {
      let now = 0;
      const client = await clientOf(patchOpener(source, bytes.byteLength, () => (now += step)));
      const { receivedBytes, wrongChunks } = await receive(client, { root, name });
      expect(sha256(contentOf(name))).toEqual(sha256(bytes));
      expect(wrongChunks).toBe(0);
      received.push(receivedBytes);
    }
    expect(received[1]!).toBeLessThan(received[0]! * 0.7);
  });

  test("of bytes that hardly shrink, which over a slow link go as they are, and are not tried again and again", async () => {
    const source = new ShelfSource();
    const bytes = seededBytes("random", 12_000_000);
    const chunker = new Chunker({ minBytes: 32_768, averageBytes: 65_536, maxBytes: 131_072 });
    const root = putFile(source.shelf, bytes, chunker);
    let now = 0;
    const client = await clientOf(patchOpener(source, bytes.byteLength, () => (now += 100)));
    const { receivedBytes } = await receive(client, { root, name: "random" });
    expect(sha256(contentOf("random"))).toEqual(sha256(bytes));
    expect(receivedBytes).toBeLessThan(bytes.byteLength * 1.01);
    // What is tried is read once more.
    expect(source.calls.flat().length).toBeLessThan(1.5 * source.shelf.stream(root).count);
  });

  test("over a slow link also where the sender has a chunk no more in its right bytes: then the receiver is told", async () => {
    const source = new ShelfSource();
    const bytes = Buffer.alloc(8_000_000, Buffer.from(seededBytes("row", 100)));
    for (let at = 0; at < bytes.byteLength; at += 1_000) bytes.writeUInt32LE(at, at);
    const root = putFile(source.shelf, bytes);
    let now = 0;
    const { shelf } = source;
    const lost = shelf.stream(root);
    const client = await clientOf(patchOpener(source, bytes.byteLength, () => (now += 100)));
    source.beforeAnswer = (refs) => {
      const last = refOf(lost.frame, lost.count - 2);
      if (refs.some((ref) => Buffer.compare(ref, last) === 0))
        throw new StoreError(StoreErrorCode.chunkMissing, "gone", { ref: refToHex(last) });
    };
    const receiving = receive(client, { root, name: "gone there" });
    await expect(receiving).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });
  });

  test("of no bytes, and of bytes that stand in the stream itself", async () => {
    const source = new ShelfSource();
    for (const bytes of [new Uint8Array(0), seededBytes("inline", 20)]) {
      const root = source.shelf.write((writer) => writer.data(bytes)).root;
      const client = await clientOf(storedOpener(source, bytes.byteLength));
      const name = `few ${bytes.byteLength}`;
      await receive(client, { root, name });
      expect(contentOf(name)).toEqual(bytes);
    }
  });

  test("that has the same chunks in many places, each of which comes once", async () => {
    const source = new ShelfSource();
    const part = seededBytes("part", 1_500_000);
    const bytes = Buffer.concat([part, seededBytes("between", 300_000), part, part]);
    const root = putFile(source.shelf, bytes);
    const client = await clientOf(storedOpener(source, bytes.byteLength));
    const stats = await receive(client, { root, name: "repeats" });
    expect(sha256(contentOf("repeats"))).toEqual(sha256(bytes));
    expect(stats.receivedBytes).toBeLessThan(2_300_000);
  });

  test("that has parts of chunks, of which each comes once, and calls parts of streams", async () => {
    const source = new ShelfSource();
    const { shelf } = source;
    const chunk = seededBytes("chunk", 50_000);
    const ref = shelf.put(chunk);
    const whole = putFile(shelf, seededBytes("called", 400_000));
    const root = shelf.write((writer) => {
      writer.copy(ref, 10, 20_000);
      writer.data(Buffer.from("between"));
      writer.copy(ref, 30_000, 20_000);
      writer.call(whole, 123_456, 200_000);
    }).root;
    const expected = shelf.execute(root);
    const client = await clientOf(storedOpener(source, expected.byteLength));
    await receive(client, { root, name: "parts" });
    expect(sha256(contentOf("parts"))).toEqual(sha256(expected));
  });

  test("of which another file has most, elsewhere: nothing of a base comes", async () => {
    const source = new ShelfSource();
    const old = seededBytes("shifted", 4_000_000);
    const next = Buffer.concat([seededBytes("first", 70_000), old]);
    const [base, root] = [putFile(source.shelf, old), putFile(source.shelf, next)];
    const client = await clientOf(patchOpener(source, next.byteLength));
    const stats = await receive(client, {
      root,
      name: "shifted",
      bases: [base],
      held: [source],
    });
    expect(sha256(contentOf("shifted"))).toEqual(sha256(next));
    expect(stats.receivedBytes).toBeLessThan(150_000);
  });

  test("against the file that it takes the place of, and what that has lost meanwhile is sent", async () => {
    const source = new ShelfSource();
    const old = seededBytes("old", 3_000_000);
    const next = old.slice();
    for (let at = 1_000; at < next.byteLength; at += 300_000) next[at]! ^= 1;
    const [base, root] = [putFile(source.shelf, old), putFile(source.shelf, next)];
    const client = await clientOf(patchOpener(source, next.byteLength));
    const update = await receive(client, { root, name: "update", bases: [base], held: [source] });
    expect(sha256(contentOf("update"))).toEqual(sha256(next));
    expect(update.patchedChunks).toBeGreaterThan(5);
    expect(update.receivedBytes).toBeLessThan(30_000);
    const { frame } = source.shelf.stream(base);
    const gone = new Set([20, 40, 60].map((index) => refToHex(refOf(frame, index))));
    expect([20, 40, 60].every((index) => opAt(frame, index) === Op.COPY)).toBe(true);
    const lossy: ChunkSource = {
      read: async (refs) => {
        const ref = refs.map(refToHex).find((hex) => gone.has(hex));
        if (ref === undefined) return await source.read(refs);
        throw new StoreError(StoreErrorCode.chunkMissing, `no ${ref}`, { ref });
      },
    };
    await receive(client, { root, name: "mended", bases: [base], held: [lossy] });
    expect(sha256(contentOf("mended"))).toEqual(sha256(next));
  });

  test("that is a new version of a file of this machine, of which nothing was stored", async () => {
    const source = new ShelfSource();
    const old = seededBytes("local", 2_000_000);
    const next = old.slice();
    next.fill(7, 900_000, 900_100);
    const path = join(folder, "local file");
    writeFileSync(path, old);
    await using held = await HeldFile.open(path);
    const put = (bytes: Uint8Array): Ref => putFile(source.shelf, bytes, new Chunker());
    const [base, root] = [put(old), put(next)];
    expect(held.root).toEqual(base);
    const client = await clientOf(patchOpener(source, next.byteLength));
    const stats = await receive(client, { root, name: "local", bases: [base], held: [held] });
    expect(sha256(contentOf("local"))).toEqual(sha256(next));
    expect(stats.receivedBytes).toBeLessThan(10_000);
    // It is changed since it was read: what is not there any more comes.
    writeFileSync(path, old.fill(1, 300_000, 400_000));
    await receive(client, { root, name: "changed", bases: [base], held: [held] });
    expect(sha256(contentOf("changed"))).toEqual(sha256(next));
  });

  test("with holes where it has long rows of zeros", async () => {
    const source = new ShelfSource();
    const hole = 64 * 1024 * 1024;
    const root = source.shelf.write((writer) => {
      writer.copy(source.shelf.put(seededBytes("begin", 40_000)), 0, 40_000);
      writer.fill(new Uint8Array(1), hole);
      writer.fill(Uint8Array.of(1, 2, 3), 300_000);
      writer.copy(source.shelf.put(seededBytes("end", 40_000)), 0, 40_000);
    }).root;
    const client = await clientOf(storedOpener(source, hole + 380_000));
    await receive(client, { root, name: "sparse" });
    const { size, blocks } = statSync(join(folder, "sparse"));
    expect(size).toBe(hole + 380_000);
    expect(blocks * 512).toBeLessThan(4 * 1024 * 1024);
    const found = contentOf("sparse");
    expect(found.subarray(0, 40_000)).toEqual(seededBytes("begin", 40_000));
    expect(Buffer.compare(found.subarray(40_000, 40_000 + hole), new Uint8Array(hole))).toBe(0);
    expect([...found.subarray(hole + 40_000, hole + 40_004)]).toEqual([1, 2, 3, 1]);
    expect(found.subarray(-40_000)).toEqual(seededBytes("end", 40_000));
  });
});

describe("a file that is received from somebody who means harm", () => {
  const bytes = seededBytes("hostile", 2_000_000);

  /** Receives from somebody whose messages are changed so. */
  async function from(
    name: string,
    change: (unit: StoredUnit, source: ShelfSource, number: number) => StoredUnit,
  ): Promise<TransferStats> {
    const source = new ShelfSource();
    const root = putFile(source.shelf, bytes);
    let number = 0;
    const open = storedOpener(source, bytes.byteLength, (unit) => change(unit, source, number++));
    return await receive(await clientOf(open), { root, name });
  }

  test("has streams that came as chunks of a patch, and knows what they name when that came wrong", async () => {
    const source = new ShelfSource();
    const bytes = seededBytes("streams as chunks", 16_000_000);
    const root = putFile(source.shelf, bytes);
    const top = source.shelf.get(root);
    const frame = await compressPart(top);
    const part = { refs: [root], lengths: [top.byteLength], dictionary: [], frame };
    const { packets, body } = await writeChunkPatch([part], [], new Uint8Array(0));
    let sent = 0;
    const opener = storedOpener(source, bytes.byteLength, (unit) => {
      sent++;
      if (sent > 2) return unit;
      if (sent === 1) return { ...unit, form: DataForm.chunks, packets, body, bodyBytes: body.byteLength };
      const wrong = Uint8Array.from(unit.body);
      wrong[wrong.byteLength - 1]! ^= 1;
      return { ...unit, body: wrong };
    });
    const stats = await receive(await clientOf(opener), { root, name: "streams as chunks" });
    expect(sha256(contentOf("streams as chunks"))).toEqual(sha256(bytes));
    expect(stats.wrongChunks).toBeGreaterThan(0);
    expect(stats.runs).toBe(1);
  });

  test("has none of the wrong bytes, which are asked for again", async () => {
    const stats = await from("wrong", (unit, _source, number) => {
      if (number % 2 === 0) return unit;
      const body = Uint8Array.from(unit.body);
      for (let at = 0; at < body.byteLength; at += 50_000) body[at]! ^= 1;
      return { ...unit, body };
    });
    expect(stats.wrongChunks).toBeGreaterThan(3);
    expect(sha256(contentOf("wrong"))).toEqual(sha256(bytes));
  });

  test("has nothing of chunks that stand nowhere in it, and is as long as it is", async () => {
    const foreign = new ShelfSource();
    const other = putFile(foreign.shelf, seededBytes("foreign", 200_000));
    const units: StoredUnit[] = [];
    const opened = await storedOpener(
      foreign,
      200_000,
      (unit) => (units.push(unit), unit),
    )({ root: other } as never, new AbortController().signal);
    await opened.sent.next("link");
    await from("foreign", (unit, _source, number) => (number === 2 ? units[0]! : unit));
    expect(sha256(contentOf("foreign"))).toEqual(sha256(bytes));
  });

  test("says so where a stream copies more than its chunk has", async () => {
    const source = new ShelfSource();
    const chunk = source.shelf.put(seededBytes("short", 1_000));
    const root = source.shelf.write((writer) => writer.copy(chunk, 0, 2_000)).root;
    const client = await clientOf(storedOpener(source, 2_000));
    await expect(receive(client, { root, name: "beyond" })).rejects.toMatchObject({
      code: "PFS_STREAM_INVALID",
    });
  });

  test("says so where what it yields is not what its digest says", async () => {
    const source = new ShelfSource();
    const chunk = seededBytes("digest", 1_000);
    const write = (digest: Ref): Ref =>
      source.shelf.write((writer) => writer.copy(source.shelf.put(chunk), 0, 1_000), { digest }).root;
    const client = await clientOf(storedOpener(source, 1_000));
    await receive(client, { root: write(sha256(chunk)), name: "right digest" });
    await expect(
      receive(client, { root: write(sha256(new Uint8Array(1))), name: "wrong digest" }),
    ).rejects.toMatchObject({ code: "PFS_DIGEST_WRONG" });
  });
});

describe.runIf(process.platform === "linux")("a disk that is full", () => {
  test.each([
    ["where the thread writes", storedOpener],
    ["where patches are written", patchOpener],
  ])("is told as it is, %s", async (how, opener) => {
    const source = new ShelfSource();
    const bytes = seededBytes("full", 500_000);
    const root = putFile(source.shelf, bytes);
    const full = await open("/dev/full", "r+");
    onTestFinished(() => full.close());
    const as = (handle: FileHandle): PartHandle => ({
      fd: full.fd,
      read: handle.read.bind(handle),
      writev: full.writev.bind(full),
      truncate: handle.truncate.bind(handle),
      sync: handle.sync.bind(handle),
    });
    const client = await clientOf(opener(source, bytes.byteLength));
    const received = receive(client, { root, name: `full ${how}`, as });
    await expect(received).rejects.toMatchObject({
      code: "PFS_BULK_FILE_FAILED",
      data: { system: "ENOSPC" },
    });
  });
});

describe("a file whose process was killed", () => {
  test("goes on where it was, wherever that was", async () => {
    const source = new ShelfSource();
    const bytes = seededBytes("killed", 8_000_000);
    const root = putFile(source.shelf, bytes);
    const identity = Identity.create();
    list(bulk.network.allowList, identity, "client");
    const random = new Random(SEED);
    for (let kill = 0; kill < KILLS; kill++) {
      const where = `seed ${SEED}, kill ${kill}`;
      const path = join(folder, "killed");
      for (const left of [path, `${path}.journal`]) rmSync(left, { force: true });
      writeFileSync(path, "");
      const what: Receiving = {
        address: bulk.network.address,
        server: keysToJson(bulk.network.hub),
        secret: Buffer.from(identity.exportSecret()).toString("hex"),
        root: refToHex(root),
        path,
      };
      const before = bulk.accepted.length;
      const child = spawn(process.execPath, [MAIN, JSON.stringify(what)], { stdio: "inherit" });
      const exit = once(child, "exit");
      await Promise.race([until(() => bulk.accepted.length > before), exit]);
      const messages = random.below(Math.ceil(bytes.byteLength / (256 * 1024)));
      const pause = random.below(12);
      let sent = 0;
      const { promise: reached, resolve } = Promise.withResolvers<void>();
      const opener = storedOpener(source, bytes.byteLength, (unit) => {
        if (++sent > messages) resolve();
        return unit;
      });
      new TransferChannel(bulk.accepted[before]!, { isDialer: false, open: opener });
      await Promise.race([reached, exit]);
      await sleep(pause);
      child.kill("SIGKILL");
      await exit;
      const client = await clientOf(storedOpener(source, bytes.byteLength));
      const stats = await receive(client, { root, name: "killed" });
      expect(sha256(contentOf("killed")), where).toEqual(sha256(bytes));
      // What was sent and is not here was on its way, in the hands of those who wrote it, or not noted yet.
      const lost = stats.receivedBytes + sent * 256 * 1024 - bytes.byteLength;
      expect(lost, where).toBeLessThan(WINDOW_BYTES + TRANSFER_TOLD_BYTES + FILE_NOTED_BYTES + 1_000_000);
    }
  }, 600_000);

  test.each([
    ["has bytes behind its last entry that are none", (journal: string) => appendFileSync(journal, "torn")],
    ["ends within an entry", (journal: string) => truncateSync(journal, statSync(journal).size - 5)],
    ["is damaged in the middle", (journal: string) => flip(journal, 0.5)],
    ["is damaged at its beginning", (journal: string) => flip(journal, 0)],
    ["is empty", (journal: string) => truncateSync(journal, 0)],
    ["is gone", (journal: string) => rmSync(journal)],
  ])("is whole also where its journal %s", async (how, damage) => {
    const source = new ShelfSource();
    const bytes = seededBytes("journal", 3_000_000);
    const root = putFile(source.shelf, bytes);
    const client = await clientOf(storedOpener(source, bytes.byteLength));
    await receive(client, { root, name: how });
    damage(join(folder, `${how}.journal`));
    await receive(client, { root, name: how });
    expect(sha256(contentOf(how))).toEqual(sha256(bytes));
  });

  test("has nothing that the journal says and the disk has not, or of another root", async () => {
    const source = new ShelfSource();
    const bytes = seededBytes("lost", 3_000_000);
    const zeros = source.shelf.write((writer) => {
      writer.fill(new Uint8Array(1), 500_000);
      writer.copy(source.shelf.put(bytes.slice(0, 10_000)), 0, 10_000);
    }).root;
    const root = putFile(source.shelf, bytes);
    const client = await clientOf(storedOpener(source, bytes.byteLength));
    await receive(client, { root, name: "lost" });
    const path = join(folder, "lost");
    const damaged = readFileSync(path);
    damaged.fill(0xee, 1_000_000, 1_100_000);
    writeFileSync(path, damaged.subarray(0, 2_500_000));
    const stats = await receive(client, { root, name: "lost" });
    expect(sha256(contentOf("lost"))).toEqual(sha256(bytes));
    expect(stats.receivedBytes).toBeLessThan(1_000_000);
    expect(stats.receivedBytes).toBeGreaterThan(600_000);
    const other = await clientOf(storedOpener(source, 510_000));
    await receive(other, { root: zeros, name: "lost" });
    writeFileSync(path, Buffer.alloc(600_000, 0xee));
    await receive(other, { root: zeros, name: "lost" });
    expect(contentOf("lost")).toEqual(source.shelf.execute(zeros));
  });
});

/** Another byte, a share of the way into a file. */
function flip(path: string, share: number): void {
  const bytes = readFileSync(path);
  bytes[Math.floor(bytes.byteLength * share)]! ^= 1;
  writeFileSync(path, bytes);
}
