/**
 * The receiver's side of one transfer: what is here counts when it was verified and not before, what was wrong is asked for
 * again, and what is here already is not asked for at all. Pure: events go in, actions come out.
 */
import { refKey, refToHex, sameBytes } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { WireError, WireErrorCode } from "../../errors.ts";
import {
  TRANSFER_CHUNK_TRIES_MAX,
  TRANSFER_COMPLAINTS_REFS_MAX,
  TRANSFER_COMPLAINT_REFS_MAX,
  TRANSFER_CREDIT_BYTES_MIN,
  TRANSFER_FRUITLESS_RUNS_MAX,
  TRANSFER_GRANTS_PER_WINDOW,
  TRANSFER_USELESS_BYTES_MAX,
} from "../../limits.ts";
import { ByteRanges, invalidTransfer } from "./byte-ranges.ts";
import type { ByteRange } from "./byte-ranges.ts";
import { TransferKind, costOf, windowOf } from "./messages.ts";
import type {
  DataHead,
  FileComplete,
  FileData,
  FileOffer,
  FileStart,
  ToReceiver,
  ToSender,
} from "./messages.ts";
import { failedMessage, failureOf } from "./sender.ts";
import { noStats } from "./statistics.ts";
import type { TransferEnd, TransferStats } from "./statistics.ts";

/** What is wanted: a root, or what a name stands for. */
export interface WantedFile {
  readonly root?: Ref | undefined;
  readonly name?: string | undefined;
  /** Known where it was offered. */
  readonly length?: number | undefined;
  /** Roots of which everything is here. */
  readonly bases?: readonly Ref[];
  /** Of a transfer that was broken off: what its journal says. */
  readonly resume?: { readonly root: Ref; readonly ranges: ByteRanges };
  readonly isUrgent?: boolean;
}

/** What became of a message. */
export interface PlacedData {
  /** Chunks of the root that were lacking, whose bytes are what their ref says, and that were written; their plain bytes. */
  readonly chunks: number;
  readonly plainBytes: number;
  readonly patchedChunks: number;
  readonly compressedChunks: number;
  /** Those of the root that are lacking, and whose bytes are not. */
  readonly wrong: readonly Ref[];
  /** Of the file, what is here since: all streams and chunks. The journal says so already. */
  readonly covered: readonly ByteRange[];
}

export type ReceiverAction<Body> =
  | { readonly kind: "reply"; readonly message: ToSender; readonly grant?: Grant }
  /** A root's bytes will come. What is there of another one is of no use, unless `isResumed`. */
  | {
      readonly kind: "begin";
      readonly transfer: number;
      readonly root: Ref;
      readonly length: number;
      readonly version: number | undefined;
    }
  /** Verify it, write it, and note it in the journal, in this order: `placed` or `unreadable`. */
  | {
      readonly kind: "place";
      readonly transfer: number;
      readonly run: number;
      readonly number: number;
      readonly data: DataHead;
      readonly body: Body;
    }
  | { readonly kind: "drop"; readonly body: Body }
  /** Everything came: is it whole? `checked`. */
  | { readonly kind: "check"; readonly transfer: number; readonly run: number }
  | ({ readonly kind: "received" } & TransferEnd);

/** How much may come, told to whoever places messages where they come, aside of this. */
export interface Grant {
  readonly transfer: number;
  readonly run: number;
  readonly granted: number;
  /** What may be on its way at a time. */
  readonly window: number;
  /** What those messages of the run have cost that were placed aside, as far as it is known here. */
  readonly aside: number;
  /** What those cost that have come here, and are not placed yet. */
  readonly waiting: number;
}

/** A message that was placed aside. */
export interface PlacedAside extends PlacedData {
  readonly number: number;
  readonly cost: number;
  /** Of its head and body. */
  readonly bytes: number;
}

/** `draining`: what came for the request before is placed first, so that it is not asked for again. */
type Phase = "new" | "draining" | "requested" | "receiving" | "checking" | "over";

export class FileReceiver<Body> {
  readonly stats: TransferStats = noStats();
  /** Its number on the channel. */
  readonly transfer: number;
  readonly #emit: (action: ReceiverAction<Body>) => void;
  readonly #isUrgent: boolean;
  readonly #name: string | undefined;
  #root: Ref | undefined;
  #length: number | undefined;
  #bases: readonly Ref[];
  #resumeRoot: Ref | undefined;
  #had: ByteRanges;
  #phase: Phase = "new";
  #hasBegun = false;
  #run = 0;
  #fruitless = 0;
  /** Whether this run brought something. */
  #isFruitful = false;
  #window = TRANSFER_CREDIT_BYTES_MIN;
  #granted = 0;
  #received = 0;
  /** Of those, messages that were placed aside. */
  #aside = 0;
  /** Costs of the messages that are being placed. */
  readonly #held = new Map<number, number>();
  #heldBytes = 0;
  #useless = 0;
  #messages = 0;
  #complaint = 0;
  #complete: FileComplete | undefined;
  /** How often the chunks that are asked for again were; and how many of those have not been answered. */
  #tries = new Map<string, number>();
  #waiting = 0;

