/** The channels of a thread, from the side of those who use them. */
import type { MessagePort } from "node:worker_threads";
import type { PacketfsError } from "../../../packets/errors.ts";
import { BulkChannelEnd } from "./channel.ts";
import type { Agreement } from "./keys.ts";
import type { FromBulk, ToBulk } from "./protocol.ts";

interface Entry {
  readonly channel: BulkChannelEnd;
  readonly opened: () => void;
}

export class BulkEnd {
  readonly #port: MessagePort;
  readonly #channels = new Map<number, Entry>();
  /** Channels that are over here, and not in the thread. */
  #ending = 0;
  #lastNumber = 0;

  constructor(port: MessagePort) {
    this.#port = port;
    port.on("message", (message: FromBulk) => {
      const entry = this.#channels.get(message.channel);
      if (message.kind === "opened") entry?.opened();
      if (message.kind === "gone") this.#channels.delete(message.channel);
      entry?.channel.heard(message);
    });
    // Whoever waits for a channel that is open has a session, which keeps the process.
    port.unref();
  }

  /** Whoever connects with the agreement's ticket gets the channel, of which `opened` is told. */
  expect(peer: string, agreement: Agreement, opened: () => void): BulkChannelEnd {
    return this.#make(peer, agreement, opened, (channel) => ({ kind: "expect", channel, agreement }));
  }

  dial(
    peer: string,
    { host, port }: { readonly host: string; readonly port: number },
    agreement: Agreement,
    opened: () => void,
  ): BulkChannelEnd {
    return this.#make(peer, agreement, opened, (channel) => ({
      kind: "dial",
      channel,
      host,
      port,
      agreement,
    }));
  }

  /** The thread is gone. */
  lost(error: PacketfsError): void {
    for (const { channel } of this.#channels.values()) channel.lost(error);
    this.#channels.clear();
    this.#port.close();
  }

  /** Whoever has files that the thread writes to must hear that it does no more. */
  #awaits(isAwaited: boolean): void {
    this.#ending += isAwaited ? 1 : -1;
    if (this.#ending > 0) this.#port.ref();
    else this.#port.unref();
  }

  #make(
    peer: string,
    { isClear }: Agreement,
    opened: () => void,
    ask: (channel: number) => ToBulk,
  ): BulkChannelEnd {
    const number = ++this.#lastNumber;
    const channel = new BulkChannelEnd({
      number,
      peer,
      isClear,
      post: (message, transferred = []) => this.#port.postMessage(message, transferred),
      awaits: (isAwaited) => this.#awaits(isAwaited),
    });
    this.#channels.set(number, { channel, opened });
    this.#port.postMessage(ask(number));
    return channel;
  }
}
