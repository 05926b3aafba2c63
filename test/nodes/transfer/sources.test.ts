/** Chunks and names of a peer, over links in memory and over sockets, do what those of every store must. */
import { EventEmitter } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import type { EventMap, Events, TransferEvent } from "../../../runtime/contracts/events.ts";
import { Store } from "../../../runtime/store/store.ts";
import { RemoteStore } from "../../../nodes/remote/remote-store.ts";
import { CatalogService } from "../../../nodes/serve/catalog-service.ts";
import { ChunkService, PutWriters } from "../../../nodes/serve/chunk-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { PeerSource } from "../../../nodes/transfer/peer-source.ts";
import { RemoteChunks } from "../../../nodes/transfer/remote-chunks.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { expect, test } from "vitest";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { catalogSuite } from "../../suites/catalog.ts";
import { chunkSourceSuite, chunkStoreSuite } from "../../suites/chunk-source.ts";
import { inPieces, randomBytes, segmentOf, temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { memoryPair } from "../wire/memory-pair.ts";
import { openNetwork } from "../wire/network.ts";

interface Ends {
  readonly near: Link;
  readonly far: Link;
  readonly close: () => Promise<void>;
}

async function inMemory(): Promise<Ends> {
  const { near, far } = memoryPair({ near: { role: "client" } });
  return { near, far, close: async () => void (await Promise.all([near.close(), far.close()])) };
}

async function overSockets(): Promise<Ends> {
  const network = await openNetwork();
  const near = await network.dial();
  return { near, far: await network.accepted(near), close: () => network.close() };
}

async function storeOf(
  chunks: readonly Uint8Array[] = [],
  events?: Events,
): Promise<{
  readonly store: Store;
  readonly directory: string;
  readonly put: (chunks: readonly Uint8Array[]) => Promise<void>;
  readonly close: () => Promise<void>;
}> {
  const directory = await temporaryDirectory();
  const store = await Store.open(directory.path, { events });
  const put = async (added: readonly Uint8Array[]): Promise<void> => {
    await using writer = await store.openWriter();
    const block = new Uint8Array(Buffer.concat(added));
    await writer.write(
      block,
      Uint32Array.from(added, (chunk) => chunk.byteLength),
    );
    await writer.flush();
  };
  if (chunks.length > 0) await put(chunks);
  const close = async (): Promise<void> => {
    await store.close();
    await directory[Symbol.asyncDispose]();
  };
  return { store, directory: directory.path, put, close };
}

/** A store behind a link, whose peer may do there what a client may. */
async function storeOfPeer(connect: () => Promise<Ends>): Promise<{
  readonly remote: RemoteStore;
  readonly put: (chunks: readonly Uint8Array[]) => Promise<void>;
  readonly close: () => Promise<void>;
}> {
  const ends = await connect();
  const { store, put, close } = await storeOf();
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => store.has(refs);
  const puts = new PutWriters(() => store.openWriter());
  serve(ends.far, [
    new ChunkService({ store, source: store, hasAnywhere, puts }),
    new CatalogService({ store, catalog: store.catalog, source: store, hasAnywhere, puts }),
  ]);
  return {
    remote: new RemoteStore(ends.near, { here: true }),
    put,
    close: async () => {
      await ends.close();
      await close();
    },
  };
}

const carriers = [
  ["in memory", inMemory],
  ["over sockets", overSockets],
] as const;

for (const [carrier, connect] of carriers) {
  chunkStoreSuite(`the store of a peer ${carrier}`, async () => {
    const { remote, put, close } = await storeOfPeer(connect);
    return { source: remote, put, close };
  });

  catalogSuite(`the names of a peer ${carrier}`, async () => {
    const { remote, close } = await storeOfPeer(connect);
    const writer = await remote.openWriter();
    return { catalog: remote.catalog, put: (bytes) => ingest(writer, inPieces(bytes, 1000)), close };
  });

  chunkSourceSuite(`a store with peers ${carrier}`, async () => {
    const here = await storeOf();
    const peers = await Promise.all(
      [0, 1].map(async () => {
        const ends = await connect();
        const one = await storeOf();
        const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => one.store.has(refs);
        serve(ends.far, [new ChunkService({ store: one.store, source: one.store, hasAnywhere })]);
        return { ...one, ends, chunks: new RemoteChunks(ends.near, { here: true }) };
      }),
    );
    const source = new PeerSource({
      store: here.store,
      peers: async () => peers.map(({ chunks }) => chunks),
    });
    return {
      source,
      // Some are here, and each peer has some.
      put: async (chunks) => {
        const stores = [here, ...peers];
        for (const [index, one] of stores.entries()) {
          await one.put(chunks.filter((_, at) => at % stores.length === index));
        }
      },
      close: async () => {
        await source[Symbol.asyncDispose]();
        for (const one of peers) {
          await one.ends.close();
          await one.close();
        }
        await here.close();
      },
    };
  });
}

test("what was fetched is kept, told, and not fetched again", async () => {
  const chunks = [1, 2, 3].map((seed) => new Uint8Array(5000).fill(seed));
  const [here, there, ends] = [await storeOf(), await storeOf(chunks), await inMemory()];
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => there.store.has(refs);
  serve(ends.far, [new ChunkService({ store: there.store, source: there.store, hasAnywhere })]);
  const events = new EventEmitter<EventMap>();
  const told: TransferEvent[] = [];
  events.on("transfer", (event) => told.push(event));
  const peer = new RemoteChunks(ends.near, { here: true });
  const source = new PeerSource({ store: here.store, peers: async () => [peer], events });
  const refs = chunks.map(sha256);
  const reads = await Promise.all([source.read(refs), source.read([refs[1]!])]);
  expect(reads[0].map((bytes) => refToHex(sha256(bytes)))).toEqual(refs.map(refToHex));
  expect([...(await here.store.has(Buffer.concat(refs)))]).toEqual([1, 1, 1]);
  expect(told).toMatchObject([{ kind: "fetched", from: ends.near.peer.id, chunks: 3 }]);
  expect(told[0]!.bytes).toBeGreaterThan(0);
  await ends.close();
  expect(await source.read(refs)).toHaveLength(3);
  await source[Symbol.asyncDispose]();
  await Promise.all([here.close(), there.close()]);
});

test("who asks for a chunk just when another reader has it gets it too", async () => {
  const [here, there, ends] = [await storeOf(), await storeOf(RANDOM), await inMemory()];
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => there.store.has(refs);
  serve(ends.far, [new ChunkService({ store: there.store, source: there.store, hasAnywhere })]);
  const events = new EventEmitter<EventMap>();
  const late = Promise.withResolvers<void>();
  // Before whoever waits for the chunk goes on.
  events.once("transfer", () => late.resolve());
  let looks = 0;
  const store = {
    read: here.store.read.bind(here.store),
    openWriter: () => here.store.openWriter(),
    has: async (refs: Uint8Array): Promise<Uint8Array> => {
      const found = await here.store.has(refs);
      if (++looks === 2) await late.promise;
      return found;
    },
  };
  const peer = new RemoteChunks(ends.near, { here: true });
  const source = new PeerSource({ store, peers: async () => [peer], events });
  const ref = sha256(RANDOM[0]!);
  const [[first], [second]] = await Promise.all([source.read([ref]), source.read([ref])]);
  expect([first, second].map((bytes) => refToHex(sha256(bytes!)))).toEqual([refToHex(ref), refToHex(ref)]);
  await ends.close();
  await source[Symbol.asyncDispose]();
  await Promise.all([here.close(), there.close()]);
});

/** A store here and one at a peer, both with the same chunks; `damage` changes one of them at rest. */
async function twoStores(
  chunks: readonly Uint8Array[],
  theirs: readonly Uint8Array[] = chunks,
): Promise<{
  readonly here: Awaited<ReturnType<typeof storeOf>>;
  readonly there: Awaited<ReturnType<typeof storeOf>>;
  readonly source: PeerSource;
  readonly notes: readonly string[];
  readonly cut: () => Promise<void>;
  readonly close: () => Promise<void>;
}> {
  const events = new EventEmitter<EventMap>();
  const notes: string[] = [];
  events.on("repair", ({ text }) => notes.push(text));
  const [here, there, ends] = [await storeOf(chunks, events), await storeOf(theirs), await inMemory()];
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => there.store.has(refs);
  serve(ends.far, [new ChunkService({ store: there.store, source: there.store, hasAnywhere })]);
  const peer = new RemoteChunks(ends.near, { here: true });
  const source = new PeerSource({ store: here.store, peers: async () => [peer], events });
  const close = async (): Promise<void> => {
    await ends.close();
    await source[Symbol.asyncDispose]();
    await Promise.all([here.close(), there.close()]);
  };
  return { here, there, source, notes, cut: ends.close, close };
}

/** Changes a byte of the only segment, at each of these chunks. */
function damage(directory: string, chunks: readonly Uint8Array[]): void {
  const path = segmentOf(directory);
  const segment = readFileSync(path);
  for (const chunk of chunks) segment[segment.indexOf(sha256(chunk)) + 40 + 20]! ^= 1;
  writeFileSync(path, segment);
}

const RANDOM = [1, 2, 3, 4].map((seed) => randomBytes(`two ${seed}`, 5000));

test("a damaged chunk comes from a peer within the same read, is whole again, and people are told", async () => {
  const { here, source, notes, cut, close } = await twoStores(RANDOM);
  damage(here.directory, RANDOM.slice(1, 3));
  const refs = RANDOM.map(sha256);
  for (let attempt = 0; attempt < 2; attempt++) {
    const read = await source.read(refs);
    expect(read.map((bytes) => refToHex(sha256(bytes)))).toEqual(refs.map(refToHex));
    // What was repaired is here: nobody is asked again.
    await cut();
  }
  expect(await here.store.verify()).toMatchObject({ damaged: [], incomplete: [] });
  expect(notes).toEqual([
    expect.stringMatching(/^the bytes of 2 chunks are damaged, [0-9a-f]{64} is one of them$/),
    "2 damaged chunks are whole again",
  ]);
  await close();
});

test("a damaged chunk that nobody has is told as damaged, by every read", async () => {
  const { here, there, source, close } = await twoStores(RANDOM);
  damage(here.directory, [RANDOM[2]!]);
  damage(there.directory, [RANDOM[2]!]);
  const [sound, broken] = [sha256(RANDOM[0]!), sha256(RANDOM[2]!)];
  for (let attempt = 0; attempt < 3; attempt++) {
    await expect(source.read([sound, broken])).rejects.toMatchObject({
      code: "PFS_CHUNK_DAMAGED",
      data: { ref: refToHex(broken) },
    });
    expect(await source.read([sound])).toHaveLength(1);
  }
  await close();
});

test("a chunk that a peer alone has, damaged, is told as damaged there, by every read", async () => {
  const { here, there, source, close } = await twoStores(RANDOM.slice(1), RANDOM);
  damage(there.directory, [RANDOM[0]!]);
  const ref = sha256(RANDOM[0]!);
  for (let attempt = 0; attempt < 3; attempt++) {
    await expect(source.read([sha256(RANDOM[1]!), ref])).rejects.toMatchObject({
      code: "PFS_CHUNK_DAMAGED",
      data: { ref: refToHex(ref) },
      message: expect.stringMatching(/ are damaged at \S+, and no node that answers has it$/),
    });
    expect(await here.store.has(ref)).toEqual(Uint8Array.of(0));
  }
  await close();
});

test("who asks a hub for a chunk that is damaged everywhere is told so", async () => {
  const { here, source, close, cut } = await twoStores(RANDOM);
  await cut();
  damage(here.directory, [RANDOM[1]!]);
  const { near, far } = memoryPair();
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => here.store.has(refs);
  serve(far, [new ChunkService({ store: here.store, source, hasAnywhere })]);
  const client = new RemoteChunks(near, { here: false });
  for (let attempt = 0; attempt < 2; attempt++) {
    await expect(client.read(RANDOM.map(sha256))).rejects.toMatchObject({
      code: "PFS_CHUNK_DAMAGED",
      data: { ref: refToHex(sha256(RANDOM[1]!)) },
    });
  }
  await Promise.all([near.close(), far.close()]);
  await close();
});

test("a store whose writer could not be opened is written to when it can be", async () => {
  let refusals = 1;
  const own = await storeOf();
  const peer = await storeOf(RANDOM);
  const ends = await inMemory();
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => peer.store.has(refs);
  serve(ends.far, [new ChunkService({ store: peer.store, source: peer.store, hasAnywhere })]);
  const failing = {
    read: own.store.read.bind(own.store),
    has: own.store.has.bind(own.store),
    openWriter: async () => {
      if (refusals-- > 0) throw new Error("not now");
      return own.store.openWriter();
    },
  };
  const chunks = new RemoteChunks(ends.near, { here: true });
  const beside = new PeerSource({ store: failing, peers: async () => [chunks] });
  const [first, second] = RANDOM.map(sha256);
  await beside.read([first!]);
  expect(await own.store.has(first!)).toEqual(Uint8Array.of(0));
  await beside.read([second!]);
  expect(await own.store.has(second!)).toEqual(Uint8Array.of(1));
  await ends.close();
  await beside[Symbol.asyncDispose]();
  await Promise.all([own.close(), peer.close()]);
});
