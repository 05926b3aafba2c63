/** Peers with a session that ask a hub or a node for what they may not have, or in forms that make no sense. */
import { setImmediate } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { Codec } from "../../../packets/codec.ts";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import {
  AT_WORK_BYTES_MAX,
  FILE_REQUESTS_AT_WORK_MAX,
  MESSAGE_COST_BYTES,
  PROGRAMS_PER_LINK_MAX,
  PUTS_PER_LINK_MAX,
  REFS_PER_REQUEST_MAX,
  TRANSFER_BASES_MAX,
  REFS_PER_WANT_MAX,
} from "../../../nodes/limits.ts";
import { RemoteStore } from "../../../nodes/remote/remote-store.ts";
import { RemoteChunks } from "../../../nodes/transfer/remote-chunks.ts";
import { Members } from "../../../nodes/hub/members.ts";
import { ChunkService } from "../../../nodes/serve/chunk-service.ts";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import { answering, serve } from "../../../nodes/serve/service.ts";
import type { Link, OutMessage } from "../../../nodes/wire/link.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { ExecutorList } from "../../../runtime/job/candidates.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { programCode } from "../../program-code.ts";
import { randomBytes, inOnePiece, put } from "../../runtime/store/store-fixture.ts";
import { openHub, unlimited } from "../open-hub.ts";
import { memoryPair } from "../wire/memory-pair.ts";
import { until } from "../../suites/until.ts";

const { WANT, FILE_REQUEST, STORE, NAME, LOAD, EXEC, KEEP, CANCEL, JOB, MAINTENANCE, MEMBERS, RETURN } =
  MessageType;

const { machine, services } = await openHub();
const file = Buffer.from("a file that is here\n".repeat(100));
const COUNT = `export default { input: { kind: "lines" }, yields: "value", map: () => 1, combine: (a, b) => a + b };`;
let root: Uint8Array;

beforeAll(async () => {
  await using writer = await machine.store.openWriter();
  ({ root } = await ingest(writer, inOnePiece(file)));
  await writer.bind({ name: "file", root, length: file.byteLength });
});

function asClient(): Link {
  const { near, far } = memoryPair({ near: { role: "client", label: "client" }, far: { role: "hub" } });
  serve(
    far,
    services.forClient(() => [], unlimited("client")),
  );
  return near;
}

/** A node's link to the hub, or a hub's to a node that lends its executor. */
function asNode(): Link {
  const { near, far } = memoryPair({ near: { role: "node", label: "node" }, far: { role: "hub" } });
  serve(far, services.forNode(new Members(new ExecutorList()).add(far)));
  return near;
}

function asHub(): Link {
  const { near, far } = memoryPair({ near: { role: "hub", label: "hub" }, far: { role: "node" } });
  serve(far, [new LaneService(far, machine)]);
  return near;
}

const refsOf = (count: number): Uint8Array => new Uint8Array(count * 32).fill(7);

