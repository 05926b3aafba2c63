/** A client whose connection breaks again and again: what it does goes on over the next one, and nothing is done twice. */
import { setImmediate } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { refAt, refToHex } from "../../../packets/digest.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { decodePacket, packetCount } from "../../../packets/packet.ts";
import { WireError, WireErrorCode } from "../../../nodes/errors.ts";
import { SESSIONS_PER_REQUEST_MAX } from "../../../nodes/limits.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { LastingLink } from "../../../nodes/remote/lasting-link.ts";
import type { ConnectionEvent } from "../../../nodes/remote/lasting-link.ts";
import { Members } from "../../../nodes/hub/members.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Link, OutMessage, RequestOptions, WireMessage } from "../../../nodes/wire/link.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { JobEvent } from "../../../runtime/contracts/events.ts";
import { ExecutorList } from "../../../runtime/job/candidates.ts";
import { partName, unnamedOut } from "../../../runtime/job/results.ts";
import { Store } from "../../../runtime/store/store.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { programCode } from "../../program-code.ts";
import { until } from "../../suites/until.ts";
import { inPieces, randomBytes, temporaryDirectory } from "../../runtime/store/store-fixture.ts";
import { openHub, unlimited } from "../open-hub.ts";
import { scriptedPeer } from "../scripted-peer.ts";
import { memoryPair } from "../wire/memory-pair.ts";
import type { MemoryPair } from "../wire/memory-pair.ts";

const { STORE, WANT, NAME, FILE_REQUEST, JOB } = MessageType;
const MIB = 1024 * 1024;

const { machine, members, jobs, services } = await openHub();

/** A client of the hub whose connection the test cuts. */
class Client {
  readonly identity: Identity = Identity.create();
  readonly events: ConnectionEvent[] = [];
  readonly hub: HubClient;
  sessions = 0;
  /** Called before a request leaves, and when its answer has come, which may be lost then with the connection. */
  onRequest: (message: OutMessage) => void = () => {};
  onAnswer: (message: OutMessage, answer: WireMessage) => "lost" | void | Promise<void> = () => {};
  onNotification: (message: OutMessage) => void = () => {};
  /** Called before another session is opened. */
  onSession: () => Promise<void> = async () => {};
  #pair: MemoryPair | undefined;

  constructor(reconnectMs = 30_000) {
    const link = new LastingLink(this.#open(), {
      dial: async () => {
        await this.onSession();
        return this.#open();
      },
      reconnectMs,
      onEvent: (event) => this.events.push(event),
    });
    this.hub = new HubClient(link, this.identity, { reconnectMs });
  }

  cut(): void {
    this.#pair!.cut();
  }

  #open(): Link {
    this.sessions++;
    const { id } = this.identity;
    const pair = memoryPair({ near: { role: "client", label: "client", id } });
    this.#pair = pair;
    serve(
      pair.far,
      services.forClient(() => members.statuses((executor) => jobs.loadOf(executor)), unlimited(id)),
    );
    const request = async (message: OutMessage, options?: RequestOptions): Promise<WireMessage> => {
      this.onRequest(message);
      const answer = await pair.near.request(message, options);
      if ((await this.onAnswer(message, answer)) !== "lost") return answer;
      pair.cut();
      throw await pair.near.closed;
    };
    const notify = (message: OutMessage): void => {
      this.onNotification(message);
      pair.near.notify(message);
    };
    return new Proxy(pair.near, {
      get: (link, key) => {
        if (key === "request") return request;
        if (key === "notify") return notify;
        const value: unknown = Reflect.get(link, key);
        return typeof value === "function" ? (value.bind(link) as unknown) : value;
      },
    });
  }
}

function refsOf({ packets }: OutMessage): string[] {
  return Array.from({ length: packetCount(packets!) }, (_, index) =>
    refToHex(decodePacket(packets!, index).ref),
  );
}

const pieces = (bytes: Uint8Array): AsyncGenerator<Uint8Array> => inPieces(bytes, MIB);

async function contentOf(client: Client, root: Uint8Array, length: number): Promise<Buffer> {
  const content: Uint8Array[] = [];
  for await (const piece of execute(client.hub.data, root, { start: 0, end: length }))
    content.push(piece.slice());
  return Buffer.concat(content);
}

