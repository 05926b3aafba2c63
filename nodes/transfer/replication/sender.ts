/**
 * The sender's side of all transfers of a channel: which of them is worked on next, what of it may leave, and what was asked
 * for again. Pure: events go in, actions come out, and whoever drives it reads and writes.
 */
import type { Ref } from "../../../packets/digest.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import { WireError } from "../../errors.ts";
import { boundedError } from "../../wire/session/errors.ts";
import {
  BULK_BODY_BYTES_MAX,
  BULK_HEAD_BYTES_MAX,
  TRANSFERS_PER_CHANNEL_MAX,
  TRANSFER_AHEAD_BYTES,
  TRANSFER_BOTTLENECK_SHARE,
  TRANSFER_COMPLAINTS_REFS_MAX,
  TRANSFER_COMPLAINT_REFS_MAX,
  TRANSFER_CREDIT_BYTES_MAX,
  TRANSFER_PACKET_BYTES,
  TRANSFER_QUEUE_BYTES_MAX,
  TRANSFER_READY_BYTES_MAX,
} from "../../limits.ts";
import { invalidTransfer } from "./byte-ranges.ts";
import { TransferKind, costOf } from "./messages.ts";
import type {
  DataHead,
  FileFailed,
  FileRequest,
  FileWrong,
  OfferTerms,
  ToReceiver,
  ToSender,
} from "./messages.ts";
import type { Gate } from "./out-gate.ts";
import { noStats } from "./statistics.ts";
import type { TransferEnd, TransferStats } from "./statistics.ts";

/** What one message of FILE_DATA brings. */
export interface DataUnit<Body> extends DataHead {
  readonly body: Body;
  readonly bodyBytes: number;
  readonly chunks: number;
  readonly plainBytes: number;
  readonly patchedChunks: number;
  readonly compressedChunks: number;
}

/** What a transfer sends. */
export interface SentRoot {
  readonly root: Ref;
  readonly length: number;
  readonly version?: number | undefined;
  /** Whether the ranges of the request are left out. */
  readonly isResumed: boolean;
  /** Bytes of the body of most messages; as many as there may be, if left out. */
  readonly bodyBytes?: number;
}

/** What takes the time, as far as credit says it: much of it is unused, or waits at the receiver to be placed, or neither. */
export type Bottleneck = "sender" | "receiver" | "link";

export type SenderAction<Body> =
  /** Find the root and begin to walk it: `opened` or `failed`. A walk of that transfer that is there is given up. */
  | { readonly kind: "open"; readonly request: FileRequest }
  /** The next of what the receiver lacks: `produced` or `failed`. */
  | {
      readonly kind: "produce";
      readonly transfer: number;
      readonly run: number;
      readonly bottleneck: Bottleneck;
    }
  /** Verify these chunks here, mend them where that can be, and pack the first of them without a base: `reread`. */
  | {
      readonly kind: "reread";
      readonly transfer: number;
      readonly run: number;
      readonly refs: readonly Ref[];
    }
  /** `left`, once the channel has sent it or dropped it. What has a gate goes through one (out-gate.ts). */
  | {
      readonly kind: "send";
      readonly message: ToReceiver;
      readonly body?: Body;
      readonly cost: number;
      readonly gate?: Gate;
    }
  /** It is over. Whatever is kept for it is of no use any more. */
  | ({ readonly kind: "sent" } & TransferEnd);

/** What was made of chunks that a receiver complained about. */
export interface Reread<Body> {
  /** How many of the first of them are dealt with: they are in the unit, or lost. */
  readonly done: number;
  readonly unit: DataUnit<Body> | undefined;
  readonly lost: readonly Ref[];
}

/** A message that is made, and not granted. */
interface Ahead {
  /** What the run costs up to it, with it. */
  readonly at: number;
  readonly cost: number;
  readonly contents: Contents;
}

/** What is counted of a message, if it leaves. */
type Contents = Pick<
  TransferStats,
  "sentBytes" | "chunks" | "plainBytes" | "patchedChunks" | "compressedChunks"
>;

const MESSAGE_BYTES_MAX = costOf(BULK_HEAD_BYTES_MAX, BULK_BODY_BYTES_MAX);

/** `reading`: its root is looked for, or what comes next of it is read. */
interface Sending<Body> {
  readonly transfer: number;
  readonly stats: TransferStats;
  request: FileRequest | undefined;
  /** A request that came while the one before was being opened. */
  next: FileRequest | undefined;
  isOpen: boolean;
  isReading: boolean;
  isExhausted: boolean;
  ready: DataUnit<Body> | undefined;
  granted: number;
  /** What waits at the receiver to be placed. */
  waiting: number;
  spent: number;
  /** The oldest first. */
  ahead: Ahead[];
  messages: number;
  /** What most messages cost at most. */
  messageBytes: number;
  /** Its share of the channel so far: the one with the least is next. */
  share: number;
  complaint: number;
  wrong: Ref[];
  /** The last FILE_COMPLETE said so; -1 before the first. */
  answered: number;
}

