import type { Context, Dealer, Event, Observer } from "zeromq";

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
