/**
 * The bulk channels of one thread: a port's, in its proxy's, or those that this process dials, in one of their own.
 *
 * A connection cannot go from one thread to another, and another hop costs a copy of everything. Beside a channel at the speed of
 * memory, on two cores that were both full, a question of a session at the same port took 3 to 10 ms in the median, 0.3 without. So this
 * thread only seals, opens and verifies piece by piece, and waits for no disk.
 */
import { connect } from "node:net";
import type { Socket } from "node:net";
import type { MessagePort } from "node:worker_threads";
import { errorToJson, messageOf } from "../../../packets/errors.ts";
import { BULK_READ_BYTES, CONNECT_TIMEOUT_MS } from "../../limits.ts";
import { keyToHex } from "../trust/keys.ts";
import { bulkGreeting } from "./beginning.ts";
import type { BulkBeginning } from "./beginning.ts";
import { bulkUnavailable } from "./errors.ts";
import type { MakeOffload } from "./offload.ts";
import type { FromBulk, ToBulk } from "./protocol.ts";
import { discard } from "./record.ts";
import { BulkResources, ThreadChannel } from "./thread-channel.ts";

const NOTHING = new Uint8Array(0);

export class BulkEngine {
  readonly #port: MessagePort;
  readonly #resources = new BulkResources();
  readonly #channels = new Map<number, ThreadChannel>();
  /** Those that are expected, by the digits of their tickets; and the tickets by channel. */
  readonly #expected = new Map<string, ToBulk & { readonly kind: "expect" }>();
  readonly #tickets = new Map<number, string>();

  readonly #makeOffload: MakeOffload;

  /** Does what is asked over the port, until it is told to end. */
  constructor(port: MessagePort, makeOffload: MakeOffload) {
    this.#port = port;
    this.#makeOffload = makeOffload;
    port.on("message", (message: ToBulk) => this.#do(message));
  }

  /**
   * Somebody came with a ticket. Has the connection from then on, and true, where that is who was expected; `rest` is what
   * it said behind the beginning.
   */
  accept({ ticket, hello }: BulkBeginning, socket: Socket, rest: Uint8Array): boolean {
    const digits = keyToHex(ticket);
    const expected = this.#expected.get(digits);
    if (expected === undefined) return false;
    const { channel: number, agreement } = expected;
    const channel = this.#make(number, agreement, true);
    // A ticket can be read on the line: it is not used up by somebody without the key.
    if (!channel.isGreetedBy(hello)) return false;
    this.#forget(number);
    this.#channels.set(number, channel);
    channel.start(socket, NOTHING);
    if (rest.byteLength > 0) channel.receive(rest);
    // The memory of what was read is Node's own, and anew for each read.
    socket.on("data", (bytes: Buffer<ArrayBuffer>) => {
      channel.receive(bytes);
      discard(bytes);
    });
    return true;
  }

  /** Ends all channels. */
  close(): void {
    for (const channel of this.#channels.values()) channel.cut();
    this.#resources.close();
    this.#port.close();
  }

  #do(message: ToBulk): void {
    switch (message.kind) {
      case "expect": {
        const digits = keyToHex(message.agreement.ticket);
        this.#expected.set(digits, message);
        this.#tickets.set(message.channel, digits);
        return;
      }
      case "dial":
        return this.#dial(message);
      case "end":
        return this.close();
      case "send":
        return this.#channels.get(message.channel)?.send(message);
      case "offload":
        return this.#channels.get(message.channel)?.told(message.said);
      case "take":
        return this.#channels.get(message.channel)?.take(message.message);
      case "place":
        return void this.#channels.get(message.channel)?.place(message.message, message.placement);
      case "drop":
        return this.#channels.get(message.channel)?.drop(message.message);
      case "close":
        return this.#channels.get(message.channel)?.close();
      case "cut":
        if (this.#forget(message.channel)) return this.#gone(message.channel);
        return this.#channels.get(message.channel)?.cut();
    }
  }

  /** Whether it was expected. */
  #forget(channel: number): boolean {
    const digits = this.#tickets.get(channel);
    this.#tickets.delete(channel);
    return digits !== undefined && this.#expected.delete(digits);
  }

  #gone(channel: number): void {
    this.#channels.delete(channel);
    this.#tell({ kind: "gone", channel });
  }

  #dial({ channel: number, host, port, agreement }: ToBulk & { readonly kind: "dial" }): void {
    const channel = this.#make(number, agreement, false);
    this.#channels.set(number, channel);
    const buffer = Buffer.allocUnsafeSlow(BULK_READ_BYTES);
    const socket = connect({
      host,
      port,
      noDelay: true,
      keepAlive: true,
      onread: { buffer, callback: (bytes) => channel.receive(buffer.subarray(0, bytes)) },
    });
    const failed = (error: unknown): void => {
      socket.destroy();
      if (!this.#channels.has(number)) return;
      const unavailable = bulkUnavailable(`the port cannot be reached for one: ${messageOf(error)}`, error);
      this.#tell({ kind: "closed", channel: number, error: errorToJson(unavailable) });
      this.#gone(number);
    };
    socket.once("error", failed);
    socket.setTimeout(CONNECT_TIMEOUT_MS, () => failed(new Error("no connection in time")));
    socket.once("connect", () => {
      socket.off("error", failed);
      socket.setTimeout(0);
      // It may have been given up meanwhile.
      if (this.#channels.get(number) !== channel) return void socket.destroy();
      channel.start(socket, bulkGreeting(agreement.ticket));
    });
  }

  #make(
    channel: number,
    agreement: (ToBulk & { readonly kind: "dial" })["agreement"],
    isPort: boolean,
  ): ThreadChannel {
    return new ThreadChannel({
      channel,
      agreement,
      isPort,
      resources: this.#resources,
      makeOffload: this.#makeOffload,
      tell: (message, transferred) => this.#tell(message, transferred),
      onGone: () => {
        if (this.#channels.has(channel)) this.#gone(channel);
      },
    });
  }

  #tell(message: FromBulk, transferred: readonly ArrayBuffer[] = []): void {
    this.#port.postMessage(message, transferred);
  }
}
