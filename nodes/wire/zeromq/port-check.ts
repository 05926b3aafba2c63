/** Checks that a port is guarded before the world can reach it: a stranger is refused, and the port's own key is not. */
import type { Context, Dealer } from "zeromq";
import { WireError, WireErrorCode } from "../../errors.ts";
import { PORT_CHECK_MS_MAX, TICK_MS } from "../../limits.ts";
import { LoopClock } from "../session/loop-clock.ts";
import { Identity } from "../trust/keys.ts";
import { createDealer, watchEvents } from "./sockets.ts";

export interface PortCheckOptions {
  readonly context: Context;
  /** An endpoint that leads to the port's socket. */
  readonly endpoint: string;
  readonly identity: Identity;
  /** Whether the authenticator has refused this key. */
  readonly hasRefused: (curveKey: Uint8Array) => boolean;
  /** Resolves when the port has seen the connection made with its own key. */
  readonly calibrated: Promise<void>;
}

/**
 * Rejects with PFS_AUTHENTICATOR_LOST when a stranger is let in or the port's own key is not, and with an error that has no code when
 * the check does not end: all that it waits for is in this process, so that says nothing of keys.
 */
export async function checkGuarded(options: PortCheckOptions): Promise<void> {
  const { context, endpoint, identity, hasRefused, calibrated } = options;
  const probe = async (from: Identity, letIn?: Promise<void>): Promise<string> => {
    const dealer = createDealer({ context, identity: from, serverKey: identity.curveKey, ipv6: false });
    dealer.linger = 0;
    return await outcomeOf(dealer, endpoint, letIn);
  };
  const stranger = Identity.create();
  const outcome = await probe(stranger);
  if (outcome !== "refused" || !hasRefused(stranger.curveKey)) throw unguarded(`a stranger was ${outcome}`);
  const own = await probe(identity, calibrated);
  if (own !== "let in") throw unguarded(`the port's own key was ${own}`);
}

async function outcomeOf(dealer: Dealer, endpoint: string, letIn?: Promise<void>): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  watchEvents(dealer, ({ type }) => {
    if (type === "handshake" && letIn === undefined) resolve("let in");
    if (type === "handshake:error:auth") resolve("refused");
  });
  void letIn?.then(() => resolve("let in"));
  const clock = new LoopClock(performance.now());
  const ticker = setInterval(() => {
    if (clock.look(performance.now()) < PORT_CHECK_MS_MAX) return;
    reject(new Error("the check that it lets no stranger in did not end"));
  }, TICK_MS);
  try {
    dealer.connect(endpoint);
    return await promise;
  } finally {
    clearInterval(ticker);
    dealer.close();
  }
}

function unguarded(reason: string): WireError {
  const message = `the port was not opened, because it does not check keys as it must: ${reason}`;
  return new WireError(WireErrorCode.authenticatorLost, message, { reason });
}
