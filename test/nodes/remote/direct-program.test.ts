/** Nodes that lie to a client, say nothing, or are not granted any more: its answers are the hub's then, and right. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { atOf, encodeFrame, packetCount } from "../../../packets/packet.ts";
import { WireError, WireErrorCode } from "../../../nodes/errors.ts";
import { signGrant } from "../../../nodes/grants/grant.ts";
import { DIRECT_INPUT_BYTES_MAX, GRANT_MS, GRANT_RENEW_MS } from "../../../nodes/limits.ts";
import type { DirectNode, GrantedMeta } from "../../../nodes/messages.ts";
import { DirectProgram } from "../../../nodes/remote/direct-program.ts";
import type { NodeLinks } from "../../../nodes/remote/node-links.ts";
import type { RemoteExecutors, RemoteLane } from "../../../nodes/remote/remote-executor.ts";
import { Identity, keysToJson } from "../../../nodes/wire/trust/keys.ts";
import type { LaneListener } from "../../../runtime/contracts/executor.ts";
import { emptyFrame, exec, ZERO_REF } from "../../suites/exec-packets.ts";

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] }));
afterEach(() => void vi.useRealTimers());

const PACKET_MS = 6 * GRANT_RENEW_MS;
const hub = Identity.create();
const node = Identity.create();

function granted(unanswered = 1000, others = 0): GrantedMeta {
  const terms = {
    client: hub.id,
    node: node.id,
    executor: "node",
    job: "job",
    program: ZERO_REF,
    isInline: false,
    unanswered,
    packets: 100_000,
    inputBytes: 1_000_000,
    cpuMs: 1000,
    issuedAt: Date.now(),
    expiresAt: Date.now() + GRANT_MS,
  };
  const grant = signGrant(terms, hub);
  const one: DirectNode = {
    id: node.id,
    label: "node",
    address: "node:1",
    ...keysToJson(node),
    weight: 2,
    grant,
  };
  return { nodes: [one], others, packetMs: PACKET_MS };
}

/** RETURN packets, one for each place, that say in their length who made them. */
function answers(places: readonly number[], maker: number): Uint8Array {
  return encodeFrame(places.map((at) => ({ op: Op.RETURN, lane: 1, at, length: maker })));
}
const NODE = 7;
const HUB = 9;
const places = (count: number, first = 0): number[] =>
  Array.from({ length: count }, (_, index) => first + index);

function open(
  grants: () => GrantedMeta | Promise<GrantedMeta> = granted,
  dialed: Promise<unknown> = Promise.resolve(),
): {
  readonly program: DirectProgram;
  readonly sent: Uint8Array[];
  readonly relayed: Uint8Array[];
  readonly node: { listener: LaneListener; closed: number; renewed: number; refuses: boolean };
} {
  const sent: Uint8Array[] = [];
  const relayed: Uint8Array[] = [];
  const fake = { listener: undefined as unknown as LaneListener, closed: 0, renewed: 0, refuses: false };
  const lane: Partial<RemoteLane> = {
    number: 3,
    exec: (frame) => void sent.push(frame),
    renew: async () => {
      if (fake.refuses) throw new WireError(WireErrorCode.grantInvalid, "refused");
      fake.renewed++;
    },
    close: async () => void fake.closed++,
  };
  const load: RemoteExecutors["load"] = async (_, listener) => {
    fake.listener = listener;
    return lane as RemoteLane;
  };
  const program = new DirectProgram({
    ask: async () => grants(),
    nodes: {
      to: async () => dialed.then(() => ({ load }) as RemoteExecutors),
    } as Partial<NodeLinks> as NodeLinks,
    relay: async (frame) => {
      relayed.push(frame);
      return answers(places(packetCount(frame)), HUB);
    },
  });
  return { program, sent, relayed, node: fake };
}

async function begin({ program, relayed }: ReturnType<typeof open>): Promise<void> {
  await program.exec(emptyFrame(1));
  await program.exec(emptyFrame(1));
  await program.settled();
  relayed.length = 0;
}

