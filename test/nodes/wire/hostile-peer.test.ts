/** A peer with a valid key that does not keep to the rules: its session ends with a reason, and nobody else notices. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { EnvelopeOffset, MessageType, encodeEnvelope } from "../../../packets/envelope.ts";
import { packetCheck } from "../../../packets/crc32.ts";
import { writeInteger32 } from "../../../packets/integer.ts";
import { FRAME_PACKETS_MAX, MESSAGE_CHUNK_BYTES_MAX, META_BYTES_MAX } from "../../../packets/limits.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { openNetwork } from "./network.ts";
import type { Network } from "./network.ts";
import { rawPeer } from "./raw-peer.ts";

let network: Network;
let honest: Link;
const { WANT, OK, EXEC, PING, ERROR } = MessageType;

beforeAll(async () => {
  network = await openNetwork({ onLink: (link) => link.onRequest((_, reply) => reply({ type: OK })) });
  honest = await network.dial();
});

afterAll(async () => {
  await honest.request({ type: WANT });
  await network.close();
});

const body = (bytes: number): Uint8Array => new Uint8Array(bytes);

/** An envelope with one byte changed and its check made right again. */
function changed(offset: number, value: number): Uint8Array {
  const bytes = encodeEnvelope({ type: WANT, request: 1, counter: 1 });
  bytes[offset] = value;
  writeInteger32(bytes, EnvelopeOffset.check, packetCheck(bytes, 0));
  return bytes;
}

const OFFENCES: readonly (readonly [string, readonly Uint8Array[], RegExp])[] = [
  ["an empty envelope", [body(0), body(0)], /not 64 bytes/],
  ["bytes that are no envelope", [body(64)], /PFS1/],
  ["an envelope whose check is wrong", [encodeEnvelope({ type: WANT }).fill(1, 20, 21)], /check/],
  ["another version", [changed(EnvelopeOffset.version, 9)], /version/],
  ["an undefined flag", [changed(EnvelopeOffset.flags, 128)], /flag/],
  ["an undefined priority", [changed(EnvelopeOffset.priority, 7)], /priority/],
  ["five frames", [encodeEnvelope({ type: WANT }), body(1), body(64), body(1), body(1)], /5 frames/],
  ["six hundred frames", Array.from({ length: 600 }, () => body(1024)), /600 frames/],
  ["a frame that was not announced", [encodeEnvelope({ type: WANT, counter: 1 }), body(8)], /announces/],
  [
    "an announced frame that is missing",
    [encodeEnvelope({ type: WANT, counter: 1, metaBytes: 9 })],
    /announces/,
  ],
  [
    "a frame of another size",
    [encodeEnvelope({ type: WANT, counter: 1, chunkBytes: 9 }), body(8)],
    /announces/,
  ],
  [
    "too much metadata",
    [changed(EnvelopeOffset.meta + 2, 255), body(META_BYTES_MAX + 1)],
    /meta frame above/,
  ],
  [
    "too many packets",
    [changed(EnvelopeOffset.packets + 3, 1), body(FRAME_PACKETS_MAX * 64 + 64)],
    /packet frame above/,
  ],
  ["too many chunk bytes", [changed(EnvelopeOffset.chunks + 3, 1), body(1000)], /chunk frame above/],
  ["a handshake inside a session", [encodeEnvelope({ type: MessageType.WELCOME, counter: 1 })], /handshake/],
  [
    "metadata that is no MessagePack",
    [encodeEnvelope({ type: WANT, counter: 1, request: 1, metaBytes: 3 }), Uint8Array.of(0xc1, 0xff, 0)],
    /metadata is invalid/,
  ],
];

test.each(OFFENCES)("%s", async (_title, parts, reason) => {
  const peer = await rawPeer(network, Identity.create());
  await peer.send(parts);
  expect(await peer.hearError()).toMatchObject({
    code: "PFS_PEER_OFFENDED",
    message: expect.stringMatching(reason),
  });
  // What it says then is not listened to, but it is told so once.
  await peer.say({ type: WANT }, { request: 1 });
  expect(await peer.hearError()).toMatchObject({ code: "PFS_SESSION_UNKNOWN" });
  await honest.request({ type: WANT });
});

test("a type that nobody knows is answered with an error, and the session lives on", async () => {
  const peer = await rawPeer(network, Identity.create());
  await peer.send([changed(EnvelopeOffset.type, 200)]);
  peer.counter = 1;
  expect(await peer.hear()).toMatchObject({
    type: ERROR,
    requestId: 1,
    meta: { code: "PFS_MESSAGE_UNKNOWN" },
  });
  await peer.say({ type: WANT }, { request: 2 });
  expect(await peer.hear()).toMatchObject({ type: OK, requestId: 2 });
});