describe("a connection that breaks", () => {
  test("again and again during a put: it goes on, and sends nothing again that was acknowledged", async () => {
    const client = new Client();
    const acknowledged = new Set<string>();
    const repeated: string[] = [];
    let stores = 0;
    client.onRequest = (message) => {
      if (message.type === STORE) repeated.push(...refsOf(message).filter((ref) => acknowledged.has(ref)));
    };
    client.onAnswer = (message) => {
      if (message.type !== STORE) return;
      for (const ref of refsOf(message)) acknowledged.add(ref);
      if (++stores % 3 === 0) client.cut();
    };
    const bytes = randomBytes("put", 40 * MIB);
    const writer = await client.hub.data.openWriter();
    const { root, length } = await ingest(writer, pieces(bytes));
    await writer.bind({ name: "large", root, length });
    await writer.close();
    expect(client.sessions).toBeGreaterThan(3);
    expect(repeated).toEqual([]);
    client.onRequest = () => {};
    client.onAnswer = () => {};
    expect((await contentOf(client, root, length)).equals(bytes)).toBe(true);
    expect((await machine.store.verify()).incomplete).toEqual([]);
    await client.hub.close();
  });

  test("before the answer to a bind or a removal: each is done once", async () => {
    const client = new Client();
    const { catalog } = client.hub.data;
    for (const version of [1, 2]) {
      const writer = await client.hub.data.openWriter();
      const { root, length } = await ingest(writer, pieces(randomBytes(`version ${version}`, 1000)));
      let cuts = 0;
      client.onAnswer = (message) => {
        return message.type === NAME && cuts++ === 0 ? "lost" : undefined;
      };
      expect(await writer.bind({ name: "once", root, length })).toMatchObject({ version });
      await writer.close();
    }
    expect(await catalog.history("once")).toHaveLength(2);
    let removals = 0;
    client.onAnswer = (message) => {
      const { op } = message.meta as { op: string };
      return message.type === NAME && op === "remove" && removals++ === 0 ? "lost" : undefined;
    };
    expect(await catalog.remove("once")).toBe(true);
    expect(removals).toBe(1);
    client.onAnswer = () => {};
    expect(await catalog.remove("once")).toBe(false);
    await client.hub.close();
  });

  test("and a hub that its node has not joined again yet: a name for what the node has waits for it, if anything may wait", async () => {
    const client = new Client();
    const bytes = randomBytes("at a node", 1000);
    await using directory = await temporaryDirectory();
    await using elsewhere = await Store.open(directory.path);
    const away = await elsewhere.openWriter();
    const { root, length } = await ingest(away, pieces(bytes));
    const binding = { name: "at a node", root, length };
    const node = "0".repeat(32);
    const hasty = new Client(0);
    const missing = { code: "PFS_CHUNK_MISSING" };
    await expect(hasty.hub.bindAt(node, binding)).rejects.toMatchObject(missing);
    await hasty.hub.close();
    let looks = 0;
    client.onAnswer = async (message) => {
      if (message.type !== MessageType.MEMBERS || ++looks < 3) return;
      // What the node has is known as soon as it is there.
      const writer = await machine.store.openWriter();
      await ingest(writer, pieces(bytes));
      await writer.close();
    };
    expect(await client.hub.bindAt(node, binding)).toMatchObject({ version: 1 });
    expect(looks).toBe(3);
    await client.hub.close();
    await away.close();
  });

  test("before the answer to a removal: what somebody puts there meanwhile stays", async () => {
    const client = new Client();
    const { catalog } = client.hub.data;
    const other = await machine.store.openWriter();
    const bind = async (text: string, length: number): Promise<void> => {
      const { root } = await ingest(other, pieces(randomBytes(text, length)));
      await other.bind({ name: "taken", root, length });
    };
    await bind("old", 1000);
    let removals = 0;
    client.onAnswer = (message) => {
      const { op } = message.meta as { op: string };
      return message.type === NAME && op === "remove" && removals++ === 0 ? "lost" : undefined;
    };
    // It has the number of the version that was removed.
    client.onSession = () => bind("new", 1001);
    expect(await catalog.remove("taken")).toBe(true);
    expect(await machine.store.catalog.resolve("taken")).toMatchObject({ version: 1, length: 1001 });
    await other.close();
    await client.hub.close();
  });

  test("during a read: it goes on where it was", async () => {
    const bytes = randomBytes("read", 20 * MIB);
    const writer = await machine.store.openWriter();
    const { root, length } = await ingest(writer, pieces(bytes));
    const client = new Client();
    const fetched = new Set<string>();
    let again = 0;
    let requests = 0;
    client.onRequest = (message) => {
      if (message.type !== FILE_REQUEST) return;
      const { chunks } = message;
      for (let at = 0; at < chunks!.byteLength / 32; at++)
        if (fetched.has(refToHex(refAt(chunks!, at)))) again++;
    };
    client.onAnswer = (message, { packets }) => {
      if (message.type !== FILE_REQUEST) return;
      for (let at = 0; at < packetCount(packets); at++) fetched.add(refToHex(decodePacket(packets, at).ref));
      if (++requests % 3 === 0) client.cut();
    };
    expect((await contentOf(client, root, length)).equals(bytes)).toBe(true);
    expect(client.sessions).toBeGreaterThan(2);
    expect(again).toBe(0);
    await client.hub.close();
    await writer.close();
  });

  test("that does not come back ends what waits for it, with what the last dial said", async () => {
    const { near, far, cut } = memoryPair();
    far.onRequest(() => {});
    let dials = 0;
    const failure = new WireError(WireErrorCode.unreachable, "nobody listens there", {});
    const dial = async (): Promise<Link> => {
      dials++;
      throw failure;
    };
    // Its own clock: what it waits is not what passes here.
    let now = 0;
    const clock = (): number => (now += 400);
    const link = new LastingLink(near, { dial, reconnectMs: 2_000, now: clock });
    const asked = link.request({ type: WANT });
    cut();
    await expect(asked).rejects.toBe(failure);
    expect(dials).toBeGreaterThan(1);
    const later = new AbortController();
    const aborted = link.request({ type: WANT }, { signal: later.signal });
    later.abort(new Error("enough"));
    await expect(aborted).rejects.toThrow("enough");
    const waiting = link.request({ type: WANT });
    await link.close();
    await expect(waiting).rejects.toMatchObject({ code: "PFS_LINK_CLOSED" });
  });

  test("under a request each time ends it at last", async () => {
    let sessions = 0;
    const open = (): Link => {
      sessions++;
      const { near, far, cut } = memoryPair();
      far.onRequest(() => cut());
      return near;
    };
    const link = new LastingLink(open(), { dial: async () => open(), reconnectMs: 30_000 });
    await expect(link.request({ type: WANT })).rejects.toMatchObject({ code: "PFS_NODE_LOST" });
    expect(sessions).toBe(SESSIONS_PER_REQUEST_MAX);
    await link.close();
  });
});

