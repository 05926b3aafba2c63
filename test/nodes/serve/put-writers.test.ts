/** What a peer that goes in the middle of something leaves open at the machine that served it: nothing. */
import { expect, test } from "vitest";
import { Codec } from "../../../packets/codec.ts";
import { sha256 } from "../../../packets/digest.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { ChunkService, PutWriters } from "../../../nodes/serve/chunk-service.ts";
import { HeldPuts } from "../../../nodes/serve/held-puts.ts";
import { WireError, WireErrorCode } from "../../../nodes/errors.ts";
import { PUTS_PER_LINK_MAX } from "../../../nodes/limits.ts";
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

test("what was stored in a put whose link broke is safe from gc until it is given up, or goes on", async () => {
  await using directory = await temporaryDirectory();
  await using here = await Store.open(directory.path);
  const due: (() => void)[] = [];
  const held = new HeldPuts((run) => {
    due.push(run);
    return () => void due.splice(due.indexOf(run), 1);
  });
  const sessionOf = (key: string): { puts: PutWriters; end: (error: WireError) => Promise<void> } => {
    const puts = new PutWriters(() => here.openWriter(), { puts: held, key });
    return {
      puts,
      end: async (error) => {
        puts.ended(error);
        await puts[Symbol.asyncDispose]();
      },
    };
  };
  const lost = new WireError(WireErrorCode.nodeLost, "cut");
  const closed = new WireError(WireErrorCode.closed, "closed");
  const write = async (puts: PutWriters, put: string, seed: string): Promise<void> => {
    const chunk = randomBytes(seed, 10_000);
    await (await puts.get(put)).write(chunk, Uint32Array.of(chunk.byteLength));
  };
  const first = sessionOf("key");
  await write(first.puts, "p", "one");
  await first.end(lost);
  expect(await here.gc()).toMatchObject({ freedChunks: 0 });
  const second = sessionOf("key");
  await write(second.puts, "p", "two");
  expect(due).toHaveLength(0);
  await second.end(lost);
  expect(await here.gc()).toMatchObject({ freedChunks: 0 });
  // Another key's put of that name is another one, and what is closed in order is not kept.
  const other = sessionOf("other");
  await write(other.puts, "p", "three");
  await other.end(closed);
  expect(due).toHaveLength(1);
  due[0]!();
  await until(async () => (await here.gc()).keptChunks === 0);
  const many = sessionOf("key");
  for (let put = 0; put < PUTS_PER_LINK_MAX; put++) await write(many.puts, `put-${put}`, `${put}`);
  await many.end(lost);
  const more = sessionOf("key");
  await write(more.puts, "one-more", "more");
  await more.end(lost);
  expect(due).toHaveLength(PUTS_PER_LINK_MAX);
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
