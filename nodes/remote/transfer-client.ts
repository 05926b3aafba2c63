/**
 * Files to and from a hub or node over bulk channels, as its clients have them: a channel is opened when it is needed, and what
 * a channel or a session breaks off goes on over the next one. What is there is not sent again.
 */
import { randomUUID } from "node:crypto";
import { sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { TRANSFER_CHANNELS_FRUITLESS_MAX } from "../limits.ts";
import { TRANSFER_FEATURE } from "../transfer/replication/messages.ts";
import { noStats } from "../transfer/replication/statistics.ts";
import type { TransferStats } from "../transfer/replication/statistics.ts";
import { SentRoot, readableRoots } from "../transfer/sent-root.ts";
import type { SentSource } from "../transfer/sent-root.ts";
import { TransferChannel } from "../transfer/transfer-channel.ts";
import type { OpenSent, ReceiveOptions, TransferProgress } from "../transfer/transfer-channel.ts";
import { bulkUnavailable } from "../wire/bulk/dialing.ts";
import type { BulkChannel } from "../wire/bulk/dialing.ts";
import type { Link } from "../wire/link.ts";
import type { IsThere } from "./chunks-there.ts";
import type { LastingLink } from "./lasting-link.ts";
import { RemoteCatalog } from "./remote-catalog.ts";
import type { RemotePut } from "./remote-catalog.ts";

export type GetTransferOptions = Omit<ReceiveOptions, "tally">;

export interface PutTransferOptions {
  readonly root: Ref;
  /** Bytes that it yields. */
  readonly length: number;
  /** Has all of it; and what it has of the bases that the peer has, too, may be used. */
  readonly source: SentSource;
  /** The name that it will have: the peer's versions of it may be bases. */
  readonly name?: string | undefined;
  /** Other roots that may be like it, the most alike first, at most TRANSFER_BASES_MAX: those that the peer has may be bases. */
  readonly bases?: readonly Ref[];
  /** What of it the peer has, as far as that is known before it is asked. */
  readonly isThere?: IsThere | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}

/**
 * A file that was put: its peer has all of it, and keeps it from gc until this is disposed of. `RemoteCatalog.bind` with it gives it a
 * name, and `RemoteCatalog.flush` makes it durable without one: nothing was acknowledged before.
 */
export interface TransferredPut extends RemotePut, AsyncDisposable {
  readonly stats: TransferStats;
}

const NOTHING_THERE: IsThere = () => false;

type OverChannel<Result> = (channel: TransferChannel, progressed: () => void) => Promise<Result>;

export class TransferClient {
  readonly #link: LastingLink;
  readonly #channels = new WeakMap<BulkChannel, TransferChannel>();
  #isClear = false;

  constructor(link: LastingLink) {
    this.#link = link;
  }

  /** Whose files come and go, and whether bodies did so in the clear over the channel that was used last. */
  get route(): { readonly peer: string; readonly isClear: boolean } {
    return { peer: this.#link.peer.label, isClear: this.#isClear };
  }

  /** Whether the peer, as its present session says, takes part in transfers at all. An older one does not. */
  get isOffered(): boolean {
    return this.#link.peer.features.includes(TRANSFER_FEATURE);
  }

  /**
   * Brings all of a root into a store, or what is lacking of it there. Rejects with PFS_BULK_UNAVAILABLE where it has to be read by
   * its chunks, with PFS_NOT_FOUND, PFS_STREAM_NOT_PLAIN, PFS_CHUNK_MISSING, PFS_CHUNK_DAMAGED, what else the peer says, PFS_TRANSFER_INVALID,
   * what the store rejects with, the signal's reason, and as the link does when there is no other session.
   */
  async get(options: GetTransferOptions): Promise<TransferStats> {
    const { signal, onProgress } = options;
    const tally = noStats();
    let { bases = [] } = options;
    await this.#repeat(signal, async (channel, progressed) => {
      const receive = { ...options, tally, onProgress: telling(progressed, onProgress) };
      try {
        await channel.receive({ ...receive, bases });
      } catch (error) {
        // It may be one of the bases that the peer has not got.
        if (bases.length === 0 || !isLost(error)) throw error;
        bases = [];
        await channel.receive(receive);
      }
    });
    return tally;
  }

  /** Brings all of a root to the peer, or what is lacking of it there. Rejects as `get` does, and with PFS_NOT_ALLOWED and PFS_PEER_QUOTA. */
  async put(options: PutTransferOptions): Promise<TransferredPut> {
    const id = randomUUID();
    const tally = noStats();
    const send = this.#sending(id, tally, options);
    let keeper: Link | undefined;
    try {
      await this.#repeat(options.signal, async (channel, progressed, link) => {
        keeper = link;
        await send(channel, progressed);
      });
    } catch (error) {
      await this.#end(id, keeper);
      throw error;
    }
    return this.#transferred(id, tally, keeper!, send);
  }

  /** The peer need not keep it any more. It ends the puts of a session with it. */
  async #end(put: string, keeper: Link | undefined): Promise<void> {
    if (keeper === undefined || keeper.ended !== undefined) return;
    await new RemoteCatalog(this.#link).endPut(put, keeper).catch(() => undefined);
  }

  #sending(id: string, tally: TransferStats, options: PutTransferOptions): OverChannel<unknown> {
    const { root, length, source, name, bases = [], isThere = NOTHING_THERE, signal, onProgress } = options;
    let isAlone = false;
    const open: OpenSent = async (request, stop) => {
      if (request.root === undefined || !sameBytes(request.root, root))
        throw new WireError(WireErrorCode.notFound, "another root was offered");
      const { resume, resumeRoot } = request;
      const isResumed = resumeRoot !== undefined && sameBytes(resumeRoot, root);
      const known = isAlone ? [] : await readableRoots(source, request.bases, stop);
      const sent = new SentRoot(source, {
        root,
        length,
        bases: known,
        resume: {
          covers: (from, end) => isThere(from, end) || (isResumed && resume?.covers(from, end) === true),
        },
        signal: stop,
      });
      return { info: { root, length, isResumed }, sent };
    };
    return async (channel, progressed) => {
      const offer = {
        root,
        length,
        put: id,
        name,
        bases,
        open,
        tally,
        onProgress: telling(progressed, onProgress),
        ...(signal === undefined ? {} : { signal }),
      };
      try {
        await channel.send(offer);
      } catch (error) {
        if (isAlone || !isLost(error)) throw error;
        isAlone = true;
        await channel.send(offer);
      }
    };
  }

  #transferred(id: string, stats: TransferStats, keeper: Link, send: OverChannel<unknown>): TransferredPut {
    // The session in which the peer keeps it, and since when.
    let renewed = { link: keeper, done: Promise.resolve<unknown>(undefined) };
    return {
      id,
      stats,
      renew: async (link) => {
        if (renewed.link !== link) renewed = { link, done: this.#over(link, undefined, () => {}, send) };
        await renewed.done;
      },
      [Symbol.asyncDispose]: () => this.#end(id, renewed.link),
    };
  }

  #repeat<Result>(
    signal: AbortSignal | undefined,
    work: (channel: TransferChannel, progressed: () => void, link: Link) => Promise<Result>,
  ): Promise<Result> {
    return this.#link.repeat(
      (link, { progressed }) =>
        this.#over(link, signal, progressed, (channel, moved) => work(channel, moved, link)),
      signal,
    );
  }

  /** Does something over a channel of the link, and again over the next one where that broke and the link did not. */
  async #over<Result>(
    link: Link,
    signal: AbortSignal | undefined,
    progressed: () => void,
    work: OverChannel<Result>,
  ): Promise<Result> {
    for (let fruitless = 0; ;) {
      const channel = await channelOf(link);
      this.#isClear = channel.isClear;
      try {
        return await work(this.#transfers(channel), () => {
          fruitless = 0;
          progressed();
        });
      } catch (error) {
        signal?.throwIfAborted();
        if (error !== channel.ended || isOffence(error)) throw error;
        if (link.ended !== undefined) throw link.ended;
        if (++fruitless >= TRANSFER_CHANNELS_FRUITLESS_MAX) throw error;
      }
    }
  }

  #transfers(channel: BulkChannel): TransferChannel {
    const known = this.#channels.get(channel);
    if (known !== undefined) return known;
    const transfers = new TransferChannel(channel, {
      isDialer: true,
      open: () => Promise.reject(new WireError(WireErrorCode.notAllowed, "nothing is read from a client")),
    });
    this.#channels.set(channel, transfers);
    return transfers;
  }
}

async function channelOf(link: Link): Promise<BulkChannel> {
  const { bulk, peer } = link;
  if (bulk === undefined || !peer.features.includes(TRANSFER_FEATURE))
    throw bulkUnavailable(`${peer.label} takes no part in transfers`);
  return await bulk.channel();
}

function telling(
  progressed: () => void,
  onProgress: ((progress: TransferProgress) => void) | undefined,
): (progress: TransferProgress) => void {
  return (progress) => {
    progressed();
    onProgress?.(progress);
  };
}

/** Whether something that is sent, or a base of it, is not there. */
function isLost(error: unknown): boolean {
  return hasCode(error, WireErrorCode.chunkMissing) || hasCode(error, WireErrorCode.chunkDamaged);
}

/** What a peer said that it may not is said again over the next channel. */
function isOffence(error: unknown): boolean {
  return hasCode(error, WireErrorCode.transferInvalid) || hasCode(error, WireErrorCode.metaInvalid);
}
