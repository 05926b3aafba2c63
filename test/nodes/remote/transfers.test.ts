/** Whole files between a hub and its clients, over bulk channels: what is there is not sent, and what breaks goes on. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { startHub } from "../../../nodes/hub/hub.ts";
import type { Hub } from "../../../nodes/hub/hub.ts";
import { PUTS_PER_LINK_MAX } from "../../../nodes/limits.ts";
import { HubTokens } from "../../../nodes/hub/tokens.ts";
import type { TokenTerms } from "../../../nodes/hub/tokens.ts";
import { joinHub } from "../../../nodes/node.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import type { TransferStats } from "../../../nodes/transfer/replication/statistics.ts";
import { WriterStore } from "../../../nodes/transfer/writer-store.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import type { Ingested } from "../../../runtime/stream/ingest.ts";
import {
  inPieces,
  put,
  randomBytes,
  readAll,
  temporaryDirectory,
  textBytes,
} from "../../runtime/store/store-fixture.ts";
import { openLine } from "../wire/bulk/bulk-network.ts";

const MIB = 1024 * 1024;
const LOOPBACK = { host: "127.0.0.1", port: 0 };

class Network implements AsyncDisposable {
  readonly directory: string;
  readonly #stack: AsyncDisposableStack;
  hub: Hub;
  #clients = 0;

  private constructor(directory: string, hub: Hub, stack: AsyncDisposableStack) {
    this.directory = directory;
    this.hub = hub;
    this.#stack = stack;
  }

  static async open(options: { readonly allowsClear?: boolean } = {}): Promise<Network> {
    const stack = new AsyncDisposableStack();
    const { path } = stack.use(await temporaryDirectory());
    const hub = await startHub({ store: join(path, "hub"), listen: LOOPBACK, workers: 0, ...options });
    stack.defer(async () => {
      await hub.close();
    });
    return new Network(path, hub, stack);
  }

  /** A client that keeps what it has in a store of its own. */
  async client(
    options: { readonly token?: string; readonly address?: string; readonly allowsClear?: boolean } = {},
  ): Promise<Client> {
    const { token = this.hub.clientToken, address, allowsClear = false } = options;
    const told = address === undefined ? token : `${token.split("@")[0]}@${address}`;
    const hub = await HubClient.connect(told, { allowsClear });
    this.#stack.defer(() => hub.close());
    return new Client(hub, await this.store(`client-${this.#clients++}`));
  }

  async store(name: string): Promise<Store> {
    return this.#stack.use(await Store.open(join(this.directory, name)));
  }

  async token(terms: TokenTerms): Promise<string> {
    return await new HubTokens(join(this.directory, "hub")).add(terms);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

class Client {
  readonly hub: HubClient;
  readonly store: Store;

  constructor(hub: HubClient, store: Store) {
    this.hub = hub;
    this.store = store;
  }

  async ingest(bytes: Uint8Array): Promise<Ingested> {
    await using writer = await this.store.openWriter();
    const stored = await ingest(writer, inPieces(bytes, MIB));
    await writer.flush();
    return stored;
  }

  async put(
    { root, length }: Pick<Ingested, "root" | "length">,
    name: string,
    bases: readonly Ref[] = [],
  ): Promise<TransferStats> {
    const { transfers, catalog } = this.hub.data;
    await using sent = await transfers.put({ root, length, source: this.store, name, bases });
    await catalog.bind({ name, root, length }, {}, sent);
    return sent.stats;
  }

  async get(
    root: Ref,
    bases: readonly Ref[] = [],
    onProgress?: (progress: { readonly doneBytes: number; readonly length: number }) => void,
  ): Promise<TransferStats> {
    await using writer = await this.store.openWriter();
    const store = new WriterStore(this.store, writer);
    return await this.hub.data.transfers.get({
      root,
      store,
      bases,
      ...(onProgress === undefined ? {} : { onProgress }),
    });
  }

  async hubHas(root: Ref): Promise<Buffer> {
    return await readAll(this.hub.data, root);
  }
}

function wire({ sentBytes, receivedBytes }: TransferStats): number {
  return sentBytes + receivedBytes;
}

describe("a client and its hub", () => {
  test("bring each other files, then updates of them, then nothing", async () => {
    await using network = await Network.open();
    const [one, other] = [await network.client(), await network.client()];
    const bytes = randomBytes("file", 12 * MIB);
    const next = bytes.slice();
    for (let at = 1_000; at < next.byteLength; at += MIB) next[at]! ^= 1;
    const [first, second] = [await one.ingest(bytes), await one.ingest(next)];
    const cold = await one.put(first, "file");
    expect(wire(cold)).toBeLessThan(bytes.byteLength * 1.01);
    expect((await one.hubHas(first.root)).equals(bytes)).toBe(true);
    const progress: number[] = [];
    const got = await other.get(first.root, [], ({ doneBytes }) => progress.push(doneBytes));
    expect(wire(got)).toBeLessThan(bytes.byteLength * 1.01);
    expect((await readAll(other.store, first.root)).equals(bytes)).toBe(true);
    expect(progress.at(-1)).toBe(bytes.byteLength);
    const update = await one.put(second, "file");
    expect(wire(update)).toBeLessThan(20_000);
    expect(update.patchedChunks).toBeGreaterThan(10);
    expect(wire(await other.get(second.root, [first.root]))).toBeLessThan(20_000);
    expect((await readAll(other.store, second.root)).equals(next)).toBe(true);
    for (const known of [await one.put(second, "again"), await other.get(second.root, [first.root])])
      expect(wire(known)).toBeLessThan(1_000);
    const named = await other.hub.data.catalog.history("file");
    expect(named.map(({ root }) => refToHex(root))).toEqual([second.root, first.root].map(refToHex));
  });

  test("send what is stored compressed as it is, in the clear where both would have it so", async () => {
    await using network = await Network.open({ allowsClear: true });
    const [one, other] = [
      await network.client({ allowsClear: true }),
      await network.client({ allowsClear: true }),
    ];
    const bytes = textBytes(6 * MIB);
    const stored = await one.ingest(bytes);
    const stats = await one.put(stored, "text");
    expect(wire(stats)).toBeLessThan(bytes.byteLength / 3);
    expect(stats.compressedChunks).toBeGreaterThan(20);
    await other.get(stored.root);
    expect((await readAll(other.store, stored.root)).equals(bytes)).toBe(true);
  });

  test("get what a node of the hub has", async () => {
    await using network = await Network.open();
    const bytes = randomBytes("node", 3 * MIB);
    const store = join(network.directory, "node");
    const there = await Store.open(store);
    const { root } = await put(there, "file", bytes);
    await there.close();
    await using node = await joinHub({ store, token: network.hub.joinToken, workers: 0, listen: LOOPBACK });
    const client = await network.client();
    const whole = await client.get(root);
    expect((await readAll(client.store, root)).equals(bytes)).toBe(true);
    expect(wire(whole)).toBeLessThan(bytes.byteLength * 1.02);
    const other = await network.client();
    const data = await other.hub.dialNode(node.id);
    await using writer = await other.store.openWriter();
    await data.transfers.get({ root, store: new WriterStore(other.store, writer) });
    expect((await readAll(other.store, root)).equals(bytes)).toBe(true);
  });
});

describe("what a peer may not", () => {
  test("is refused with the same words over bulk channels as over the session", async () => {
    await using network = await Network.open();
    const client = await network.client();
    const reader = await network.client({ token: await network.token({ name: "r", role: "reader" }) });
    const stored = await reader.ingest(randomBytes("refused", 300_000));
    const put = reader.hub.data.transfers.put({ ...stored, source: reader.store });
    const refused = await put.catch((error: unknown) => error);
    await using writer = await reader.hub.data.openWriter();
    const session = await ingest(writer, inPieces(randomBytes("refused", 300_000), MIB)).catch(
      (error: unknown) => error,
    );
    expect(refused).toMatchObject({ code: "PFS_NOT_ALLOWED", message: (session as Error).message });
    await expect(reader.get(stored.root)).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
    const other = randomBytes("readable", 300_000);
    const { root, length } = await client.ingest(other);
    await client.put({ root, length }, "readable");
    await reader.get(root);
    expect((await readAll(reader.store, root)).equals(other)).toBe(true);
  });

  test("a key stores no more than it may, and what it has stored is counted once", async () => {
    await using network = await Network.open();
    const terms: TokenTerms = { name: "small", role: "client", quota: { storedBytes: 2 * MIB } };
    const client = await network.client({ token: await network.token(terms) });
    const [little, much] = [
      await client.ingest(randomBytes("little", 1.2 * MIB)),
      await client.ingest(randomBytes("much", 1.2 * MIB)),
    ];
    await client.put(little, "little");
    await expect(client.put(much, "much")).rejects.toMatchObject({ code: "PFS_PEER_QUOTA" });
    expect(await client.hub.data.catalog.resolve("much")).toBeUndefined();
    // What failed is given up: of puts that are open there may be so many.
    for (let put = 0; put < PUTS_PER_LINK_MAX; put++)
      await expect(client.put(much, "much")).rejects.toMatchObject({
        data: { max: 2 * MIB, of: "storedBytes" },
        code: "PFS_PEER_QUOTA",
      });
    await client.put(little, "little again");
  });
});

describe("a transfer", () => {
  test("goes on over the next session when its connections are cut again and again, and sends nothing twice", async () => {
    await using network = await Network.open();
    await using line = await openLine(network.hub.address);
    const client = await network.client({ address: line.address });
    const bytes = randomBytes("cut", 32 * MIB);
    const { root } = await (await network.client()).ingest(bytes).then(async (stored) => {
      const other = await network.client();
      await other.ingest(bytes);
      await other.put(stored, "cut");
      return stored;
    });
    let next = 4 * MIB;
    let cuts = 0;
    const stats = await client.get(root, [], ({ doneBytes }) => {
      if (doneBytes < next) return;
      next += 8 * MIB;
      cuts++;
      line.cut(0);
    });
    expect(cuts).toBeGreaterThan(2);
    expect((await readAll(client.store, root)).equals(bytes)).toBe(true);
    // What was on its way at each cut, at most.
    expect(stats.plainBytes).toBeLessThan(bytes.byteLength + (cuts + 1) * 2 * MIB);
    expect(stats.runs).toBeGreaterThan(cuts);
  });

  test("of a put goes on in the same way, though gc runs meanwhile", async () => {
    await using network = await Network.open();
    await using line = await openLine(network.hub.address);
    const client = await network.client({ address: line.address });
    const other = await network.client();
    const bytes = randomBytes("put", 32 * MIB);
    const stored = await client.ingest(bytes);
    let next = 4 * MIB;
    let cuts = 0;
    const collected: Promise<unknown>[] = [];
    await using sent = await client.hub.data.transfers.put({
      root: stored.root,
      length: stored.length,
      source: client.store,
      onProgress: ({ doneBytes }) => {
        if (doneBytes < next) return;
        next += 8 * MIB;
        cuts++;
        line.cut(0);
        collected.push(other.hub.gc());
      },
    });
    expect(cuts).toBeGreaterThan(2);
    await Promise.all(collected);
    expect(sent.stats.plainBytes).toBeLessThan(bytes.byteLength + (cuts + 1) * 4 * MIB);
    line.cut(0);
    const { root, length } = stored;
    await client.hub.data.catalog.bind({ name: "put", root, length }, {}, sent);
    await other.hub.gc();
    expect((await other.hubHas(root)).equals(bytes)).toBe(true);
  });

  test("that its client gave up is gone on with by another one, which sends what is lacking", async () => {
    await using network = await Network.open();
    await using line = await openLine(network.hub.address);
    const client = await network.client({ address: line.address });
    const bytes = randomBytes("given up", 32 * MIB);
    const stored = await client.ingest(bytes);
    const stop = new AbortController();
    const given = client.hub.data.transfers.put({
      ...stored,
      source: client.store,
      signal: stop.signal,
      onProgress: ({ doneBytes }) => {
        if (doneBytes < 20 * MIB) return;
        stop.abort(new Error("killed"));
        line.cut(0);
      },
    });
    await expect(given).rejects.toThrow("killed");
    const other = await network.client();
    await other.hub.gc();
    await other.ingest(bytes);
    const { plainBytes } = await other.put(stored, "gone on with");
    expect(plainBytes).toBeLessThan(15 * MIB);
    expect((await other.hubHas(stored.root)).equals(bytes)).toBe(true);
  });

  test("ends well though what is sent is moved by gc, or gone where it stood", async () => {
    await using network = await Network.open();
    const client = await network.client();
    const bytes = randomBytes("moved", 8 * MIB);
    const other = await network.client();
    const stored = await other.ingest(bytes);
    const { data } = other.hub;
    // Garbage before it and behind it, so that gc moves it.
    await other.put(await other.ingest(randomBytes("garbage before", 8 * MIB)), "before");
    await other.put(stored, "moved");
    await other.put(await other.ingest(randomBytes("garbage behind", 8 * MIB)), "behind");
    for (const name of ["before", "behind"]) await data.catalog.remove(name);
    await using hubStore = await Store.open(join(network.directory, "hub"), { readOnly: true });
    const before = (await hubStore.places(stored.root))!;
    let moved: Promise<unknown> | undefined;
    /** Nothing is kept, and so no more is sent than is on its way, before gc is done. */
    class Patient extends WriterStore {
      override async keepStored(
        ...kept: Parameters<WriterStore["keepStored"]>
      ): ReturnType<WriterStore["keepStored"]> {
        moved ??= other.hub.gc();
        await moved;
        return await super.keepStored(...kept);
      }
    }
    await using writer = await client.store.openWriter();
    await client.hub.data.transfers.get({ root: stored.root, store: new Patient(client.store, writer) });
    expect(moved).toBeDefined();
    expect((await hubStore.places(stored.root))!.files).not.toEqual(before.files);
    expect((await readAll(client.store, stored.root)).equals(bytes)).toBe(true);
  });

  test("with a peer that takes no part in any is left to who asked for it", async () => {
    await using network = await Network.open();
    const client = await network.client();
    const { peer } = client.hub.data.link;
    expect(client.hub.data.transfers.isOffered).toBe(true);
    (peer.features as string[]).splice(0);
    expect(client.hub.data.transfers.isOffered).toBe(false);
    const { root, length } = await client.ingest(randomBytes("older", 100_000));
    const { transfers } = client.hub.data;
    await expect(transfers.put({ root, length, source: client.store })).rejects.toMatchObject({
      code: "PFS_BULK_UNAVAILABLE",
    });
    await expect(client.get(root)).rejects.toMatchObject({ code: "PFS_BULK_UNAVAILABLE" });
  });
});