  constructor(transfer: number, wanted: WantedFile, emit: (action: ReceiverAction<Body>) => void) {
    this.transfer = transfer;
    this.#emit = emit;
    this.#name = wanted.name;
    this.#root = wanted.root;
    this.#length = wanted.length;
    this.#bases = wanted.bases ?? [];
    this.#resumeRoot = wanted.resume?.root;
    this.#had = wanted.resume?.ranges ?? new ByteRanges();
    this.#isUrgent = wanted.isUrgent ?? false;
    if (this.#length !== undefined) this.#window = windowOf(this.#length);
  }

  get isOver(): boolean {
    return this.#phase === "over";
  }

  /** Bytes of messages that are not placed yet: never more than was granted. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  get had(): ByteRanges {
    return this.#had;
  }

  /** Bytes of the file; undefined before it begins. */
  get length(): number | undefined {
    return this.#length;
  }

  /** Whether it is the peer who is to say something. */
  get isWaiting(): boolean {
    return (this.#phase === "requested" || this.#phase === "receiving") && this.#held.size === 0;
  }

  /** Asks for it. */
  request(): void {
    if (this.#phase === "new") this.#again();
  }

  /** Nothing came for long, or what came is of no use: it is begun again, with what is here left out. */
  restart(): void {
    if (this.#phase === "over" || this.#phase === "new" || this.#phase === "draining") return;
    this.#fruitless = this.#isFruitful ? 0 : this.#fruitless + 1;
    if (this.#fruitless > TRANSFER_FRUITLESS_RUNS_MAX) {
      const runs = this.#fruitless;
      const message = `a transfer was begun ${runs} times, and nothing came`;
      return this.fail(new WireError(WireErrorCode.transferFruitless, message, { runs }));
    }
    this.#again();
  }

  #again(): void {
    this.#phase = "draining";
    if (this.#held.size > 0) return;
    this.#run++;
    this.#isFruitful = false;
    this.#received = 0;
    this.#aside = 0;
    this.#messages = 0;
    this.#complaint = 0;
    this.#complete = undefined;
    this.#waiting = 0;
    // What was asked for again and has not come was not wrong again.
    this.#tries.clear();
    this.#granted = this.#window;
    this.#phase = "requested";
    this.stats.runs++;
    this.#emit({
      kind: "reply",
      message: {
        kind: TransferKind.FILE_REQUEST,
        transfer: this.transfer,
        run: this.#run,
        ...(this.#root === undefined ? { name: this.#name } : { root: this.#root }),
        bases: this.#bases,
        ...(this.#had.size === 0 ? {} : { resumeRoot: this.#resumeRoot }),
        resume: this.#had,
        credit: this.#window,
        isUrgent: this.#isUrgent,
      },
      grant: this.#grantNow(),
    });
  }

  /** A message that the peer sent, whose body is there until it is placed or dropped. What breaks the rules ends the transfer. */
  received(message: Exclude<ToReceiver, FileOffer>, body: Body | undefined, bodyBytes: number): void {
    try {
      this.#sort(message, body, bodyBytes);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      if (body !== undefined) this.#emit({ kind: "drop", body });
      this.fail(error);
    }
  }

  #sort(message: Exclude<ToReceiver, FileOffer>, body: Body | undefined, bodyBytes: number): void {
    if (message.run > this.#run) throw invalidTransfer("an answer to what was not asked");
    if (message.kind === TransferKind.FILE_FAILED) return this.#end(failureOf(message));
    if (message.run < this.#run || this.#phase === "draining" || this.isOver) {
      if (body !== undefined) this.#emit({ kind: "drop", body });
      return;
    }
    switch (message.kind) {
      case TransferKind.FILE_START:
        return this.#start(message);
      case TransferKind.FILE_DATA:
        return this.#data(message, body!, bodyBytes);
      case TransferKind.FILE_COMPLETE:
        return this.#completed(message);
      case TransferKind.FILE_LOST: {
        const ref = refToHex(message.refs[0]!);
        throw new WireError(WireErrorCode.chunkMissing, `the sender has lost ${ref}`, { ref });
      }
    }
  }

  #start({ root, length, version, isResumed }: FileStart): void {
    if (this.#phase !== "requested") throw invalidTransfer("it begins twice");
    if (this.#root !== undefined && !sameBytes(root, this.#root)) throw invalidTransfer("another root");
    if (this.#length !== undefined && length !== this.#length) throw invalidTransfer("another length");
    if (this.#had.end > 0) {
      const isSame = this.#resumeRoot !== undefined && sameBytes(root, this.#resumeRoot);
      if (isResumed && !isSame) throw invalidTransfer("it goes on with another root");
      if (isSame && this.#had.end > length) throw invalidTransfer("it is shorter than what is here");
      if (!isSame) this.#had = new ByteRanges();
    } else if (isResumed) throw invalidTransfer("it goes on where nothing is");
    this.#root = root;
    this.#resumeRoot = root;
    this.#length = length;
    this.#phase = "receiving";
    this.#window = windowOf(length);
    if (!this.#hasBegun) this.#emit({ kind: "begin", transfer: this.transfer, root, length, version });
    this.#hasBegun = true;
    this.#grant();
  }

  #data({ number, form, packets }: FileData, body: Body, bodyBytes: number): void {
    this.#arrived(number, costOf(packets.byteLength, bodyBytes));
    const data = { form, packets };
    this.#emit({ kind: "place", transfer: this.transfer, run: this.#run, number, data, body });
  }

  #arrived(number: number, cost: number): void {
    if (this.#phase !== "receiving") throw invalidTransfer("data before it begins, or behind its end");
    if (this.#complete !== undefined && this.#waiting === 0) throw invalidTransfer("data behind its end");
    if (number !== this.#messages + 1) throw invalidTransfer("messages out of order");
    if (this.#received + cost > this.#granted) throw invalidTransfer("more bytes than it was granted");
    this.#messages = number;
    this.#received += cost;
    this.#held.set(number, cost);
    this.#heldBytes += cost;
    this.stats.messages++;
  }

  /** Whoever places messages aside has granted so much of a run. */
  grantedAside(run: number, granted: number): void {
    if (run === this.#run) this.#granted = Math.max(this.#granted, granted);
  }

  /** A message that came, and was placed at once where it came. */
  placedAside(run: number, message: PlacedAside): void {
    const { number, cost } = message;
    if (run !== this.#run || this.#phase === "draining" || this.isOver) return this.#isHere(message);
    try {
      this.#arrived(number, cost);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      return this.fail(error);
    }
    this.#aside += cost;
    this.placed(run, number, message);
  }

  /** What became of a message of this run. */
  placed(run: number, number: number, placed: PlacedData): void {
    this.#isHere(placed);
    const cost = this.#release(run, number);
    if (cost === 0) return;
    const room = TRANSFER_COMPLAINTS_REFS_MAX - Math.max(this.#waiting, this.#tries.size);
    // Those that are too many to be told now are found when it is looked whether it is whole.
    const wrong = placed.wrong.slice(0, room);
    if (placed.chunks === 0 && wrong.length === 0) this.#useless += cost;
    // Some may come twice, and all that is here already where the sender cannot go on in the middle: but not for ever.
    if (this.#useless > (this.#length ?? 0) + TRANSFER_USELESS_BYTES_MAX)
      return this.fail(invalidTransfer("bytes that nobody asked for"));
    this.#complain(wrong);
    if (this.isOver) return;
    this.#grant();
    this.#checkIfAllCame();
  }

  /** Whichever run brought it. */
  #isHere(placed: PlacedData): void {
    for (const { from, end } of placed.covered) this.#had.add(from, end);
    this.stats.chunks += placed.chunks;
    this.stats.plainBytes += placed.plainBytes;
    this.stats.patchedChunks += placed.patchedChunks;
    this.stats.compressedChunks += placed.compressedChunks;
    if (placed.chunks > 0) this.#isFruitful = true;
  }

  /** A message from which nothing can be made. Of a base that may be damaged here: then it is begun again without bases. */
  unreadable(run: number, number: number, error: PacketfsError): void {
    if (this.#phase === "over" || !this.#held.has(number)) return;
    const isFirst = this.#phase !== "draining";
    if (isFirst) {
      this.#bases = [];
      if (this.#fruitless >= TRANSFER_FRUITLESS_RUNS_MAX && !this.#isFruitful) return this.fail(error);
      this.restart();
    }
    this.#release(run, number);
  }

  /** What is missing still, at most TRANSFER_COMPLAINTS_REFS_MAX of it: nothing where it is whole. */
  checked(run: number, missing: readonly Ref[]): void {
    if (run !== this.#run || this.#phase !== "checking") return;
    if (missing.length === 0) {
      const message = { kind: TransferKind.FILE_END, transfer: this.transfer, run, isDone: true } as const;
      this.#emit({ kind: "reply", message });
      return this.#end(undefined);
    }
    this.#phase = "receiving";
    // Of all others it is known now that they are here, or they come later in the row.
    const tries = new Map<string, number>();
    for (const ref of missing) {
      const times = this.#tries.get(refKey(ref));
      if (times !== undefined) tries.set(refKey(ref), times);
    }
    this.#tries = tries;
    this.#complain(missing);
  }

  /** It cannot go on, or nobody wants it: the sender is told. */
  fail(error: PacketfsError): void {
    if (this.isOver) return;
    this.#emit({ kind: "reply", message: failedMessage(this.transfer, this.#run, error) });
    this.#end(error);
  }

  /** As `fail`, where nothing is wrong. */
  cancel(error: PacketfsError): void {
    if (this.isOver) return;
    const message = {
      kind: TransferKind.FILE_END,
      transfer: this.transfer,
      run: this.#run,
      isDone: false,
    } as const;
    this.#emit({ kind: "reply", message });
    this.#end(error);
  }

  #completed(message: FileComplete): void {
    if (this.#phase !== "receiving") throw invalidTransfer("it ends before it begins, or twice");
    const { messages, bytes, answered } = message;
    if (messages !== this.#messages || bytes !== this.#received)
      throw invalidTransfer("it ends, and not all came");
    if (answered > this.#complaint || answered < (this.#complete?.answered ?? 0))
      throw invalidTransfer("an answer to complaints that were not made");
    if (this.#complete !== undefined && answered === this.#complete.answered)
      throw invalidTransfer("it ends twice");
    this.#complete = message;
    this.#checkIfAllCame();
  }

  /** Each message that is placed may bring new complaints. */
  #checkIfAllCame(): void {
    if (this.#phase !== "receiving" || this.#held.size > 0) return;
    if (this.#complete?.answered !== this.#complaint) return;
    this.#waiting = 0;
    this.#phase = "checking";
    this.#emit({ kind: "check", transfer: this.transfer, run: this.#run });
  }

  #complain(refs: readonly Ref[]): void {
    for (const ref of refs) {
      const times = (this.#tries.get(refKey(ref)) ?? 0) + 1;
      if (times > TRANSFER_CHUNK_TRIES_MAX) {
        const error = new WireError(
          WireErrorCode.chunkDamaged,
          `the bytes of ${refToHex(ref)} were wrong ${TRANSFER_CHUNK_TRIES_MAX} times`,
          { ref: refToHex(ref) },
        );
        return this.fail(error);
      }
      this.#tries.set(refKey(ref), times);
    }
    for (let from = 0; from < refs.length; from += TRANSFER_COMPLAINT_REFS_MAX) {
      const some = refs.slice(from, from + TRANSFER_COMPLAINT_REFS_MAX);
      const complaint = ++this.#complaint;
      this.#waiting += some.length;
      this.stats.wrongChunks += some.length;
      const said = { transfer: this.transfer, run: this.#run, complaint, refs: some };
      this.#emit({ kind: "reply", message: { kind: TransferKind.FILE_WRONG, ...said } });
    }
  }

  /** A message's bytes are not held any more. What it cost; 0 where it is of no use for what is asked for now. */
  #release(run: number, number: number): number {
    const cost = run === this.#run ? this.#held.get(number) : undefined;
    if (cost === undefined || this.isOver) return 0;
    this.#held.delete(number);
    this.#heldBytes -= cost;
    if (this.#phase !== "draining") return cost;
    this.#again();
    return 0;
  }

  /** Grants what was placed, and not for each message. */
  #grant(): void {
    const granted = this.#received - this.#heldBytes + this.#window;
    if (granted - this.#granted < this.#window / TRANSFER_GRANTS_PER_WINDOW) return;
    this.#granted = granted;
    const said = { transfer: this.transfer, run: this.#run, granted, waiting: this.#heldBytes };
    const grant = this.#grantNow();
    this.#emit({ kind: "reply", message: { kind: TransferKind.FILE_CREDIT, ...said }, grant });
  }

  #grantNow(): Grant {
    return {
      transfer: this.transfer,
      run: this.#run,
      granted: this.#granted,
      window: this.#window,
      aside: this.#aside,
      waiting: this.#heldBytes,
    };
  }

  #end(error: PacketfsError | undefined): void {
    if (this.isOver) return;
    this.#phase = "over";
    this.#held.clear();
    this.#heldBytes = 0;
    this.#emit({ kind: "received", transfer: this.transfer, stats: this.stats, error });
  }
}
