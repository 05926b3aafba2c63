/** What a dialing side says in the clear, as libzmq really says it. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { FRAME_PACKETS_MAX, MESSAGE_CHUNK_BYTES_MAX, META_BYTES_MAX } from "../../../packets/limits.ts";
import { UNDELIVERED_BYTES_MAX } from "../../../nodes/limits.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { lineBytes, readBeginning } from "../../../nodes/wire/zeromq/zmtp.ts";
import { createContext, createDealer } from "../../../nodes/wire/zeromq/sockets.ts";
import { until } from "../../suites/until.ts";
import { list, openNetwork } from "./network.ts";
import type { Network } from "./network.ts";
import { openRelay } from "./relay.ts";
import type { Relay } from "./relay.ts";

let network: Network;
let relay: Relay;
/** All that a dialing side says until it is let in. */
let said: Buffer;

beforeAll(async () => {
  network = await openNetwork({
    onLink: (link) => link.onRequest((_, reply) => reply({ type: MessageType.OK })),
  });
  relay = await openRelay(network.address);
  const identity = Identity.create();
  list(network.allowList, identity, "client");
  const socket = createDealer({
    context: createContext(),
    identity,
    serverKey: network.hub.curveKey,
    ipv6: false,
  });
  socket.connect(`tcp://${relay.address}`);
  const parts = [0, 1, 222, 223, 1000, 100_000].map((bytes) => new Uint8Array(bytes));
  await socket.send(parts);
  const bytes = parts.reduce((sum, part) => sum + lineBytes(part.byteLength), 0);
  // A machine that is very busy may need more than one connection.
  const whole = (): Buffer | undefined =>
    relay.said.find((one) => readInitiateEnd(one) + bytes === one.byteLength);
  await until(() => whole() !== undefined);
  said = whole()!.subarray(0, readInitiateEnd(whole()!));
  socket.linger = 0;
  socket.close();
});

afterAll(async () => {
  await relay[Symbol.asyncDispose]();
  await network.close();
});

function readInitiateEnd(bytes: Buffer): number {
  const beginning = readBeginning(bytes);
  return beginning.kind === "initiated" ? beginning.initiateEnd : Number.NaN;
}

test("a beginning is read alike wherever it is cut", () => {
  const initiateAt = 64 + 202;
  for (let bytes = 0; bytes <= said.byteLength; bytes++) {
    const beginning = readBeginning(said.subarray(0, bytes));
    if (bytes < 10) expect(beginning).toEqual({ kind: "begun" });
    else if (bytes < said.byteLength)
      expect(beginning).toEqual({ kind: "greeted", passable: Math.min(bytes, initiateAt) });
    else expect(beginning).toEqual({ kind: "initiated", initiateAt, initiateEnd: bytes });
  }
});

test("what is not CURVE is known by its first wrong byte", () => {
  // Signature, version, mechanism, the names of both commands, and the length of the second.
  for (const at of [0, 9, 10, 12, 16, 31, 64, 65, 66, 71, 266, 267, 275, 283]) {
    const wrong = Buffer.from(said);
    wrong[at] = at === 10 ? 1 : wrong[at]! ^ 0x20;
    expect([at, readBeginning(wrong.subarray(0, at + 20)).kind]).toEqual([at, "foreign"]);
  }
  for (const text of ["GET / HTTP/1.1\r\n", "\0\0\0\0", "SSH-2.0-x"]) {
    expect(readBeginning(Buffer.from(text)).kind).toBe("foreign");
  }
});

test("a connection may have more under way than one message holds", () => {
  const parts = [64, META_BYTES_MAX, FRAME_PACKETS_MAX * 64, MESSAGE_CHUNK_BYTES_MAX];
  const largest = parts.reduce((sum, bytes) => sum + lineBytes(bytes), 0);
  expect(UNDELIVERED_BYTES_MAX / 2).toBeGreaterThan(largest);
});
