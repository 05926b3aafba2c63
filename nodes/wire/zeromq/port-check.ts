/** Proves that a port is guarded before the world can reach it: a stranger is refused, and the port's own key is not. */
import type { Context, Dealer } from "zeromq";
import { WireError, WireErrorCode } from "../../errors.ts";
import { PROOF_TIMEOUT_MS } from "../../limits.ts";
import { Identity } from "../trust/keys.ts";
import { watchEvents } from "./socket-events.ts";
import { createDealer } from "./sockets.ts";

export interface ProofOptions {
  readonly context: Context;
  /** A `tcp://` endpoint on the loopback that leads to the port's socket. */
  readonly endpoint: string;
  readonly identity: Identity;
  /** Whether the authenticator has refused this key. */
  readonly hasRefused: (curveKey: Uint8Array) => boolean;
  /** Resolves when the port has seen the connection made with its own key. */
  readonly calibrated: Promise<void>;
}

/** Rejects with PFS_AUTHENTICATOR_LOST when a stranger is let in, or when nobody answers. */
export async function proveGuarded(options: ProofOptions): Promise<void> {
  const { context, endpoint, identity, hasRefused, calibrated } = options;
  const ipv6 = endpoint.includes("[");
  const probe = async (from: Identity, letIn?: Promise<void>): Promise<string> => {
    const dealer = createDealer({ context, identity: from, serverKey: identity.curveKey, ipv6 });
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
  return await new Promise((resolve) => {
    watchEvents(dealer, ({ type }) => {
      if (type === "handshake" && letIn === undefined) settle("let in");
      if (type === "handshake:error:auth") settle("refused");
    });
    const settle = (outcome: string): void => {
      clearTimeout(timer);
      dealer.close();
      resolve(outcome);
    };
    const timer = setTimeout(settle, PROOF_TIMEOUT_MS, "not answered");
    void letIn?.then(() => settle("let in"));
    dealer.connect(endpoint);
  });
}

function unguarded(reason: string): WireError {
  const message = `the port was not opened, because it does not check keys as it must: ${reason}`;
  return new WireError(WireErrorCode.authenticatorLost, message, { reason });
}
