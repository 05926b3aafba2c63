/** ZeroMQ sockets with every option that the wire relies on, what happens to them, and routing ids that are hard to guess. */
import { randomInt } from "node:crypto";
import { Context, Dealer, Router, Request } from "zeromq";
import type { Event, Observer } from "zeromq";
import { MESSAGE_CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import {
  CONNECT_TIMEOUT_MS,
  FRAME_OVERHEAD_BYTES,
  PENDING_CONNECTIONS_MAX,
  RECONNECT_MS_MAX,
  RECONNECT_MS_MIN,
  SOCKET_LINGER_MS,
  SOCKET_MESSAGES_MAX,
} from "../../limits.ts";
import { z85Encode } from "../trust/keys.ts";
import type { Identity } from "../trust/keys.ts";
import { ZAP_DOMAIN } from "./authenticator.ts";

const FRAME_BYTES_MAX = MESSAGE_CHUNK_BYTES_MAX + FRAME_OVERHEAD_BYTES;

// libzmq 4.3.5, zmq.h: options that the binding has no names for.
const ZMQ_ROUTER_NOTIFY = 97;
const ZMQ_NOTIFY_CONNECT = 1;
const ZMQ_DISCONNECT_MSG = 111;

/** A context whose sockets do not keep the process from ending. */
export function createContext(): Context {
  return new Context({ blocky: false });
}

/** A ROUTER that says when a peer connects (an empty message) and disconnects (a message that nobody else knows). */
class AnnouncingRouter extends Router {
  announce(disconnected: Uint8Array): void {
    this.setInt32Option(ZMQ_ROUTER_NOTIFY, ZMQ_NOTIFY_CONNECT);
    this.setStringOption(ZMQ_DISCONNECT_MSG, Buffer.from(disconnected));
  }
}

export interface RouterOptions {
  readonly context: Context;
  readonly identity: Identity;
  /** The message that a disconnected peer leaves behind: secret, so that no peer can say it. */
  readonly disconnected: Uint8Array;
  readonly ipv6: boolean;
}

/** A server's socket, not bound. Without a live authenticator in its context it refuses everybody. */
export function createRouter({ context, identity, disconnected, ipv6 }: RouterOptions): Router {
  const router = new AnnouncingRouter({
    context,
    curveServer: true,
    curveSecretKey: identity.curveSecretZ85(),
    zapDomain: ZAP_DOMAIN,
    zapEnforceDomain: true,
    mandatory: true,
    // The proxy before it knows who takes long, and who only waits for its turn.
    handshakeInterval: 0,
    maxMessageSize: FRAME_BYTES_MAX,
    sendHighWaterMark: SOCKET_MESSAGES_MAX,
    receiveHighWaterMark: SOCKET_MESSAGES_MAX,
    // A slow peer must not make the others wait: a message that it has no room for is tried again later.
    sendTimeout: 0,
    linger: SOCKET_LINGER_MS,
    backlog: 2 * PENDING_CONNECTIONS_MAX,
    ipv6,
  });
  router.announce(disconnected);
  return router;
}

/** Unbinds at once. zeromq.js 6.8.0's own `unbindSync` binds; in libzmq, unbinding and disconnecting are the same. */
export function unbind(socket: Router, endpoint: string): void {
  socket.disconnect(endpoint);
}

export interface DealerOptions {
  readonly context: Context;
  readonly identity: Identity;
  /** The CURVE key that the other side must hold. */
  readonly serverKey: Uint8Array;
  readonly ipv6: boolean;
}

/** A dialing socket, not connected. */
export function createDealer({ context, identity, serverKey, ipv6 }: DealerOptions): Dealer {
  return new Dealer({
    context,
    curveServerKey: z85Encode(serverKey),
    curvePublicKey: z85Encode(identity.curveKey),
    curveSecretKey: identity.curveSecretZ85(),
    // Nothing is queued for a connection that does not exist yet.
    immediate: true,
    reconnectInterval: RECONNECT_MS_MIN,
    reconnectMaxInterval: RECONNECT_MS_MAX,
    connectTimeout: CONNECT_TIMEOUT_MS,
    // Whoever dials has a patience of its own, which knows how busy this process was.
    handshakeInterval: 0,
    maxMessageSize: FRAME_BYTES_MAX,
    sendHighWaterMark: SOCKET_MESSAGES_MAX,
    receiveHighWaterMark: SOCKET_MESSAGES_MAX,
    sendTimeout: CONNECT_TIMEOUT_MS,
    linger: SOCKET_LINGER_MS,
    ipv6,
  });
}

/**
 * Contexts of sockets that still report. A context that is collected as garbage is shut down, and then its observers wait
 * for ever and keep the process from ending.
 */
const reporting = new Map<Observer, Context>();

/**
 * Calls `listener` with what happens to a socket's connections until the socket is closed. zeromq.js has an emitter for this,
 * which ends the process with an unhandled rejection when the socket closes at the wrong moment. Never close the observer
 * before its socket: libzmq's I/O thread would wait for ever to report to it.
 */
export function watchEvents(socket: Dealer, listener: (event: Event) => void): void {
  const { events, context } = socket;
  reporting.set(events, context);
  void follow(events, listener).finally(() => reporting.delete(events));
}

async function follow(events: Observer, listener: (event: Event) => void): Promise<void> {
  try {
    while (!events.closed) {
      // Undefined when it was closed while waiting, whatever its type says.
      const event = (await events.receive()) as Event | undefined;
      if (event === undefined || event.type === "end") return;
      listener(event);
    }
  } catch {
    // Closed: there is nothing to tell any more.
  }
}

/** How far each of the two ways of `randomizeRoutingIds` goes at most: together they make a quarter of a million starting points. */
const STEPS_MAX = 512;
const ROUTING_IDS_ENDPOINT = "inproc://packetfs.routing-ids";

/**
 * Creates a ROUTER whose next routing id is hard to guess. libzmq starts its counter with `rand()`, which nobody
 * seeded, so a fresh process always begins with the same id; and a peer that chose the very id that is assigned next ends
 * the process (see `Admissions`). Who guesses wrong is thrown out, so a guess must be a poor bet: an unknown number of random
 * numbers is used up, and the counter is moved on by an unknown number of connections.
 */
export function randomizeRoutingIds(context: Context, createRouter: () => Router): Router {
  for (let steps = randomInt(STEPS_MAX); steps > 0; steps--) new Request({ context, linger: 0 }).close();
  const router = createRouter();
  router.bindSync(ROUTING_IDS_ENDPOINT);
  const dealer = new Dealer({ context, linger: 0 });
  for (let steps = randomInt(STEPS_MAX); steps > 0; steps--) dealer.connect(ROUTING_IDS_ENDPOINT);
  dealer.close();
  unbind(router, ROUTING_IDS_ENDPOINT);
  return router;
}
