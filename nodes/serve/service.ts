/** What a node does for its peers: a service answers some message types, a peer's role decides which of them it may send. */
import { MessageType, messageTypeName } from "../../packets/envelope.ts";
import { hasCode, messageOf } from "../../packets/errors.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { Share, inShare } from "../../runtime/turns.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { AT_WORK_BYTES_MAX, AT_WORK_INTERVAL_MS, MESSAGE_COST_BYTES } from "../limits.ts";
import { busy } from "../wire/session/errors.ts";
import { assertMayAsk, isNotification, operationOf } from "./permissions.ts";
import type { BulkChannel } from "../wire/bulk/dialing.ts";
import type { Link, OutMessage, PeerInfo, Reply, WireMessage } from "../wire/link.ts";

/**
 * Handles one message. What it resolves with is the last reply; undefined for messages that want none. Replies before
 * the last one go through `reply`, which also says when the peer withdrew its request.
 */
export type Handler = (message: WireMessage, reply: Reply) => Promise<OutMessage | undefined> | undefined;

export interface Service extends AsyncDisposable {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  /** The link is over, for this reason; it is disposed of next. */
  readonly ended?: (reason: PacketfsError) => void;
  /** Has a bulk channel that the peer opened; it works there in the peer's share of this machine's time. */
  readonly channel?: (channel: BulkChannel, peer: PeerInfo, inShare: TakeShare) => void;
}

/** Does work in somebody's share of this machine's time. */
export type TakeShare = <Result>(work: () => Result) => Result;

/** A link that is served. */
export interface ServedLink {
  /** Hands over a bulk channel that its peer opened. One that no service has any use for is closed. */
  readonly channel: (channel: BulkChannel) => void;
}

/** A service that holds nothing and answers messages of one type. */
export function answering(type: MessageType, handler: Handler): Service {
  return { handlers: new Map([[type, handler]]), [Symbol.asyncDispose]: async () => undefined };
}

/** Whether a session ended because its connection broke, so that its peer may dial again and go on. */
export function mayReturn(reason: unknown): boolean {
  return hasCode(reason, WireErrorCode.nodeLost) && reason.cause === undefined;
}

/**
 * Answers a link's requests with these services until it closes; then they are disposed of. What a handler rejects with is
 * the answer; of a notification, which nobody waits for an answer to, it ends the session, as a question does that comes without
 * a number. What they compute is the peer's own share of this machine's time, so that one which asks for much holds up itself
 * before others, and what it asks is refused (PFS_PEER_BUSY) while too much of it is at work. `onFailure` is told what a
 * service could not put away: the others are disposed of all the same, and the peer is not there to be told.
 */
export function serve(
  link: Link,
  services: readonly Service[],
  onFailure: (error: unknown) => void = () => {},
): ServedLink {
  const handlers = new Map(services.flatMap((service) => [...service.handlers]));
  const inWork = new InWork();
  const share = new Share();
  const answer = async (handler: Handler, message: WireMessage, reply: Reply): Promise<void> => {
    const bytes = MESSAGE_COST_BYTES + message.packets.byteLength + message.chunks.byteLength;
    if (!inWork.begin(reply, bytes)) throw busy(link.peer.label);
    try {
      reply((await inShare(share, () => handler(message, reply))) ?? { type: MessageType.OK });
    } finally {
      inWork.end(reply);
    }
  };
  link.onRequest((message, reply) => {
    const { type } = message;
    const handler = handlers.get(type);
    const { role } = link.peer;
    assertMayAsk(role, message);
    if (handler === undefined) {
      const text = `nobody here answers ${`${messageTypeName(type)} ${operationOf(message)}`.trim()} of a ${role}`;
      throw new WireError(WireErrorCode.notAllowed, text, { type });
    }
    if (isNotification(message)) return inShare(share, () => handler(message, reply));
    if (message.requestId === 0) {
      // It would be worked on for nobody, and nothing would bound how often.
      const text = `${`${messageTypeName(type)} ${operationOf(message)}`.trim()} is a request, and came without a number`;
      throw new WireError(WireErrorCode.messageInvalid, text, { type });
    }
    return answer(handler, message, reply);
  });
  void link.closed.then(async (reason) => {
    for (const service of services) service.ended?.(reason);
    for (const service of services) {
      try {
        await service[Symbol.asyncDispose]();
      } catch (error) {
        onFailure(error);
      }
    }
  });
  return {
    channel: (channel) => {
      const service = services.find((each) => each.channel !== undefined);
      if (service === undefined) return void channel.close();
      service.channel!(channel, link.peer, (work) => inShare(share, work));
    },
  };
}

/** For people: what is to be said of an error that `serve` tells `onFailure` of. */
export function describeLeftBehind({ label }: PeerInfo, error: unknown): string {
  return `what ${label} left behind when it went could not be put away: ${messageOf(error)}`;
}

/**
 * One peer's requests whose answers take their time. It is told again and again that somebody is at work on them. They are here until
 * that is over, though it may have withdrawn them long ago.
 */
class InWork {
  /** And how much memory each takes. */
  readonly #replies = new Map<Reply, number>();
  #bytes = 0;
  #ticker: NodeJS.Timeout | undefined;

  /** Whether there is room for so much more. */
  begin(reply: Reply, bytes: number): boolean {
    if (this.#bytes + bytes > AT_WORK_BYTES_MAX) return false;
    this.#bytes += bytes;
    this.#replies.set(reply, bytes);
    this.#ticker ??= setInterval(() => {
      for (const one of this.#replies.keys()) one.atWork();
    }, AT_WORK_INTERVAL_MS).unref();
    return true;
  }

  end(reply: Reply): void {
    this.#bytes -= this.#replies.get(reply) ?? 0;
    this.#replies.delete(reply);
    if (this.#replies.size > 0) return;
    clearInterval(this.#ticker);
    this.#ticker = undefined;
  }
}
