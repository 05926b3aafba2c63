/** A client's packets go to the nodes themselves, under grants, over real sockets; and through the hub where they cannot. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { refAt } from "../../../packets/digest.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame, fromAt, opAt, packetCount } from "../../../packets/packet.ts";
import type { Grant } from "../../../nodes/grants/grant.ts";
import { startHub } from "../../../nodes/hub/hub.ts";
import type { Hub } from "../../../nodes/hub/hub.ts";
import { HubTokens } from "../../../nodes/hub/tokens.ts";
import { GrantedMeta, LoadedMeta } from "../../../nodes/messages.ts";
import type { DirectNode, JobMeta } from "../../../nodes/messages.ts";
import { joinHub } from "../../../nodes/node.ts";
import type { JoinedNode, JoinOptions } from "../../../nodes/node.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import type { HubClientOptions } from "../../../nodes/remote/hub-client.ts";
import { RemoteExecutors } from "../../../nodes/remote/remote-executor.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Link, WireMessage } from "../../../nodes/wire/link.ts";
import { readMeta } from "../../../nodes/wire/session/meta.ts";
import { Identity, keysFromJson } from "../../../nodes/wire/trust/keys.ts";
import { parseToken } from "../../../nodes/wire/trust/token.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import type { LaneListener } from "../../../runtime/contracts/executor.ts";
import { ingest, writeChunks } from "../../../runtime/stream/ingest.ts";
import { sourceBytes } from "../../../sdk/files.ts";
import { bundleProgram } from "../../../sdk/programs/bundle.ts";
import { temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { ZERO_REF, emptyFrame, exec, seededBytes } from "../../suites/exec-packets.ts";
import { until } from "../../suites/until.ts";

const LISTEN = { host: "127.0.0.1", port: 0 };
const ECHO = `export default { input: { kind: "bytes" }, yields: "bytes", map: (record, { write }) => write(record) }`;
/** Takes some hundredths of a second of a core. */
const SLOW = `export default { input: { kind: "bytes" }, yields: "value", map: () => {
  let sum = 0;
  for (let step = 0; step < 5_000_000; step++) sum += step;
  return sum;
} }`;

const directory = await temporaryDirectory();
let hub: Hub;

beforeAll(async () => {
  hub = await startHub({ store: join(directory.path, "hub"), listen: LISTEN, workers: 0, label: "hub" });
});
afterAll(async () => {
  await hub.close();
  await directory[Symbol.asyncDispose]();
});

function joinNode(label: string, options: Partial<JoinOptions> = { listen: LISTEN }): Promise<JoinedNode> {
  const store = join(directory.path, label);
  return joinHub({ store, token: hub.joinToken, label, workers: 1, ...options });
}

type Program = Awaited<ReturnType<HubClient["load"]>>;
type ClientOptions = HubClientOptions & { readonly token?: string };

/** A client that is closed with its block. */
async function connectClient({ token = hub.clientToken, ...options }: ClientOptions = {}): Promise<
  HubClient & AsyncDisposable
> {
  const client = await HubClient.connect(token, options);
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.close() });
}

async function storeProgram(client: HubClient, source: string): Promise<Uint8Array> {
  const { code } = await bundleProgram({ source });
  const writer = await client.data.openWriter();
  writers.push(writer);
  return (await ingest(writer, sourceBytes(code, undefined))).root;
}
const writers: AsyncDisposable[] = [];

async function load(
  source: string,
  options: ClientOptions = {},
): Promise<{ readonly client: HubClient; readonly program: Program } & AsyncDisposable> {
  const client = await connectClient(options);
  const program = await client.load({ program: "test", code: await storeProgram(client, source) });
  const close = async (): Promise<void> => {
    await program.close();
    await client.close();
  };
  return { client, program, [Symbol.asyncDispose]: close };
}

/** Answers, without what tells one buffer from another. */
async function answersOf(answering: Promise<Uint8Array>): Promise<string> {
  return Buffer.from(await answering).toString("hex");
}

/** Packets that read `bytes` each of the chunks, one after the other: no two answers are the same. */
function readingFrame(refs: readonly Uint8Array[], count: number, bytes: number): Uint8Array {
  return encodeFrame(Array.from({ length: count }, (_, at) => exec(at, refs[at % refs.length]!, at, bytes)));
}

