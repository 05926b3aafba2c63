/**
 * All transfers of a channel, both ways: heads are read and written here, numbers are given out, and each message finds whom it
 * is for. Pure, as what it puts together: after each event whoever drives it takes the actions and does them in order.
 */
import type { Ref } from "../../../packets/digest.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import { TRANSFERS_PER_CHANNEL_MAX } from "../../limits.ts";
import { invalidTransfer } from "./byte-ranges.ts";
import { RECORD_BYTES, TransferKind, decodeTransfer, encodeTransfer } from "./messages.ts";
import type { FileOffer, OfferTerms, TransferMessage } from "./messages.ts";
import type { Gate } from "./out-gate.ts";
import { FileReceiver } from "./receiver.ts";
import type { Grant, PlacedAside, ReceiverAction, WantedFile } from "./receiver.ts";
import { TransferSender, failedMessage } from "./sender.ts";
import type { SenderAction } from "./sender.ts";
import type { TransferStats } from "./statistics.ts";

export type TransferAction<Body> =
  /**
   * A message for the peer, in this order; with a cost, `sender.left` once the channel has sent it or dropped it. With a gate it goes
   * through one (out-gate.ts); with a grant it is credit, or what asks for a run, and whoever places messages aside hears of it first.
   */
  | {
      readonly kind: "send";
      readonly type: TransferKind;
      readonly head: Uint8Array;
      readonly body?: Body;
      readonly cost: number;
      readonly gate?: Gate;
      readonly grant?: Grant;
    }
  /** The peer would send something: `accept`, `known` or `refuse`. */
  | { readonly kind: "offered"; readonly offer: FileOffer }
  | Exclude<SenderAction<Body>, { readonly kind: "send" }>
  | Exclude<ReceiverAction<Body>, { readonly kind: "reply" }>;

function noMore(): WireError {
  return new WireError(WireErrorCode.cancelled, "the transfer is over where it comes from");
}

export class Transfers<Body> {
  readonly sender: TransferSender<Body>;
  readonly #bodyBytes: (body: Body) => number;
  readonly #receivers = new Map<number, FileReceiver<Body>>();
  readonly #offers = new Set<number>();
  #actions: TransferAction<Body>[] = [];
  #next: number;
  #lastOfPeer = 0;

  constructor(options: { readonly isDialer: boolean; readonly bodyBytes: (body: Body) => number }) {
    this.#next = options.isDialer ? 1 : 2;
    this.#bodyBytes = options.bodyBytes;
    this.sender = new TransferSender((action) => {
      if (action.kind === "send") return this.#send(action.message, action);
      this.#actions.push(action);
      return 0;
    });
  }

  takeActions(): TransferAction<Body>[] {
    const actions = this.#actions;
    this.#actions = [];
    return actions;
  }

  /** Asks the peer for a file. */
  get(wanted: WantedFile): FileReceiver<Body> {
    return this.#receive(this.#number(), wanted);
  }

  /** Offers the peer a root, and returns the transfer's number. */
  offer(root: Ref, length: number, terms: OfferTerms = { bases: [] }): number {
    const transfer = this.#number();
    this.sender.offer(transfer, root, length, terms);
    return transfer;
  }

  /** Asks for what was offered. */
  accept(
    { transfer, root, length }: FileOffer,
    wanted: Pick<WantedFile, "bases" | "resume">,
  ): FileReceiver<Body> {
    this.#take(transfer);
    return this.#receive(transfer, { ...wanted, root, length });
  }

  /** All of what was offered is here. */
  known({ transfer }: FileOffer): void {
    this.#take(transfer);
    this.#send({ kind: TransferKind.FILE_END, transfer, run: 0, isDone: true });
  }

  refuse({ transfer }: FileOffer, error: PacketfsError): void {
    this.#take(transfer);
    this.#send(failedMessage(transfer, 0, error));
  }

