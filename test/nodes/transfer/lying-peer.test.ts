/** Peers that lie about chunks: nothing wrong is stored, passed on or returned, and each lie has an end with a code. */
import { describe, expect, test } from "vitest";
import { Codec } from "../../../packets/codec.ts";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { BATCH_BYTES_MAX } from "../../../nodes/limits.ts";
import { hasAnywhere, PeerSource } from "../../../nodes/transfer/peer-source.ts";
import { RemoteStore } from "../../../nodes/remote/remote-store.ts";
import { RemoteChunks } from "../../../nodes/transfer/remote-chunks.ts";
import type { OutMessage, WireMessage } from "../../../nodes/wire/link.ts";
import { Store } from "../../../runtime/store/store.ts";
import { temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { scriptedPeer } from "../scripted-peer.ts";
import type { Answer, Script } from "../scripted-peer.ts";
import { until } from "../../suites/until.ts";

const { WANT, HAVE, FILE_REQUEST, FILE_DATA, STORE, STORED, OK } = MessageType;

const chunks = Array.from({ length: 20 }, (_, seed) => new Uint8Array(1000 + seed).fill(seed));
const refs = chunks.map(sha256);
const byRef = new Map(chunks.map((chunk) => [refToHex(sha256(chunk)), chunk]));

function refsIn({ chunks: bytes }: WireMessage): Uint8Array[] {
  return Array.from({ length: bytes.byteLength / 32 }, (_, index) =>
    bytes.slice(index * 32, index * 32 + 32),
  );
}

/** FILE_DATA with chunks that are what `bytesOf` says. */
function data(asked: readonly Uint8Array[], bytesOf: (hex: string) => Uint8Array): OutMessage {
  const bodies = asked.map((ref) => bytesOf(refToHex(ref)));
  let at = 0;
  const packets = encodeFrame(
    asked.map((ref, index) => {
      const length = bodies[index]!.byteLength;
      const packet = { op: Op.COPY, at, length, ref };
      at += length;
      return packet;
    }),
  );
  return {
    type: FILE_DATA,
    meta: { codec: Codec.plain, missing: [] },
    packets,
    chunks: Buffer.concat(bodies),
  };
}

const claimAll = (message: WireMessage): OutMessage => ({
  type: HAVE,
  chunks: new Uint8Array(message.chunks.byteLength / 32).fill(1),
});
const honest: Script = {
  [WANT]: (message) => ({
    type: HAVE,
    chunks: Uint8Array.from(refsIn(message), (ref) => (byRef.has(refToHex(ref)) ? 1 : 0)),
  }),
  [FILE_REQUEST]: (message) => data(refsIn(message), (hex) => byRef.get(hex)!),
};

/** Each way to answer a request for chunks wrongly, and the code that the reader gets. */
const LIES: readonly (readonly [string, Answer, string])[] = [
  [
    "wrong bytes of the right length",
    (message) => data(refsIn(message), (hex) => Uint8Array.from(byRef.get(hex)!).fill(255)),
    "PFS_CHUNK_DAMAGED",
  ],
  [
    "one wrong byte in the last chunk",
    (message) => {
      const asked = refsIn(message);
      const last = refToHex(asked.at(-1)!);
      return data(asked, (hex) => {
        const bytes = Uint8Array.from(byRef.get(hex)!);
        if (hex === last) bytes[bytes.byteLength - 1]! ^= 1;
        return bytes;
      });
    },
    "PFS_CHUNK_DAMAGED",
  ],
  [
    "chunks that were not asked for",
    () => data([refs[19]!], (hex) => byRef.get(hex)!),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "no chunks, and none that is missing",
    () => ({ type: FILE_DATA, meta: { codec: Codec.plain, missing: [] } }),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "an index of a missing chunk beyond those that were asked for",
    () => ({ type: FILE_DATA, meta: { codec: Codec.plain, missing: [1e9] } }),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "lengths that are longer than the body",
    (message) => ({ ...data(refsIn(message), (hex) => byRef.get(hex)!), chunks: new Uint8Array(10) }),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "a body that is longer than the lengths",
    (message) => ({
      ...data(refsIn(message), (hex) => byRef.get(hex)!),
      chunks: new Uint8Array(1_000_000),
    }),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "a body that does not decompress",
    (message) => ({
      ...data(refsIn(message), (hex) => byRef.get(hex)!),
      meta: { codec: Codec.zstd, missing: [] },
    }),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "packets that are no COPY",
    () => ({
      type: FILE_DATA,
      meta: { codec: Codec.plain, missing: [] },
      packets: encodeFrame([{ op: Op.NOP }]),
    }),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "a check that is wrong",
    (message) => {
      const answer = data(refsIn(message), (hex) => byRef.get(hex)!);
      answer.packets![4]! ^= 1;
      return answer;
    },
    "PFS_PACKET_INVALID",
  ],
  [
    "more bytes than fit one message",
    () => ({
      type: FILE_DATA,
      meta: { codec: Codec.plain, missing: [] },
      packets: encodeFrame(
        Array.from({ length: 5 }, (_, index) => ({
          op: Op.COPY,
          at: (index * BATCH_BYTES_MAX) / 4,
          length: BATCH_BYTES_MAX / 4,
          ref: refs[0]!,
        })),
      ),
    }),
    "PFS_CHUNK_BATCH_INVALID",
  ],
  [
    "metadata of another shape",
    () => ({ type: FILE_DATA, meta: { codec: 9, missing: "no" } }),
    "PFS_META_INVALID",
  ],
  ["another kind of message", () => ({ type: OK }), "PFS_META_INVALID"],
  [
    "an error that cannot be read",
    () => ({ type: MessageType.ERROR, meta: { code: "rm -rf", message: 7 } }),
    "PFS_INTERNAL",
  ],
];

describe("a read from a peer that sends", () => {
  test.each(LIES)("%s", async (_, lie, code) => {
    const liar = scriptedPeer({ ...honest, [FILE_REQUEST]: lie });
    const source = new RemoteChunks(liar.link, { here: true });
    await expect(source.read(refs.slice(0, 10))).rejects.toMatchObject({ code });
    await liar.link.close();
  });
});

describe("a store with a liar among its peers", () => {
  test.each(LIES)("gets what it wants from another after %s, and keeps nothing wrong", async (_, lie) => {
    await using directory = await temporaryDirectory();
    const store = await Store.open(directory.path);
    const liar = scriptedPeer({ ...honest, [WANT]: claimAll, [FILE_REQUEST]: lie });
    const good = scriptedPeer(honest);
    const peers = [liar, good].map(({ link }) => new RemoteChunks(link, { here: true }));
    const source = new PeerSource({ store, peers: async () => peers });
    const read = await source.read(refs.slice(0, 10));
    expect(read.map((bytes) => refToHex(sha256(bytes)))).toEqual(refs.slice(0, 10).map(refToHex));
    const wrong = chunks.flatMap((chunk) => {
      const flipped = Uint8Array.from(chunk);
      flipped[flipped.byteLength - 1]! ^= 1;
      return [sha256(flipped), sha256(Uint8Array.from(chunk).fill(255))];
    });
    expect([...(await store.has(Buffer.concat(wrong)))]).not.toContain(1);
    expect([...(await store.has(Buffer.concat(refs)))]).toEqual(refs.map((_, index) => (index < 10 ? 1 : 0)));
    await source[Symbol.asyncDispose]();
    await store.close();
  });

  test("that claims what it lacks: the others that it has still come from it", async () => {
    await using directory = await temporaryDirectory();
    const store = await Store.open(directory.path);
    const lacking = refToHex(refs[3]!);
    const liar = scriptedPeer({
      [WANT]: claimAll,
      [FILE_REQUEST]: (message) => {
        const asked = refsIn(message);
        const missing = asked.findIndex((ref) => refToHex(ref) === lacking);
        if (missing !== -1) return { type: FILE_DATA, meta: { codec: Codec.plain, missing: [missing] } };
        return data(asked, (hex) => byRef.get(hex)!);
      },
    });
    const peer = new RemoteChunks(liar.link, { here: true });
    const source = new PeerSource({ store, peers: async () => [peer] });
    const reads = await Promise.allSettled([source.read(refs), source.read([refs[0]!, refs[5]!])]);
    expect(reads[0]).toMatchObject({
      status: "rejected",
      reason: { code: "PFS_CHUNK_MISSING", data: { ref: lacking } },
    });
    expect(reads[1].status).toBe("fulfilled");
    await source[Symbol.asyncDispose]();
    await store.close();
  });

  test.each([
    ["too few answers", Uint8Array.of(1)],
    ["too many answers", new Uint8Array(100).fill(1)],
    ["answers that are neither yes nor no", new Uint8Array(20).fill(7)],
  ])("that gives %s to what it has is not believed", async (_, bits) => {
    await using directory = await temporaryDirectory();
    const store = await Store.open(directory.path);
    const liar = scriptedPeer({ [WANT]: () => ({ type: HAVE, chunks: bits }) });
    const peer = new RemoteChunks(liar.link, { here: true });
    await expect(peer.has(Buffer.concat(refs))).rejects.toMatchObject({ code: "PFS_CHUNK_BATCH_INVALID" });
    const all = { store, peers: async () => [peer] };
    expect((await hasAnywhere(all, Buffer.concat(refs))).includes(1)).toBe(false);
    const source = new PeerSource(all);
    await expect(source.read(refs)).rejects.toMatchObject({ code: "PFS_CHUNK_BATCH_INVALID" });
    expect(liar.asked).not.toContain(FILE_REQUEST);
    await source[Symbol.asyncDispose]();
    await store.close();
  });

  test("that stops in the middle of an answer: the rest comes from another, and its reader hears nothing", async () => {
    await using directory = await temporaryDirectory();
    const store = await Store.open(directory.path);
    let answers = 0;
    const silent = scriptedPeer({
      [WANT]: claimAll,
      [FILE_REQUEST]: (message) => {
        if (++answers === 1) return data(refsIn(message).slice(0, 3), (hex) => byRef.get(hex)!);
        queueMicrotask(() => silent.cut());
        return undefined;
      },
    });
    const good = scriptedPeer(honest);
    const peers = [silent, good].map(({ link }) => new RemoteChunks(link, { here: true }));
    const source = new PeerSource({ store, peers: async () => peers });
    expect(await source.read(refs)).toHaveLength(20);
    await source[Symbol.asyncDispose]();
    await store.close();
  });

  test("that never answers: its reader can leave, and the request is withdrawn", async () => {
    await using directory = await temporaryDirectory();
    const store = await Store.open(directory.path);
    const withdrawn = Promise.withResolvers<void>();
    const silent = scriptedPeer({
      [WANT]: claimAll,
      [FILE_REQUEST]: (_, reply) => {
        reply.signal.addEventListener("abort", () => withdrawn.resolve());
        return undefined;
      },
    });
    const peer = new RemoteChunks(silent.link, { here: true });
    const source = new PeerSource({ store, peers: async () => [peer] });
    const [first, second] = [new AbortController(), new AbortController()];
    const reads = [source.read(refs, first.signal), source.read(refs.slice(0, 5), second.signal)];
    const settled = Promise.allSettled(reads);
    await until(() => silent.asked.includes(FILE_REQUEST));
    const [enough, more] = [new Error("enough"), new Error("more than enough")];
    first.abort(enough);
    await expect(reads[0]).rejects.toBe(enough);
    second.abort(more);
    await expect(reads[1]).rejects.toBe(more);
    await withdrawn.promise;
    await settled;
    await source[Symbol.asyncDispose]();
    await store.close();
  });
});

describe("a put to a peer that", () => {
  const block = (): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.concat(chunks));
  const lengths = (): Uint32Array<ArrayBuffer> => Uint32Array.from(chunks, ({ byteLength }) => byteLength);
  const nothing: Script = {
    [WANT]: (message) => ({ type: HAVE, chunks: new Uint8Array(message.chunks.byteLength / 32) }),
  };

  test.each([
    [
      "stored more chunks than it was sent",
      { newChunks: 1000, newBytes: 0, storedBytes: 0 },
      "PFS_CHUNK_BATCH_INVALID",
    ],
    [
      "stored more bytes than it was sent",
      { newChunks: 1, newBytes: 1e12, storedBytes: 0 },
      "PFS_CHUNK_BATCH_INVALID",
    ],
    ["stored less than nothing", { newChunks: -1, newBytes: 0, storedBytes: 0 }, "PFS_META_INVALID"],
    ["does not say what it stored", {}, "PFS_META_INVALID"],
  ])("says that it %s is refused", async (_, stored, code) => {
    const liar = scriptedPeer({ ...nothing, [STORE]: () => ({ type: STORED, meta: stored }) });
    const writer = await new RemoteStore(liar.link, { here: true }).openWriter();
    await expect(writer.write(block(), lengths())).rejects.toMatchObject({ code });
    await liar.link.close();
  });

  test("goes away in the middle is a lost node", async () => {
    const gone = scriptedPeer({
      ...nothing,
      [STORE]: () => {
        queueMicrotask(() => gone.cut());
        return undefined;
      },
    });
    const writer = await new RemoteStore(gone.link, { here: true }).openWriter();
    await expect(writer.write(block(), lengths())).rejects.toMatchObject({
      code: "PFS_NODE_LOST",
    });
  });
});
