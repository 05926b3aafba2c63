/** What a peer that goes in the middle of something leaves open at the machine that served it: nothing. */
import { expect, test } from "vitest";
import { Codec } from "../../../packets/codec.ts";
import { sha256 } from "../../../packets/digest.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { ChunkService, PutWriters } from "../../../nodes/serve/chunk-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Service } from "../../../nodes/serve/service.ts";
import type { OutMessage } from "../../../nodes/wire/link.ts";
import { Store } from "../../../runtime/store/store.ts";
import { until } from "../../suites/until.ts";
import { randomBytes, temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { memoryPair } from "../wire/memory-pair.ts";

const bytes = randomBytes("cut", 50_000);

function store(put: string): OutMessage {
  return {
    type: MessageType.STORE,
    meta: { put, codec: Codec.plain },
    packets: encodeFrame([{ op: Op.COPY, at: 0, length: bytes.byteLength, ref: sha256(bytes) }]),
    chunks: bytes,
  };
}

test("a link that breaks while what it sent is unpacked: gc frees it, and all that comes later", async () => {
  await using directory = await temporaryDirectory();
  await using here = await Store.open(directory.path);
  const { near, far, cut } = memoryPair({ near: { role: "client" } });
  let opened = 0;
  const puts = new PutWriters(async () => {
    opened++;
    return await here.openWriter();
  });
  const service = new ChunkService({
    store: here,
    source: here,
    hasAnywhere: (refs) => here.has(refs),
    puts,
  });
  const answered = Promise.withResolvers<unknown>();
  const handler = service.handlers.get(MessageType.STORE)!;
  const watched: Service = {
    handlers: new Map([
      [
        MessageType.STORE,
        async (message, reply) => {
          const answer = handler(message, reply);
          // It is being unpacked now.
          cut();
          answered.resolve(answer?.catch((error: unknown) => error));
          return await answer;
        },
      ],
    ]),
    [Symbol.asyncDispose]: () => service[Symbol.asyncDispose](),
  };
  serve(far, [watched]);
  near.request(store("p")).catch(() => undefined);
  expect(await answered.promise).toMatchObject({ code: "PFS_CANCELLED" });
  expect(opened).toBe(0);
  {
    await using writer = await here.openWriter();
    await writer.write(Uint8Array.from(bytes), Uint32Array.of(bytes.byteLength));
  }
  expect(await here.gc()).toMatchObject({ freedChunks: 1 });
});

test("a put that is being opened when its peer goes is closed", async () => {
  await using directory = await temporaryDirectory();
  await using here = await Store.open(directory.path);
  const gate = Promise.withResolvers<void>();
  const puts = new PutWriters(async () => {
    await gate.promise;
    return await here.openWriter();
  });
  const writer = puts.get("p");
  const gone = puts[Symbol.asyncDispose]();
  gate.resolve();
  await gone;
  await expect(
    (async () => (await writer).write(Uint8Array.from(bytes), Uint32Array.of(bytes.byteLength)))(),
  ).rejects.toThrow();
});

test("a service that cannot be put away keeps neither the others nor the process", async () => {
  const { far, cut } = memoryPair({ near: { role: "client" } });
  const disposed: string[] = [];
  const failures: unknown[] = [];
  const serviceOf = (name: string): Service => ({
    handlers: new Map(),
    [Symbol.asyncDispose]: async () => {
      disposed.push(name);
      if (name !== "last") throw new Error(name);
    },
  });
  serve(far, ["first", "second", "last"].map(serviceOf), (error) => failures.push(error));
  cut();
  await until(() => disposed.includes("last"));
  expect(disposed).toEqual(["first", "second", "last"]);
  expect(failures).toEqual([new Error("first"), new Error("second")]);
});
