/** Transfers over one bulk channel, both ways: does what their cores say. */
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError, errorToJson } from "../../packets/errors.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { TRANSFER_COMPLAINTS_REFS_MAX } from "../limits.ts";
import type { BulkChannel, BulkMessage } from "../wire/bulk/dialing.ts";
import { ReceivedRoot, presenceOf } from "./received-root.ts";
import type { ReceivingStore } from "./received-root.ts";
import { DataForm } from "./replication/messages.ts";
import type { FileOffer, FileRequest } from "./replication/messages.ts";
import type { FileReceiver } from "./replication/receiver.ts";
import type { SentRoot as SentRootInfo } from "./replication/sender.ts";
import type { TransferStats } from "./replication/statistics.ts";
import { Transfers } from "./replication/transfers.ts";
import type { TransferAction } from "./replication/transfers.ts";
import type { SentRoot } from "./sent-root.ts";

/** A body that is to be sent, or one that came. */
interface Body {
  readonly bytes: number;
  readonly out?: Uint8Array<ArrayBuffer>;
  readonly come?: { readonly take: () => Promise<Uint8Array>; readonly free: () => void };
}

type Action<Kind> = Extract<TransferAction<Body>, { readonly kind: Kind }>;

export interface TransferChannelOptions {
  readonly isDialer: boolean;
  /** Finds what a peer asks for. Rejects with what the peer is told. */
  readonly open: (
    request: FileRequest,
    signal: AbortSignal,
  ) => Promise<{ readonly info: SentRootInfo; readonly sent: SentRoot }>;
  /** Where what a peer offers comes to, and the bases that are there; undefined where all of it is here. Rejects with what the peer is told. */
  readonly offered?: (offer: FileOffer) => Promise<Omit<ReceiveOptions, "name"> | undefined>;
}

export interface ReceiveOptions {
  readonly store: ReceivingStore;
  readonly root: Ref;
  readonly bases?: readonly Ref[];
  readonly isUrgent?: boolean;
  readonly signal?: AbortSignal;
}

interface Sending {
  readonly run: number;
  readonly stop: AbortController;
  sent: SentRoot | undefined;
}

interface Receiving {
  readonly receiver: FileReceiver<Body>;
  readonly store: ReceivingStore;
  readonly root: Ref;
  readonly received: ReceivedRoot;
  readonly stop: AbortController;
  /** One message is placed after the other: streams come before what they name. */
  last: Promise<void>;
  readonly done: (stats: TransferStats, error: PacketfsError | undefined) => void;
}

export class TransferChannel {
  readonly #channel: BulkChannel;
  readonly #options: TransferChannelOptions;
  readonly #transfers: Transfers<Body>;
  readonly #sending = new Map<number, Sending>();
  readonly #receiving = new Map<number, Receiving>();
  readonly #puts = new Map<number, (stats: TransferStats, error: PacketfsError | undefined) => void>();

