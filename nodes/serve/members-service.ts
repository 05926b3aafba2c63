/** Answers who is in the network: to clients of a hub. */
import { MessageType } from "../../packets/envelope.ts";
import type { NodeStatus } from "../messages.ts";
import type { OutMessage } from "../wire/link.ts";
import type { Handler, Service } from "./service.ts";

export class RosterService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;

  constructor(nodes: () => readonly NodeStatus[]) {
    const answer = async (): Promise<OutMessage> => ({
      type: MessageType.OK,
      chunks: Buffer.from(JSON.stringify(nodes())),
    });
    this.handlers = new Map([[MessageType.ROSTER, answer]]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // It holds nothing.
  }
}
