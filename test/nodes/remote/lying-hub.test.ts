/** A hub that lies to its clients about names, jobs and nodes: each lie ends with a code, and nothing of it is passed on. */
import { describe, expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { LIST_ENTRIES_MAX } from "../../../nodes/limits.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { LastingLink } from "../../../nodes/remote/lasting-link.ts";
import { RemoteCatalog } from "../../../nodes/remote/remote-catalog.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { OutMessage } from "../../../nodes/wire/link.ts";
import type { NameRecord } from "../../../runtime/contracts/catalog.ts";
import { RESULT_BYTES_MAX } from "../../../runtime/limits.ts";
import { nodeStatus } from "../node-status.ts";
import { scriptedPeer } from "../scripted-peer.ts";
import type { Answer } from "../scripted-peer.ts";

const { NAME, JOB, JOB_EVENT, FILE_DATA, MEMBERS, MAINTENANCE, OK, RETURN } = MessageType;

const root = new Uint8Array(32).fill(1);
const code = new Uint8Array(32).fill(2);

function record(name: string, change: Partial<NameRecord> = {}): NameRecord {
  return { name, root, length: 5, version: 1, storedAt: 0, ...change };
}

function names(records: readonly unknown[], more = false): OutMessage {
  return { type: OK, meta: { records, more } };
}

function catalogOf(answer: Answer): RemoteCatalog {
  return new RemoteCatalog(LastingLink.over(scriptedPeer({ [NAME]: answer }).link));
}

function clientOf(type: MessageType, answer: Answer): HubClient {
  return new HubClient(scriptedPeer({ [type]: answer }).link, Identity.create());
}

async function listed(catalog: RemoteCatalog, prefix = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of catalog.list(prefix)) found.push(name);
  return found;
}

const invalidMeta = { code: "PFS_META_INVALID" };

describe("names", () => {
  test.each([
    ["another name", names([record("other")])],
    ["two names", names([record("file"), record("file")])],
    ["a root of another length", names([record("file", { root: new Uint8Array(31) })])],
    ["a length below zero", names([record("file", { length: -1 })])],
    ["a length beyond all integers", names([record("file", { length: 2 ** 60 })])],
    ["no records at all", { type: OK, meta: {} }],
    ["metadata of another shape", { type: OK, meta: [1, 2, 3] }],
  ])("resolving gets %s", async (_, answer) => {
    await expect(catalogOf(() => answer).resolve("file")).rejects.toMatchObject(invalidMeta);
  });

  test.each([
    ["another name", names([record("other")])],
    ["nothing", names([])],
    ["another root", names([record("file", { root: code })])],
    ["another length", names([record("file", { length: 6 })])],
  ])("binding is answered with %s", async (_, answer) => {
    const bound = catalogOf(() => answer).bind({ name: "file", root, length: 5 });
    await expect(bound).rejects.toMatchObject(invalidMeta);
  });

  test.each([
    ["the same names again and again", () => names([record("a"), record("b")], true)],
    ["names that go back", () => names([record("b"), record("a")])],
    ["a name twice", () => names([record("a"), record("a")])],
    ["no names, but more", () => names([], true)],
    [
      "more names than fit",
      () => names(Array.from({ length: LIST_ENTRIES_MAX + 1 }, (_, i) => record(`n${i}`))),
    ],
  ])("a listing has %s", async (_, answer) => {
    await expect(listed(catalogOf(answer))).rejects.toMatchObject(invalidMeta);
  });

  test("a listing has names that do not begin as was asked", async () => {
    await expect(
      listed(
        catalogOf(() => names([record("b/1")])),
        "a/",
      ),
    ).rejects.toMatchObject(invalidMeta);
  });

  test("a listing that is right comes whole, in as many answers as it takes", async () => {
    const all = Array.from({ length: 10 }, (_, index) => `file ${index}`);
    const catalog = catalogOf(({ meta }) => {
      const { after } = meta as { after: string };
      const rest = all.filter((name) => name > after);
      return names(
        rest.slice(0, 3).map((name) => record(name)),
        rest.length > 3,
      );
    });
    expect(await listed(catalog)).toEqual(all);
  });
});

