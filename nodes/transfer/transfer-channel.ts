/** Transfers over one bulk channel, both ways: does what their cores say. */
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError, errorToJson } from "../../packets/errors.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { TRANSFER_LOOK_MS, TRANSFER_PLACING_MAX, TRANSFER_SILENT_LOOKS_MAX } from "../limits.ts";
import { WorkPlaces } from "../serve/work-places.ts";
import type { BulkChannel, BulkMessage, FileRanges, Placement } from "../wire/bulk/dialing.ts";
import { ReceivedRoot } from "./received-root.ts";
import type { ReceivingStore } from "./received-root.ts";
import { DataForm, TransferKind } from "./replication/messages.ts";
import type { FileOffer, FileRequest, OfferTerms } from "./replication/messages.ts";
import type { FileReceiver, WantedFile } from "./replication/receiver.ts";
import type { SentRoot as SentRootInfo } from "./replication/sender.ts";
import { addStats } from "./replication/statistics.ts";
import type { TransferStats } from "./replication/statistics.ts";
import { Transfers } from "./replication/transfers.ts";
import type { TransferAction } from "./replication/transfers.ts";
import type { ReceivedBody, RootSink } from "./root-sink.ts";
import type { SentRoot, SentUnit } from "./sent-root.ts";
import type {
  ExpectedRows,
  FromTransferOffload,
  PlacedMessages,
  ToTransferOffload,
} from "./transfer-offload.ts";

/** A body that is to be sent, or one that came. */
interface Body {
  readonly bytes: number;
  readonly out?: Uint8Array<ArrayBuffer> | FileRanges;
  readonly come?: ReceivedBody & { readonly free: () => void };
}

type Action<Kind> = Extract<TransferAction<Body>, { readonly kind: Kind }>;

/** Finds what a peer asks for. Rejects with what the peer is told. */
export type OpenSent = (
  request: FileRequest,
  signal: AbortSignal,
) => Promise<{ readonly info: SentRootInfo; readonly sent: SentRoot }>;

export interface TransferChannelOptions {
  readonly isDialer: boolean;
  /** For what was not offered by `send`. */
  readonly open: OpenSent;
  /** Where what a peer offers comes to, and the bases that are there. Rejects with what the peer is told. */
  readonly offered?: (
    offer: FileOffer,
    signal: AbortSignal,
  ) => Promise<Pick<ReceiveOptions, "store" | "bases">>;
  /** In whose name it computes; nobody's by default. */
  readonly inShare?: <Result>(work: () => Result) => Result;
  /** How often it is looked whether anything came, in milliseconds; TRANSFER_LOOK_MS by default. */
  readonly lookMs?: number;
}

/** How far a transfer is. */
export interface TransferProgress {
  /** Bytes of the file that are there, as far as they are known to be; all of them at its end. */
  readonly doneBytes: number;
  readonly length: number;
}

export interface ReceiveOptions {
  /** What it comes into: a store, or what makes of it what it likes, as a file (received-file.ts). */
  readonly store: ReceivingStore | RootSink;
  readonly root: Ref;
  readonly bases?: readonly Ref[];
  readonly isUrgent?: boolean;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
  /** What it costs and brings is counted here too, also where it fails. */
  readonly tally?: TransferStats;
}

export interface SendOptions extends Partial<OfferTerms> {
  readonly root: Ref;
  readonly length: number;
  /** Finds what is asked for of it. */
  readonly open?: OpenSent;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: TransferProgress) => void;
  readonly tally?: TransferStats;
}

interface Sending {
  readonly run: number;
  readonly stop: AbortController;
  /** Bytes of the file that the receiver says it has. */
  readonly hadBytes: number;
  sent: SentRoot | undefined;
}

interface Receiving {
  readonly receiver: FileReceiver<Body>;
  readonly sink: RootSink;
  readonly stop: AbortController;
  readonly done: (stats: TransferStats, error: PacketfsError | undefined) => void;
  /** Looks at which nothing had come since the one before, how many are too many, and what had come by then. */
  silentLooks: number;
  patience: number;
  receivedBytes: number;
}