describe("a client that", () => {
  const bytes = new Uint8Array(100).fill(3);
  const lie = sha256(new Uint8Array(100).fill(4));
  /** What stores the bytes under the ref, rightly but for what is said otherwise. */
  const stored = (
    ref: Uint8Array,
    { put = "p", codec = Codec.plain as number, length = bytes.byteLength } = {},
  ): OutMessage => ({
    type: STORE,
    meta: { put, codec },
    packets: encodeFrame([{ op: Op.COPY, at: 0, length, ref }]),
    chunks: bytes,
  });
  const REFUSED: readonly (readonly [string, OutMessage, string])[] = [
    ["asks for no chunk", { type: WANT, meta: {} }, "PFS_MESSAGE_INVALID"],
    ["asks for half a chunk", { type: WANT, meta: {}, chunks: new Uint8Array(33) }, "PFS_MESSAGE_INVALID"],
    [
      "asks about too many",
      { type: WANT, meta: {}, chunks: refsOf(REFS_PER_WANT_MAX + 1) },
      "PFS_MESSAGE_INVALID",
    ],
    [
      "wants too many at once",
      { type: FILE_REQUEST, meta: { here: true }, chunks: refsOf(REFS_PER_REQUEST_MAX + 1) },
      "PFS_MESSAGE_INVALID",
    ],
    ["wants chunks without saying whose", { type: FILE_REQUEST, chunks: refsOf(1) }, "PFS_META_INVALID"],
    [
      "asks what nothing costs",
      { type: FILE_REQUEST, meta: { here: false, cost: true } },
      "PFS_MESSAGE_INVALID",
    ],
    [
      "asks what it costs against too many",
      { type: FILE_REQUEST, meta: { here: false, cost: true }, chunks: refsOf(2 + TRANSFER_BASES_MAX) },
      "PFS_MESSAGE_INVALID",
    ],
    [
      "asks what costs that is nowhere",
      { type: FILE_REQUEST, meta: { here: false, cost: true }, chunks: refsOf(2) },
      "PFS_CHUNK_MISSING",
    ],
    [
      "asks what a thing is that is no question",
      { type: FILE_REQUEST, meta: { here: false, cost: "much" }, chunks: refsOf(1) },
      "PFS_META_INVALID",
    ],
    ["stores bytes under another ref", stored(lie), "PFS_CHUNK_DAMAGED"],
    ["stores fewer bytes than it says", stored(sha256(bytes), { length: 101 }), "PFS_CHUNK_BATCH_INVALID"],
    [
      "stores what does not decompress",
      stored(sha256(bytes), { codec: Codec.zstd }),
      "PFS_CHUNK_BATCH_INVALID",
    ],
    ["stores in a form that nobody knows", stored(sha256(bytes), { codec: 7 }), "PFS_META_INVALID"],
    ["gives its put a name that is none", stored(sha256(bytes), { put: "../../etc" }), "PFS_META_INVALID"],
    [
      "names a file that is nowhere",
      { type: NAME, meta: { op: "set", name: "x", root: refsOf(1), length: 1, put: "p" } },
      "PFS_CHUNK_MISSING",
    ],
    [
      "names bytes that are no stream",
      { type: NAME, meta: { op: "set", name: "x", root: new Uint8Array(31), length: 1, put: "p" } },
      "PFS_META_INVALID",
    ],
    ["does to names what nobody can", { type: NAME, meta: { op: "own", name: "x" } }, "PFS_META_INVALID"],
    [
      "removes a version that is not there",
      { type: NAME, meta: { op: "remove", name: "x", expected: 5 } },
      "PFS_NAME_CHANGED",
    ],
    [
      "runs a program on no file",
      { type: JOB, meta: { op: "run", program: "p", code: refsOf(1), files: [] } },
      "PFS_META_INVALID",
    ],
    [
      "runs a program on a file that is nowhere",
      { type: JOB, meta: { op: "run", program: "p", code: refsOf(1), files: ["nowhere"] } },
      "PFS_NOT_FOUND",
    ],
    [
      "runs a program that is nowhere",
      { type: JOB, meta: { op: "run", program: "p", code: refsOf(1), files: ["file"] } },
      "PFS_CHUNK_MISSING",
    ],
    [
      "runs packets of a program that it has not loaded",
      { type: JOB, meta: { op: "exec", loaded: "x" } },
      "PFS_NOT_FOUND",
    ],
    ["cancels another's job", { type: JOB, meta: { op: "cancel", job: "x" } }, "PFS_NOT_FOUND"],
    [
      "looks after a store in a way that nobody knows",
      { type: MAINTENANCE, meta: { op: "wipe" } },
      "PFS_META_INVALID",
    ],
    ["lends lanes", { type: LOAD, meta: { executor: "hub" } }, "PFS_NOT_ALLOWED"],
  ];

  test.each(REFUSED)("%s is refused, and its session goes on", async (_, message, code) => {
    const link = asClient();
    await expect(link.request(message)).rejects.toMatchObject({ code });
    const [bytes_] = await new RemoteChunks(link, { here: true }).read([root]);
    expect(refToHex(sha256(bytes_!))).toBe(refToHex(root));
    expect([...(await machine.store.has(Buffer.concat([lie, sha256(bytes)])))]).toEqual([0, 0]);
    expect(await machine.store.catalog.resolve("x")).toBeUndefined();
    await link.close();
  });

  test("names a file with another length is refused", async () => {
    const link = asClient();
    for (const length of [file.byteLength - 1, file.byteLength + 1, 0]) {
      const named = link.request({ type: NAME, meta: { op: "set", name: "x", root, length, put: "p" } });
      await expect(named).rejects.toMatchObject({ code: "PFS_MESSAGE_INVALID" });
    }
    expect(await machine.store.catalog.resolve("x")).toBeUndefined();
    await link.close();
  });

  test("names a stream that reads beyond the end of its chunk is refused", async () => {
    const link = asClient();
    const writer = await new RemoteStore(link, { here: true }).openWriter();
    const streams: Uint8Array[] = [];
    const own = new Uint8Array(100).fill(9);
    const chunk = sha256(own);
    const stream = new StreamWriter((_ref, packets) => void streams.push(packets));
    stream.copy(chunk, 50, own.byteLength);
    const { root: beyond, length } = stream.finish();
    for (const each of [own, ...streams]) await writer.write(each.slice(), Uint32Array.of(each.byteLength));
    const named = link.request({
      type: NAME,
      meta: { op: "set", name: "x", root: beyond, length, put: "p" },
    });
    await expect(named).rejects.toMatchObject({ code: "PFS_STREAM_INVALID" });
    expect(await machine.store.catalog.resolve("x")).toBeUndefined();
    await link.close();
  });

  test("names a file by what looks like a root is refused", async () => {
    const link = asClient();
    const meta = { op: "set", name: refToHex(root), root, length: file.byteLength, put: "p" };
    await expect(link.request({ type: NAME, meta })).rejects.toMatchObject({ code: "PFS_NAME_INVALID" });
    await link.close();
  });

  test("has too many puts open is refused one more, until it ends one", async () => {
    const link = asClient();
    const want = (put: number): Promise<unknown> =>
      link.request({ type: WANT, meta: { put: `p${put}` }, chunks: refsOf(1) });
    for (let put = 0; put < PUTS_PER_LINK_MAX; put++) await want(put);
    await expect(want(PUTS_PER_LINK_MAX)).rejects.toMatchObject({ code: "PFS_PEER_QUOTA" });
    await link.request({ type: NAME, meta: { op: "end", put: "p0" } });
    await want(PUTS_PER_LINK_MAX);
    await link.close();
  });

  test.each([
    ["a question", { type: WANT, meta: {}, chunks: refsOf(1) }],
    ["chunks to store", stored(sha256(bytes))],
    ["a job", { type: JOB, meta: { op: "load", program: "p", code: refsOf(1) } }],
    ["a verify", { type: MAINTENANCE, meta: { op: "verify" } }],
  ] as const)(
    "sends %s without a number, for which nothing would be counted, is put out",
    async (_, message) => {
      const link = asClient();
      link.notify(message);
      expect(await link.closed).toMatchObject({
        code: "PFS_NODE_LOST",
        data: { reason: "PFS_PEER_OFFENDED" },
      });
      expect([...(await machine.store.has(sha256(bytes)))]).toEqual([0]);
    },
  );

  test("asks for chunks a thousand times at once has some of them read at a time, and gets all", async () => {
    let atOnce = 0;
    let most = 0;
    const { near, far } = memoryPair({ near: { role: "reader", label: "reader" }, far: { role: "hub" } });
    const watched: ChunkSource = {
      read: async (refs) => {
        most = Math.max(most, ++atOnce);
        await setImmediate();
        atOnce--;
        return await machine.store.read(refs);
      },
    };
    const { store } = machine;
    serve(far, [new ChunkService({ store, source: watched, hasAnywhere: (refs) => store.has(refs) })]);
    const asked = { type: FILE_REQUEST, meta: { here: false }, chunks: root };
    const answers = await Promise.all(Array.from({ length: 1000 }, () => near.request(asked)));
    expect(new Set(answers.map(({ packets }) => packets.byteLength))).toEqual(new Set([64]));
    expect(most).toBe(FILE_REQUESTS_AT_WORK_MAX);
    await near.close();
  });

  test("withdraws what it asks and asks for more is refused while too much of it is worked on", async () => {
    const { near, far } = memoryPair({ near: { role: "client", label: "client" }, far: { role: "hub" } });
    const { promise: done, resolve: finish } = Promise.withResolvers<undefined>();
    let atWork = 0;
    serve(far, [
      answering(STORE, async () => {
        atWork++;
        return await done;
      }),
    ]);
    const chunks = new Uint8Array(8 * 1024 * 1024);
    const ask = async (): Promise<unknown> => {
      const gaveUp = new AbortController();
      const before = atWork;
      const asked = near.request({ type: STORE, chunks }, { signal: gaveUp.signal });
      const answer = asked.catch((error: unknown) => error);
      await Promise.race([answer, until(() => atWork > before)]);
      gaveUp.abort("no more of it");
      return await answer;
    };
    const max = Math.floor(AT_WORK_BYTES_MAX / (chunks.byteLength + MESSAGE_COST_BYTES));
    for (let count = 0; count < max; count++) expect(await ask()).toBe("no more of it");
    expect(await ask()).toMatchObject({ code: "PFS_PEER_BUSY" });
    finish(undefined);
    // What it asks next is answered, once what it withdrew is over.
    const isAnswered = async (): Promise<boolean> =>
      await near.request({ type: STORE, chunks }).then(
        () => true,
        () => false,
      );
    await until(isAnswered);
    await near.close();
  });

  test("goes away in the middle of a put leaves nothing that gc keeps", async () => {
    const kept = async (): Promise<number> => (await machine.store.gc()).keptChunks;
    const before = await kept();
    const link = asClient();
    // Large beside all else that is there: gc leaves a little where it is.
    const chunk = randomBytes("garbage", 1024 * 1024);
    const writer = await new RemoteStore(link, { here: true }).openWriter();
    await writer.write(new Uint8Array(chunk), Uint32Array.of(chunk.byteLength));
    expect(await kept()).toBe(before + 1);
    await link.close();
    // The far end closes the put's writer when it hears of the end.
    await until(async () => (await kept()) === before);
    expect([...(await machine.store.has(root))]).toEqual([1]);
  });

  test("loads many programs at once has no more of them than one after the other", async () => {
    const { root: code } = await put(machine.store, "p.js", programCode(COUNT));
    const link = asClient();
    const load = { type: JOB, meta: { op: "load", program: "p", code }, chunks: Buffer.from("null") };
    const loads = await Promise.allSettled(
      Array.from({ length: 3 * PROGRAMS_PER_LINK_MAX }, () => link.request(load)),
    );
    expect(loads.filter(({ status }) => status === "fulfilled")).toHaveLength(PROGRAMS_PER_LINK_MAX);
    for (const each of loads)
      if (each.status === "rejected") expect(each.reason).toMatchObject({ code: "PFS_PEER_QUOTA" });
    await link.close();
  });
});

