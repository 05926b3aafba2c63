/**
 * A bulk channel as its users have it: messages whose bodies are many bytes, between two ends of one session, which neither
 * pass through ZeroMQ nor through this thread unless somebody wants them here.
 */
import { errorToJson, PacketfsError } from "../../../packets/errors.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import {
  BULK_BODY_BYTES_MAX,
  BULK_HEAD_BYTES_MAX,
  BULK_QUEUE_BYTES_MAX,
  BULK_QUEUE_LOW_BYTES,
  MESSAGE_COST_BYTES,
} from "../../limits.ts";
import { closedHere, slow } from "../session/errors.ts";
import type { FileRanges, FromBulk, OutBody, Placed, Placement, ToBulk } from "./protocol.ts";

export interface BulkOutMessage {
  /** 0 to 65,535: what it is, to those who use the channel. */
  readonly type: number;
  /** At most 64 KiB. */
  readonly head?: Uint8Array;
  /**
   * At most 1 MiB: bytes, whose buffer is transferred where they are all of it, or what stands in files, which the channel's
   * thread reads.
   */
  readonly body?: Uint8Array<ArrayBuffer> | FileRanges;
  /** The receiver verifies the body by what it knows already, as chunks by their refs: so it may travel in the clear. */
  readonly isVerified?: boolean;
  /** Files that cannot be read are no reason not to send it: zeros go in their place, which the receiver finds to be wrong. */
  readonly fillsUnreadable?: boolean;
  /** What the channel's offload (offload.ts) is to know of it. */
  readonly held?: unknown;
}

/** A message that came. Its body stays in the channel's thread until somebody says what becomes of it, once. */
export interface BulkMessage {
  readonly type: number;
  readonly head: Uint8Array;
  readonly bodyBytes: number;
  /** The body came in the clear, so that anybody may have changed it. */
  readonly hasClearBody: boolean;
  /** The body, in memory of its own. Rejects with what ended the channel. */
  take(): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Has the chunks that it is made of verified and written in the channel's thread. Rejects with PFS_BULK_FILE_FAILED, with a
   * RangeError for lists that do not fit the body, and with what ended the channel.
   */
  place(placement: Placement): Promise<Placed>;
  /** Nobody needs it; so it is when its handler is done with it. */
  drop(): void;
}

/** While what it resolves with is awaited, the body is there. What it throws or rejects with ends the channel. */
export type BulkHandler = (message: BulkMessage) => void | Promise<void>;

export interface BulkChannel {
  /** Whether bodies that are verified travel in the clear. */
  readonly isClear: boolean;
  /**
   * Resolves when the system has the message, in the order of the calls. Rejects with PFS_BULK_FILE_FAILED where its body
   * could not be read (the channel goes on), PFS_MESSAGE_TOO_LARGE, or with what ended the channel.
   */
  send(message: BulkOutMessage): Promise<void>;
  /** Bytes that were handed over and have not left; files count as the bytes that are read of them. */
  readonly queuedBytes: number;
  /** Resolves when few bytes wait, or the channel is over. */
  room(): Promise<void>;
  /** It is not closed for that nobody uses it while this says that somebody does. */
  keepWhile(isUsed: () => boolean): void;
  /** Says something to what the channel's thread does by itself (offload.ts), and hears what it says. */
  tellOffload(said: unknown): void;
  onOffload(handler: (said: unknown) => void): void;
  /** Who gets messages, which are kept until there is somebody. */
  onMessage(handler: BulkHandler): void;
  /** Why the channel is over; undefined while it is not. */
  readonly ended: PacketfsError | undefined;
  /** Resolves, never rejects, with the reason when it is over. */
  readonly closed: Promise<PacketfsError>;
  /** Resolves, never rejects, when its thread does nothing for it by itself any more, which may be after it is over here. */
  readonly quiet: Promise<void>;
  /** Sends what was handed over, tells the peer, and ends it. Resolves when the peer has read everything, or is gone. */
  close(): Promise<void>;
}

const REF_BYTES = 32;

interface Waiter<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: unknown) => void;
}

interface Sent extends Waiter<void> {
  readonly cost: number;
}

export type Post = (message: ToBulk, transferred?: readonly ArrayBuffer[]) => void;

/** The end of a channel in the thread that uses it. */
export class BulkChannelEnd implements BulkChannel {
  readonly isClear: boolean;
  readonly closed: Promise<PacketfsError>;
  readonly quiet: Promise<void>;
  /** Resolves when nothing of it is left, which may be after it is over: its connection, or what came and nobody has taken. */
  readonly gone: Promise<void>;
  readonly #number: number;
  readonly #peer: string;
  readonly #post: Post;
  readonly #awaits: (isAwaited: boolean) => void;
  /** Messages whose handlers are not done with them. */
  #inHand = 0;
  #resolveClosed!: (error: PacketfsError) => void;
  #resolveQuiet!: () => void;
  #resolveGone!: () => void;
  #ended: PacketfsError | undefined;
  #isClosing = false;
  #isQuiet = false;
  /** Its thread answers nothing any more. */
  #isLost = false;
  #lastId = 0;
  readonly #sent = new Map<number, Sent>();
  #queuedBytes = 0;
  #rooms: (() => void)[] = [];
  #handler: BulkHandler | undefined;
  #offloadHandler: (said: unknown) => void = () => {};
  readonly #early: (FromBulk & { readonly kind: "message" })[] = [];
  readonly #taking = new Map<number, Waiter<Uint8Array<ArrayBuffer>>>();
  readonly #placing = new Map<number, Waiter<Placed>>();
  #usedAt = performance.now();
  #isUsed: () => boolean = () => false;

