/** A peer that is let in and says hello as it must, and from then on says whatever a test wants. */
import { randomBytes } from "node:crypto";
import type { Dealer } from "zeromq";
import { MessageType } from "../../../packets/envelope.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { ClientHandshake } from "../../../nodes/wire/handshake/client-handshake.ts";
import { errorOf } from "../../../nodes/wire/session/errors.ts";
import { fromParts, outFrame, toParts } from "../../../nodes/wire/session/message.ts";
import type { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { OutMessage, Role, WireMessage } from "../../../nodes/wire/link.ts";
import { list } from "./network.ts";
import type { Network } from "./network.ts";

export class RawPeer {
  readonly socket: Dealer;
  /** Everything that it said in its handshake. */
  readonly said: Uint8Array[][] = [];
  counter = 0;

  constructor(socket: Dealer) {
    this.socket = socket;
  }

  /** Sends a well-formed message with the next counter. */
  async say(message: OutMessage, fields: { request?: number; flags?: number } = {}): Promise<void> {
    await this.send(toParts(outFrame(message, fields), ++this.counter, 0));
  }

  async send(parts: readonly Uint8Array[]): Promise<void> {
    await this.socket.send([...parts]);
  }

  /** The next message that is neither PING nor CREDIT. */
  async hear(): Promise<WireMessage> {
    for (;;) {
      const received = fromParts(await this.socket.receive());
      if (received.kind !== "message") throw new Error("the server said something invalid");
      const { type } = received.message;
      if (type !== MessageType.PING && type !== MessageType.CREDIT) return received.message;
    }
  }

  /** What the server says when it ends the session or refuses it. */
  async hearError(): Promise<PacketfsError> {
    for (;;) {
      const message = await this.hear();
      if (message.type === MessageType.ERROR) return errorOf(message);
    }
  }
}

/** Sets a routing id of any bytes, which `routingId` does not take. */
export function chooseRoutingId(socket: Dealer, routingId: Uint8Array): void {
  const ZMQ_ROUTING_ID = 5;
  const options = socket as unknown as { setStringOption(option: number, value: Buffer): void };
  options.setStringOption(ZMQ_ROUTING_ID, Buffer.from(routingId));
}

/** Says hello; the peer is in a session when this resolves. Rejects with the server's error. */
export async function rawPeer(network: Network, identity: Identity, role: Role = "client"): Promise<RawPeer> {
  if (network.allowList.byId(identity.id) === undefined) list(network.allowList, identity, role);
  const peer = new RawPeer(network.socket(identity));
  const handshake = new ClientHandshake({
    address: network.address,
    server: network.hub,
    identity,
    role,
    self: { label: "raw", features: [], executors: [] },
    random: () => randomBytes(32),
  });
  const say = async (parts: Uint8Array[]): Promise<void> => {
    peer.said.push(parts);
    await peer.send(parts);
  };
  await say(handshake.hello());
  for (;;) {
    const step = handshake.receive(await peer.socket.receive());
    if (step.kind === "failed") throw step.error;
    if (step.kind === "welcomed") return peer;
    await say(step.parts);
  }
}
