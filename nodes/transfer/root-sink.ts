/** What a root is brought into, as a transfer has it: a store (received-root.ts) or a file (received-file.ts). */
import type { Ref } from "../../packets/digest.ts";
import type { Placed, Placement } from "../wire/bulk/dialing.ts";
import type { ByteRanges } from "./replication/byte-ranges.ts";
import type { DataHead } from "./replication/messages.ts";
import type { PlacedData } from "./replication/receiver.ts";
import type { ExpectedRows, PlacedRows } from "./transfer-offload.ts";

/** The body of a message, where it came: one of these is said of it, once, or nothing, where nobody needs it. */
export interface ReceivedBody {
  readonly bytes: number;
  take(): Promise<Uint8Array<ArrayBuffer>>;
  /** Has its chunks verified and written where they belong, in the thread that has it. Rejects with PFS_BULK_FILE_FAILED. */
  place(placement: Placement): Promise<Placed>;
}

/** A transfer that is about to begin, or to go on over another channel. */
export interface ReceiveContext {
  /** Roots of which everything is here. */
  readonly bases: readonly Ref[];
  readonly signal: AbortSignal;
  /** Does the work of a message when there is room for it beside that of others of the channel. */
  readonly inRoom: <Result>(work: () => Promise<Result>) => Promise<Result>;
  /** Hears how many bytes of the file are here. */
  readonly onDone: (doneBytes: number) => void;
  /** Chunks that may be placed where they come, without asking (`placedAside`), until who wants the root hears that the transfer is over. */
  readonly expect: (rows: ExpectedRows) => void;
}

/** What is here of a root before anything comes. */
export interface SinkPresence {
  /** Of these bytes all streams and chunks. */
  readonly ranges: ByteRanges;
  /** Whether nothing needs to be asked for. */
  readonly isWhole: boolean;
}

export interface RootSink {
  /** Says what is here. What comes from then on is of this transfer. */
  begin(context: ReceiveContext): Promise<SinkPresence>;
  /**
   * Verifies what a message brings, keeps what was lacking, and then says so. Calls come in the order of the messages and may
   * overlap. Rejects with PFS_PATCH_INVALID, and others, where nothing can be made of it: then it may come again.
   */
  place(data: DataHead, body: ReceivedBody): Promise<PlacedData>;
  /** A message's chunks, which were expected, were placed where they came. Throws where it cannot go on. */
  placedAside?(message: PlacedRows): PlacedData;
  /**
   * Everything was sent. Resolves with what is missing still, and expected from now on, TRANSFER_COMPLAINTS_REFS_MAX of it at most;
   * with nothing where it is whole, and safe.
   */
  check(signal: AbortSignal): Promise<readonly Ref[]>;
}

/** What work says at its turn about that of others. */
export interface Turn {
  /** Those behind it need not wait until it is done. */
  readonly letPass: () => void;
  /** Resolves when all before it are done. */
  readonly alone: () => Promise<void>;
}

/** Work that is begun in the order in which it comes, some of it side by side. */
export class InOrder {
  #last: Promise<void> = Promise.resolve();
  /** What others need not wait for. */
  readonly #beside = new Set<Promise<void>>();

  /** Calls `work` when all before it are done, or have let it pass. */
  async run<Result>(work: (turn: Turn) => Promise<Result>): Promise<Result> {
    const { promise: passed, resolve: pass } = Promise.withResolvers<void>();
    const { promise: done, resolve: end } = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = before.then(() => passed);
    await before;
    try {
      return await work({
        letPass: () => {
          this.#beside.add(done);
          pass();
        },
        alone: async () => void (await Promise.all(this.#beside)),
      });
    } finally {
      this.#beside.delete(done);
      end();
      pass();
    }
  }
}