  constructor(options: {
    readonly number: number;
    readonly peer: string;
    readonly isClear: boolean;
    readonly post: Post;
    /** Called when it is over here, and its thread has not said so, and when it has. */
    readonly awaits: (isAwaited: boolean) => void;
  }) {
    const { number, peer, isClear, post, awaits } = options;
    this.#number = number;
    this.#peer = peer;
    this.isClear = isClear;
    this.#post = post;
    this.#awaits = awaits;
    this.closed = new Promise((resolve) => (this.#resolveClosed = resolve));
    this.quiet = new Promise((resolve) => (this.#resolveQuiet = resolve));
    this.gone = new Promise((resolve) => (this.#resolveGone = resolve));
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  get ended(): PacketfsError | undefined {
    return this.#ended;
  }

  /** Whether more may be sent. */
  get isOpen(): boolean {
    return this.#ended === undefined && !this.#isClosing;
  }

  /** Milliseconds for which nothing went over it; 0 while something is under way. */
  idleMs(now: number): number {
    const isBusy = this.#sent.size > 0 || this.#inHand > 0 || this.#isUsed();
    return isBusy ? 0 : now - this.#usedAt;
  }

  send(message: BulkOutMessage): Promise<void> {
    const { type, head = new Uint8Array(0), body, isVerified = false, fillsUnreadable = false } = message;
    const held = message.held === undefined ? {} : { held: message.held };
    const out = bodyOf(body);
    const bytes = out.kind === "none" ? 0 : out.kind === "bytes" ? out.bytes.byteLength : out.bytes;
    if (head.byteLength > BULK_HEAD_BYTES_MAX)
      return Promise.reject(tooLarge(head.byteLength, BULK_HEAD_BYTES_MAX));
    if (bytes > BULK_BODY_BYTES_MAX) return Promise.reject(tooLarge(bytes, BULK_BODY_BYTES_MAX));
    if (!this.isOpen) return Promise.reject(this.#ended ?? closedHere());
    const cost = MESSAGE_COST_BYTES + head.byteLength + bytes;
    this.#queuedBytes += cost;
    if (this.#queuedBytes > BULK_QUEUE_BYTES_MAX) {
      const error = slow(this.#peer, this.#queuedBytes);
      this.cut(error);
      return Promise.reject(error);
    }
    this.#usedAt = performance.now();
    const id = ++this.#lastId;
    const channel = this.#number;
    const transferred = out.kind === "bytes" ? [out.bytes.buffer] : [];
    const hasClearBody = this.isClear && isVerified && bytes > 0;
    this.#post(
      { kind: "send", channel, id, type, head, body: out, hasClearBody, fillsUnreadable, ...held },
      transferred,
    );
    return new Promise((resolve, reject) => this.#sent.set(id, { resolve, reject, cost }));
  }

  async room(): Promise<void> {
    if (this.#ended !== undefined || this.#queuedBytes < BULK_QUEUE_LOW_BYTES) return;
    await new Promise<void>((resolve) => this.#rooms.push(resolve));
  }

  keepWhile(isUsed: () => boolean): void {
    this.#isUsed = isUsed;
  }

  tellOffload(said: unknown): void {
    if (this.#ended === undefined) this.#post({ kind: "offload", channel: this.#number, said });
  }

  onOffload(handler: (said: unknown) => void): void {
    this.#offloadHandler = handler;
  }

  onMessage(handler: BulkHandler): void {
    this.#handler = handler;
    for (const message of this.#early.splice(0)) void this.#handle(handler, message);
  }

  async close(): Promise<void> {
    if (this.isOpen) this.#post({ kind: "close", channel: this.#number });
    this.#isClosing = true;
    await this.closed;
  }

  /** Ends it at once. Of one that is over, what is left of its connection. */
  cut(error: PacketfsError): void {
    for (const { message } of this.#early.splice(0))
      this.#post({ kind: "drop", channel: this.#number, message });
    this.#post({ kind: "cut", channel: this.#number });
    this.#over(error);
  }

  /** What its thread says. */
  heard(message: FromBulk): void {
    this.#usedAt = performance.now();
    switch (message.kind) {
      case "opened":
        return;
      case "sent":
        for (const id of message.ids) this.#wasSent(id, undefined);
        return;
      case "not-sent":
        return this.#wasSent(message.id, PacketfsError.fromJSON(message.error));
      case "message":
        if (this.#handler === undefined) this.#early.push(message);
        else void this.#handle(this.#handler, message);
        return;
      case "taken":
        this.#taking.get(message.message)?.resolve(message.body);
        this.#taking.delete(message.message);
        return;
      case "placed":
        this.#placing.get(message.message)?.resolve(message.placed);
        this.#placing.delete(message.message);
        return;
      case "not-placed":
        this.#placing.get(message.message)?.reject(PacketfsError.fromJSON(message.error));
        this.#placing.delete(message.message);
        return;
      case "offloaded":
        return this.#offloadHandler(message.said);
      case "closed":
        this.#quieted();
        return this.#over(PacketfsError.fromJSON(message.error));
      case "gone":
        this.#quieted();
        return this.#resolveGone();
    }
  }

  /** Its thread is gone, and what it had. */
  lost(error: PacketfsError): void {
    this.#quieted();
    this.#over(error);
    this.#isLost = true;
    this.#resolveGone();
    for (const waiting of [this.#taking, this.#placing]) {
      for (const { reject } of waiting.values()) reject(error);
      waiting.clear();
    }
  }

  async #handle(handler: BulkHandler, message: FromBulk & { readonly kind: "message" }): Promise<void> {
    const { message: number, type, head, bodyBytes, hasClearBody } = message;
    const channel = this.#number;
    this.#inHand++;
    let isSettled = false;
    const settle = (): void => {
      if (isSettled) throw new Error("what becomes of a body is said once");
      isSettled = true;
    };
    try {
      await handler({
        type,
        head,
        bodyBytes,
        hasClearBody,
        take: async () => {
          settle();
          if (this.#isLost) throw this.#ended!;
          this.#post({ kind: "take", channel, message: number });
          return await new Promise((resolve, reject) => this.#taking.set(number, { resolve, reject }));
        },
        place: async (placement) => {
          checkPlacement(placement, bodyBytes);
          settle();
          if (this.#isLost) throw this.#ended!;
          this.#post({ kind: "place", channel, message: number, placement });
          return await new Promise((resolve, reject) => this.#placing.set(number, { resolve, reject }));
        },
        drop: () => {
          settle();
          this.#post({ kind: "drop", channel, message: number });
        },
      });
    } catch (error) {
      this.cut(PacketfsError.fromJSON(errorToJson(error)));
    } finally {
      if (!isSettled) this.#post({ kind: "drop", channel, message: number });
      this.#inHand--;
    }
  }

  #wasSent(id: number, error: PacketfsError | undefined): void {
    const sent = this.#sent.get(id);
    if (sent === undefined) return;
    this.#sent.delete(id);
    this.#queuedBytes -= sent.cost;
    if (error === undefined) sent.resolve();
    else sent.reject(error);
    if (this.#queuedBytes < BULK_QUEUE_LOW_BYTES) for (const resolve of this.#rooms.splice(0)) resolve();
  }

  #quieted(): void {
    if (this.#isQuiet) return;
    this.#isQuiet = true;
    if (this.#ended !== undefined) this.#awaits(false);
    this.#resolveQuiet();
  }

  #over(error: PacketfsError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    if (!this.#isQuiet) this.#awaits(true);
    for (const { reject } of this.#sent.values()) reject(error);
    this.#sent.clear();
    this.#queuedBytes = 0;
    for (const resolve of this.#rooms.splice(0)) resolve();
    this.#resolveClosed(error);
  }
}

function bodyOf(body: BulkOutMessage["body"]): OutBody {
  if (body === undefined) return { kind: "none" };
  if (body instanceof Uint8Array) {
    // A part of somebody's buffer cannot be given away.
    const isWhole = body.byteLength === body.buffer.byteLength;
    return { kind: "bytes", bytes: isWhole ? body : Uint8Array.from(body) };
  }
  let bytes = 0;
  for (const length of body.bytes) bytes += length;
  return bytes === 0 ? { kind: "none" } : { kind: "ranges", ranges: body, bytes };
}

function checkPlacement(
  { refs, storedBytes, plainBytes, codec, files, targets }: Placement,
  bodyBytes: number,
): void {
  const chunks = storedBytes.length;
  let bytes = 0;
  for (const length of storedBytes) bytes += length;
  const areLists =
    refs.byteLength === chunks * REF_BYTES &&
    plainBytes.length === chunks &&
    codec.length === chunks &&
    targets.file.length === targets.chunk.length &&
    targets.offset.length === targets.chunk.length;
  const areTargets =
    targets.chunk.every((chunk) => chunk < chunks) && targets.file.every((file) => file < files.length);
  if (bytes !== bodyBytes || !areLists || !areTargets)
    throw new RangeError("what is to become of a body does not fit it");
}

function tooLarge(bytes: number, limit: number): WireError {
  const message = `a message of ${bytes} bytes is above the limit of ${limit}`;
  return new WireError(WireErrorCode.messageTooLarge, message, { bytes, limit });
}