test("a message that comes twice, or late, is taken once", async () => {
  let heard = 0;
  const identity = Identity.create();
  const peer = await rawPeer(network, identity);
  network.links.at(-1)!.onRequest((_, reply) => {
    heard++;
    reply({ type: OK });
  });
  const parts = [encodeEnvelope({ type: WANT, request: 1, counter: 1 })];
  for (let times = 0; times < 1000; times++) await peer.send(parts);
  peer.counter = 1;
  await peer.say({ type: WANT }, { request: 2 });
  expect((await peer.hear()).requestId).toBe(1);
  expect((await peer.hear()).requestId).toBe(2);
  expect(heard).toBe(2);
});

test("a gap in the counter ends the session, because something was lost", async () => {
  const peer = await rawPeer(network, Identity.create());
  const link = network.links.at(-1)!;
  await peer.send([encodeEnvelope({ type: WANT, request: 1, counter: 7 })]);
  expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST" });
});

test("the same request number twice ends the session", async () => {
  const peer = await rawPeer(network, Identity.create());
  network.links.at(-1)!.onRequest(() => undefined);
  await peer.say({ type: WANT }, { request: 5 });
  await peer.say({ type: WANT }, { request: 5 });
  expect(await peer.hearError()).toMatchObject({ code: "PFS_PEER_OFFENDED" });
});

test("answers that nobody asked for are ignored", async () => {
  const peer = await rawPeer(network, Identity.create());
  for (let request = 0; request < 1000; request++) await peer.say({ type: OK }, { request, flags: 1 });
  await peer.say({ type: WANT }, { request: 1 });
  expect(await peer.hear()).toMatchObject({ type: OK, requestId: 1 });
});

test("MessagePack bombs are refused without being built", async () => {
  const before = process.memoryUsage.rss();
  for (const bomb of bombs()) {
    const peer = await rawPeer(network, Identity.create());
    await peer.send([encodeEnvelope({ type: EXEC, counter: 1, metaBytes: bomb.byteLength }), bomb]);
    expect(await peer.hearError()).toMatchObject({ code: "PFS_PEER_OFFENDED" });
    peer.socket.close();
  }
  await honest.request({ type: WANT });
  expect(process.memoryUsage.rss() - before).toBeLessThan(96 * 1024 * 1024);
});

function bombs(): Uint8Array[] {
  const nested = (byte: number): Uint8Array => new Uint8Array(60_000).fill(byte);
  return [
    nested(0x91),
    nested(0x81),
    Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(0xdf, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(0xdb, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(0xc6, 0xff, 0xff, 0xff, 0xff),
    Uint8Array.of(0xc9, 0xff, 0xff, 0xff, 0xff, 1),
    // Arrays of arrays, each claiming as much as the rest could hold.
    new Uint8Array(60_000).fill(0x9f),
    Buffer.concat([Uint8Array.of(0xdc, 0xff, 0xff), new Uint8Array(60_000).fill(0xc0)]),
  ];
}

test("a frame above ZeroMQ's limit ends the connection, and memory does not grow", async () => {
  const peer = await rawPeer(network, Identity.create());
  const link = network.links.at(-1)!;
  const before = process.memoryUsage.rss();
  await peer.send([encodeEnvelope({ type: WANT, counter: 1 }), body(MESSAGE_CHUNK_BYTES_MAX * 4)]);
  expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST" });
  expect(process.memoryUsage.rss() - before).toBeLessThan(128 * 1024 * 1024);
  await honest.request({ type: WANT });
});

test("a flood of PING from a peer that does not listen keeps nobody else waiting, nor itself", async () => {
  const peer = await rawPeer(network, Identity.create());
  for (let times = 0; times < 20_000; times++) await peer.say({ type: PING });
  await honest.request({ type: WANT });
  await peer.say({ type: WANT }, { request: 1 });
  let pongs = 0;
  for (let heard = await peer.hear(); heard.type !== OK; heard = await peer.hear()) {
    if (heard.type === MessageType.PONG) pongs++;
  }
  expect(pongs).toBeGreaterThan(0);
});

test("a notification that its handler cannot read ends the session", async () => {
  const peer = await rawPeer(network, Identity.create());
  network.links.at(-1)!.onRequest(() => {
    throw new Error("not in the shape that it must have");
  });
  await peer.say({ type: EXEC });
  expect(await peer.hearError()).toMatchObject({ code: "PFS_PEER_OFFENDED" });
});

test("a signed HELLO that is said again inside its own session ends it", async () => {
  const peer = await rawPeer(network, Identity.create());
  await peer.send(peer.said[1]!);
  expect(await peer.hearError()).toMatchObject({ code: "PFS_HELLO_REPLAYED" });
  expect(network.events.some(({ kind }) => kind === "offence")).toBe(true);
});
