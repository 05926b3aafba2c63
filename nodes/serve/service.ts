/** What a node does for its peers: a service answers some message types, a peer's role decides which of them it may send. */
import { MessageType, messageTypeName } from "../../packets/envelope.ts";
import { hasCode, messageOf } from "../../packets/errors.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { Share, inShare } from "../../runtime/turns.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { AT_WORK_INTERVAL_MS } from "../limits.ts";
import { describeAsked, mayAsk, operationOf } from "./permissions.ts";
import type { Link, OutMessage, PeerInfo, Reply, WireMessage } from "../wire/link.ts";

/**
 * Handles one message. What it resolves with is the last reply; undefined for messages that want none. Replies before
 * the last one go through `reply`, which also says when the peer withdrew its request.
 */
export type Handler = (message: WireMessage, reply: Reply) => Promise<OutMessage | undefined>;

export interface Service extends AsyncDisposable {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  /** The link is over, for this reason; it is disposed of next. */
  readonly ended?: (reason: PacketfsError) => void;
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
 * the answer; of a notification, which nobody waits for an answer to, it ends the session. What they compute is the peer's
 * own share of this machine's time, so that one which asks for much holds up itself before others. `onFailure` is told what a
 * service could not put away: the others are disposed of all the same, and the peer is not there to be told.
 */
export function serve(
  link: Link,
  services: readonly Service[],
  onFailure: (error: unknown) => void = () => {},
): void {
  const handlers = new Map(services.flatMap((service) => [...service.handlers]));
  const inWork = new InWork();
  const share = new Share();
  link.onRequest(async (message, reply) => {
    const { type } = message;
    const handler = handlers.get(type);
    const { role } = link.peer;
    if (!mayAsk(role, message)) {
      const text = `a ${role} may not ${describeAsked(message)}; SECURITY.md says what each role may`;
      throw new WireError(WireErrorCode.notAllowed, text, { type, operation: operationOf(message) });
    }
    if (handler === undefined) {
      const text = `nobody here answers ${`${messageTypeName(type)} ${operationOf(message)}`.trim()} of a ${role}`;
      throw new WireError(WireErrorCode.notAllowed, text, { type });
    }
    const isRequest = message.requestId !== 0;
    if (isRequest) inWork.begin(reply);
    try {
      reply((await inShare(share, () => handler(message, reply))) ?? { type: MessageType.OK });
    } finally {
      if (isRequest) inWork.end(reply);
    }
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
}

/** For people: what is to be said of an error that `serve` tells `onFailure` of. */
export function describeLeftBehind({ label }: PeerInfo, error: unknown): string {
  return `what ${label} left behind when it went could not be put away: ${messageOf(error)}`;
}

/** Requests whose answers take their time. Their askers are told again and again that somebody is at work on them. */
class InWork {
  readonly #replies = new Set<Reply>();
  #ticker: NodeJS.Timeout | undefined;

  begin(reply: Reply): void {
    this.#replies.add(reply);
    this.#ticker ??= setInterval(() => {
      for (const one of this.#replies) one.atWork();
    }, AT_WORK_INTERVAL_MS).unref();
  }

  end(reply: Reply): void {
    this.#replies.delete(reply);
    if (this.#replies.size > 0) return;
    clearInterval(this.#ticker);
    this.#ticker = undefined;
  }
}
