import { fstatSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Chunker } from "../../../packets/chunker.ts";
import { refAt, refToHex, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import { ReceivedRoot } from "../../../nodes/transfer/received-root.ts";
import type { ReceivingStore } from "../../../nodes/transfer/received-root.ts";
import type { ReceivedBody } from "../../../nodes/transfer/root-sink.ts";
import { ratioOf } from "../../../nodes/transfer/replication/statistics.ts";
import { SentRoot } from "../../../nodes/transfer/sent-root.ts";
import type { SentUnit } from "../../../nodes/transfer/sent-root.ts";
import { TransferChannel } from "../../../nodes/transfer/transfer-channel.ts";
import type { TransferChannelOptions, TransferProgress } from "../../../nodes/transfer/transfer-channel.ts";
import type { BulkChannel, BulkHandler } from "../../../nodes/wire/bulk/dialing.ts";
import type { StoredPlaces } from "../../../runtime/contracts/chunks.ts";
import { HeldFile } from "../../../runtime/stream/held-file.ts";
import { seededBytes } from "../../packets/seed.ts";
import { ShelfSource } from "../../runtime/stream/shelf-source.ts";
import { temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { until } from "../../suites/until.ts";
import { openBulkNetwork } from "../wire/bulk/bulk-network.ts";
import type { BulkNetwork } from "../wire/bulk/bulk-network.ts";

const LIMITS = { outputBytesMax: Number.MAX_SAFE_INTEGER, depthMax: 8 };
const NEVER = new AbortController().signal;
const chunker = new Chunker({ minBytes: 4_096, averageBytes: 16_384, maxBytes: 65_536 });

/** Chunks in memory, that count what comes. */
class Shelves implements ReceivingStore {
  readonly source: ShelfSource = new ShelfSource();
  kept = 0;
  /** Called with the chunks that came so far. */
  onKept: (kept: number) => unknown = () => {};

  put(bytes: Uint8Array): Ref {
    const { shelf } = this.source;
    return shelf.write((writer) => {
      for (let start = 0; start < bytes.byteLength;) {
        const end = chunker.cut(bytes, start, bytes.byteLength, true);
        writer.copy(shelf.put(bytes.slice(start, end)), 0, end - start);
        start = end;
      }
    }).root;
  }

  has(refs: Uint8Array): Promise<Uint8Array> {
    const count = refs.byteLength / 32;
    return Promise.resolve(
      Uint8Array.from({ length: count }, (_, index) => (this.source.shelf.has(refAt(refs, index)) ? 1 : 0)),
    );
  }

  keep(chunks: readonly { readonly ref: Ref; readonly bytes: Uint8Array }[]): Promise<void> {
    for (const { bytes } of chunks) this.source.shelf.put(bytes.slice());
    this.kept += chunks.length;
    this.onKept(this.kept);
    return Promise.resolve();
  }

  get(root: Ref): Uint8Array {
    return this.source.shelf.execute(root, 0, undefined, LIMITS);
  }
}

/** Sends from shelves what they have. */
function opener({ source }: Shelves, bytes: () => number): TransferChannelOptions["open"] {
  return async ({ root, bases, resume, resumeRoot }, signal) => {
    if (root === undefined || !source.shelf.has(root))
      throw new PacketfsError("PFS_NOT_FOUND", "no such root");
    const isResumed = resumeRoot !== undefined;
    const known = bases.filter((base) => source.shelf.has(base));
    const length = bytes();
    const sent = new SentRoot(source, {
      root,
      length,
      bases: known,
      resume: isResumed ? resume : undefined,
      signal,
    });
    return await Promise.resolve({ info: { root, length, isResumed }, sent });
  };
}

describe("transfers over bulk channels", () => {
  let bulk: BulkNetwork;
  beforeAll(async () => {
    bulk = await openBulkNetwork(true);
  });
  afterAll(async () => {
    await bulk.network.close();
  });

  async function pair(
    sender: Shelves,
    length: number,
    offered?: TransferChannelOptions["offered"],
  ): Promise<{ client: TransferChannel; near: BulkChannel; far: BulkChannel }> {
    const { near, far } = await bulk.open();
    const open = opener(sender, () => length);
    new TransferChannel(far, { isDialer: false, open, ...(offered === undefined ? {} : { offered }) });
    return { client: new TransferChannel(near, { isDialer: true, open }), near, far };
  }

  test("bring a file that is new, then an update of it, then nothing", async () => {
    const [hub, here] = [new Shelves(), new Shelves()];
    const old = seededBytes("old", 5_000_000);
    const next = old.slice();
    for (let at = 1_000; at < next.byteLength; at += 150_000) next[at]! ^= 1;
    const [first, second] = [hub.put(old), hub.put(next)];
    const { client } = await pair(hub, old.byteLength);
    const cold = await client.receive({ root: first, store: here });
    expect(sha256(here.get(first))).toEqual(sha256(old));
    expect(cold.receivedBytes).toBeGreaterThan(old.byteLength);
    expect(cold.receivedBytes).toBeLessThan(old.byteLength * 1.01);
    expect(cold.sentBytes).toBeLessThan(3_000);
    const update = await client.receive({ root: second, store: here, bases: [first] });
    expect(sha256(here.get(second))).toEqual(sha256(next));
    expect(update.patchedChunks).toBeGreaterThan(20);
    expect(ratioOf(update, next.byteLength)).toBeGreaterThan(300);
    const again = await client.receive({ root: second, store: here });
    expect(again.sentBytes + again.receivedBytes).toBeLessThan(1_000);
    expect(again.messages).toBe(0);
  });

  test("bring what is put to a hub, against a version that it has, and nothing that it has", async () => {
    const [hub, here] = [new Shelves(), new Shelves()];
    const old = seededBytes("put", 3_000_000);
    const next = old.slice();
    next[1_500_000]! ^= 1;
    const [base, root] = [here.put(old), here.put(next)];
    hub.put(old);
    const { client } = await pair(here, next.byteLength, async () => ({ store: hub, bases: [base] }));
    const told: TransferProgress[] = [];
    const onProgress = (progress: TransferProgress): void => void told.push(progress);
    const stats = await client.send({ root, length: next.byteLength, onProgress });
    expect(told.at(-1)).toEqual({ doneBytes: next.byteLength, length: next.byteLength });
    expect(sha256(hub.get(root))).toEqual(sha256(next));
    expect(stats.sentBytes + stats.receivedBytes).toBeLessThan(4_000);
    const again = await client.send({ root, length: next.byteLength });
    expect(again.sentBytes + again.receivedBytes).toBeLessThan(1_000);
  });

  test("go on where they were when their channel is cut in the middle", async () => {
    const [hub, here] = [new Shelves(), new Shelves()];
    const bytes = seededBytes("cut", 10_000_000);
    const root = hub.put(bytes);
    const { client, near } = await pair(hub, bytes.byteLength);
    let atCut = 0;
    here.onKept = (kept) => {
      if (atCut > 0 || kept < 250) return;
      atCut = kept;
      void near.close();
      for (const channel of bulk.accepted) void channel.close();
    };
    await expect(client.receive({ root, store: here })).rejects.toThrow();
    here.onKept = () => {};
    const { client: other } = await pair(hub, bytes.byteLength);
    const stats = await other.receive({ root, store: here });
    expect(sha256(here.get(root))).toEqual(sha256(bytes));
    expect(stats.receivedBytes).toBeLessThan(bytes.byteLength * 0.7);
  });

  test("mend chunks of which the base here is damaged, and end where the sender has lost some", async () => {
    const [hub, here] = [new Shelves(), new Shelves()];
    const old = seededBytes("damaged", 2_000_000);
    const next = old.slice();
    for (let at = 1_000; at < next.byteLength; at += 100_000) next[at]! ^= 1;
    const [base, root] = [hub.put(old), hub.put(next)];
    // Of the base there is the stream here, and no chunk.
    here.source.shelf.put(hub.source.shelf.get(base).slice());
    const { client } = await pair(hub, next.byteLength);
    const stats = await client.receive({ root, store: here, bases: [base] });
    expect(sha256(here.get(root))).toEqual(sha256(next));
    expect(stats.runs).toBeGreaterThan(1);
    await expect(client.receive({ root: sha256(old), store: here })).rejects.toThrow(
      expect.objectContaining({ code: "PFS_NOT_FOUND" }),
    );
  });

  test("send again, from where it is then, what is not any more where it was found", async () => {
    const [hub, here] = [new Shelves(), new Shelves()];
    const bytes = seededBytes("moved", 2_000_000);
    const root = hub.put(bytes);
    const { source } = hub;
    const moved = {
      read: (refs: readonly Ref[], signal?: AbortSignal) => source.read(refs, signal),
      places: async (refs: Uint8Array): Promise<StoredPlaces> => {
        const each = Array.from({ length: refs.byteLength / 32 }, (_, index) => refAt(refs, index));
        const lengths = Uint32Array.from(await source.read(each), ({ byteLength }) => byteLength);
        const zeros = new Uint32Array(each.length);
        return {
          files: ["/nowhere/segment"],
          place: new Float64Array(each.length),
          file: zeros,
          offset: new Float64Array(each.length),
          storedBytes: lengths,
          plainBytes: lengths,
          codec: new Uint8Array(each.length),
        };
      },
    };
    const { near, far } = await bulk.open();
    const length = bytes.byteLength;
    const open: TransferChannelOptions["open"] = async (_request, signal) => ({
      info: { root, length, isResumed: false },
      sent: new SentRoot(moved, { root, length, signal }),
    });
    new TransferChannel(far, { isDialer: false, open });
    const stats = await new TransferChannel(near, { isDialer: true, open }).receive({ root, store: here });
    expect(sha256(here.get(root))).toEqual(sha256(bytes));
    expect(stats.wrongChunks).toBeGreaterThan(50);
    expect(far.ended).toBeUndefined();
  });

  test("keep the file open that is read where it lies, until nothing of it is read any more", async () => {
    const hub = new Shelves();
    const bytes = seededBytes("held", 6_000_000);
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "file");
    await writeFile(path, bytes);
    const held = await HeldFile.open(path);
    const isOpen = openDescriptor(Number(held.plainPlaces([])!.files[0]));
    const { near, far } = await bulk.open();
    const here = new Shelves();
    const stop = new AbortController();
    const offered = (): Promise<{ store: ReceivingStore }> => Promise.resolve({ store: here });
    new TransferChannel(far, { isDialer: false, open: opener(hub, () => 0), offered });
    const { root, length } = held;
    const open: TransferChannelOptions["open"] = async (_request, signal) => ({
      info: { root, length, isResumed: false },
      sent: new SentRoot(held, { root, length, signal }),
    });
    const slow = withSlowSends(near);
    here.onKept = () => slow.fromFile > 0 && stop.abort(new Error("enough"));
    const client = new TransferChannel(slow.channel, { isDialer: true, open });
    // Who wants no more is not kept waiting.
    await expect(client.send({ root, length, open, signal: stop.signal })).rejects.toThrow("enough");
    await held[Symbol.asyncDispose]();
    for (let looks = 0; looks < 5; looks++) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(isOpen()).toBe(true);
    slow.settle();
    await until(() => !isOpen());
  });

  test("begin again where nothing comes", async () => {
    const [hub, here] = [new Shelves(), new Shelves()];
    const bytes = seededBytes("silent", 3_000_000);
    const root = hub.put(bytes);
    const { near, far } = await bulk.open();
    const open = opener(hub, () => bytes.byteLength);
    new TransferChannel(withoutTheFirst(far), { isDialer: false, open });
    const client = new TransferChannel(near, { isDialer: true, open, lookMs: 100 });
    const stats = await client.receive({ root, store: here });
    expect(sha256(here.get(root))).toEqual(sha256(bytes));
    expect(stats.runs).toBeGreaterThan(1);
  });

  test("end when nobody wants them any more, and others go on", async () => {
    const [hub, here] = [new Shelves(), new Shelves()];
    const bytes = seededBytes("both", 6_000_000);
    const root = hub.put(bytes);
    const { client } = await pair(hub, bytes.byteLength);
    const stop = new AbortController();
    const reason = new Error("enough");
    const elsewhere = new Shelves();
    elsewhere.onKept = () => stop.abort(reason);
    const [ended] = await Promise.all([
      client.receive({ root, store: elsewhere, signal: stop.signal }).catch((error: unknown) => error),
      client.receive({ root, store: here }),
    ]);
    expect(ended).toBe(reason);
    expect(sha256(here.get(root))).toEqual(sha256(bytes));
  });
});

function bodyOf({ body }: SentUnit): Uint8Array<ArrayBuffer> {
  if (!(body instanceof Uint8Array)) throw new Error("it stands in files");
  return body.slice();
}

/** A body that came, for whoever takes it. */
function come(bytes: Uint8Array<ArrayBuffer>): ReceivedBody {
  return {
    bytes: bytes.byteLength,
    take: () => Promise.resolve(bytes),
    place: () => Promise.reject(new Error("a store takes what comes")),
  };
}

/** A channel whose first message is lost on its way. */
function withoutTheFirst(channel: BulkChannel): BulkChannel {
  let heard = 0;
  const onMessage = (handler: BulkHandler): void =>
    channel.onMessage((message) => (heard++ === 0 ? undefined : handler(message)));
  return new Proxy(channel, {
    get: (_, key) => {
      const value: unknown = key === "onMessage" ? onMessage : Reflect.get(channel, key);
      return typeof value === "function" ? (value.bind(channel) as unknown) : value;
    },
  });
}

/** Whether it is still the file's that it is now. */
function openDescriptor(descriptor: number): () => boolean {
  const { ino } = fstatSync(descriptor);
  return () => {
    try {
      return fstatSync(descriptor).ino === ino;
    } catch {
      return false;
    }
  };
}

/** A channel of which nobody hears that messages have left before `settle`. */
function withSlowSends(channel: BulkChannel): { channel: BulkChannel; fromFile: number; settle: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  const slow = {
    fromFile: 0,
    settle: resolve,
    channel: new Proxy(channel, {
      get: (_, key) => {
        const value: unknown = key === "send" ? send : Reflect.get(channel, key);
        return typeof value === "function" ? (value.bind(channel) as unknown) : value;
      },
    }),
  };
  async function send(message: Parameters<BulkChannel["send"]>[0]): Promise<void> {
    const isFromFile = message.body !== undefined && !(message.body instanceof Uint8Array);
    if (isFromFile) slow.fromFile++;
    await channel.send(message);
    // The others have to be known, or no more of them would be made.
    if (isFromFile) await promise;
  }
  return slow;
}

test("chunks that nobody asked for are not kept", async () => {
  const [hub, here] = [new Shelves(), new Shelves()];
  const [root, other] = [hub.put(seededBytes("one", 100_000)), hub.put(seededBytes("other", 100_000))];
  const received = new ReceivedRoot(here, root);
  await received.begin({
    bases: [],
    signal: NEVER,
    inRoom: (work) => work(),
    onDone: () => {},
    expect: () => {},
  });
  const sent = new SentRoot(hub.source, { root: other, length: 100_000, signal: NEVER });
  const unit = (await sent.reread([other])).unit!;
  const foreign = await received.place(unit, come(bodyOf(unit)));
  expect(foreign).toMatchObject({ chunks: 0, wrong: [], covered: [] });
  expect(here.kept, refToHex(other)).toBe(0);
  const wanted = (await sent.reread([root])).unit!;
  const damaged = bodyOf(wanted);
  damaged[damaged.byteLength - 1]! ^= 1;
  expect((await received.place(wanted, come(damaged))).wrong).toEqual([root]);
  expect(here.kept).toBe(0);
  expect((await received.place(wanted, come(bodyOf(wanted)))).chunks).toBe(1);
});
