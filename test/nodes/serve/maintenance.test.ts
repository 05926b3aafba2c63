/** What a machine does about files that are not whole in its own store: what its peers have counts as well. */
import { describe, expect, test } from "vitest";
import { MaintenanceService } from "../../../nodes/serve/maintenance-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import { sha256 } from "../../../packets/digest.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { inPieces, put, randomBytes, temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { until } from "../../suites/until.ts";
import { scriptedPeer } from "../scripted-peer.ts";
import { memoryPair } from "../wire/memory-pair.ts";

class DiskError extends PacketfsError {
  override readonly name: string = "DiskError";
}

type Read = ChunkSource["read"];

/** Asks a machine whose own report names two files. `readOf` says how it reads; `stop` ends the service. */
async function verify(readOf: (store: Store, stop: () => Promise<void>) => Read): Promise<unknown> {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  await using writer = await store.openWriter();
  const { root, length } = await ingest(writer, inPieces(Buffer.from("content"), 3));
  await writer.bind({ name: "file", root, length });
  const { near, far } = memoryPair({ near: { role: "client" } });
  const found = { damaged: [], repaired: [], incomplete: ["file", "removed"], stores: [], unreachable: [] };
  const report = { chunks: 1, bytes: 1, ...found, lostRecords: 0, mendedRecords: 0 };
  const service: MaintenanceService = new MaintenanceService({
    store: {
      gc: (signal, source) => store.gc(signal, source),
      verify: async () => report,
      has: (refs) => store.has(refs),
      read: (refs, signal) => store.read(refs, signal),
    },
    catalog: store.catalog,
    source: { read: readOf(store, async () => service[Symbol.asyncDispose]()) },
    hasAnywhere: (refs) => store.has(refs),
  });
  serve(far, [service]);
  try {
    const { chunks } = await near.request({ type: MessageType.MAINTENANCE, meta: { op: "verify" } });
    return (JSON.parse(Buffer.from(chunks).toString()) as { incomplete: unknown }).incomplete;
  } finally {
    await Promise.all([near.close(), far.close()]);
  }
}

const failing = (code: string) => (): Read => async () => {
  throw new DiskError(code, "told to", {});
};

describe("verify", () => {
  test("leaves out what is whole with the others' chunks, and what was removed meanwhile", async () => {
    expect(await verify((store) => (refs, signal) => store.read(refs, signal))).toEqual([]);
  });

  test.each(["PFS_CHUNK_MISSING", "PFS_CHUNK_DAMAGED", "PFS_STREAM_INVALID"])(
    "calls incomplete what is read with %s",
    async (code) => {
      expect(await verify(failing(code))).toEqual(["file"]);
    },
  );

  test("fails with what leaves open whether a file is complete", async () => {
    await expect(verify(failing("PFS_STORE_IO"))).rejects.toMatchObject({ code: "PFS_STORE_IO" });
    const stopped = verify((store, stop) => async (refs, signal) => {
      await stop();
      return await store.read(refs, signal);
    });
    await expect(stopped).rejects.toThrow();
  });
});

/** A machine that has the only chunk of a file and not the stream between them, and a peer that has it, collects. */
async function collect(readOf: (peer: Store) => Read): Promise<{ result: unknown; hasChunk: boolean }> {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  await using directoryOfPeer = await temporaryDirectory();
  await using peer = await Store.open(directoryOfPeer.path);
  const chunk = randomBytes("chunk", 5000);
  const { root } = await put(peer, "part", chunk);
  {
    await using writer = await store.openWriter();
    await writer.write(Uint8Array.from(chunk), Uint32Array.of(5000));
    await put(store, "gone", randomBytes("gone", 20_000));
    const top = encodeFrame([
      { op: Op.CALL, length: 5000, ref: root },
      { op: Op.HALT, at: 1, length: 5000 },
    ]);
    const { refs } = await writer.write(Uint8Array.from(top), Uint32Array.of(top.byteLength));
    await writer.bind({ name: "file", root: refs, length: 5000 });
    await store.catalog.remove("gone");
  }
  const { near, far } = memoryPair({ near: { role: "client" } });
  const service = new MaintenanceService({
    store,
    catalog: store.catalog,
    source: {
      read: async (refs, signal) => store.read(refs, signal).catch(() => readOf(peer)(refs, signal)),
    },
    hasAnywhere: (refs) => store.has(refs),
  });
  serve(far, [service]);
  try {
    const { chunks } = await near.request({ type: MessageType.MAINTENANCE, meta: { op: "gc" } });
    const [isThere] = await store.has(sha256(chunk));
    return { result: JSON.parse(Buffer.from(chunks).toString()), hasChunk: isThere === 1 };
  } finally {
    await Promise.all([near.close(), far.close()]);
  }
}

describe("gc", () => {
  test("keeps what streams need that only others have", async () => {
    const { result, hasChunk } = await collect((peer) => (refs, signal) => peer.read(refs, signal));
    expect(result).toMatchObject({ incomplete: [], freedChunks: 2 });
    expect(hasChunk).toBe(true);
  });

  test.each(["PFS_CHUNK_MISSING", "PFS_LINK_CLOSED"])(
    "is not kept from its work by peers that answer with %s, and keeps what a file may need",
    async (code) => {
      const { result, hasChunk } = await collect(failing(code));
      expect(result).toMatchObject({ incomplete: ["file"] });
      expect(hasChunk).toBe(true);
    },
  );
});

/** A hub with one node, which says that it is at work and never ends; and a client of it. */
async function withTirelessNode(
  work: (client: HubClient, asked: Promise<AbortSignal>) => Promise<void>,
): Promise<void> {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  await put(store, "file", randomBytes("file", 5000));
  const asked = Promise.withResolvers<AbortSignal>();
  const node = scriptedPeer(
    {
      [MessageType.MAINTENANCE]: (_, reply) => {
        const ticker = setInterval(() => reply.atWork(), 50);
        reply.signal.addEventListener("abort", () => clearInterval(ticker));
        asked.resolve(reply.signal);
        return undefined;
      },
    },
    { role: "node", label: "tireless" },
  );
  const { near, far } = memoryPair({ near: { role: "client" } });
  const service = new MaintenanceService({
    store,
    catalog: store.catalog,
    source: store,
    hasAnywhere: (refs) => store.has(refs),
    network: { label: "hub", others: () => [node.link] },
  });
  serve(far, [service]);
  const client = new HubClient(near, Identity.create());
  try {
    await work(client, asked.promise);
  } finally {
    await client.close();
    await node.link.close();
  }
}

describe("a node that is at work for ever", () => {
  test.each(["verify", "gc"] as const)(
    "is named after %s has waited as long as it was told to",
    async (op) => {
      await withTirelessNode(async (client, asked) => {
        expect(await client[op]({ nodesMs: 300 })).toMatchObject({
          unreachable: ["tireless"],
          ...(op === "gc" ? { keptChunks: 2 } : { chunks: 2, damaged: [] }),
        });
        expect((await asked).aborted).toBe(true);
      });
    },
  );

  test("is told when the client gives up", async () => {
    await withTirelessNode(async (client, asked) => {
      const given = new AbortController();
      const answer = client.verify({ signal: given.signal });
      const stopped = expect(answer).rejects.toThrow("enough");
      const signal = await asked;
      given.abort(new Error("enough"));
      await stopped;
      await until(() => signal.aborted);
    });
  });
});

test("a client that asks for it a hundred times at once has one done at a time", async () => {
  await using directory = await temporaryDirectory();
  await using store = await Store.open(directory.path);
  let atOnce = 0;
  let most = 0;
  const service = new MaintenanceService({
    store: {
      gc: async (signal, source) => {
        most = Math.max(most, ++atOnce);
        const result = await store.gc(signal, source);
        atOnce--;
        return result;
      },
      verify: (signal) => store.verify(signal),
      has: (refs) => store.has(refs),
      read: (refs, signal) => store.read(refs, signal),
    },
    catalog: store.catalog,
    source: store,
    hasAnywhere: (refs) => store.has(refs),
  });
  const { near, far } = memoryPair({ near: { role: "client" } });
  serve(far, [service]);
  const request = { type: MessageType.MAINTENANCE, meta: { op: "gc" } };
  await Promise.all(Array.from({ length: 100 }, () => near.request(request)));
  expect(most).toBe(1);
  await Promise.all([near.close(), far.close()]);
});