export class TransferSender<Body> {
  readonly #transfers = new Map<number, Sending<Body>>();
  readonly #emit: (action: SenderAction<Body>) => number;
  /** Bytes that were granted, and that the channel has not sent yet; less where it knew before this did that they were. */
  #queued = 0;
  /** Bytes that the channel has, and that are not granted. */
  #ahead = 0;
  /** The share that a new transfer begins with: it has missed nothing, and is owed nothing. */
  #share = 0;

  /** `emit` returns what a message has on the wire, in bytes; 0 for other actions. */
  constructor(emit: (action: SenderAction<Body>) => number) {
    this.#emit = emit;
  }

  /** Bytes that were read and wait, those that are being read counted as the largest message. */
  get readyBytes(): number {
    let bytes = 0;
    for (const { ready, isOpen, isReading } of this.#transfers.values()) {
      if (ready !== undefined) bytes += ready.bodyBytes + ready.packets.byteLength;
      if (isOpen && isReading) bytes += MESSAGE_BYTES_MAX;
    }
    return bytes;
  }

  get queuedBytes(): number {
    return this.#queued;
  }

  has(transfer: number): boolean {
    return this.#transfers.has(transfer);
  }

  statsOf(transfer: number): TransferStats | undefined {
    return this.#transfers.get(transfer)?.stats;
  }

  /** Offers a root under a number of this side: what the receiver lacks of it follows when it asks. */
  offer(transfer: number, root: Ref, length: number, terms: OfferTerms): void {
    this.#begin(transfer);
    const message = { kind: TransferKind.FILE_OFFER, transfer, root, length, ...terms } as const;
    this.#emit({ kind: "send", message, cost: 0 });
  }

  /** A receiver asks under a new number, or again under one that is there. */
  requested(request: FileRequest): void {
    let sending = this.#transfers.get(request.transfer);
    if (sending === undefined) {
      if (this.#transfers.size >= TRANSFERS_PER_CHANNEL_MAX) return this.#refuse(request);
      sending = this.#begin(request.transfer);
    }
    const before = sending.next ?? sending.request;
    if (request.run <= (before?.run ?? 0))
      throw invalidTransfer("a request that is no newer than the last one");
    // What is being opened or read for the request before ends first: a peer that asks without end has one at work.
    if (sending.isReading) sending.next = request;
    else this.#open(sending, request);
  }

  /** Throws PFS_TRANSFER_INVALID {reason}. What comes for an earlier request, or for what is over, is of no use any more. */
  received(message: Exclude<ToSender, FileRequest>): void {
    const sending = this.#transfers.get(message.transfer);
    if (sending === undefined) return;
    switch (message.kind) {
      case TransferKind.FILE_END: {
        const error = message.isDone
          ? undefined
          : new WireError("PFS_CANCELLED", "the receiver wants no more");
        return this.#end(sending, error);
      }
      case TransferKind.FILE_FAILED:
        return this.#end(sending, failureOf(message));
      case TransferKind.FILE_CREDIT:
        if (sending.request?.run !== message.run || sending.next !== undefined) return;
        if (message.granted - sending.spent > TRANSFER_CREDIT_BYTES_MAX)
          throw invalidTransfer("too much credit");
        sending.granted = Math.max(sending.granted, message.granted);
        sending.waiting = message.waiting;
        this.#catchUp(sending, sending.granted);
        return this.#pump();
      case TransferKind.FILE_WRONG:
        if (sending.request?.run === message.run && sending.next === undefined) this.#wrong(sending, message);
        return;
    }
  }

  /** The root is found, and its walk has begun. */
  opened(transfer: number, run: number, sent: SentRoot): void {
    const sending = this.#reading(transfer, run);
    if (sending === undefined) return;
    const { root, length, version, isResumed, bodyBytes } = sent;
    sending.isOpen = true;
    if (bodyBytes !== undefined) sending.messageBytes = costOf(TRANSFER_PACKET_BYTES, bodyBytes);
    const message = {
      kind: TransferKind.FILE_START,
      transfer,
      run,
      root,
      length,
      version,
      isResumed,
    } as const;
    this.#emit({ kind: "send", message, cost: 0, gate: gateOf(sending, 0) });
    this.#pump();
  }

  /** What comes next of a walk; undefined at its end. */
  produced(transfer: number, run: number, unit: DataUnit<Body> | undefined): void {
    const sending = this.#reading(transfer, run);
    if (sending === undefined) return;
    this.#isReady(sending, unit);
    sending.isExhausted = unit === undefined;
    this.#pump();
  }

  /** What became of chunks that were to be read again. */
  reread(transfer: number, run: number, { done, unit, lost }: Reread<Body>): void {
    const sending = this.#reading(transfer, run);
    if (sending === undefined) return;
    if (done < 1) throw new Error("nothing was read of what was asked for again");
    this.#isReady(sending, unit);
    sending.wrong.splice(0, done);
    if (lost.length > 0) {
      const message = { kind: TransferKind.FILE_LOST, transfer, run, refs: lost } as const;
      this.#emit({ kind: "send", message, cost: 0, gate: gateOf(sending, 0) });
    }
    this.#pump();
  }

  /** It cannot go on: the receiver is told. */
  failed(transfer: number, error: PacketfsError): void {
    const sending = this.#transfers.get(transfer);
    if (sending === undefined) return;
    const run = (sending.next ?? sending.request)?.run ?? 0;
    this.#emit({ kind: "send", message: failedMessage(transfer, run, error), cost: 0 });
    this.#end(sending, error);
  }

  /** The channel has what it was given, of that cost. */
  left(cost: number): void {
    this.#queued -= cost;
    this.#pump();
  }

  /** The channel is over. */
  lost(error: PacketfsError): void {
    const transfers = [...this.#transfers.values()];
    this.#transfers.clear();
    for (const { transfer, stats } of transfers) this.#emit({ kind: "sent", transfer, stats, error });
  }

  #begin(transfer: number): Sending<Body> {
    const sending: Sending<Body> = {
      transfer,
      stats: noStats(),
      request: undefined,
      next: undefined,
      isOpen: false,
      isReading: false,
      isExhausted: false,
      ready: undefined,
      granted: 0,
      waiting: 0,
      spent: 0,
      ahead: [],
      messages: 0,
      messageBytes: MESSAGE_BYTES_MAX,
      share: this.#share,
      complaint: 0,
      wrong: [],
      answered: -1,
    };
    this.#transfers.set(transfer, sending);
    return sending;
  }

  #open(sending: Sending<Body>, request: FileRequest): void {
    sending.request = request;
    sending.next = undefined;
    sending.isOpen = false;
    sending.isReading = true;
    sending.isExhausted = false;
    sending.ready = undefined;
    this.#dropAhead(sending);
    sending.granted = request.credit;
    sending.waiting = 0;
    sending.spent = 0;
    sending.messages = 0;
    sending.complaint = 0;
    sending.wrong = [];
    sending.answered = -1;
    sending.stats.runs++;
    this.#emit({ kind: "open", request });
  }