  constructor(channel: BulkChannel, options: TransferChannelOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#transfers = new Transfers({ isDialer: options.isDialer, bodyBytes: ({ bytes }: Body) => bytes });
    channel.onMessage((message) => this.#came(message));
    void channel.closed.then((error) => this.#lost(error));
  }

  /**
   * Brings a root here. Resolves when all of it is; what is there already is not asked for. Rejects with PFS_CHUNK_MISSING,
   * PFS_CHUNK_DAMAGED, PFS_TRANSFER_INVALID, what the sender says, and what ended the channel: what came until then is not sent again.
   */
  async receive(options: ReceiveOptions): Promise<TransferStats> {
    const { root, store, bases = [], isUrgent = false, signal } = options;
    const { ranges } = await presenceOf(store, root, 1 + TRANSFER_COMPLAINTS_REFS_MAX, signal ?? NEVER);
    return await this.#until(options, () =>
      this.#transfers.get({
        root,
        bases,
        isUrgent,
        ...(ranges.size === 0 ? {} : { resume: { root, ranges } }),
      }),
    );
  }

  /** Offers the peer a root, and resolves when the peer has all of it. Rejects as `receive` does. */
  async send(root: Ref, length: number, name?: string): Promise<TransferStats> {
    if (this.#channel.ended !== undefined) throw this.#channel.ended;
    return await new Promise((resolve, reject) => {
      const transfer = this.#transfers.offer(root, length, name);
      this.#puts.set(transfer, (stats, error) => (error === undefined ? resolve(stats) : reject(error)));
      this.#settle();
    });
  }

  async #until(options: ReceiveOptions, begin: () => FileReceiver<Body>): Promise<TransferStats> {
    if (this.#channel.ended !== undefined) throw this.#channel.ended;
    const { root, store, bases = [], signal } = options;
    signal?.throwIfAborted();
    return await new Promise((resolve, reject) => {
      const receiver = begin();
      const { transfer } = receiver;
      const stop = new AbortController();
      const cancel = (): void => {
        receiver.cancel(new WireError(WireErrorCode.cancelled, "nobody wants it any more"));
        this.#settle();
      };
      signal?.addEventListener("abort", cancel, { once: true });
      this.#receiving.set(transfer, {
        receiver,
        store,
        root,
        received: new ReceivedRoot(store, root, bases, stop.signal),
        stop,
        last: Promise.resolve(),
        done: (stats, error) => {
          signal?.removeEventListener("abort", cancel);
          this.#receiving.delete(transfer);
          stop.abort(OVER);
          if (error === undefined) resolve(stats);
          else reject(signal?.aborted === true ? (signal.reason as Error) : error);
        },
      });
      this.#settle();
    });
  }

  /** The body is there until somebody has it, or nobody wants it. */
  async #came(message: BulkMessage): Promise<void> {
    const { type, head, bodyBytes } = message;
    if (bodyBytes === 0) {
      this.#transfers.received(type, head, undefined);
      return this.#settle();
    }
    await new Promise<void>((resolve, reject) => {
      const come = { take: () => message.take(), free: resolve };
      try {
        this.#transfers.received(type, head, { bytes: bodyBytes, come });
        this.#settle();
      } catch (error) {
        reject(error as Error);
      }
    });
  }

  #lost(error: PacketfsError): void {
    this.#transfers.lost(error);
    this.#settle();
    for (const { done, receiver } of this.#receiving.values()) done(receiver.stats, error);
  }

  #settle(): void {
    for (
      let actions = this.#transfers.takeActions();
      actions.length > 0;
      actions = this.#transfers.takeActions()
    )
      for (const action of actions) this.#do(action);
  }

  #do(action: TransferAction<Body>): void {
    switch (action.kind) {
      case "send":
        return this.#send(action);
      case "open":
        return this.#open(action.request);
      case "produce":
        return this.#work(action, async ({ sent }) => {
          const unit = await sent!.next();
          const made = unit === undefined ? undefined : { ...unit, body: bodyOf(unit.body) };
          return () => this.#transfers.sender.produced(action.transfer, action.run, made);
        });
      case "reread":
        return this.#work(action, async ({ sent }) => {
          const { unit, ...said } = await sent!.reread(action.refs);
          const made = unit === undefined ? undefined : { ...unit, body: bodyOf(unit.body) };
          return () => this.#transfers.sender.reread(action.transfer, action.run, { ...said, unit: made });
        });
      case "sent":
        this.#stop(action.transfer);
        this.#puts.get(action.transfer)?.(action.stats, action.error);
        this.#puts.delete(action.transfer);
        return;
      case "offered":
        void this.#offered(action.offer);
        return;
      case "place":
        return this.#place(action);
      case "drop":
        return action.body.come?.free();
      case "check":
        return this.#check(action);
      case "received":
        return this.#receiving.get(action.transfer)?.done(action.stats, action.error);
      case "begin":
        return;
    }
  }

  #send({ type, head, body, cost }: Action<"send">): void {
    const message = { type, head, ...(body?.out === undefined ? {} : { body: body.out, isVerified: true }) };
    this.#channel.send(message).then(
      () => {
        if (cost === 0) return;
        this.#transfers.sender.left(cost);
        this.#settle();
      },
      // The channel says so itself, once.
      () => {},
    );
  }

  #open(request: FileRequest): void {
    const { transfer, run } = request;
    this.#stop(transfer);
    const sending: Sending = { run, stop: new AbortController(), sent: undefined };
    this.#sending.set(transfer, sending);
    this.#work({ transfer, run }, async () => {
      const { info, sent } = await this.#options.open(request, sending.stop.signal);
      sending.sent = sent;
      return () => this.#transfers.sender.opened(transfer, run, info);
    });
  }

  /** Works for a transfer that sends, and tells the core, unless it is over meanwhile. */
  #work(
    { transfer, run }: { readonly transfer: number; readonly run: number },
    work: (sending: Sending) => Promise<() => void>,
  ): void {
    const sending = this.#sending.get(transfer);
    if (sending?.run !== run) return;
    work(sending).then(
      (tell) => {
        tell();
        this.#settle();
      },
      (error: unknown) => {
        if (sending.stop.signal.aborted) return;
        this.#transfers.sender.failed(transfer, asError(error));
        this.#settle();
      },
    );
  }

  #stop(transfer: number): void {
    const sending = this.#sending.get(transfer);
    this.#sending.delete(transfer);
    sending?.stop.abort(OVER);
  }

  async #offered(offer: FileOffer): Promise<void> {
    try {
      const { offered } = this.#options;
      if (offered === undefined)
        throw new WireError(WireErrorCode.notAllowed, "nobody may put anything here");
      const into = await offered(offer);
      if (into === undefined) this.#transfers.known(offer);
      else {
        const { root } = offer;
        const { ranges } = await presenceOf(into.store, root, 1 + TRANSFER_COMPLAINTS_REFS_MAX, NEVER);
        const resume = ranges.size === 0 ? {} : { resume: { root, ranges } };
        const accept = (): FileReceiver<Body> =>
          this.#transfers.accept(offer, { bases: into.bases ?? [], ...resume });
        // Its sender is told how it ends.
        this.#until({ ...into, root }, accept).catch(() => {});
      }
    } catch (error) {
      if (this.#channel.ended === undefined) this.#transfers.refuse(offer, asError(error));
    }
    this.#settle();
  }

  #place({ transfer, run, number, data, body }: Action<"place">): void {
    const { free, take } = body.come!;
    const receiving = this.#receiving.get(transfer);
    if (receiving === undefined) return free();
    const { receiver, received } = receiving;
    receiving.last = receiving.last.then(async () => {
      try {
        const bytes = await take();
        free();
        receiver.placed(run, number, await received.place(data, bytes));
      } catch (error) {
        free();
        if (receiver.isOver) return;
        // What is no chunk of the root may be a patch of a base that is damaged here.
        if (isUnreadable(error) && data.form !== DataForm.stored)
          receiver.unreadable(run, number, asError(error));
        else receiver.fail(asError(error));
      }
      this.#settle();
    });
  }

  #check({ transfer, run }: Action<"check">): void {
    const receiving = this.#receiving.get(transfer);
    if (receiving === undefined) return;
    const { receiver, received, store, root, stop } = receiving;
    presenceOf(store, root, TRANSFER_COMPLAINTS_REFS_MAX, stop.signal).then(
      ({ missing }) => {
        received.expect(missing);
        receiver.checked(
          run,
          missing.map(({ ref }) => ref),
        );
        this.#settle();
      },
      (error: unknown) => {
        receiver.fail(asError(error));
        this.#settle();
      },
    );
  }
}

const NEVER = new AbortController().signal;
/** What is under way of a transfer that is over is told so. */
const OVER = new Error("the transfer is over");

function bodyOf(bytes: Uint8Array): Body {
  return { bytes: bytes.byteLength, out: bytes as Uint8Array<ArrayBuffer> };
}

function asError(error: unknown): PacketfsError {
  return error instanceof PacketfsError ? error : PacketfsError.fromJSON(errorToJson(error));
}

function isUnreadable(error: unknown): boolean {
  const codes = [
    "PFS_PATCH_INVALID",
    "PFS_PACKET_INVALID",
    "PFS_STREAM_INVALID",
    "PFS_CHUNK_MISSING",
    "PFS_CHUNK_DAMAGED",
  ];
  return error instanceof PacketfsError && codes.includes(error.code);
}
