/** A client that has a node run packets gets what its grant says, and not a packet more, whatever it sends. */
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, expect, test } from "vitest";
import { encodePacket, packetCount } from "../../../packets/packet.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { WireError, WireErrorCode } from "../../../nodes/errors.ts";
import { signGrant } from "../../../nodes/grants/grant.ts";
import type { Grant, GrantTerms } from "../../../nodes/grants/grant.ts";
import { Grants } from "../../../nodes/grants/grants.ts";
import { RemoteExecutors } from "../../../nodes/remote/remote-executor.ts";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Executor, LaneListener } from "../../../runtime/contracts/executor.ts";
import { emptyFrame } from "../../suites/exec-packets.ts";
import { until } from "../../suites/until.ts";
import { memoryPair } from "../wire/memory-pair.ts";

const hub = Identity.create();
const node = Identity.create().id;
const client = Identity.create().id;
const program = new Uint8Array(32).fill(5);
const signal = new AbortController().signal;

function granted(change: Partial<GrantTerms> = {}): Grant {
  const terms = {
    client,
    node,
    executor: "node",
    job: "job",
    program,
    isInline: false,
    unanswered: 10,
    packets: 100,
    inputBytes: 1000,
    cpuMs: 100,
    issuedAt: Date.now(),
    expiresAt: Date.now() + 60_000,
  };
  return signGrant({ ...terms, ...change }, hub);
}

/** A node whose executor does nothing by itself: what it got, and ways to answer. */
function openNode(): {
  readonly link: Link;
  readonly executors: RemoteExecutors;
  readonly ran: Uint8Array[];
  readonly lane: { listener: LaneListener | undefined; closed: number; cpuMs: number };
  readonly grants: Grants;
} {
  const { near, far } = memoryPair({ near: { role: "client", id: client }, far: { role: "node", id: node } });
  const ran: Uint8Array[] = [];
  const lane = { listener: undefined as LaneListener | undefined, closed: 0, cpuMs: 0 };
  const executor = {
    id: "node",
    load: async (_: unknown, listener: LaneListener) => {
      lane.listener = listener;
      return {
        get cpuMs() {
          return lane.cpuMs;
        },
        exec: (frame: Uint8Array) => void ran.push(frame),
        keep: async () => program,
        close: async () => void lane.closed++,
      };
    },
  } as Partial<Executor> as Executor;
  const grants = new Grants(hub.signingKey, node, Date.now() - 1000);
  serve(far, [new LaneService(far, { executors: [executor] }, grants)]);
  const executors = new RemoteExecutors(near);
  serve(near, [executors]);
  links.push(near);
  return { link: near, executors, ran, lane, grants };
}
const links: Link[] = [];
afterEach(async () => {
  for (const link of links.splice(0)) await link.close();
});

function listening(): LaneListener & { error: unknown; returns: number } {
  const heard = {
    error: undefined as unknown,
    returns: 0,
    returned: (frame: Uint8Array) => void (heard.returns += packetCount(frame)),
    logged: () => {},
    noted: () => {},
    lost: (error: unknown) => void (heard.error = error),
  };
  return heard;
}

test("a LOAD without a grant, or with one for something else, loads nothing", async () => {
  const { link, executors, lane } = openNode();
  const other = Identity.create();
  const wrong: readonly (Grant | undefined)[] = [
    undefined,
    granted({ client: other.id }),
    granted({ node: other.id }),
    granted({ executor: "node-code" }),
    granted({ program: new Uint8Array(32) }),
    granted({ isInline: true }),
    granted({ expiresAt: Date.now() }),
    granted({ issuedAt: Date.now() + 3_600_000 }),
    granted({ issuedAt: Date.now() - 3_600_000 }),
    { ...granted(), packets: 1_000_000 },
  ];
  for (const grant of wrong) {
    const load = { executor: "node", program, ...(grant === undefined ? {} : { grant }) };
    await expect(executors.load(load, listening(), signal)).rejects.toMatchObject({
      code: "PFS_GRANT_INVALID",
    });
  }
  const inline = { executor: "node", program: { inline: program }, grant: granted() };
  await expect(executors.load(inline, listening(), signal)).rejects.toMatchObject({
    code: "PFS_GRANT_INVALID",
  });
  for (const meta of [
    { executor: "node", grant: {} },
    { executor: "node", grant: { ...granted(), packets: -1 } },
  ]) {
    const packets = encodePacket({ op: Op.LOAD, lane: 9, ref: program });
    await expect(link.request({ type: MessageType.LOAD, meta, packets })).rejects.toMatchObject({
      code: "PFS_META_INVALID",
    });
  }
  expect(lane.listener).toBe(undefined);
  // Nobody but the hub may withdraw, and nobody but the hub has results kept.
  for (const [type, meta] of [
    [MessageType.GRANT, { op: "withdraw", job: "job" }],
    [MessageType.KEEP, { lane: 1, name: "x" }],
  ] as const)
    await expect(link.request({ type, meta })).rejects.toMatchObject({ code: "PFS_NOT_ALLOWED" });
});

