/** What a machine says of files that are not whole in its own store: only chunks that nobody has make them incomplete. */
import { describe, expect, test } from "vitest";
import { MaintenanceService } from "../../../nodes/serve/maintenance-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { inPieces, temporaryDirectory } from "../../runtime/store/store-fixture.ts";
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
  const { near, far } = memoryPair();
  const found = { damaged: [], repaired: [], incomplete: ["file", "removed"], unreachable: [] };
  const report = { chunks: 1, bytes: 1, ...found, lostRecords: 0, mendedRecords: 0 };
  const service: MaintenanceService = new MaintenanceService({
    store: { gc: (signal) => store.gc(signal), verify: async () => report, has: (refs) => store.has(refs) },
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
