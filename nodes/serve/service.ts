/** What a node does for its peers: a service answers some message types, a peer's role decides which services it gets. */
import { MessageType, messageTypeName } from "../../packets/envelope.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import type { Link, OutMessage, Reply, WireMessage } from "../wire/link.ts";

/**
 * Handles one message. What it resolves with is the last reply; undefined for messages that want none. Replies before
 * the last one go through `reply`, which also says when the peer withdrew its request.
 */
export type Handler = (message: WireMessage, reply: Reply) => Promise<OutMessage | undefined>;

export interface Service extends AsyncDisposable {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
}

/** A service that holds nothing and answers messages of one type. */
export function answering(type: MessageType, handler: Handler): Service {
  return { handlers: new Map([[type, handler]]), [Symbol.asyncDispose]: async () => undefined };
}

/**
 * Answers a link's requests with these services until it closes; then they are disposed of. What a handler rejects with is
 * the answer; of a notification, which nobody waits for an answer to, it ends the session.
 */
export function serve(link: Link, services: readonly Service[]): void {
  const handlers = new Map(services.flatMap((service) => [...service.handlers]));
  link.onRequest(async (message, reply) => {
    const { type } = message;
    const handler = handlers.get(type);
    if (handler === undefined) {
      const text = `a ${link.peer.role} may not ask for ${messageTypeName(type)} here`;
      throw new WireError(WireErrorCode.notAllowed, text, { type });
    }
    reply((await handler(message, reply)) ?? { type: MessageType.OK });
  });
  void link.closed.then(async () => {
    for (const service of services) await service[Symbol.asyncDispose]();
  });
}