  /**
   * A message that came. Throws PFS_TRANSFER_INVALID {reason} and PFS_META_INVALID for what no honest peer sends, which ends
   * the channel; what ends a transfer only is told by an action.
   */
  received(type: number, head: Uint8Array, body: Body | undefined): void {
    const bodyBytes = body === undefined ? 0 : this.#bodyBytes(body);
    const message = decodeTransfer(type, head, bodyBytes);
    const { transfer } = message;
    if (message.kind === TransferKind.FILE_OFFER) this.#offered(message);
    else if (message.kind === TransferKind.FILE_REQUEST) {
      if (this.sender.has(transfer) || this.#isNew(transfer)) this.sender.requested(message);
      // What was offered is offered no more, and whoever asks for it waits.
      else if (transfer % 2 === this.#next % 2) this.#send(failedMessage(transfer, message.run, noMore()));
    } else if (this.#receivers.has(transfer)) this.#toReceiver(message, body, bodyBytes);
    else if (this.sender.has(transfer)) this.#toSender(message);
    // What crossed the end of its transfer is of no use; what never was one is no message.
    else if (!this.#wasThere(transfer)) throw invalidTransfer("no such transfer");
    else if (body !== undefined) this.#actions.push({ kind: "drop", body });
    const stats = this.#statsOf(transfer);
    if (stats !== undefined) stats.receivedBytes += RECORD_BYTES + head.byteLength + bodyBytes;
  }

  /** Messages of a transfer that were placed where they came, and what was granted for them, by so many bytes of messages. */
  placedAside(
    transfer: number,
    run: number,
    {
      messages,
      granted,
      sentBytes,
    }: {
      readonly messages: readonly PlacedAside[];
      readonly granted: number;
      readonly sentBytes: number;
    },
  ): void {
    const receiver = this.#receivers.get(transfer);
    if (receiver === undefined) return;
    receiver.grantedAside(run, granted);
    receiver.stats.sentBytes += sentBytes;
    for (const message of messages) {
      receiver.stats.receivedBytes += RECORD_BYTES + message.bytes;
      receiver.placedAside(run, message);
    }
  }

  /** The channel is over, and with it all that was sent and received: what is here need not come again (`WantedFile.resume`). */
  lost(error: PacketfsError): void {
    this.#receivers.clear();
    this.#offers.clear();
    this.sender.lost(error);
  }

  #toReceiver(message: TransferMessage, body: Body | undefined, bodyBytes: number): void {
    switch (message.kind) {
      case TransferKind.FILE_START:
      case TransferKind.FILE_DATA:
      case TransferKind.FILE_COMPLETE:
      case TransferKind.FILE_LOST:
      case TransferKind.FILE_FAILED:
        return this.#receivers.get(message.transfer)!.received(message, body, bodyBytes);
      default:
        throw invalidTransfer("a message of a receiver to one");
    }
  }

  #toSender(message: TransferMessage): void {
    switch (message.kind) {
      case TransferKind.FILE_CREDIT:
      case TransferKind.FILE_WRONG:
      case TransferKind.FILE_END:
      case TransferKind.FILE_FAILED:
        return this.sender.received(message);
      default:
        throw invalidTransfer("a message of a sender to one");
    }
  }

  #offered(offer: FileOffer): void {
    if (!this.#isNew(offer.transfer)) throw invalidTransfer("an offer under a number that was used");
    this.#offers.add(offer.transfer);
    if (this.#offers.size + this.#receivers.size <= TRANSFERS_PER_CHANNEL_MAX) {
      this.#actions.push({ kind: "offered", offer });
      return;
    }
    const max = TRANSFERS_PER_CHANNEL_MAX;
    this.refuse(offer, new WireError("PFS_PEER_QUOTA", `a channel has ${max} transfers at a time`, { max }));
  }

  /** Whether the peer may begin a transfer under this number: then it has. */
  #isNew(transfer: number): boolean {
    if (transfer % 2 === this.#next % 2) {
      if (transfer >= this.#next) throw invalidTransfer("a number of the other side");
      return false;
    }
    if (transfer <= this.#lastOfPeer) return false;
    this.#lastOfPeer = transfer;
    return true;
  }

  #wasThere(transfer: number): boolean {
    return transfer % 2 === this.#next % 2 ? transfer < this.#next : transfer <= this.#lastOfPeer;
  }

  #number(): number {
    const number = this.#next;
    this.#next += 2;
    return number;
  }

  #take(transfer: number): void {
    if (!this.#offers.delete(transfer)) throw new Error("an offer is answered once");
  }

  #receive(transfer: number, wanted: WantedFile): FileReceiver<Body> {
    const receiver = new FileReceiver<Body>(transfer, wanted, (action) => {
      if (action.kind === "reply") this.#send(action.message, action);
      else {
        if (action.kind === "received") this.#receivers.delete(transfer);
        this.#actions.push(action);
      }
    });
    this.#receivers.set(transfer, receiver);
    receiver.request();
    return receiver;
  }

  /** Returns what it has on the wire, in bytes. */
  #send(
    message: TransferMessage,
    more: { readonly body?: Body; readonly cost?: number; readonly gate?: Gate; readonly grant?: Grant } = {},
  ): number {
    const { body, cost = 0, gate, grant } = more;
    const head = encodeTransfer(message);
    const stats = this.#statsOf(message.transfer);
    const bytes = RECORD_BYTES + head.byteLength + (body === undefined ? 0 : this.#bodyBytes(body));
    // Credit is counted by whoever grants it to the peer, and data when it is granted.
    const isCounted = message.kind !== TransferKind.FILE_CREDIT && message.kind !== TransferKind.FILE_DATA;
    if (stats !== undefined && isCounted) stats.sentBytes += bytes;
    this.#actions.push({
      kind: "send",
      type: message.kind,
      head,
      cost,
      ...(body === undefined ? {} : { body }),
      ...(gate === undefined ? {} : { gate }),
      ...(grant === undefined ? {} : { grant }),
    });
    return bytes;
  }

  #statsOf(transfer: number): TransferStats | undefined {
    return this.#receivers.get(transfer)?.stats ?? this.sender.statsOf(transfer);
  }
}
