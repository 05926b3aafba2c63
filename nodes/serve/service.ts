/** What a node does for its peers: a service answers some message types, a peer's role decides which services it gets. */
import { errorToJson } from "../../packets/errors.ts";
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

/** Answers a link's requests with these services until it closes; then they are disposed of. */
export function serve(link: Link, services: readonly Service[]): void {
  const handlers = new Map(services.flatMap((service) => [...service.handlers]));
  link.onRequest((message, reply) => {
    const handler = handlers.get(message.type);
    if (handler === undefined) {
      const type = message.type;
      const name = messageTypeName(type);
      const { role } = link.peer;
      const refusal = new WireError(WireErrorCode.notAllowed, `a ${role} may not ask for ${name} here`, {
        type,
      });
      reply(errorReply(refusal));
      return;
    }
    handler(message, reply).then(
      (last) => reply(last ?? { type: MessageType.OK }),
      (error: unknown) => reply(errorReply(error)),
    );
  });
  void link.closed.then(async () => {
    for (const service of services) await service[Symbol.asyncDispose]();
  });
}

function errorReply(error: unknown): OutMessage {
  return { type: MessageType.ERROR, meta: errorToJson(error) };
}