/** Chunks at the hub, as long as the client is there. */
async function storeChunks(client: HubClient, bytes: number): Promise<Uint8Array[]> {
  const writer = await client.data.openWriter();
  writers.push(writer);
  const chunks = [1, 2, 3].map((seed) => seededBytes(bytes, seed));
  const refs = await writeChunks(writer, chunks);
  await writer.flush();
  return chunks.map((_, index) => refAt(refs, index));
}

/** Runs once, so that a second call asks for grants, and waits until the lanes are there. */
async function begin(program: Program): Promise<void> {
  await program.exec(emptyFrame(1));
  await program.exec(emptyFrame(1));
  await program.direct.settled();
}

test("a node that can be dialed answers as the hub does, and gets the packets itself", async () => {
  await using _node = await joinNode("plain");
  await using through = await load(ECHO, { direct: false });
  await using straight = await load(ECHO);
  const { program } = straight;
  const refs = await storeChunks(straight.client, 20_000);
  await begin(program);
  const before = { ...program.direct.answered };
  const frame = readingFrame(refs, 300, 10);
  const relayed = await answersOf(through.program.exec(frame));
  for (let call = 0; call < 3; call++) expect(await answersOf(program.exec(frame))).toBe(relayed);
  // Those that are under way at the same time, and as many as fit into a message.
  const large = readingFrame(refs, 4096, 7);
  const largeRelayed = await answersOf(through.program.exec(large));
  const both = await Promise.all([frame, large, frame].map((each) => answersOf(program.exec(each))));
  expect(both).toEqual([relayed, largeRelayed, relayed]);
  expect(packetCount(await program.exec(emptyFrame(0)))).toBe(0);
  await expect(program.exec(frame.subarray(0, 65))).rejects.toMatchObject({ code: "PFS_PACKET_INVALID" });
  const { answered } = program.direct;
  expect(answered).toEqual({ direct: before.direct + 5 * 300 + 4096, relayed: before.relayed });
  // The hub counts those that it does not see.
  const status = (await straight.client.nodes()).find(({ label }) => label === "plain");
  const relays = through.program.direct.answered.relayed + answered.relayed;
  expect(status).toMatchObject({ inFlight: 0, done: answered.direct + relays });
  expect(through.program.direct.answered).toEqual({ direct: 0, relayed: 300 + 4096 });
});

test("several nodes, and one that only the hub can reach, share the packets of a call", async () => {
  await using _east = await joinNode("east");
  await using _west = await joinNode("west");
  await using _quiet = await joinNode("quiet", {});
  await using loaded = await load(ECHO);
  const { program } = loaded;
  await begin(program);
  const before = { ...program.direct.answered };
  const refs = await storeChunks(loaded.client, 20_000);
  const frame = readingFrame(refs, 4096, 9);
  await using through = await load(ECHO, { direct: false });
  expect(await answersOf(program.exec(frame))).toBe(await answersOf(through.program.exec(frame)));
  const direct = program.direct.answered.direct - before.direct;
  const relayed = program.direct.answered.relayed - before.relayed;
  expect(direct + relayed).toBe(4096);
  expect(direct).toBeGreaterThanOrEqual(2048);
  expect(relayed).toBeGreaterThan(0);
  // What reads much goes where the hub knows the bytes to be.
  const [big] = await storeChunks(loaded.client, 100_000);
  await program.exec(encodeFrame([exec(0, big!, 0, 100_000)]));
  expect(program.direct.answered.direct - before.direct).toBe(direct);
});

test("a node that cannot be dialed is reached through the hub", async () => {
  await using _node = await joinNode("elsewhere", { listen: LISTEN, advertise: "127.0.0.1:9" });
  await using loaded = await load(ECHO);
  const { program } = loaded;
  await begin(program);
  expect(packetCount(await program.exec(emptyFrame(500)))).toBe(500);
  expect(program.direct.answered).toEqual({ direct: 0, relayed: 502 });
});

test("what a lost node had is done by others", async () => {
  const lost = await joinNode("lost");
  await using loaded = await load(SLOW);
  const { program } = loaded;
  await begin(program);
  await using _other = await joinNode("other");
  const before = { ...program.direct.answered };
  const running = answersOf(program.exec(emptyFrame(20)));
  await lost.close();
  await using through = await load(SLOW, { direct: false });
  expect(await running).toBe(await answersOf(through.program.exec(emptyFrame(20))));
  expect(program.direct.answered.relayed).toBeGreaterThan(before.relayed);
});