/** What is wanted, and what it comes into, which has said what is here. */
interface Wanted {
  readonly options: ReceiveOptions;
  readonly sink: RootSink;
  readonly isWhole: boolean;
  readonly resume: Pick<WantedFile, "resume">;
  readonly stop: AbortController;
  /** How far it is, is told with its length, which its receiver knows. */
  receiver: FileReceiver<Body> | undefined;
  /** What it expects, until there is a transfer whose rows these are. */
  readonly expected: ExpectedRows[];
  /** Whether the channel's thread may write to its file. */
  isAside: boolean;
}

interface Offering {
  readonly options: SendOptions;
  readonly done: (stats: TransferStats, error: PacketfsError | undefined) => void;
}

export class TransferChannel {
  readonly #channel: BulkChannel;
  readonly #options: TransferChannelOptions;
  readonly #transfers: Transfers<Body>;
  readonly #sending = new Map<number, Sending>();
  readonly #receiving = new Map<number, Receiving>();
  readonly #offering = new Map<number, Offering>();
  /** Of each transfer, messages that the channel's thread reads where they stand, and what to call when there are none. */
  readonly #reading = new Map<number, { messages: number; readonly read: (() => void)[] }>();
  /** What to call when the channel's thread has let go of the file of a transfer that is over. */
  readonly #releasing = new Map<number, () => void>();
  readonly #placing = new WorkPlaces(TRANSFER_PLACING_MAX);
  readonly #ended = new AbortController();
  #looking: NodeJS.Timeout | undefined;