test("answers in any order, twice, and to nothing that was asked", async () => {
  const opened = open();
  await begin(opened);
  const { program, sent, relayed, node: fake } = opened;
  const first = program.exec(emptyFrame(5));
  const second = program.exec(emptyFrame(3));
  expect(sent.map((frame) => places(packetCount(frame)).map((index) => atOf(frame, index)))).toEqual([
    [0, 1, 2, 3, 4],
    [5, 6, 7],
  ]);
  fake.listener.returned(answers([7, 6, 4, 4, 1, 2, 2 ** 40, 900], NODE));
  fake.listener.returned(answers([4, 7], NODE));
  fake.listener.returned(answers([3, 0, 1, 5], NODE));
  expect(await first).toEqual(answers(places(5), NODE));
  expect(await second).toEqual(answers(places(3), NODE));
  fake.listener.returned(answers(places(8), NODE));
  expect(relayed).toEqual([]);
});

test.each([
  ["something that is no answer", encodeFrame([{ op: Op.NOP }])],
  ["an EXEC", emptyFrame(1)],
  ["damaged bytes", answers([2], NODE).map((byte, index) => (index === 30 ? byte ^ 1 : byte))],
])("%s ends its lane, and the hub does what it has not done", async (_, frame) => {
  const opened = open();
  await begin(opened);
  const { program, relayed, node: fake } = opened;
  const running = program.exec(emptyFrame(4));
  fake.listener.returned(answers([1], NODE));
  fake.listener.returned(frame);
  const expected = answers(places(4), HUB);
  expected.set(answers([1], NODE), PACKET_BYTES);
  expect(await running).toEqual(expected);
  expect([relayed.map(packetCount), fake.closed]).toEqual([[3], 1]);
  // From then on all of it, whatever is granted.
  await vi.advanceTimersByTimeAsync(GRANT_RENEW_MS);
  await program.settled();
  expect(await program.exec(emptyFrame(2))).toEqual(answers(places(2), HUB));
});

test("a fault that would not come everywhere is not the answer", async () => {
  const opened = open();
  await begin(opened);
  const { program, node: fake } = opened;
  const running = program.exec(emptyFrame(3));
  const fault = (at: number, from: number): Uint8Array => encodeFrame([{ op: Op.FAULT, lane: 1, at, from }]);
  const own = fault(1, FaultCode.threw);
  fake.listener.returned(Buffer.concat([answers([0], NODE), own, fault(2, FaultCode.inputMissing)]));
  expect(await running).toEqual(Uint8Array.from(Buffer.concat([answers([0], NODE), own, answers([2], HUB)])));
});

test("what does not fit a grant, or reads much where there are others, goes through the hub", async () => {
  const opened = open(() => granted(10, 2));
  await begin(opened);
  const { program, sent, relayed } = opened;
  const running = program.exec(emptyFrame(10));
  expect(sent.map(packetCount)).toEqual([10]);
  expect(await program.exec(emptyFrame(11))).toEqual(answers(places(11), HUB));
  const large = encodeFrame([exec(0, ZERO_REF, 0, DIRECT_INPUT_BYTES_MAX + 1)]);
  await program.exec(large);
  expect([sent.length, relayed.length]).toEqual([1, 2]);
  const ended = expect(running).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  await program.close();
  await ended;
});

test("grants are renewed while packets come or are under way, and what nobody uses is given back", async () => {
  const opened = open();
  await begin(opened);
  const { program, relayed, node: fake } = opened;
  const running = program.exec(emptyFrame(2));
  for (const renewed of [1, 2]) {
    await vi.advanceTimersByTimeAsync(GRANT_RENEW_MS);
    await program.settled();
    expect(fake.renewed).toBe(renewed);
  }
  fake.listener.returned(answers([0, 1], NODE));
  expect(await running).toEqual(answers(places(2), NODE));
  await vi.advanceTimersByTimeAsync(2 * GRANT_RENEW_MS);
  expect([fake.renewed, fake.closed, relayed.length]).toEqual([2, 1, 0]);
  // It begins anew with whoever comes.
  await begin(opened);
  const again = program.exec(emptyFrame(1));
  fake.listener.returned(answers([0], NODE));
  expect(await again).toEqual(answers([0], NODE));
});

