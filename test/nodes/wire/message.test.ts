/** Messages as frames: few packets stand behind their envelope, and what a peer puts there is looked at. */
import { expect, test } from "vitest";
import { ENVELOPE_BYTES, MessageType, encodeEnvelope } from "../../../packets/envelope.ts";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { fromParts, outFrame, toParts } from "../../../nodes/wire/session/message.ts";
import { emptyFrame } from "../../suites/exec-packets.ts";

const type = MessageType.EXEC;

function read(parts: readonly Uint8Array[]): unknown {
  const received = fromParts(parts);
  if (received.kind !== "message") return received;
  const { meta, packets, chunks } = received.message;
  return { meta, packets: Uint8Array.from(packets), chunks: Uint8Array.from(chunks) };
}

test.each([
  [0, undefined, 0, 1],
  [1, undefined, 0, 1],
  [16, undefined, 0, 1],
  [17, undefined, 0, 2],
  [1, { lane: 1 }, 0, 3],
  [3, undefined, 5, 2],
  [0, undefined, 5, 2],
  [17, { lane: 1 }, 5, 4],
])("%i packets with metadata %o and %i bytes of chunks are %i frames", (count, meta, bytes, frames) => {
  const packets = emptyFrame(count);
  const chunks = new Uint8Array(bytes).fill(7);
  const parts = toParts(outFrame({ type, meta, packets, chunks }), 1, 0);
  expect(parts).toHaveLength(frames);
  expect(read(parts)).toEqual({ meta, packets, chunks });
});

test("packets may stand in a frame of their own, however few", () => {
  const packets = emptyFrame(2);
  const envelope = encodeEnvelope({ type, packetBytes: packets.byteLength, counter: 1 });
  expect(read([envelope, packets])).toEqual({ meta: undefined, packets, chunks: new Uint8Array(0) });
});

test.each([
  ["more than the envelope says", { packetBytes: PACKET_BYTES }, 2 * PACKET_BYTES, []],
  ["less than the envelope says", { packetBytes: 2 * PACKET_BYTES }, PACKET_BYTES, []],
  ["something where the envelope says nothing", {}, 1, []],
  ["more than a few", { packetBytes: 17 * PACKET_BYTES }, 17 * PACKET_BYTES, []],
  ["packets before metadata", { metaBytes: 1, packetBytes: PACKET_BYTES }, PACKET_BYTES, [1]],
  ["the packets twice", { packetBytes: PACKET_BYTES }, PACKET_BYTES, [PACKET_BYTES]],
  ["a chunk", { chunkBytes: PACKET_BYTES }, PACKET_BYTES, []],
])("%s behind an envelope is against the rules", (_, sizes, room, others) => {
  const head = encodeEnvelope({ type, counter: 1, ...sizes }, room);
  expect(head.byteLength).toBe(ENVELOPE_BYTES + room);
  const parts = [head, ...others.map((bytes) => new Uint8Array(bytes))];
  expect(fromParts(parts)).toMatchObject({ kind: "invalid" });
});