  constructor(channel: BulkChannel, options: TransferChannelOptions) {
    this.#channel = channel;
    this.#options = options;
    this.#transfers = new Transfers({ isDialer: options.isDialer, bodyBytes: ({ bytes }: Body) => bytes });
    channel.keepWhile(() => this.#receiving.size + this.#offering.size + this.#sending.size > 0);
    channel.onMessage((message) => this.#came(message));
    channel.onOffload((said) => {
      const message = said as FromTransferOffload;
      if (message.kind === "placed") this.#placedAside(message);
      else this.#releasing.get(message.transfer)?.();
    });
    void channel.closed.then((error) => this.#lost(error));
  }

  /**
   * Brings a root here. Resolves when all of it is; what is there already is not asked for. Rejects with PFS_CHUNK_MISSING,
   * PFS_CHUNK_DAMAGED, PFS_TRANSFER_INVALID, what the sender says, and what ended the channel: what came until then is not sent again.
   */
  async receive(options: ReceiveOptions): Promise<TransferStats> {
    const { root, bases = [], isUrgent = false } = options;
    const wanted = await this.#wanted(options);
    return await this.#until(wanted, () => this.#transfers.get({ root, bases, isUrgent, ...wanted.resume }));
  }

  /** Offers the peer a root, and resolves when the peer has all of it. Rejects as `receive` does. */
  async send(options: SendOptions): Promise<TransferStats> {
    if (this.#channel.ended !== undefined) throw this.#channel.ended;
    const { root, length, name, put, bases = [], signal, onProgress, tally } = options;
    signal?.throwIfAborted();
    return await new Promise((resolve, reject) => {
      const transfer = this.#transfers.offer(root, length, { name, put, bases });
      const cancel = (): void => {
        this.#transfers.sender.failed(transfer, cancelled());
        this.#settle();
      };
      signal?.addEventListener("abort", cancel, { once: true });
      this.#offering.set(transfer, {
        options,
        done: (stats, error) => {
          signal?.removeEventListener("abort", cancel);
          if (tally !== undefined) addStats(tally, stats);
          if (error !== undefined) return reject(signal?.aborted === true ? (signal.reason as Error) : error);
          onProgress?.({ doneBytes: length, length });
          resolve(stats);
        },
      });
      this.#settle();
    });
  }

  async #wanted(options: ReceiveOptions): Promise<Wanted> {
    const { root, store, bases = [], signal, onProgress } = options;
    const stop = new AbortController();
    const signals = [stop.signal, this.#ended.signal, ...(signal === undefined ? [] : [signal])];
    const either = AbortSignal.any(signals);
    either.throwIfAborted();
    const sink = "begin" in store ? store : new ReceivedRoot(store, root);
    let wanted: Wanted | undefined;
    const expected: ExpectedRows[] = [];
    const { ranges, isWhole } = await sink.begin({
      bases,
      signal: either,
      inRoom: (work) => this.#placing.run(work),
      onDone: (doneBytes) => onProgress?.({ doneBytes, length: wanted?.receiver?.length ?? 0 }),
      expect: (rows) => {
        if (wanted?.receiver === undefined) expected.push(rows);
        else this.#expect(wanted, wanted.receiver, rows);
      },
    });
    const resume = ranges.size === 0 ? {} : { resume: { root, ranges } };
    wanted = { options, sink, isWhole, resume, stop, receiver: undefined, expected, isAside: false };
    return wanted;
  }

  async #until(wanted: Wanted, begin: () => FileReceiver<Body>): Promise<TransferStats> {
    const { sink, stop } = wanted;
    const { signal, onProgress, tally } = wanted.options;
    if (this.#channel.ended !== undefined) throw this.#channel.ended;
    signal?.throwIfAborted();
    return await new Promise((resolve, reject) => {
      const receiver = begin();
      wanted.receiver = receiver;
      const { transfer } = receiver;
      for (const rows of wanted.expected.splice(0)) this.#expect(wanted, receiver, rows);
      const cancel = (): void => {
        receiver.cancel(cancelled());
        this.#settle();
      };
      signal?.addEventListener("abort", cancel, { once: true });
      this.#receiving.set(transfer, {
        receiver,
        sink,
        stop,
        silentLooks: 0,
        patience: TRANSFER_SILENT_LOOKS_MAX,
        receivedBytes: 0,
        done: (stats, error) => {
          signal?.removeEventListener("abort", cancel);
          this.#receiving.delete(transfer);
          stop.abort(OVER);
          if (tally !== undefined) addStats(tally, stats);
          this.#release(transfer, wanted, () => {
            if (error !== undefined)
              return reject(signal?.aborted === true ? (signal.reason as Error) : error);
            const { length } = receiver;
            if (length !== undefined) onProgress?.({ doneBytes: length, length });
            resolve(stats);
          });
        },
      });
      this.#look();
      this.#settle();
    });
  }

  #expect(wanted: Wanted, { transfer, isOver }: FileReceiver<Body>, rows: ExpectedRows): void {
    if (isOver) return;
    wanted.isAside = true;
    this.#tellOffload({ kind: "expect", transfer, rows });
  }

  /**
   * A transfer is over. Calls `released` when the channel's thread writes nothing more to its file: once that is closed, what the
   * thread calls it may be another one.
   */
  #release(transfer: number, { isAside }: Wanted, released: () => void): void {
    this.#tellOffload({ kind: "over", transfer });
    if (!isAside) return released();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#releasing.set(transfer, resolve);
    void Promise.race([promise, this.#channel.quiet]).then(() => {
      this.#releasing.delete(transfer);
      released();
    });
  }

  /** Looks all the while where something is to come. */
  #look(): void {
    this.#looking ??= setInterval(() => {
      for (const receiving of this.#receiving.values()) this.#lookAt(receiving);
      this.#settle();
      if (this.#receiving.size > 0) return;
      clearInterval(this.#looking);
      this.#looking = undefined;
    }, this.#options.lookMs ?? TRANSFER_LOOK_MS).unref();
  }

  /** A peer that has work to do with it may say nothing for long; what was lost, if anything was, is asked for again. */
  #lookAt(receiving: Receiving): void {
    const { receiver } = receiving;
    const { receivedBytes } = receiver.stats;
    const isSilent = receiver.isWaiting && receivedBytes === receiving.receivedBytes;
    receiving.receivedBytes = receivedBytes;
    receiving.silentLooks = isSilent ? receiving.silentLooks + 1 : 0;
    if (receiving.silentLooks < receiving.patience) return;
    receiving.silentLooks = 0;
    receiving.patience *= 2;
    receiver.restart();
  }

  /** The body is there until somebody has it, or nobody wants it. */
  async #came(message: BulkMessage): Promise<void> {
    const { type, head, bodyBytes } = message;
    if (bodyBytes === 0) {
      this.#transfers.received(type, head, undefined);
      return this.#settle();
    }
    await new Promise<void>((resolve, reject) => {
      const come = {
        bytes: bodyBytes,
        take: () => message.take(),
        place: (placement: Placement) => message.place(placement),
        free: resolve,
      };
      try {
        this.#transfers.received(type, head, { bytes: bodyBytes, come });
        this.#settle();
      } catch (error) {
        reject(error as Error);
      }
    });
  }

  #lost(error: PacketfsError): void {
    this.#ended.abort(error);
    clearInterval(this.#looking);
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
      for (const action of actions) (this.#options.inShare ?? simply)(() => this.#do(action));
  }

  #do(action: TransferAction<Body>): void {
    switch (action.kind) {
      case "send":
        return this.#send(action);
      case "open":
        return this.#open(action.request);
      case "produce":
        return this.#work(action, async ({ sent }) => {
          const unit = await sent!.next(action.bottleneck);
          const made = unit === undefined ? undefined : { ...unit, body: bodyOf(unit) };
          return () => {
            this.#transfers.sender.produced(action.transfer, action.run, made);
            this.#tellSent(action.transfer);
          };
        });
      case "reread":
        return this.#work(action, async ({ sent }) => {
          const { unit, ...said } = await sent!.reread(action.refs);
          const made = unit === undefined ? undefined : { ...unit, body: bodyOf(unit) };
          return () => this.#transfers.sender.reread(action.transfer, action.run, { ...said, unit: made });
        });
      case "sent":
        this.#stop(action.transfer);
        this.#tellOffload({ kind: "over", transfer: action.transfer });
        this.#offering.get(action.transfer)?.done(action.stats, action.error);
        this.#offering.delete(action.transfer);
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

  #send({ type, head, body, cost, gate, grant }: Action<"send">): void {
    if (grant !== undefined) {
      this.#tellOffload({ kind: "grant", ...grant });
      if (type === TransferKind.FILE_CREDIT) return;
    }
    // What cannot be read any more where it stood is found to be wrong, asked for again, and read where it stands then.
    const sent = body?.out && { body: body.out, isVerified: true, fillsUnreadable: true };
    const message = { type, head, ...sent, ...(gate === undefined ? {} : { held: gate }) };
    const isReadThere = gate !== undefined && body?.out !== undefined && !(body.out instanceof Uint8Array);
    if (isReadThere) this.#reads(gate.transfer);
    this.#channel.send(message).then(
      () => {
        if (isReadThere) this.#isRead(gate.transfer);
        if (cost === 0) return;
        this.#transfers.sender.left(cost);
        this.#settle();
      },
      // The channel says so itself, once.
      () => {},
    );
  }

  #tellOffload(said: ToTransferOffload): void {
    this.#channel.tellOffload(said);
  }

  /** Messages that the channel's thread has placed, and not those that come after them. */
  #placedAside({ transfer, run, messages, granted, sentBytes }: PlacedMessages): void {
    const receiving = this.#receiving.get(transfer);
    if (receiving === undefined) return;
    const { receiver, sink } = receiving;
    try {
      const placed = messages.map((message) => ({ ...message, ...sink.placedAside!(message) }));
      this.#transfers.placedAside(transfer, run, { messages: placed, granted, sentBytes });
    } catch (error) {
      receiver.fail(asError(error));
    }
    this.#settle();
  }

  #open(request: FileRequest): void {
    const { transfer, run } = request;
    this.#stop(transfer);
    const hadBytes = request.resume.bytes;
    const sending: Sending = { run, stop: new AbortController(), hadBytes, sent: undefined };
    this.#sending.set(transfer, sending);
    this.#work({ transfer, run }, async () => {
      const { open = this.#options.open } = this.#offering.get(transfer)?.options ?? {};
      const { info, sent } = await open(request, sending.stop.signal);
      sending.sent = sent;
      const { bodyBytes } = sent;
      return () => this.#transfers.sender.opened(transfer, run, { ...info, bodyBytes });
    });
  }

  #tellSent(transfer: number): void {
    const { onProgress, length } = this.#offering.get(transfer)?.options ?? {};
    const stats = this.#transfers.sender.statsOf(transfer);
    if (onProgress === undefined || stats === undefined) return;
    const { hadBytes = 0 } = this.#sending.get(transfer) ?? {};
    onProgress({ doneBytes: Math.min(hadBytes + stats.plainBytes, length!), length: length! });
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
    const sent = sending?.sent;
    if (sent !== undefined) this.#whenRead(transfer, () => sent.close());
  }

  /** A message of the transfer is to be read by the channel's thread where it stands. */
  #reads(transfer: number): void {
    const reading = this.#reading.get(transfer);
    if (reading !== undefined) reading.messages++;
    else this.#reading.set(transfer, { messages: 1, read: [] });
  }

  #isRead(transfer: number): void {
    const reading = this.#reading.get(transfer);
    if (reading === undefined || --reading.messages > 0) return;
    this.#reading.delete(transfer);
    for (const read of reading.read) read();
  }

  /**
   * Calls it when the channel's thread reads nothing of the transfer any more where it stands: once that file is closed, its descriptor may be
   * another one's.
   */
  #whenRead(transfer: number, then: () => void): void {
    const reading = this.#reading.get(transfer);
    if (reading === undefined) return then();
    const { promise, resolve } = Promise.withResolvers<void>();
    reading.read.push(resolve);
    void Promise.race([promise, this.#channel.quiet]).then(then);
  }

  async #offered(offer: FileOffer): Promise<void> {
    try {
      const { offered } = this.#options;
      if (offered === undefined)
        throw new WireError(WireErrorCode.notAllowed, "nobody may put anything here");
      const { root } = offer;
      const into = await offered(offer, this.#ended.signal);
      const wanted = await this.#wanted({ ...into, root });
      // It may have ended meanwhile.
      if (this.#channel.ended !== undefined) return;
      if (wanted.isWhole) this.#transfers.known(offer);
      else {
        const { bases = [] } = into;
        const accept = (): FileReceiver<Body> => this.#transfers.accept(offer, { bases, ...wanted.resume });
        // Its sender is told how it ends.
        this.#until(wanted, accept).catch(() => {});
      }
    } catch (error) {
      if (this.#channel.ended === undefined) this.#transfers.refuse(offer, asError(error));
    }
    this.#settle();
  }

  #place(action: Action<"place">): void {
    const receiving = this.#receiving.get(action.transfer);
    if (receiving === undefined) return action.body.come!.free();
    // At once: a sink has messages in the order in which they come, and says itself which wait for others.
    void this.#placeIn(receiving, action);
  }

  async #placeIn({ receiver, sink }: Receiving, { run, number, data, body }: Action<"place">): Promise<void> {
    try {
      receiver.placed(run, number, await sink.place(data, body.come!).finally(body.come!.free));
    } catch (error) {
      if (receiver.isOver) return;
      // What is no chunk of the root may be a patch of a base that is damaged here.
      if (isUnreadable(error) && data.form !== DataForm.stored)
        receiver.unreadable(run, number, asError(error));
      else receiver.fail(asError(error));
    }
    this.#settle();
  }

  #check({ transfer, run }: Action<"check">): void {
    const receiving = this.#receiving.get(transfer);
    if (receiving === undefined) return;
    const { receiver, sink, stop } = receiving;
    sink.check(stop.signal).then(
      (missing) => {
        receiver.checked(run, missing);
        this.#settle();
      },
      (error: unknown) => {
        receiver.fail(asError(error));
        this.#settle();
      },
    );
  }
}

/** What is under way of a transfer that is over is told so. */
const OVER = new Error("the transfer is over");

function cancelled(): WireError {
  return new WireError(WireErrorCode.cancelled, "nobody wants it any more");
}

function simply<Result>(work: () => Result): Result {
  return work();
}

function bodyOf({ body, bodyBytes }: SentUnit): Body {
  return { bytes: bodyBytes, out: body as Uint8Array<ArrayBuffer> | FileRanges };
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
