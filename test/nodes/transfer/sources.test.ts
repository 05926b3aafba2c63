/** Chunks of a peer, over links in memory and over sockets, do what every source of chunks must. */
import { EventEmitter } from "node:events";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import type { EventMap, TransferEvent } from "../../../runtime/contracts/events.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ChunkService } from "../../../nodes/serve/chunk-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { PeerSource } from "../../../nodes/transfer/peer-source.ts";
import { RemoteChunks } from "../../../nodes/transfer/remote-chunks.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { expect, test } from "vitest";
import { chunkSourceSuite } from "../../suites/chunk-source.ts";
import { temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { memoryPair } from "../wire/memory-pair.ts";
import { openNetwork } from "../wire/network.ts";

interface Ends {
  readonly near: Link;
  readonly far: Link;
  readonly close: () => Promise<void>;
}

async function inMemory(): Promise<Ends> {
  const { near, far } = memoryPair();
  return { near, far, close: async () => void (await Promise.all([near.close(), far.close()])) };
}

async function overSockets(): Promise<Ends> {
  const network = await openNetwork();
  const near = await network.dial();
  return { near, far: await network.accepted(near), close: () => network.close() };
}

async function storeOf(chunks: readonly Uint8Array[] = []): Promise<{
  readonly store: Store;
  readonly put: (chunks: readonly Uint8Array[]) => Promise<void>;
  readonly close: () => Promise<void>;
}> {
  const directory = await temporaryDirectory();
  const store = await Store.open(directory.path);
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
  return { store, put, close };
}

const carriers = [
  ["in memory", inMemory],
  ["over sockets", overSockets],
] as const;

for (const [carrier, connect] of carriers) {
  chunkSourceSuite(`the chunks of a peer ${carrier}`, async () => {
    const ends = await connect();
    const { store, put, close } = await storeOf();
    const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => store.has(refs);
    serve(ends.far, [new ChunkService({ store, source: store, hasAnywhere })]);
    return {
      source: new RemoteChunks(ends.near, { here: true }),
      put,
      close: async () => {
        await ends.close();
        await close();
      },
    };
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
