/** How often a small file is asked for and told of over a link: each time costs as much as its bytes. */
import { expect, test } from "vitest";
import { ALONG_BYTES_MAX } from "../../../nodes/limits.ts";
import { LastingLink } from "../../../nodes/remote/lasting-link.ts";
import { RemoteStore } from "../../../nodes/remote/remote-store.ts";
import { CatalogService } from "../../../nodes/serve/catalog-service.ts";
import { ChunkService, PutWriters } from "../../../nodes/serve/chunk-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { messageTypeName } from "../../../packets/envelope.ts";
import { findFile } from "../../../runtime/find-file.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import {
  inOnePiece,
  put,
  randomBytes,
  readAll,
  temporaryDirectory,
} from "../../runtime/store/store-fixture.ts";
import { memoryPair } from "../wire/memory-pair.ts";

interface Peers extends AsyncDisposable {
  readonly store: Store;
  readonly remote: RemoteStore;
  /** The requests since it was asked last. */
  asked(): string[];
}

async function open(): Promise<Peers> {
  const directory = await temporaryDirectory();
  const store = await Store.open(directory.path);
  const { near, far } = memoryPair({ near: { role: "client" } });
  const puts = new PutWriters(() => store.openWriter());
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => store.has(refs);
  const shared = { store, source: store, hasAnywhere, puts };
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