  #refuse({ transfer, run }: FileRequest): void {
    const max = TRANSFERS_PER_CHANNEL_MAX;
    const error = new WireError("PFS_PEER_QUOTA", `a channel has ${max} transfers at a time`, { max });
    this.#emit({ kind: "send", message: failedMessage(transfer, run, error), cost: 0 });
  }

  /** The transfer whose reading has an answer, if that is of use: a newer request is what is read for next. */
  #reading(transfer: number, run: number): Sending<Body> | undefined {
    const sending = this.#transfers.get(transfer);
    if (sending?.request?.run !== run || !sending.isReading) return undefined;
    sending.isReading = false;
    if (sending.next === undefined) return sending;
    this.#open(sending, sending.next);
    return undefined;
  }

  #isReady(sending: Sending<Body>, unit: DataUnit<Body> | undefined): void {
    if (unit !== undefined && costOf(unit.packets.byteLength, unit.bodyBytes) > MESSAGE_BYTES_MAX)
      throw new Error("a message of a transfer is too long");
    sending.ready = unit;
  }

  #wrong(sending: Sending<Body>, { complaint, refs }: FileWrong): void {
    if (complaint !== sending.complaint + 1) throw invalidTransfer("complaints out of order");
    if (!sending.isOpen) throw invalidTransfer("a complaint before anything came");
    if (sending.wrong.length + refs.length > TRANSFER_COMPLAINTS_REFS_MAX)
      throw invalidTransfer("more complaints than may wait");
    sending.complaint = complaint;
    sending.wrong.push(...refs);
    sending.stats.wrongChunks += refs.length;
    this.#pump();
  }

  /** Sends and reads as much as there is room for. */
  #pump(): void {
    const order = [...this.#transfers.values()].sort(
      (a, b) =>
        Number(b.request?.isUrgent ?? false) - Number(a.request?.isUrgent ?? false) || a.share - b.share,
    );
    for (const sending of order) {
      if (!sending.isOpen || sending.next !== undefined) continue;
      if (sending.ready !== undefined) this.#send(sending, sending.ready);
      if (sending.ready === undefined && !sending.isReading) this.#read(sending);
    }
  }

  #send(sending: Sending<Body>, unit: DataUnit<Body>): void {
    const { form, packets, body, bodyBytes } = unit;
    const cost = costOf(packets.byteLength, bodyBytes);
    if (!this.#hasRoom(sending, cost) || this.#queued >= TRANSFER_QUEUE_BYTES_MAX) return;
    const { transfer } = sending;
    sending.ready = undefined;
    sending.spent += cost;
    this.#share = Math.max(this.#share, sending.share);
    sending.share += cost;
    sending.messages++;
    const { run } = sending.request!;
    const number = sending.messages;
    const message = { kind: TransferKind.FILE_DATA, transfer, run, number, form, packets } as const;
    const sentBytes = this.#emit({ kind: "send", message, body, cost, gate: gateOf(sending, sending.spent) });
    const { chunks, plainBytes, patchedChunks, compressedChunks } = unit;
    const contents = { sentBytes, chunks, plainBytes, patchedChunks, compressedChunks };
    sending.ahead.push({ at: sending.spent, cost, contents });
    this.#ahead += cost;
    this.#catchUp(sending, sending.granted);
  }

  /**
   * Whether so many bytes may be made: what was granted, and some ahead of it, that is there when more is granted. What is ahead is
   * bounded for all transfers together.
   */
  #hasRoom({ spent, granted }: Sending<Body>, cost: number): boolean {
    const over = spent + cost - granted;
    if (over <= 0) return true;
    return over <= TRANSFER_AHEAD_BYTES && this.#ahead + cost <= TRANSFER_QUEUE_BYTES_MAX;
  }

  /** What was ahead is not any more, up to what was granted: it leaves. */
  #catchUp({ ahead, stats }: Sending<Body>, granted: number): void {
    while (ahead.length > 0 && ahead[0]!.at <= granted) {
      const { cost, contents } = ahead.shift()!;
      this.#ahead -= cost;
      this.#queued += cost;
      stats.messages++;
      for (const key of Object.keys(contents) as (keyof Contents)[]) stats[key] += contents[key];
    }
  }

  /** What is ahead never leaves, as far as is known here: the channel drops it. */
  #dropAhead(sending: Sending<Body>): void {
    for (const { cost } of sending.ahead.splice(0)) {
      this.#ahead -= cost;
      this.#queued += cost;
    }
  }

  #read(sending: Sending<Body>): void {
    const { transfer, isExhausted, wrong } = sending;
    const { run } = sending.request!;
    if (isExhausted && wrong.length === 0) return this.#complete(sending);
    // Without room for whatever it will be, what is read would only lie there, in the way of other transfers.
    if (!this.#hasRoom(sending, sending.messageBytes)) return;
    if (this.readyBytes + MESSAGE_BYTES_MAX > TRANSFER_READY_BYTES_MAX) return;
    sending.isReading = true;
    if (wrong.length === 0) this.#emit({ kind: "produce", transfer, run, bottleneck: bottleneckOf(sending) });
    else this.#emit({ kind: "reread", transfer, run, refs: wrong.slice(0, TRANSFER_COMPLAINT_REFS_MAX) });
  }

  #complete(sending: Sending<Body>): void {
    const { transfer, messages, spent, complaint } = sending;
    if (sending.answered === complaint) return;
    sending.answered = complaint;
    const { run } = sending.request!;
    const said = { transfer, run, messages, bytes: spent, answered: complaint };
    const message = { kind: TransferKind.FILE_COMPLETE, ...said } as const;
    this.#emit({ kind: "send", message, cost: 0, gate: gateOf(sending, 0) });
  }

  #end(sending: Sending<Body>, error: PacketfsError | undefined): void {
    const { transfer, stats } = sending;
    this.#transfers.delete(transfer);
    this.#dropAhead(sending);
    this.#emit({ kind: "sent", transfer, stats, error });
    this.#pump();
  }
}

function bottleneckOf<Body>({ request, granted, spent, waiting }: Sending<Body>): Bottleneck {
  const much = request!.credit * TRANSFER_BOTTLENECK_SHARE;
  if (waiting >= much) return "receiver";
  return granted - spent >= much ? "sender" : "link";
}

function gateOf<Body>({ transfer, request, granted }: Sending<Body>, at: number): Gate {
  return { transfer, run: request!.run, at, granted };
}

export function failedMessage(transfer: number, run: number, error: PacketfsError): FileFailed {
  const { code, message, data } = boundedError(error);
  return { kind: TransferKind.FILE_FAILED, transfer, run, code, message, data };
}

export function failureOf({ code, message, data }: FileFailed): PacketfsError {
  return new PacketfsError(code, message, data);
}
