/**
 * Nodes that lie to their hub about answers, lanes and themselves, with one honest executor beside them: the job has its
 * right value, or ends with a code, and the hub goes on.
 */
import { setImmediate as nextTurn } from "node:timers/promises";
import { beforeAll, describe, expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { atOf, decodePacket, encodeFrame, packetCount } from "../../../packets/packet.ts";
import type { PacketFields } from "../../../packets/packet.ts";
import {
  LOG_BURST_CHARACTERS,
  LOG_CHARACTERS_MAX,
  LOG_CHARACTERS_PER_SECOND,
} from "../../../nodes/limits.ts";
import { mayAsk } from "../../../nodes/serve/permissions.ts";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { ExecutorOffer, Link, OutMessage, Role, WireMessage } from "../../../nodes/wire/link.ts";
import type { JobInput, JobOutcome, StoredProgram } from "../../../runtime/contracts/jobs.ts";
import { guestEdition } from "../../../runtime/sandbox/edition.ts";
import { describeStream } from "../../../runtime/stream/execute.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { programCode } from "../../program-code.ts";
import { inOnePiece } from "../../runtime/store/store-fixture.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { LastingLink } from "../../../nodes/remote/lasting-link.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { laneOf } from "../../../nodes/messages.ts";
import type { NodeStatus } from "../../../nodes/messages.ts";
import { memoryPair } from "../wire/memory-pair.ts";
import { openHub, unlimited } from "../open-hub.ts";
import { scriptedPeer } from "../scripted-peer.ts";
import type { Script, ScriptedPeer } from "../scripted-peer.ts";
import { withValue } from "../../../runtime/job/results.ts";

const { LOAD, LOADED, EXEC, RETURN, LOG, KEEP, WANT, HAVE, NAME, OK, ERROR, MEMBERS } = MessageType;

/** The number of lines, added up. */
const COUNT = `export default { input: { kind: "lines" }, yields: "value", map: () => 1, combine: (a, b) => a + b }`;
const BYTES = `export default { input: { kind: "lines" }, yields: "bytes", map: (line, { write }) => write(line) }`;
/** The same, so slowly that others get packets too before the first who is there has done them all. */
const SLOWLY = `export default { input: { kind: "lines" }, yields: "value", combine: (a, b) => a + b,
  map: () => { for (let i = 0; i < 5e6; i++); return 1; } }`;
const LINES = 400;

const { machine, members, jobs, services } = await openHub();
let input: JobInput;
const programs = new Map<string, StoredProgram>();

beforeAll(async () => {
  const writer = await machine.store.openWriter();
  const put = async (bytes: Uint8Array): Promise<{ readonly root: Uint8Array; readonly length: number }> =>
    await ingest(writer, inOnePiece(bytes));
  const lines = Array.from({ length: LINES }, (_, line) => `line ${line}\n`);
  input = { name: "lines", ...(await put(Buffer.from(lines.join("")))) };
  for (const source of [COUNT, SLOWLY, BYTES]) {
    programs.set(source, { name: "program", code: (await put(programCode(source))).root, args: "null" });
  }
});

const offer: ExecutorOffer = { name: "node", capacity: { js: 4 }, edition: guestEdition() };
const takes: Script = {
  [LOAD]: () => ({ type: LOADED }),
  [WANT]: ({ chunks }) => ({ type: HAVE, chunks: new Uint8Array(chunks.byteLength / 32) }),
  [NAME]: () => ({ type: OK, meta: { records: [], more: false } }),
};

/** A node that loads whatever it is told to, and does what the test says with packets. */
function join(script: Script, executors: readonly ExecutorOffer[] = [offer]): ScriptedPeer {
  const node = scriptedPeer({ ...takes, ...script }, { role: "node", label: "liar", executors });
  serve(node.link, services.forNode(members.add(node.link)));
  return node;
}

/** What the node answers to a frame. */
function answers(node: Link, message: WireMessage, made: (at: number) => PacketFields[]): void {
  const { packets } = message;
  const lane = laneOf(message);
  const frame = Array.from({ length: packetCount(packets) }, (_, index) => made(atOf(packets, index))).flat();
  node.notify({
    type: RETURN,
    meta: { lane },
    packets: encodeFrame(frame.map((packet) => ({ ...packet, lane }))),
  });
}

function value(at: number, text = "1"): PacketFields {
  const ref = new Uint8Array(32);
  ref.set(Buffer.from(text));
  return { op: Op.RETURN, flags: Flag.INLINE, at, length: text.length, ref };
}

async function run(source = COUNT, extra: { readonly out?: string } = {}): Promise<JobOutcome> {
  return withValue(await jobs.run({ ...programs.get(source)!, inputs: [input], splitBytes: 64, ...extra }));
}

/** Ends the node, and waits until the hub has noticed. */
async function leave(node: ScriptedPeer): Promise<void> {
  node.cut();
  await node.link.closed;
}

const AMONG_HONEST: readonly (readonly [string, (node: () => ScriptedPeer) => Script])[] = [
  ["never answers", () => ({ [EXEC]: () => undefined })],
  [
    "goes away with packets in its hands",
    (node) => ({ [EXEC]: () => void setImmediate(() => node().cut()) as undefined }),
  ],
  [
    "answers packets that nobody gave it",
    (node) => ({
      [EXEC]: (message) => {
        answers(node().peer, message, (at) => [value(at + 1_000_000), value(at + 2 ** 40)]);
        node().cut();
        return undefined;
      },
    }),
  ],
  [
    "answers something that is no answer",
    (node) => ({
      [EXEC]: (message) => {
        answers(node().peer, message, (at) => [{ op: Op.EXEC, at }]);
        return undefined;
      },
    }),
  ],
  [
    "sends answers whose checks are wrong",
    (node) => ({
      [EXEC]: ({ meta, packets }) => {
        node().peer.notify({ type: RETURN, meta, packets: new Uint8Array(packets.byteLength).fill(7) });
        return undefined;
      },
    }),
  ],
  [
    "says RETURN without a lane",
    (node) => ({
      [EXEC]: ({ packets }) => {
        node().peer.notify({ type: RETURN, packets });
        return undefined;
      },
    }),
  ],
  [
    "answers in lanes that were never loaded, and then goes",
    (node) => ({
      [EXEC]: (message) => {
        for (let lane = 60_000; lane < 60_100; lane++) {
          answers(node().peer, { ...message, meta: { lane } }, (at) => [value(at, "1000")]);
        }
        node().cut();
        return undefined;
      },
    }),
  ],
  [
    "floods its packets with faults of its own",
    (node) => ({
      [EXEC]: (message) => {
        for (let times = 0; times < 20; times++) {
          answers(node().peer, message, (at) => [
            { op: Op.FAULT, flags: Flag.INLINE, at, from: FaultCode.internal, length: 0 },
          ]);
        }
        return undefined;
      },
    }),
  ],
  [
    "logs for packets that are none, and at places that are none",
    (node) => ({
      [EXEC]: (message) => {
        const lane = laneOf(message);
        for (const at of [0, 1e15, 2 ** 52]) {
          node().peer.notify({ type: LOG, meta: { kind: "log", lane, at, text: "x".repeat(16_000) } });
        }
        node().peer.notify({ type: LOG, meta: { kind: "log", lane, at: -1, text: "" } });
        return undefined;
      },
    }),
  ],
  [
    "says that its lane is lost, in a form that nobody can read",
    (node) => ({
      [EXEC]: (message) => {
        const lane = laneOf(message);
        node().peer.notify({ type: LOG, meta: { kind: "lost", lane, error: [1, { code: 5 }] } });
        return undefined;
      },
    }),
  ],
  [
    "says that it has all chunks of the input, and never answers",
    () => ({
      [WANT]: ({ chunks }) => ({ type: HAVE, chunks: new Uint8Array(chunks.byteLength / 32).fill(1) }),
      [EXEC]: () => undefined,
    }),
  ],
  [
    "refuses to load with an error that cannot be read",
    () => ({ [LOAD]: () => ({ type: ERROR, meta: "no" }) }),
  ],
  ["answers a LOAD with something else", () => ({ [LOAD]: () => ({ type: OK }), [EXEC]: () => undefined })],
];

describe("a job has its right value beside a node that", () => {
  test.each(AMONG_HONEST)("%s", async (_, script) => {
    const node: ScriptedPeer = join(script(() => node));
    const running = run();
    // One that is slow to be noticed must not keep the test: what it holds is placed again when it leaves.
    const late = setTimeout(() => node.cut(), 2_000);
    expect((await running).value).toBe(LINES);
    clearTimeout(late);
    await leave(node);
  });

  test("answers each packet twice, and right: it counts once", async () => {
    const notify = (message: OutMessage): void => {
      node.peer.notify(message);
      if (message.type === RETURN)
        node.peer.notify({ ...message, packets: Uint8Array.from(message.packets!) });
    };
    const lanes = new LaneService({ notify, peer: { role: "hub" } } as unknown as Link, {
      executors: [machine.executor!],
    });
    const script: Script = Object.fromEntries(lanes.handlers);
    const node: ScriptedPeer = join(script, [{ ...offer, name: machine.executor!.id }]);
    const { value: lines, statistics } = await run();
    expect(lines).toBe(LINES);
    expect(Object.values(statistics.byNode).reduce((sum, tasks) => sum + tasks, 0)).toBe(statistics.tasks);
    await lanes[Symbol.asyncDispose]();
    await leave(node);
  });
});

test("a node that floods its hub with logs and notes loses its session, and its packets run elsewhere", async () => {
  const text = "x".repeat(LOG_CHARACTERS_MAX);
  let isCut = false;
  const node: ScriptedPeer = join({
    [EXEC]: async (message) => {
      const lane = laneOf(message);
      // The budget is of time: it goes on until that is used up, on whatever machine.
      for (let index = 0; !isCut; index++) {
        const news = { kind: index % 2 === 0 ? "log" : "note", lane, at: 0, text };
        node.peer.notify({ type: LOG, meta: news });
        if (index % 100 === 0) await nextTurn();
      }
      return undefined;
    },
  });
  const ended = node.link.closed.finally(() => (isCut = true));
  const began = performance.now();
  let logs = 0;
  const { value: lines } = withValue(
    await jobs.run(
      { ...programs.get(SLOWLY)!, inputs: [input], splitBytes: 64 },
      { onEvent: ({ kind }) => void (logs += kind === "log" ? 1 : 0) },
    ),
  );
  expect(lines).toBe(LINES);
  const offended = { code: "PFS_PEER_OFFENDED", message: expect.stringMatching(/floods/) };
  expect(await ended).toMatchObject(offended);
  const seconds = (performance.now() - began) / 1000;
  expect(logs).toBeGreaterThan(0);
  expect(logs * text.length).toBeLessThanOrEqual(
    2 * (LOG_BURST_CHARACTERS + seconds * LOG_CHARACTERS_PER_SECOND),
  );
});

describe("what a node offers", () => {
  test("in another edition is not used, and named in the job's notes", async () => {
    const node = join({ [EXEC]: () => undefined }, [{ ...offer, capacity: { js: 1 }, edition: "other" }]);
    // The hub's own executor and the node have one slot each: the first of them decides, and that is the hub's own.
    const { value: lines, statistics } = await run();
    expect(lines).toBe(LINES);
    expect(statistics.notes.join()).toContain(`node "liar" gets no packets of this job`);
    expect(node.asked).not.toContain(LOAD);
    await leave(node);
  });

  test("of a kind that nobody knows is no executor", async () => {
    const before = members.executors.list().length;
    const node = join({}, [{ ...offer, capacity: {} }]);
    expect(members.executors.list()).toHaveLength(before);
    expect((await run()).value).toBe(LINES);
    await leave(node);
  });

  test("in several executors is loaded by name, in lanes of one numbering", async () => {
    const loads: unknown[] = [];
    const node: ScriptedPeer = join(
      {
        [LOAD]: ({ meta, packets }) => {
          loads.push({ ...(meta as object), lane: decodePacket(packets).lane });
          return { type: LOADED };
        },
        [EXEC]: () => {
          node.cut();
          return undefined;
        },
      },
      [offer, { ...offer, name: "second" }],
    );
    const [first, second] = members.executors.list().slice(-2);
    expect([first!.id, second!.id]).toEqual([node.link.peer.id, `${node.link.peer.id}.second`]);
    expect((await run()).value).toBe(LINES);
    const lanes = loads.map((load) => (load as { lane: number }).lane);
    expect(new Set(lanes).size).toBe(lanes.length);
    expect(new Set(loads.map((load) => (load as { executor: string }).executor))).toEqual(
      new Set(["node", "second"]),
    );
    await leave(node);
  });
});

describe("an output file of which a node keeps a part that", () => {
  test.each([
    ["has no root", { root: new Uint8Array(5) }],
    ["is on no node", { root: new Uint8Array(32).fill(9) }],
    ["is not said", {}],
  ])("%s is not bound to a name as long as it cannot be read", async (_, kept) => {
    const node: ScriptedPeer = join({
      [EXEC]: (message) => {
        answers(node.peer, message, (at) => [value(at, "lie")]);
        return undefined;
      },
      [KEEP]: () => ({ type: OK, meta: kept }),
    });
    const late = setTimeout(() => node.cut(), 4_000);
    const ended = await run(BYTES, { out: "out" }).then(
      () => "done",
      (error: unknown) => error,
    );
    clearTimeout(late);
    await leave(node);
    const record = await machine.store.catalog.resolve("out");
    if (ended === "done") {
      // Whatever was named can be read, from here alone.
      expect((await describeStream(machine.store, record!.root)).length).toBe(record!.length);
      await machine.store.catalog.remove("out");
    } else {
      expect(ended).toMatchObject({ code: expect.stringMatching(/^PFS_/) });
      expect(record).toBeUndefined();
    }
  });
});

test("clients alone may let in again who is barred; readers see who it is", () => {
  const roles: readonly Role[] = ["reader", "submitter", "client", "node", "invite"];
  const may = (meta: unknown): Role[] => roles.filter((role) => mayAsk(role, { type: MEMBERS, meta }));
  expect(may(undefined)).toEqual(["reader", "submitter", "client"]);
  expect(may({ op: "allow", node: "liar" })).toEqual(["client"]);
});

test("what a node says of its lanes is believed where it could be so, and keeps nobody from the others", async () => {
  const lane = { lane: 1, kind: "js", program: "p", state: "idle", inFlight: 0, ageMs: 1 };
  const use = { packets: 1, faults: 0, cpuMs: 2, inputBytes: 3, outputBytes: 4 };
  const tells = (told: unknown): Script => ({
    [MEMBERS]: () => ({ type: OK, chunks: Buffer.from(JSON.stringify(told)) }),
  });
  const honest = { open: 1, use, lanes: [{ ...lane, ...use }] };
  const lies = [
    undefined,
    { ...honest, open: 65_536 },
    { ...honest, use: { ...use, packets: -1 } },
    { ...honest, lanes: [{ ...lane, ...use, lane: 0 }] },
    { ...honest, lanes: [{ ...lane, ...use, program: "p".repeat(1000) }] },
    { ...honest, lanes: Array<unknown>(1025).fill({ ...lane, ...use }) },
  ];
  const peers = [...lies, honest].map((told) => join(told === undefined ? {} : tells(told)));
  const { near, far } = memoryPair({ near: { role: "reader" } });
  const nodes = (): NodeStatus[] => members.statuses((executor) => jobs.loadOf(executor));
  serve(far, services.forClient(nodes, unlimited("reader")));
  const client = new HubClient(LastingLink.over(near), Identity.create());
  const truthful = peers.at(-1)!.link.peer.id;
  expect(await client.lanes(5)).toEqual([{ id: truthful, label: "liar", ...honest }]);
  const told = (await client.nodes()).filter(({ lanes }) => lanes !== undefined);
  expect(told.map(({ id, lanes }) => [id, lanes])).toEqual([[truthful, { open: 1, use }]]);
  await client.close();
  for (const peer of peers) await leave(peer);
});
