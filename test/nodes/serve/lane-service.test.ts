/** What a hub sends to a node's lanes is looked at where it comes in, and nowhere after that. */
import { expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { encodeFrame, encodePacket } from "../../../packets/packet.ts";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import { Role } from "../../../nodes/wire/link.ts";
import type { Link, OutMessage, PeerInfo, Reply, WireMessage } from "../../../nodes/wire/link.ts";
import type { Executor, LaneListener } from "../../../runtime/contracts/executor.ts";
import { ZERO_REF, emptyFrame } from "../../suites/exec-packets.ts";

const [HUB, CLIENT, OTHER] = ["0a", "0b", "0c"].map((digits) => digits.repeat(16)) as [
  string,
  string,
  string,
];

function linkTo(peer: Pick<PeerInfo, "role" | "id">): Link {
  return { peer } as Link;
}

test("a program is of whom the hub says, and of nobody else where another peer says so", async () => {
  const tenants: unknown[] = [];
  const executor = {
    id: "executor",
    load: async (_program, _listener, _signal, tenant) => {
      tenants.push(tenant);
      return { close: async () => undefined };
    },
  } as Partial<Executor> as Executor;
  const load = async (peer: Pick<PeerInfo, "role" | "id">, tenant?: string): Promise<unknown> => {
    await using lanes = new LaneService(linkTo(peer), { executors: [executor] });
    const packets = encodePacket({ op: Op.LOAD, lane: 1, ref: new Uint8Array(32) });
    const meta = { executor: "executor", ...(tenant === undefined ? {} : { tenant }) };
    const message = { type: MessageType.LOAD, meta, packets } as unknown as WireMessage;
    const reply = { signal: new AbortController().signal } as Reply;
    await lanes.handlers.get(MessageType.LOAD)!(message, reply);
    return tenants.pop();
  };
  const hub = { role: Role.hub, id: HUB };
  expect(await load(hub, CLIENT)).toBe(CLIENT);
  // One of an older version, which says nothing of tenants.
  expect(await load(hub)).toBe(HUB);
  expect(await load({ role: Role.client, id: CLIENT }, OTHER)).toBe(CLIENT);
  for (const bad of ["", "local", OTHER.slice(1), OTHER.toUpperCase(), `${OTHER}\n`]) {
    await expect(load(hub, bad)).rejects.toMatchObject({ code: "PFS_META_INVALID" });
  }
});

test("a frame that is none is refused, and nothing of it is run", async () => {
  const ran: Uint8Array[] = [];
  const lane = {
    exec: (frame: Uint8Array) => void ran.push(frame),
    keep: async () => new Uint8Array(32),
    close: async () => undefined,
  };
  const executor = { id: "executor", load: async () => lane } as Partial<Executor> as Executor;
  await using lanes = new LaneService(linkTo({ role: Role.hub, id: HUB }), { executors: [executor] });
  const reply = { signal: new AbortController().signal } as Reply;
  const packets = encodePacket({ op: Op.LOAD, lane: 1, ref: new Uint8Array(32) });
  const load = { type: MessageType.LOAD, meta: { executor: "executor" }, packets } as unknown as WireMessage;
  await lanes.handlers.get(MessageType.LOAD)!(load, reply);
  const run = async (frame: Uint8Array, number = 1): Promise<unknown> => {
    const message = { type: MessageType.EXEC, meta: { lane: number }, packets: frame };
    return await lanes.handlers.get(MessageType.EXEC)!(message as unknown as WireMessage, reply);
  };
  const frame = emptyFrame(2);
  const flipped = frame.slice();
  flipped[64 + 14] = 5;
  const noLane = encodeFrame([{ op: Op.EXEC }]);
  for (const bad of [
    frame.subarray(0, 65),
    flipped,
    encodeFrame([{ op: Op.NOP }]),
    noLane,
    emptyFrame(4097),
  ]) {
    await expect(run(bad)).rejects.toMatchObject({ code: "PFS_PACKET_INVALID" });
  }
  expect(ran).toEqual([]);
  await run(frame);
  await run(frame, 2);
  expect(ran).toEqual([frame]);
});

test("frames that say their lane themselves need no metadata, and neither do their answers", async () => {
  const heard = new Map<number, LaneListener>();
  const ran: Uint8Array[] = [];
  const sent: OutMessage[] = [];
  const executor = {
    id: "executor",
    load: async (_program, listener) => {
      const number = heard.size + 1;
      heard.set(number, listener);
      return {
        exec: (frame) => void ran.push(frame),
        keep: async () => ZERO_REF,
        close: async () => undefined,
      };
    },
  } as Partial<Executor> as Executor;
  const notify = (message: OutMessage): void => void sent.push(message);
  await using lanes = new LaneService(
    { ...linkTo({ role: Role.hub, id: HUB }), notify },
    { executors: [executor] },
  );
  const reply = { signal: new AbortController().signal } as Reply;
  const say = async (type: MessageType, packets: Uint8Array, meta?: object): Promise<unknown> =>
    await lanes.handlers.get(type)!({ type, meta, packets } as unknown as WireMessage, reply);
  for (const lane of [1, 2])
    await say(MessageType.LOAD, encodePacket({ op: Op.LOAD, lane, ref: ZERO_REF }), { executor: "executor" });

  const of = (lane: number, op: Op = Op.EXEC): Uint8Array =>
    encodeFrame([0, 1].map((at) => ({ op, lane, at, ...(op === Op.RETURN ? { flags: Flag.INLINE } : {}) })));
  await say(MessageType.EXEC, of(2));
  await say(MessageType.EXEC, of(3));
  expect(ran).toEqual([of(2)]);
  await say(MessageType.EXEC, of(7), { lane: 1 });
  expect(ran).toEqual([of(2), of(7)]);
  await expect(say(MessageType.EXEC, new Uint8Array(0))).rejects.toMatchObject({ code: "PFS_META_INVALID" });

  heard.get(2)!.returned(of(2, Op.RETURN));
  heard.get(1)!.returned(of(7, Op.RETURN));
  expect(sent.map(({ type, meta }) => [type, meta])).toEqual([
    [MessageType.RETURN, undefined],
    [MessageType.RETURN, { lane: 1 }],
  ]);
});

test("the memory of a large frame is free once the lane has it", async () => {
  const ran: Uint8Array[] = [];
  const lane = {
    exec: (frame: Uint8Array) => void ran.push(frame),
    keep: async () => ZERO_REF,
    close: async () => undefined,
  };
  const executor = { id: "executor", load: async () => lane } as Partial<Executor> as Executor;
  await using lanes = new LaneService(linkTo({ role: Role.hub, id: HUB }), { executors: [executor] });
  const reply = { signal: new AbortController().signal } as Reply;
  const packets = encodePacket({ op: Op.LOAD, lane: 1, ref: ZERO_REF });
  const load = { type: MessageType.LOAD, meta: { executor: "executor" }, packets } as unknown as WireMessage;
  await lanes.handlers.get(MessageType.LOAD)!(load, reply);
  const frame = emptyFrame(100);
  const message = { type: MessageType.EXEC, packets: frame.slice() } as unknown as WireMessage;
  await lanes.handlers.get(MessageType.EXEC)!(message, reply);
  expect(ran).toEqual([frame]);
  expect(message.packets.byteLength).toBe(0);
  // What shares its memory with something else stays as it is.
  const shared = new Uint8Array(2 * frame.byteLength);
  shared.set(frame);
  const part = { type: MessageType.EXEC, packets: shared.subarray(0, frame.byteLength) };
  await lanes.handlers.get(MessageType.EXEC)!(part as unknown as WireMessage, reply);
  expect(ran).toEqual([frame, frame]);
  expect(shared.byteLength).toBe(2 * frame.byteLength);
});