test("a fault that is not the program's own is left to the hub, which tries elsewhere", async () => {
  await using _node = await joinNode("faulty");
  await using loaded = await load(ECHO);
  const { program } = loaded;
  await begin(program);
  const before = { ...program.direct.answered };
  const nowhere = encodeFrame([exec(0, ZERO_REF, 0, 0), exec(1, new Uint8Array(32).fill(9), 0, 5)]);
  const answers = await program.exec(nowhere);
  expect([opAt(answers, 0), opAt(answers, 1), fromAt(answers, 1)]).toEqual([
    Op.RETURN,
    Op.FAULT,
    FaultCode.inputMissing,
  ]);
  expect(program.direct.answered).toEqual({ direct: before.direct + 1, relayed: before.relayed + 1 });
});

describe("the hub's grants", () => {
  /** What a client that keeps to nothing has: a program at the hub, a grant for it, a session with the node. */
  async function raw(client: HubClient): Promise<{
    readonly loaded: string;
    readonly grant: Grant;
    readonly program: Uint8Array;
    readonly executors: RemoteExecutors;
    readonly ask: (meta: JobMeta) => Promise<WireMessage>;
  }> {
    const ask = (meta: JobMeta): Promise<WireMessage> =>
      client.data.link.request({ type: MessageType.JOB, meta, chunks: Buffer.from("null") });
    const code = await storeProgram(client, ECHO);
    const { loaded } = readMeta(LoadedMeta, await ask({ op: "load", program: "echo", code }));
    const { nodes } = readMeta(GrantedMeta, await ask({ op: "grant", loaded }));
    const [node] = nodes as [DirectNode];
    const { secret } = parseToken(hub.clientToken, "client");
    const identity = Identity.fromSecret(secret);
    const { address } = node;
    const link = await dial({ address, server: keysFromJson(node), identity, role: "client", label: "raw" });
    const executors = new RemoteExecutors(link);
    serve(link, [executors]);
    links.push(link);
    const { grant } = node;
    return { loaded, grant, program: grant.program, executors, ask };
  }
  const links: Link[] = [];
  afterAll(async () => {
    for (const link of links) await link.close();
  });

  test("end with the program that they are for, at once, and are not taken again", async () => {
    await using _node = await joinNode("left");
    await using client = await connectClient();
    const { loaded, grant, program, executors, ask } = await raw(client);
    const signal = new AbortController().signal;
    const listener = listening();
    const lane = await executors.load({ executor: "node", program, grant }, listener, signal);
    lane.exec(emptyFrame(3));
    await until(() => listener.answers === 3);
    await ask({ op: "unload", loaded });
    await until(() => listener.error !== undefined);
    expect(listener.error).toMatchObject({ code: "PFS_GRANT_ENDED" });
    const again = executors.load({ executor: "node", program, grant }, listening(), signal);
    await expect(again).rejects.toMatchObject({ code: "PFS_GRANT_ENDED" });
  });

  test("are given to nobody whose packets the hub has to count, and to no reader", async () => {
    await using _node = await joinNode("counted");
    const tokens = new HubTokens(join(directory.path, "hub"));
    const quota = { packets: 1000 };
    const limited = await tokens.add({ name: "limited", role: "submitter", quota });
    await using counted = await load(ECHO, { token: limited });
    await begin(counted.program);
    expect(packetCount(await counted.program.exec(emptyFrame(100)))).toBe(100);
    expect(counted.program.direct.answered).toEqual({ direct: 0, relayed: 102 });
    await using submitter = await load(ECHO, {
      token: await tokens.add({ name: "free", role: "submitter" }),
    });
    await begin(submitter.program);
    await submitter.program.exec(emptyFrame(100));
    expect(submitter.program.direct.answered.direct).toBeGreaterThanOrEqual(100);
    await using reader = await connectClient({ token: await tokens.add({ name: "reader", role: "reader" }) });
    const asking = reader.data.link.request({ type: MessageType.JOB, meta: { op: "grant", loaded: "x" } });
    await expect(asking).rejects.toMatchObject({ code: "PFS_NOT_ALLOWED" });
  });
});

function listening(): LaneListener & { answers: number; error: unknown } {
  const heard = {
    answers: 0,
    error: undefined as unknown,
    returned: (frame: Uint8Array) => void (heard.answers += packetCount(frame)),
    logged: () => {},
    noted: () => {},
    lost: (error: unknown) => void (heard.error = error),
  };
  return heard;
}