test.each(["never answers", "answers others"])(
  "a node that %s is left alone after what packets may take",
  async (how) => {
    const opened = open();
    await begin(opened);
    const { program, node: fake } = opened;
    const left = program.exec(emptyFrame(2));
    let at = 2;
    let looks = 0;
    for (; fake.closed === 0; looks++) {
      if (how === "answers others") {
        const other = program.exec(emptyFrame(1));
        fake.listener.returned(answers([at++], NODE));
        expect(await other).toEqual(answers([0], NODE));
      }
      await vi.advanceTimersByTimeAsync(GRANT_RENEW_MS);
      await program.settled();
    }
    expect(looks).toBe(PACKET_MS / GRANT_RENEW_MS + 1);
    expect(await left).toEqual(answers(places(2), HUB));
    expect(await program.exec(emptyFrame(1))).toEqual(answers([0], HUB));
  },
);

test("a node that never answers is left alone, though the hub does not say again what is granted", async () => {
  let asked = 0;
  const never = new Promise<never>(() => {});
  const opened = open(() => (asked++ === 0 ? granted() : never));
  await begin(opened);
  const { program, node: fake } = opened;
  const left = program.exec(emptyFrame(2));
  await vi.advanceTimersByTimeAsync(PACKET_MS + 2 * GRANT_RENEW_MS);
  expect([asked, fake.closed]).toEqual([2, 1]);
  expect(await left).toEqual(answers(places(2), HUB));
});

test.each(["looked at", "closed"])(
  "a lane that another is in the place of is %s like that one",
  async (how) => {
    const opened = open();
    await begin(opened);
    const { program, node: fake } = opened;
    const left = program.exec(emptyFrame(2));
    fake.refuses = true;
    for (let round = 0; round < 2; round++) {
      await vi.advanceTimersByTimeAsync(GRANT_RENEW_MS);
      await program.settled();
      fake.refuses = false;
    }
    // The new one answers, and the former one does not.
    const other = program.exec(emptyFrame(1));
    fake.listener.returned(answers([0], NODE));
    expect(await other).toEqual(answers([0], NODE));
    if (how === "closed") {
      const ended = expect(left).rejects.toMatchObject({ code: "PFS_CANCELLED" });
      await program.close();
      return await ended;
    }
    await vi.advanceTimersByTimeAsync(PACKET_MS);
    expect(await left).toEqual(answers(places(2), HUB));
  },
);

test("a program is closed at once, though a node cannot be reached", async () => {
  const opened = open(undefined, new Promise<never>(() => {}));
  const { program } = opened;
  await program.exec(emptyFrame(1));
  expect(await program.exec(emptyFrame(1))).toEqual(answers([0], HUB));
  await program.close();
});

test("who gives up waits no longer, and others go on", async () => {
  const opened = open();
  await begin(opened);
  const { program, node: fake } = opened;
  const controller = new AbortController();
  const given = program.exec(emptyFrame(2), controller.signal);
  const other = program.exec(emptyFrame(1));
  controller.abort(new Error("enough"));
  await expect(given).rejects.toThrow("enough");
  await expect(program.exec(emptyFrame(1), controller.signal)).rejects.toThrow("enough");
  fake.listener.returned(answers([0, 1, 2], NODE));
  expect(await other).toEqual(answers([0], NODE));
});

test("frames whose memory is used again are sent as they are, and relayed as they were", async () => {
  const opened = open();
  await begin(opened);
  const { program, sent, relayed, node: fake } = opened;
  const COUNT = 40;
  const given = (round: number): Uint8Array =>
    encodeFrame(places(COUNT).map((at) => exec(at, ZERO_REF, round, 1)));
  const asSent = (round: number): Uint8Array =>
    encodeFrame(places(COUNT).map((at) => ({ ...exec(round * COUNT + at, ZERO_REF, round, 1), lane: 3 })));
  for (let round = 0; round < 4; round++) {
    const frame = given(round);
    const running = program.exec(frame);
    expect(sent[round]).toEqual(asSent(round));
    // Its own memory is whose it was.
    expect(frame).toEqual(given(round));
    fake.listener.returned(answers(places(COUNT, round * COUNT), NODE));
    expect(await running).toEqual(answers(places(COUNT), NODE));
  }
  expect(new Set(sent.map(({ buffer }) => buffer)).size).toBe(1);
  // Two at a time have two memories, and what the node lost goes to the hub.
  const running = [4, 5].map((round) => program.exec(given(round)));
  expect(sent.slice(4)).toEqual([asSent(4), asSent(5)]);
  fake.listener.lost(new WireError(WireErrorCode.nodeLost, "lost"));
  await Promise.all(running);
  expect(relayed).toEqual([asSent(4), asSent(5)]);
});