describe("a job", () => {
  const job = { program: "p", code, files: ["f"] };
  const outcome = {
    job: "j",
    yields: "value",
    hasValue: true,
    statistics: { tasks: 1, inputBytes: 1, milliseconds: 1, retries: 0, byNode: {}, notes: [] },
  };
  const last = (json: unknown): OutMessage => ({ type: OK, chunks: Buffer.from(JSON.stringify(json)) });
  const value = (text: string): OutMessage => ({ type: FILE_DATA, chunks: Buffer.from(text) });
  const progress = { kind: "progress", job: "j", done: 1, tasks: 2, doneBytes: 1, inputBytes: 2 };

  test("that ends as it must", async () => {
    const events: unknown[] = [];
    const client = clientOf(JOB, (_, reply) => {
      reply({ type: JOB_EVENT, meta: { number: 1, event: progress } }, false);
      reply(value('{"a"'), false);
      reply(value(":1}"), false);
      return last(outcome);
    });
    const ended = await client.run({ ...job, onEvent: (event) => events.push(event) });
    expect(ended).toMatchObject({ value: { a: 1 } });
    expect(events).toEqual([progress]);
  });

  test.each([
    ["an outcome that is no JSON", [], { type: OK, chunks: Buffer.from("{") }, "PFS_META_INVALID"],
    ["an outcome without statistics", [], last({ ...outcome, statistics: undefined }), "PFS_META_INVALID"],
    [
      "counts below zero",
      [],
      last({ ...outcome, statistics: { ...outcome.statistics, tasks: -1 } }),
      "PFS_META_INVALID",
    ],
    [
      "a file whose root is none",
      [],
      last({ ...outcome, file: { root: "../x", length: 1 } }),
      "PFS_META_INVALID",
    ],
    ["a value that is no JSON", [value("{]")], last(outcome), "PFS_MESSAGE_INVALID"],
    ["a value that never came", [], last(outcome), "PFS_MESSAGE_INVALID"],
    [
      "more done than there is to do",
      [{ type: JOB_EVENT, meta: { number: 1, event: { ...progress, done: 3 } } }],
      last(outcome),
      "PFS_META_INVALID",
    ],
    [
      "more bytes done than there are",
      [{ type: JOB_EVENT, meta: { number: 1, event: { ...progress, doneBytes: 3 } } }],
      last(outcome),
      "PFS_META_INVALID",
    ],
    [
      "an event of no kind",
      [{ type: JOB_EVENT, meta: { number: 1, event: { kind: "x" } } }],
      last(outcome),
      "PFS_META_INVALID",
    ],
  ] as const)("has %s", async (_, events, end, code_) => {
    const client = clientOf(JOB, (_message, reply) => {
      for (const event of events) reply(event, false);
      return end;
    });
    const heard: unknown[] = [];
    const run = client.run({ ...job, onEvent: (event) => heard.push(event) });
    await expect(run).rejects.toMatchObject({ code: code_ });
    expect(heard).toEqual([]);
  });

  test("has a value without end: it is given up at the limit, and the hub is told", async () => {
    const part = new Uint8Array(1024 * 1024).fill(0x20);
    let sent = 0;
    const left = Promise.withResolvers<void>();
    const client = clientOf(JOB, async (_, reply) => {
      reply.signal.addEventListener("abort", () => left.resolve());
      while (!reply.signal.aborted) {
        await reply.room();
        reply({ type: FILE_DATA, chunks: part }, false);
        sent += part.byteLength;
      }
      return undefined;
    });
    await expect(client.run(job)).rejects.toMatchObject({ code: "PFS_MESSAGE_INVALID" });
    await left.promise;
    expect(sent).toBeLessThan(RESULT_BYTES_MAX + 16 * part.byteLength);
  });

  test.each([
    ["too few answers", encodeFrame([{ op: Op.RETURN, lane: 1, at: 0 }])],
    ["answers in another order", encodeFrame([1, 0].map((at) => ({ op: Op.RETURN, lane: 1, at })))],
    ["EXEC packets", encodeFrame([0, 1].map((at) => ({ op: Op.EXEC, lane: 1, at })))],
    [
      "packets whose check is wrong",
      encodeFrame([0, 1].map((at) => ({ op: Op.RETURN, lane: 1, at }))).fill(1, 4, 5),
    ],
  ])("of a loaded program is answered with %s", async (_, packets) => {
    const client = clientOf(JOB, ({ meta }) =>
      (meta as { op: string }).op === "load"
        ? { type: OK, meta: { loaded: "l" } }
        : { type: RETURN, packets },
    );
    const loaded = await client.load({ program: "p", code });
    const frame = encodeFrame([0, 1].map((at) => ({ op: Op.EXEC, lane: 1, at })));
    await expect(loaded.exec(frame)).rejects.toMatchObject({ code: "PFS_MESSAGE_INVALID" });
  });

  test("whose hub goes away in the middle is a lost node", async () => {
    const hub = scriptedPeer({
      [JOB]: (_, reply) => {
        reply({ type: JOB_EVENT, meta: { number: 1, event: progress } }, false);
        setImmediate(() => hub.cut());
        return undefined;
      },
    });
    const run = new HubClient(hub.link, Identity.create()).run(job);
    await expect(run).rejects.toMatchObject({ code: "PFS_NODE_LOST" });
  });
});

test.each([
  ["no JSON", "{"],
  ["no list", "{}"],
  ["a node without keys", JSON.stringify([{ id: "a", label: "a", role: "node" }])],
  ["a node with capacity below zero", JSON.stringify([nodeStatus({ workers: -1 })])],
  ["a node in no role", JSON.stringify([nodeStatus({ role: "emperor" })])],
])("the list of nodes is %s", async (_, text) => {
  const client = clientOf(MEMBERS, () => ({ type: OK, chunks: Buffer.from(text) }));
  await expect(client.nodes()).rejects.toMatchObject(invalidMeta);
});

test("a list of nodes that is right is passed on", async () => {
  const client = clientOf(MEMBERS, () => ({
    type: OK,
    chunks: Buffer.from(JSON.stringify([nodeStatus({})])),
  }));
  expect(await client.nodes()).toEqual([nodeStatus({})]);
});

test("reports of a store that are none are refused", async () => {
  const client = clientOf(MAINTENANCE, () => ({ type: OK, chunks: Buffer.from('{"chunks":-5}') }));
  await expect(client.verify()).rejects.toMatchObject(invalidMeta);
  await expect(client.gc()).rejects.toMatchObject(invalidMeta);
});
