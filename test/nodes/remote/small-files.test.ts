/** How often a small file is asked for and told of over a link: each time costs as much as its bytes. */
import { expect, test } from "vitest";
import { ALONG_BYTES_MAX } from "../../../nodes/limits.ts";
import { LastingLink } from "../../../nodes/remote/lasting-link.ts";
import { RemoteStore } from "../../../nodes/remote/remote-store.ts";
import { CatalogService } from "../../../nodes/serve/catalog-service.ts";
import { ChunkService, PutWriters } from "../../../nodes/serve/chunk-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { Usage } from "../../../nodes/serve/usage.ts";
import { WHOLE_PUT_FEATURE } from "../../../nodes/messages.ts";
import { ChunkPacker } from "../../../nodes/transfer/chunk-batch.ts";
import type { ChunkBatch } from "../../../nodes/transfer/chunk-batch.ts";
import type { Codec } from "../../../packets/codec.ts";
import { sha256 } from "../../../packets/digest.ts";
import { MessageType, messageTypeName } from "../../../packets/envelope.ts";
import { chunksOf } from "../../../runtime/block.ts";
import type { Binding } from "../../../runtime/contracts/catalog.ts";
import { PUT_WHOLE_BYTES_MAX } from "../../../runtime/limits.ts";
import { NamedPut } from "../../../sdk/named-put.ts";
import type { PutCounts } from "../../../sdk/named-put.ts";
import { findFile } from "../../../runtime/find-file.ts";
import { Store } from "../../../runtime/store/store.ts";
import { HashingSink, ingest } from "../../../runtime/stream/ingest.ts";
import {
  inOnePiece,
  put,
  randomBytes,
  readAll,
  temporaryDirectory,
  textBytes,
} from "../../runtime/store/store-fixture.ts";
import { memoryPair } from "../wire/memory-pair.ts";

interface Peers extends AsyncDisposable {
  readonly store: Store;
  readonly near: Link;
  readonly remote: RemoteStore;
  /** The requests since it was asked last. */
  asked(): string[];
}

interface PeerOptions {
  /** What the peer says that it understands. */
  readonly features?: readonly string[];
  readonly usage?: Usage;
}

