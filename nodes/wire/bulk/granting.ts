/** A port's part in bulk channels: which peer may open one, and that it is this peer who does. */
import { randomBytes } from "node:crypto";
import { MessageType } from "../../../packets/envelope.ts";
import { BULK_CHANNELS_PER_LINK_MAX, BULK_TICKET_MS } from "../../limits.ts";
import type { Link, OutMessage, WireMessage } from "../link.ts";
import { readMeta } from "../session/meta.ts";
import type { BulkEnd } from "./bulk-end.ts";
import type { BulkChannel, BulkChannelEnd } from "./channel.ts";
import { bulkUnavailable } from "./errors.ts";
import { SECRET_BYTES, TICKET_BYTES } from "./keys.ts";
import { BulkMeta } from "./messages.ts";
import type { BulkGrantMeta } from "./messages.ts";

export interface BulkGrantsOptions {
  readonly end: BulkEnd;
  /** Whether verified bodies may travel in the clear, where the peer would have it so too. */
  readonly allowsClear: boolean;
  /** A peer has opened a channel. Say who gets its messages (`onMessage`) before the first await. */
  readonly onChannel: (channel: BulkChannel, link: Link) => void;
}

export class BulkGrants {
  readonly #options: BulkGrantsOptions;
  /** Those that are open or expected, or of which something is left. */
  readonly #channels = new Map<Link, Set<BulkChannelEnd>>();

  constructor(options: BulkGrantsOptions) {
    this.#options = options;
  }

  /** Answers BULK. Throws PFS_BULK_UNAVAILABLE where the link has as many as it may. */
  grant(link: Link, message: WireMessage): OutMessage {
    const { nonce, clear } = readMeta(BulkMeta, message);
    const channels = this.#of(link);
    if (channels.size >= BULK_CHANNELS_PER_LINK_MAX)
      throw bulkUnavailable(`a session has ${BULK_CHANNELS_PER_LINK_MAX} at most`);
    const { end, allowsClear, onChannel } = this.#options;
    const grant: BulkGrantMeta = {
      ticket: randomBytes(TICKET_BYTES),
      secret: randomBytes(SECRET_BYTES),
      clear: clear && allowsClear,
    };
    const { ticket, secret, clear: isClear } = grant;
    const agreement = { ticket, secret, nonce, session: link.session, isClear };
    const channel = end.expect(link.peer.label, agreement, () => {
      clearTimeout(expiry);
      onChannel(channel, link);
    });
    channels.add(channel);
    void channel.closed.then(() => clearTimeout(expiry));
    void channel.gone.then(() => channels.delete(channel));
    const expiry = setTimeout(() => channel.cut(bulkUnavailable("nobody came for it")), BULK_TICKET_MS);
    expiry.unref();
    return { type: MessageType.OK, meta: grant };
  }

  #of(link: Link): Set<BulkChannelEnd> {
    const known = this.#channels.get(link);
    if (known !== undefined) return known;
    const channels = new Set<BulkChannelEnd>();
    this.#channels.set(link, channels);
    void link.closed.then((reason) => {
      this.#channels.delete(link);
      for (const channel of channels) channel.cut(reason);
    });
    return channels;
  }
}
