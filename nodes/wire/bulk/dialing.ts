/** A dialing side's part in bulk channels: they are opened when they are needed, and closed when they are not. */
import { randomBytes } from "node:crypto";
import { MessageChannel, Worker } from "node:worker_threads";
import { MessageType } from "../../../packets/envelope.ts";
import { PacketfsError, messageOf } from "../../../packets/errors.ts";
import { builtUrl } from "../../../runtime/built.ts";
import { BULK_CHANNELS_PER_LINK_MAX, BULK_IDLE_MS } from "../../limits.ts";
import type { Link } from "../link.ts";
import { readMeta } from "../session/meta.ts";
import { parseAddress } from "../trust/address.ts";
import { BulkEnd } from "./bulk-end.ts";
import type { BulkChannel, BulkChannelEnd } from "./channel.ts";
import { bulkCut, bulkUnavailable } from "./errors.ts";
import { BULK_NONCE_BYTES } from "./keys.ts";
import { BULK_FEATURE, BulkGrantMeta } from "./messages.ts";
import type { BulkThreadData } from "./protocol.ts";

export { bulkUnavailable } from "./errors.ts";
export type { BulkChannel, BulkHandler, BulkMessage, BulkOutMessage } from "./channel.ts";
export type { ArrivedMessage, Offload, OffloadContext, OutgoingMessage } from "./offload.ts";
export type { FileName, FileRanges, Placed, Placement } from "./protocol.ts";

export interface BulkLinkOptions {
  /** Whether verified bodies may travel in the clear, where the port would have it so too. */
  readonly allowsClear?: boolean;
  /** A channel was opened. Say who gets its messages before the first await. */
  readonly onChannel?: (channel: BulkChannel) => void;
  /** Milliseconds after which a channel that nobody uses is closed. */
  readonly idleMs?: number;
}

/** One thread has all channels that this process dials; it is started for the first of them. */
let dialed: BulkEnd | undefined;

/** The bulk channels of a link that was dialed. They end with it. */
export class BulkLink {
  readonly #link: Link;
  readonly #options: BulkLinkOptions;
  /** Those of which there is something: that are being dialed, open, or over and not gone yet. */
  readonly #all = new Set<BulkChannelEnd>();
  /** Those that were opened and are not over. */
  readonly #channels = new Set<BulkChannelEnd>();
  readonly #opening = new Set<Promise<BulkChannelEnd>>();
  #idle: NodeJS.Timeout | undefined;

  constructor(link: Link, options: BulkLinkOptions = {}) {
    this.#link = link;
    this.#options = options;
    void link.closed.then((reason) => {
      clearInterval(this.#idle);
      for (const channel of this.#all) channel.cut(reason);
    });
  }

  /** Whether the peer grants channels at all. An older one does not. */
  get isOffered(): boolean {
    return this.#link.peer.features.includes(BULK_FEATURE);
  }

  /**
   * A channel that is open, or that is opened now: the one with the fewest bytes waiting of at most `most`. Rejects with
   * PFS_BULK_UNAVAILABLE, after which the link itself can be used, and with what ended the session.
   */
  async channel(most = 1): Promise<BulkChannel> {
    const wanted = Math.min(most, BULK_CHANNELS_PER_LINK_MAX);
    const open = [...this.#channels].filter(({ isOpen }) => isOpen);
    if (open.length + this.#opening.size < wanted) return await this.#opened();
    const [least] = open.toSorted((a, b) => a.queuedBytes - b.queuedBytes);
    const [opening] = this.#opening;
    return least ?? (await opening!);
  }

  #opened(): Promise<BulkChannel> {
    const opening = this.#open();
    this.#opening.add(opening);
    return opening.finally(() => this.#opening.delete(opening));
  }

  async #open(): Promise<BulkChannelEnd> {
    const { peer, session } = this.#link;
    if (!this.isOffered || peer.address === undefined)
      throw bulkUnavailable(`${peer.label} does not offer any`);
    const nonce = randomBytes(BULK_NONCE_BYTES);
    const asked = { nonce, clear: this.#options.allowsClear === true };
    const answer = await this.#link.request({ type: MessageType.BULK, meta: asked });
    const { ticket, secret, clear: isClear } = readMeta(BulkGrantMeta, answer);
    if (isClear && !asked.clear) throw bulkUnavailable(`${peer.label} would have it in the clear`);
    dialed ??= startThread();
    const { promise: opened, resolve } = Promise.withResolvers<void>();
    const agreement = { ticket, secret, nonce, session, isClear };
    const channel = dialed.dial(peer.label, parseAddress(peer.address), agreement, () => {
      // Before anything that comes over it.
      this.#add(channel);
      resolve();
    });
    this.#all.add(channel);
    void channel.gone.then(() => this.#all.delete(channel));
    if (this.#link.ended !== undefined) channel.cut(this.#link.ended);
    await Promise.race([opened, channel.closed]);
    const { ended } = channel;
    if (ended === undefined) return channel;
    if (this.#link.ended !== undefined) throw this.#link.ended;
    throw bulkUnavailable(`${peer.label} did not open it: ${ended.message}`, ended);
  }

  #add(channel: BulkChannelEnd): void {
    if (channel.ended !== undefined) return;
    this.#channels.add(channel);
    void channel.closed.then(() => this.#channels.delete(channel));
    this.#options.onChannel?.(channel);
    const { idleMs = BULK_IDLE_MS } = this.#options;
    this.#idle ??= setInterval(() => this.#closeIdle(idleMs), idleMs / 2).unref();
  }

  #closeIdle(idleMs: number): void {
    const now = performance.now();
    for (const channel of this.#channels) if (channel.idleMs(now) > idleMs) void channel.close();
    if (this.#channels.size > 0) return;
    clearInterval(this.#idle);
    this.#idle = undefined;
  }
}

function startThread(): BulkEnd {
  const { port1, port2 } = new MessageChannel();
  const workerData: BulkThreadData = { bulk: port2 };
  const url = builtUrl(new URL("./bulk-thread.ts", import.meta.url));
  const worker = new Worker(url, { workerData, transferList: [port2], execArgv: [], name: "packetfs-bulk" });
  worker.unref();
  const end = new BulkEnd(port1);
  const lost = (error: PacketfsError): void => {
    if (dialed === end) dialed = undefined;
    end.lost(error);
  };
  worker.once("error", (error) => lost(bulkCut(`its thread failed: ${messageOf(error)}`, error)));
  worker.once("exit", () => lost(bulkCut("its thread ended")));
  return end;
}
