/** Sends files over bulk channels to whoever may read, and receives those that peers put who may write. */
import { refToHex, sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { MessageType } from "../../packets/envelope.ts";
import { PacketError, PacketErrorCode } from "../../packets/errors.ts";
import type { Catalog } from "../../runtime/contracts/catalog.ts";
import type { ChunkPlaces, ChunkSource } from "../../runtime/contracts/chunks.ts";
import { findFile } from "../../runtime/find-file.ts";
import { readEach } from "../../runtime/read-each.ts";
import { describeStream } from "../../runtime/stream/execute.ts";
import { isComplete } from "../../runtime/stream/walk.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { TRANSFER_BASES_MAX, TRANSFER_NAME_BASES_MAX } from "../limits.ts";
import type { FileOffer, FileRequest } from "../transfer/replication/messages.ts";
import type { SentRoot as SentRootInfo } from "../transfer/replication/sender.ts";
import type { SentSource } from "../transfer/sent-root.ts";
import { SentRoot, readableRoots } from "../transfer/sent-root.ts";
import { TransferChannel } from "../transfer/transfer-channel.ts";
import type { ReceiveOptions } from "../transfer/transfer-channel.ts";
import { WriterStore } from "../transfer/writer-store.ts";
import type { CountedWrite } from "../transfer/writer-store.ts";
import type { BulkChannel } from "../wire/bulk/dialing.ts";
import type { PeerInfo } from "../wire/link.ts";
import type { PutWriters } from "./chunk-service.ts";
import { assertMayAsk } from "./permissions.ts";
import type { Service, TakeShare } from "./service.ts";
import type { Usage } from "./usage.ts";

export interface TransferServiceOptions {
  /** Where chunks stand that this machine has itself. */
  readonly store: ChunkPlaces & ChunkSource;
  /** What it can get, from others too. */
  readonly source: ChunkSource;
  readonly catalog: Pick<Catalog, "resolve" | "history" | "findRoots">;
  /** Present when the peer may write. */
  readonly puts?: PutWriters;
  /** Whose chunks it writes. */
  readonly usage?: Usage;
}

const READ = { type: MessageType.FILE_REQUEST, meta: {} } as const;
const RESOLVE = { type: MessageType.NAME, meta: { op: "resolve" } } as const;
const STORE = { type: MessageType.STORE, meta: {} } as const;

export class TransferService implements Service {
  readonly handlers: Service["handlers"] = new Map();
  readonly #options: TransferServiceOptions;

  constructor(options: TransferServiceOptions) {
    this.#options = options;
  }

  /** Has a bulk channel of its peer's. */
  channel(channel: BulkChannel, peer: PeerInfo, inShare: TakeShare): void {
    new TransferChannel(channel, {
      isDialer: false,
      inShare,
      open: (request, signal) => this.#open(request, peer, signal),
      offered: (offer, signal) => this.#offered(offer, peer, signal),
    });
  }

  async #open(
    request: FileRequest,
    { role }: PeerInfo,
    signal: AbortSignal,
  ): Promise<{ readonly info: SentRootInfo; readonly sent: SentRoot }> {
    const { name, resumeRoot, resume } = request;
    assertMayAsk(role, READ);
    if (name !== undefined) assertMayAsk(role, RESOLVE);
    const { source, store } = this.#options;
    const { root, version } = await findFile(this.#options, name ?? refToHex(request.root!));
    const { length, isPlain } = await describeStream(source, root, signal);
    if (!isPlain || length === undefined)
      throw new PacketError(PacketErrorCode.notPlain, "a stream that has to be computed is no file to send");
    const isResumed = resumeRoot !== undefined && sameBytes(resumeRoot, root);
    const bases = await readableRoots(source, request.bases, signal);
    const from: SentSource = {
      readOwn: (refs, unwanted) => ownChunks(store, source, refs, unwanted),
      read: (refs: readonly Ref[], unwanted?: AbortSignal) => source.read(refs, unwanted),
      places: (refs: Uint8Array) => store.places(refs),
    };
    const sent = new SentRoot(from, { root, length, bases, resume: isResumed ? resume : undefined, signal });
    return { info: { root, length, isResumed, ...(version === 0 ? {} : { version }) }, sent };
  }

  async #offered(
    offer: FileOffer,
    { role }: PeerInfo,
    signal: AbortSignal,
  ): Promise<Pick<ReceiveOptions, "store" | "bases">> {
    assertMayAsk(role, STORE);
    const { puts, usage, source } = this.#options;
    if (puts === undefined)
      throw new WireError(WireErrorCode.notAllowed, "nobody here takes files of this peer", {});
    if (offer.put === undefined)
      throw new WireError(WireErrorCode.messageInvalid, "what is offered belongs to no put", {});
    const store = new WriterStore(source, await puts.get(offer.put), usage && countedBy(usage));
    return { store, bases: await this.#bases(offer, store, signal) };
  }

  /** Roots of which all is here, and stays until the put ends: those that the peer is told of, and versions of the name. */
  async #bases({ name, root, bases }: FileOffer, store: WriterStore, signal: AbortSignal): Promise<Ref[]> {
    const versions = name === undefined ? [] : await this.#options.catalog.history(name);
    const named = versions.slice(0, TRANSFER_NAME_BASES_MAX).map((record) => record.root);
    const found = new Map<string, Ref>();
    for (const base of [...bases, ...named]) {
      const key = refToHex(base);
      if (found.has(key) || sameBytes(base, root) || found.size === TRANSFER_BASES_MAX) continue;
      if ((await store.has(base))[0] !== 1) continue;
      const [readable] = await readableRoots(store.source, [base], signal);
      if (readable === undefined) continue;
      if (await isComplete(store.source, base, (refs) => store.has(refs), { signal })) found.set(key, base);
    }
    return [...found.values()];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.puts?.[Symbol.asyncDispose]();
  }
}

/** Chunks in memory of their own: those of a store are nobody else's, those of others may have been asked for by several. */
async function ownChunks(
  store: ChunkSource,
  source: ChunkSource,
  refs: readonly Ref[],
  signal?: AbortSignal,
): Promise<Uint8Array[]> {
  const found = await readEach(store, refs, signal);
  const chunks = found.filter((chunk) => chunk instanceof Uint8Array);
  if (chunks.length === refs.length) return chunks;
  return (await source.read(refs, signal)).map((chunk) => new Uint8Array(chunk));
}

/** Counts as the key's what is new of the chunks, which it must have room for before they are written. */
function countedBy(usage: Usage): CountedWrite {
  return (plainBytes, write) => usage.storing(plainBytes, write);
}