async function open({ features = [WHOLE_PUT_FEATURE], usage }: PeerOptions = {}): Promise<Peers> {
  const directory = await temporaryDirectory();
  const store = await Store.open(directory.path);
  const { near, far } = memoryPair({ near: { role: "client" }, far: { features } });
  const puts = new PutWriters(() => store.openWriter());
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => store.has(refs);
  const shared = { store, source: store, hasAnywhere, puts, ...(usage === undefined ? {} : { usage }) };
  serve(far, [new ChunkService(shared), new CatalogService({ ...shared, catalog: store.catalog })]);
  let requests: string[] = [];
  const request: Link["request"] = (message, options) => {
    const { op } = (message.meta ?? {}) as { op?: string };
    requests.push([messageTypeName(message.type), op].filter(Boolean).join(" "));
    return near.request(message, options);
  };
  const watched = new Proxy(near, {
    get: (link, name) => {
      const value: unknown = name === "request" ? request : Reflect.get(link, name, link);
      return typeof value === "function" && name !== "request" ? value.bind(link) : value;
    },
  });
  return {
    store,
    near,
    remote: new RemoteStore(LastingLink.over(watched), { here: false }),
    asked: () => {
      const asked = requests;
      requests = [];
      return asked;
    },
    [Symbol.asyncDispose]: async () => {
      await near.close();
      await store.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** Stores a file as the SDK does, and says what the peer was asked. */
async function putNamed(
  peers: Peers,
  name: string,
  bytes: Uint8Array,
): Promise<{ readonly asked: string[]; readonly counts: PutCounts }> {
  peers.asked();
  await using put = new NamedPut(peers.remote);
  const { root, length } = await ingest(put, inOnePiece(bytes));
  expect(await put.bind({ name, root, length })).toMatchObject({ name, root, length });
  return { asked: peers.asked(), counts: put.counts };
}

async function readOne({ remote }: Peers, name: string): Promise<Buffer> {
  const files = remote.forOneFile();
  const { root } = await findFile(files, name);
  return await readAll(files.source, root);
}

test("a small file comes with its name, and a larger one does not", async () => {
  await using peers = await open();
  const sizes = {
    empty: 0,
    tail: 20,
    small: 15_000,
    chunks: 60_000,
    large: ALONG_BYTES_MAX + 1,
    huge: 700_000,
  };
  for (const [name, size] of Object.entries(sizes)) await put(peers.store, name, randomBytes(name, size));
  for (const [name, size] of Object.entries(sizes)) {
    expect(await readOne(peers, name)).toEqual(Buffer.from(randomBytes(name, size)));
    const asked = peers.asked();
    expect([name, asked[0]]).toEqual([name, "NAME resolve"]);
    // Its stream takes some of the room, too.
    expect([name, asked.length === 1]).toEqual([name, size <= 60_000]);
  }
  // What came along with one name is not kept for another's reader.
  const files = peers.remote.forOneFile();
  const { root } = await findFile(files, "small");
  await readAll(peers.remote, root);
  expect(peers.asked()).toEqual(["NAME resolve", "FILE_REQUEST", "FILE_REQUEST"]);
});

test("a small file that is not all there, or damaged, is told of as any other", async () => {
  await using peers = await open();
  const { root } = await put(peers.store, "small", randomBytes("small", 15_000));
  const lost = { code: "PFS_CHUNK_DAMAGED", data: { ref: "00" } };
  const { store } = peers;
  const read = store.read.bind(store);
  store.read = async (refs, signal) => {
    if (refs.some((ref) => Buffer.compare(ref, root) !== 0)) throw Object.assign(new Error("damaged"), lost);
    return await read(refs, signal);
  };
  await expect(readOne(peers, "small")).rejects.toThrow();
  expect(peers.asked()).toContain("FILE_REQUEST");
});

test("small chunks are sent without asking, and what is larger is asked for first", async () => {
  await using peers = await open();
  const store = async (name: string, bytes: Uint8Array): Promise<string[]> => {
    {
      await using writer = await peers.remote.openWriter();
      const { root, length } = await ingest(writer, inOnePiece(bytes));
      await writer.bind({ name, root, length });
    }
    expect(await readOne(peers, name)).toEqual(Buffer.from(bytes));
    return peers.asked().filter((asked) => !asked.startsWith("NAME resolve") && asked !== "FILE_REQUEST");
  };
  const small = randomBytes("one", 15_000);
  expect(await store("one", small)).toEqual(["STORE", "NAME set", "NAME end"]);
  expect(await store("again", small)).toEqual(["STORE", "NAME set", "NAME end"]);
  expect((await store("large", randomBytes("large", 300_000)))[0]).toBe("WANT");
});

test("a small file and its name go in one message, which is answered when they are durable", async () => {
  await using peers = await open();
  for (const [name, size] of Object.entries({ empty: 0, tail: 20, small: 15_000, chunks: 60_000 })) {
    const bytes = randomBytes(name, size);
    const { asked, counts } = await putNamed(peers, name, bytes);
    expect([name, asked]).toEqual([name, ["NAME set"]]);
    expect(counts.newChunks).toBeGreaterThan(0);
    expect(counts.newBytes).toBeGreaterThanOrEqual(size);
    expect(await readOne(peers, name)).toEqual(Buffer.from(bytes));
    const again = await putNamed(peers, name, bytes);
    expect(again).toMatchObject({ asked: ["NAME set"], counts: { newChunks: 0, newBytes: 0 } });
    expect(await peers.store.catalog.history(name)).toHaveLength(2);
  }
  // A text travels compressed.
  const text = textBytes(15_000);
  const { counts } = await putNamed(peers, "text", text);
  expect(counts.storedBytes).toBeLessThan(text.byteLength / 2);
  expect(await readOne(peers, "text")).toEqual(Buffer.from(text));
  const large = await putNamed(peers, "large", randomBytes("large", 300_000));
  expect(large.asked[0]).toBe("WANT");
  expect(large.counts.newBytes).toBeGreaterThan(300_000);
});

test("a peer that does not understand it gets a small file as it always did", async () => {
  await using peers = await open({ features: [] });
  const bytes = randomBytes("one", 15_000);
  const { asked, counts } = await putNamed(peers, "one", bytes);
  expect(asked).toEqual(["STORE", "NAME set", "NAME end"]);
  expect(counts.newBytes).toBeGreaterThan(15_000);
  expect(await readOne(peers, "one")).toEqual(Buffer.from(bytes));
});

test("what a key may store holds for small files too, and what is there needs no room", async () => {
  const usage = new Usage({ id: "key", role: "client", quota: () => ({ storedBytes: 20_000 }) });
  await using peers = await open({ usage });
  const bytes = randomBytes("one", 15_000);
  await putNamed(peers, "one", bytes);
  const { newBytes } = (await putNamed(peers, "one", bytes)).counts;
  expect(newBytes).toBe(0);
  const used = usage.used("storedBytes");
  expect(used).toBeGreaterThan(15_000);
  const other = putNamed(peers, "other", randomBytes("other", 15_000));
  await expect(other).rejects.toMatchObject({ code: "PFS_PEER_QUOTA" });
  expect(usage.used("storedBytes")).toBe(used);
  expect(await peers.store.catalog.resolve("other")).toBeUndefined();
  expect(await readOne(peers, "one")).toEqual(Buffer.from(bytes));
});

test("what comes along and is not the file is refused, and nothing gets a name", async () => {
  await using peers = await open();
  const { near, store } = peers;
  const sink = new HashingSink();
  const blocks: Uint8Array[] = [];
  const bytes = randomBytes("one", 15_000);
  const { root, length } = await ingest(
    {
      write: async (block, lengths) => {
        blocks.push(...chunksOf({ block, lengths }).map((chunk) => chunk.slice()));
        return await sink.write(block, lengths);
      },
    },
    inOnePiece(bytes),
  );
  const pack = async (chunks: readonly Uint8Array[]): Promise<ChunkBatch> =>
    await new ChunkPacker().pack(chunks.map((chunk) => ({ ref: sha256(chunk), bytes: chunk })));
  const ask = async (
    batch: ChunkBatch,
    binding: Partial<Binding> = {},
    codec = batch.codec,
  ): Promise<unknown> =>
    await near.request({
      type: MessageType.NAME,
      meta: { op: "set", name: "one", root, length, ...binding, codec },
      packets: batch.packets,
      chunks: batch.body,
    });
  const whole = await pack(blocks);
  const wrong = { ...whole, body: whole.body.map((byte, index) => (index === 5 ? byte ^ 1 : byte)) };
  const much = await pack([...blocks, randomBytes("more", PUT_WHOLE_BYTES_MAX)]);
  const refused: [() => Promise<unknown>, string][] = [
    [() => ask(wrong), "PFS_CHUNK_DAMAGED"],
    [async () => ask(await pack(blocks.slice(0, 1))), "PFS_CHUNK_MISSING"],
    [async () => ask(await pack(blocks.slice(1))), "PFS_CHUNK_MISSING"],
    [() => ask(much), "PFS_CHUNK_BATCH_INVALID"],
    [() => ask(whole, { length: length + 1 }), "PFS_MESSAGE_INVALID"],
    [() => ask(whole, { name: "" }), "PFS_NAME_INVALID"],
    [() => ask(whole, {}, 7 as Codec), "PFS_META_INVALID"],
  ];
  for (const [again, code] of refused) await expect(again(), code).rejects.toMatchObject({ code });
  expect(await store.catalog.resolve("one")).toBeUndefined();
  await ask(whole);
  expect(await readOne(peers, "one")).toEqual(Buffer.from(bytes));
  await expect(
    near.request({
      type: MessageType.NAME,
      meta: { op: "set", name: "one", root, length, expected: 7, codec: whole.codec },
      packets: whole.packets,
      chunks: whole.body,
    }),
  ).rejects.toMatchObject({ code: "PFS_NAME_CHANGED", data: { expected: 7, version: 1 } });
});