describe("a node that asks its hub", () => {
  test.each([STORE, NAME, JOB, MAINTENANCE, MEMBERS, LOAD, KEEP])(
    "for message type %i is refused",
    async (type) => {
      const link = asNode();
      await expect(link.request({ type, meta: {} })).rejects.toMatchObject({ code: "PFS_NOT_ALLOWED" });
      await link.request({ type: WANT, meta: { here: true }, chunks: root });
      await link.close();
    },
  );

  test("to keep chunks for a put gets an answer, and nothing is kept", async () => {
    const link = asNode();
    const { chunks } = await link.request({ type: WANT, meta: { put: "p", here: true }, chunks: root });
    expect([...chunks]).toEqual([1]);
    await link.close();
  });

  test("nothing, but says what it may not, is put out", async () => {
    const link = asNode();
    link.notify({ type: EXEC, meta: { lane: 1 } });
    expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST", data: { reason: "PFS_PEER_OFFENDED" } });
  });

  test("nothing, but answers in a form that makes no sense, is put out", async () => {
    const link = asNode();
    link.notify({ type: RETURN, meta: "lane 7" });
    expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST", data: { reason: "PFS_PEER_OFFENDED" } });
  });
});

describe("a hub that tells a node", () => {
  const load = (packets: Uint8Array, executor = "hub"): OutMessage => ({
    type: LOAD,
    meta: { executor },
    packets,
  });

  test.each([
    ["to load nothing", { type: LOAD, meta: { executor: "hub" } }, /PFS_(PACKET|MESSAGE)_INVALID/],
    [
      "to load two programs at once",
      load(encodeFrame([1, 2].map((lane) => ({ op: Op.LOAD, lane, ref: refsOf(1) })))),
      /PFS_MESSAGE_INVALID/,
    ],
    [
      "to load packet code that is none",
      load(encodeFrame([{ op: Op.LOAD, flags: Flag.INLINE, lane: 1, ref: refsOf(1) }]), "hub-code"),
      /PFS_PROGRAM_INVALID/,
    ],
    [
      "to load packet code where other programs run",
      load(encodeFrame([{ op: Op.LOAD, flags: Flag.INLINE, lane: 1, ref: refsOf(1) }])),
      /PFS_PROGRAM_INVALID/,
    ],
    ["to load an EXEC", load(encodeFrame([{ op: Op.EXEC, lane: 1 }])), /PFS_MESSAGE_INVALID/],
    [
      "to load what is nowhere",
      load(encodeFrame([{ op: Op.LOAD, lane: 1, ref: refsOf(1) }])),
      /PFS_CHUNK_MISSING/,
    ],
    [
      "to load a file as a program",
      load(encodeFrame([{ op: Op.LOAD, lane: 1, ref: sha256(file) }])),
      /PFS_(CHUNK_MISSING|PROGRAM_INVALID)/,
    ],
    [
      "to use an executor that it has not",
      load(encodeFrame([{ op: Op.LOAD, lane: 1, ref: refsOf(1) }]), "gpu"),
      /PFS_NOT_FOUND/,
    ],
    [
      "to keep what a lane made that is not there",
      { type: KEEP, meta: { lane: 5, name: "x" } },
      /PFS_NODE_LOST/,
    ],
    ["to keep something in no lane", { type: KEEP, meta: { lane: -5, name: "x" } }, /PFS_META_INVALID/],
  ] as const)("%s is told why not", async (_, message, code) => {
    const link = asHub();
    await expect(link.request(message)).rejects.toMatchObject({ code: expect.stringMatching(code) });
    await link.request({ type: CANCEL, meta: { lane: 5 } });
    await link.close();
  });

  test("packets for a lane that is gone is not listened to", async () => {
    const link = asHub();
    const packets = encodeFrame([{ op: Op.EXEC, lane: 7 }]);
    link.notify({ type: EXEC, meta: { lane: 7 }, packets });
    link.notify({ type: EXEC, packets });
    await link.request({ type: CANCEL, meta: { lane: 7 } });
    await link.close();
  });

  test("packets for no lane at all loses it", async () => {
    const link = asHub();
    link.notify({ type: EXEC });
    expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST", data: { reason: "PFS_PEER_OFFENDED" } });
  });
});