test("packets beyond the grant are not run, and end the lane; the session goes on", async () => {
  const { executors, ran, lane } = openNode();
  const listener = listening();
  const grant = granted();
  const opened = await executors.load({ executor: "node", program, grant }, listener, signal);
  opened.exec(emptyFrame(6));
  opened.exec(emptyFrame(5, 6));
  await until(() => listener.error !== undefined);
  expect(listener.error).toMatchObject({ code: "PFS_GRANT_EXCEEDED", data: { of: "unanswered", max: 10 } });
  expect(ran.map(packetCount)).toEqual([6]);
  expect(lane.closed).toBe(1);
  // The same grant for another lane: what the first one had used stays used.
  const again = listening();
  const second = await executors.load({ executor: "node", program, grant }, again, signal);
  for (let round = 0; round < 9; round++) {
    second.exec(emptyFrame(10, round * 10));
    await until(() => ran.length === round + 2 || again.error !== undefined);
    lane.listener!.returned(emptyFrame(10, round * 10));
  }
  second.exec(emptyFrame(5, 90));
  await until(() => again.error !== undefined);
  expect(again.error).toMatchObject({ code: "PFS_GRANT_EXCEEDED", data: { of: "packets", max: 100 } });
  expect(ran.map(packetCount)).toEqual([6, ...Array.from({ length: 9 }, () => 10)]);
});

test("answers that come when a lane is over are nobody's, and make no room for more packets", async () => {
  const { executors, ran, lane, grants } = openNode();
  const load = { executor: "node", program, grant: granted() };
  const closed = listening();
  const first = await executors.load(load, closed, signal);
  first.exec(emptyFrame(10));
  await until(() => ran.length === 1);
  expect(grants.packets).toEqual({ inFlight: 10, done: 0 });
  await first.close();
  await until(() => lane.closed === 1);
  const late = lane.listener!;
  const listener = listening();
  const second = await executors.load(load, listener, signal);
  late.returned(emptyFrame(10));
  late.lost(new WireError(WireErrorCode.nodeLost, "it is gone"));
  second.exec(emptyFrame(9));
  await until(() => ran.length === 2);
  lane.listener!.returned(emptyFrame(4));
  expect(grants.packets).toEqual({ inFlight: 5, done: 4 });
  second.exec(emptyFrame(6));
  await until(() => listener.error !== undefined);
  expect(listener.error).toMatchObject({ code: "PFS_GRANT_EXCEEDED", data: { of: "unanswered", max: 10 } });
  expect([closed.error, closed.returns, grants.packets]).toEqual([undefined, 0, { inFlight: 0, done: 4 }]);
});

test("CPU time beyond the grant ends the lane", async () => {
  const { executors, ran, lane } = openNode();
  const listener = listening();
  const opened = await executors.load({ executor: "node", program, grant: granted() }, listener, signal);
  for (const cpuMs of [60, 100, 101]) {
    opened.exec(emptyFrame(1));
    await until(() => ran.length > 0);
    ran.length = 0;
    lane.cpuMs = cpuMs;
    lane.listener!.returned(emptyFrame(1));
    await until(() => listener.returns > 0);
    listener.returns = 0;
  }
  await until(() => listener.error !== undefined);
  expect(listener.error).toMatchObject({ code: "PFS_GRANT_EXCEEDED", data: { of: "cpuMs", max: 100 } });
  expect(lane.closed).toBe(1);
});

test("a lane goes on under the next grant, and ends with the last", async () => {
  const { executors, ran, lane } = openNode();
  const listener = listening();
  const first = granted({ expiresAt: Date.now() + 300 });
  const opened = await executors.load({ executor: "node", program, grant: first }, listener, signal);
  opened.exec(emptyFrame(10));
  await expect(opened.renew(granted({ client: hub.id }))).rejects.toMatchObject({
    code: "PFS_GRANT_INVALID",
  });
  const next = granted({ expiresAt: Date.now() + 1500 });
  await opened.renew(next);
  await sleep(400);
  expect([listener.error, lane.closed]).toEqual([undefined, 0]);
  // What was under way before counts among what may be.
  lane.listener!.returned(emptyFrame(4));
  opened.exec(emptyFrame(4, 10));
  await until(() => ran.length === 2);
  await until(() => listener.error !== undefined);
  expect(listener.error).toMatchObject({ code: "PFS_GRANT_ENDED", data: { reason: "it has expired" } });
  expect([ran.map(packetCount), lane.closed]).toEqual([[10, 4], 1]);
});

test("a grant that ends while its program is being loaded leaves no lane", async () => {
  const { near, far } = memoryPair({ near: { role: "client", id: client }, far: { role: "node", id: node } });
  links.push(near);
  let closed = 0;
  const waiting: (() => void)[] = [];
  const executor = {
    id: "node",
    load: async () => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return { exec: () => {}, keep: async () => program, close: async () => void closed++ };
    },
  } as Partial<Executor> as Executor;
  const grants = new Grants(hub.signingKey, node, Date.now() - 1000);
  serve(far, [new LaneService(far, { executors: [executor] }, grants)]);
  const meta = { executor: "node", grant: granted() };
  const packets = encodePacket({ op: Op.LOAD, lane: 9, ref: program });
  const loading = near.request({ type: MessageType.LOAD, meta, packets });
  const refused = expect(loading).rejects.toMatchObject({ code: "PFS_GRANT_ENDED" });
  await until(() => waiting.length > 0);
  grants.withdraw("job", Date.now());
  waiting.pop()!();
  await refused;
  expect(closed).toBe(1);
  // Packet code has its 32 bytes in the grant.
  const code = { executor: "node", grant: granted({ isInline: true, job: "code" }) };
  const inline = encodePacket({ op: Op.LOAD, flags: Flag.INLINE, lane: 9, ref: program });
  const loaded = near.request({ type: MessageType.LOAD, meta: code, packets: inline });
  await until(() => waiting.length > 0);
  waiting.pop()!();
  expect((await loaded).type).toBe(MessageType.LOADED);
});