describe("a job whose client loses its connection", () => {
  const LINES = 3_000;
  const COUNT = `export default { input: { kind: "lines" }, yields: "value", map: () => 1, combine: (a, b) => a + b }`;
  const COPY = `export default { input: { kind: "lines" }, yields: "bytes", map: (line) => line + "\\n" }`;
  const ENDLESS = `export default { input: { kind: "lines" }, yields: "value", limits: { timeMs: 600000 }, map: () => { for (;;); }, combine: (a, b) => a }`;

  async function store(bytes: Uint8Array, name?: string): Promise<Uint8Array> {
    const writer = await machine.store.openWriter();
    const { root, length } = await ingest(writer, pieces(bytes));
    if (name !== undefined) await writer.bind({ name, root, length });
    return root;
  }

  test("is found again by its number, with its events, and runs once", async () => {
    await store(Buffer.from("a line\n".repeat(LINES)), "lines");
    const client = new Client();
    const events: JobEvent[] = [];
    let cuts = 0;
    const outcome = await client.hub.run({
      program: "count",
      code: await store(programCode(COUNT)),
      files: ["lines"],
      splitBytes: 100,
      onEvent: (event) => {
        events.push(event);
        // It starts, has done something, and has done all: however quick it is, that is three.
        if (cuts < 3) {
          cuts++;
          client.cut();
        }
      },
    });
    expect(cuts).toBe(3);
    expect(outcome.value).toBe(LINES);
    const ran = jobs.jobs().filter(({ job }) => job === outcome.job);
    expect(ran).toHaveLength(1);
    expect(ran[0]).toMatchObject({ state: "done" });
    expect(events.filter(({ kind }) => kind === "started")).toHaveLength(1);
    expect(new Set(events.map(({ job }) => job))).toEqual(new Set([outcome.job]));
    await client.hub.close();
  });

  test("ends when its client goes in order, or gives it up", async () => {
    await store(Buffer.from("a line\n"), "line");
    const code = await store(programCode(ENDLESS));
    for (const end of ["close", "abort"] as const) {
      const client = new Client();
      const given = new AbortController();
      const started = Promise.withResolvers<string>();
      const run = client.hub.run({
        program: "endless",
        code,
        files: ["line"],
        signal: given.signal,
        onEvent: (event) => {
          if (event.kind === "started") started.resolve(event.job);
        },
      });
      const failed = expect(run).rejects.toThrow();
      const job = await started.promise;
      if (end === "abort") given.abort(new Error("given up"));
      else await client.hub.close();
      await failed;
      await until(() => jobs.jobs().some((one) => one.job === job && one.state === "cancelled"));
      await client.hub.close();
    }
  });

  test("a program that could not be loaded over another session is loaded when it is asked for again", async () => {
    const client = new Client();
    const program = await client.hub.load({ program: "count", code: await store(programCode(COUNT)) });
    client.cut();
    let refusals = 1;
    client.onRequest = ({ meta }) => {
      if ((meta as { op?: string }).op !== "load" || refusals-- === 0) return;
      throw new WireError(WireErrorCode.quota, "not now", {});
    };
    await expect(program.exec(new Uint8Array(0))).rejects.toMatchObject({ code: "PFS_PEER_QUOTA" });
    await expect(program.exec(new Uint8Array(0))).resolves.toHaveLength(0);
    client.cut();
    refusals = 1;
    await expect(program.exec(new Uint8Array(0))).rejects.toMatchObject({ code: "PFS_PEER_QUOTA" });
    // There is nothing loaded to close.
    await program.close();
    await client.hub.close();
  });

  test("says over another session that it is the one whose results without names those are", async () => {
    await store(Buffer.from("a line\n"), "line");
    const client = new Client();
    const said: unknown[] = [];
    client.onNotification = ({ meta }) => said.push(meta);
    // Who ran nothing has nothing to be known by.
    client.cut();
    await client.hub.jobs();
    expect(said).toEqual([]);
    await client.hub.run({ program: "count", code: await store(programCode(COUNT)), files: ["line"] });
    client.cut();
    await client.hub.jobs();
    const received = { op: "received", number: expect.any(String) };
    expect(said).toEqual([received, { op: "return", instance: expect.any(String) }]);
    await client.hub.close();
  });

  test("has results of its own, whoever else chose the same number for a job", async () => {
    const lines = "a line that is not the only one\n".repeat(3000);
    await store(Buffer.from(lines), "lines");
    const code = await store(programCode(COPY));
    const run = async (client: Client): Promise<{ job: string; file: { root: string; length: number } }> => {
      const meta = { op: "run", number: "chosen", program: "copy", code, files: ["lines"] };
      let last: WireMessage | undefined;
      await client.hub.data.link.repeat(async (link) => {
        for await (const message of link.stream({ type: JOB, meta, chunks: Buffer.from("null") }))
          last = message;
      });
      return JSON.parse(Buffer.from(last!.chunks).toString()) as Awaited<ReturnType<typeof run>>;
    };
    const [sam, olga] = [new Client(), new Client()];
    const [own, others] = [await run(sam), await run(olga)];
    expect(own.job).not.toBe(others.job);
    const part = async (job: string): Promise<unknown> =>
      await machine.store.catalog.resolve(partName(unnamedOut(job), "hub"));
    expect(await part(own.job)).toBeDefined();
    await olga.hub.close();
    while ((await part(others.job)) !== undefined) await setImmediate();
    await machine.store.gc();
    const content = await contentOf(sam, Buffer.from(own.file.root, "hex"), own.file.length);
    expect(content.toString()).toBe(lines);
    await sam.hub.close();
  });

  test("loaded programs are loaded again", async () => {
    await store(Buffer.from("a line\n"), "line");
    const client = new Client();
    const program = await client.hub.load({ program: "count", code: await store(programCode(COUNT)) });
    client.cut();
    await until(() => client.sessions >= 1);
    await expect(program.exec(new Uint8Array(0))).resolves.toHaveLength(0);
    await program.close();
    await client.hub.close();
  });
});

test("what is asked over a session leaves nothing on it, however often", async () => {
  const { link } = scriptedPeer({
    [NAME]: () => ({ type: MessageType.OK, meta: { records: [], more: false } }),
  });
  let asked = 0;
  const counted = new Proxy(link, {
    get: (_, key) => {
      if (key === "closed") asked++;
      const value: unknown = Reflect.get(link, key);
      return typeof value === "function" ? (value.bind(link) as unknown) : value;
    },
  });
  const lasting = LastingLink.over(counted);
  const refuse = async (): Promise<never> => {
    throw new Error("no");
  };
  for (let round = 0; round < 50; round++) {
    await lasting.request({ type: NAME, meta: { op: "resolve", name: "a" } });
    await expect(lasting.repeat(refuse)).rejects.toThrow("no");
  }
  expect(asked).toBe(0);
  const members = new Members(new ExecutorList());
  members.add(counted);
  const before = asked;
  for (let round = 0; round < 50; round++) {
    await members.removeParts("a");
    await members.removeCopies("a", [
      { name: "a", root: new Uint8Array(32), length: 0, version: 1, storedAt: 0 },
    ]);
  }
  expect(asked).toBe(before);
});
