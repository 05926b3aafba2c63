/** A node that lies, as a process: joins the hub of a token and answers packets as the lie says. argv: token, label, lie. */
import { randomBytes } from "node:crypto";
import { laneOf } from "../../nodes/messages.ts";
import { Identity } from "../../nodes/wire/trust/keys.ts";
import { parseToken } from "../../nodes/wire/trust/token.ts";
import { Redialer } from "../../nodes/wire/zeromq/dial.ts";
import { answering, serve } from "../../nodes/serve/service.ts";
import type { Link, WireMessage } from "../../nodes/wire/link.ts";
import { MessageType } from "../../packets/envelope.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { atOf, encodeFrame, packetCount } from "../../packets/packet.ts";
import type { PacketFields } from "../../packets/packet.ts";
import { guestEdition } from "../../runtime/sandbox/edition.ts";

/** What stands in the answer to a packet. */
const ANSWERS: Readonly<Record<string, () => Omit<PacketFields, "at">>> = {
  faults: () => ({ op: Op.FAULT, flags: Flag.INLINE, from: FaultCode.internal, length: 0 }),
  "unknown-faults": () => ({ op: Op.FAULT, flags: Flag.INLINE, from: 99, length: 0 }),
  nowhere: () => ({ op: Op.RETURN, length: 100, ref: randomBytes(32) }),
  garbage: () => ({ op: Op.EXEC }),
};

const [token = "", label = "", lie = ""] = process.argv.slice(2);

function answer(link: Link, message: WireMessage): void {
  const { packets } = message;
  const lane = laneOf(message);
  const frame = Array.from({ length: packetCount(packets) }, (_, index) => ({
    ...ANSWERS[lie]!(),
    lane,
    at: atOf(packets, index),
  }));
  link.notify({ type: MessageType.RETURN, meta: { lane }, packets: encodeFrame(frame) });
}

function welcome(link: Link): void {
  serve(link, [
    answering(MessageType.LOAD, async () => {
      if (lie === "refuses") throw new PacketfsError("PFS_PROGRAM_INVALID", "this program is bad", {});
      return { type: MessageType.LOADED };
    }),
    answering(MessageType.EXEC, async (message) => {
      answer(link, message);
      return undefined;
    }),
    // It has whatever it is asked for, as it says, and keeps whatever it is told to.
    answering(MessageType.WANT, async ({ chunks }) => ({
      type: MessageType.HAVE,
      chunks: new Uint8Array(chunks.byteLength / 32).fill(1),
    })),
    answering(MessageType.KEEP, async () => ({ type: MessageType.OK, meta: { root: randomBytes(32) } })),
    answering(MessageType.CANCEL, async () => undefined),
    answering(MessageType.MEMBERS, async () => undefined),
  ]);
  process.send?.("joined");
}

const { address, curveKey, signingKey, secret } = parseToken(token, "join");
new Redialer({
  address,
  server: { curveKey, signingKey },
  identity: Identity.fromSecret(secret),
  joining: Identity.fromSecret(randomBytes(32)),
  role: "node",
  label,
  executors: [{ name: "liar", capacity: { js: 4 }, edition: guestEdition() }],
  listen: undefined,
  onLink: welcome,
  onFailure: (error) => process.stderr.write(`${error.message}\n`),
});
