/** What a hub sends to a node's lanes is looked at where it comes in, and nowhere after that. */
import { expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame, encodePacket } from "../../../packets/packet.ts";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import type { Link, Reply, WireMessage } from "../../../nodes/wire/link.ts";
import type { Executor } from "../../../runtime/contracts/executor.ts";
import { emptyFrame } from "../../suites/exec-packets.ts";

test("a frame that is none is refused, and nothing of it is run", async () => {
  const ran: Uint8Array[] = [];
  const lane = {
    exec: (frame: Uint8Array) => void ran.push(frame),
    keep: async () => new Uint8Array(32),
    close: async () => undefined,
  };
  const executor = { id: "executor", load: async () => lane } as Partial<Executor> as Executor;
  await using lanes = new LaneService({} as Link, [executor]);
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
