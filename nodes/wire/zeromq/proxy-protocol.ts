/** What a port and the thread of its proxy say to each other. */
import type { NetConnectOpts } from "node:net";
import type { MessagePort } from "node:worker_threads";
import type { Address } from "../trust/address.ts";

export interface ProxyThreadData {
  readonly address: Address;
  /** Where the ROUTER listens. */
  readonly inner: NetConnectOpts;
  readonly counters: ProxyCounters;
  /** To those who use the port's bulk channels. */
  readonly bulk: MessagePort;
}

/**
 * Shared by both threads. Index 0 counts the ticks of the port, index 1 says whether the port is being closed, index 2 how
 * many connections are full, and the others count what came out of the ROUTER: bytes on the line of one connection each.
 * What counts goes on from the largest number to the smallest.
 */
export type ProxyCounters = Int32Array<SharedArrayBuffer>;
export const TICKS_INDEX = 0;
export const CLOSING_INDEX = 1;
export const FULL_INDEX = 2;
export const COUNTERS_INDEX = 3;

/** Connections have numbers of their own, in the order in which they came. */
export type ToProxy =
  /** The next connection may be admitted. */
  | { readonly kind: "grant" }
  /** The ROUTER has the connection that was admitted, with this key; `counter` says what comes out of it. */
  | { readonly kind: "open"; readonly connection: number; readonly counter: number; readonly key: string }
  /** The connection that was admitted was refused. The ROUTER tells it so, and leaves it to the other side to go. */
  | { readonly kind: "refuse"; readonly connection: number }
  | { readonly kind: "cut"; readonly connection: number }
  | { readonly kind: "close" };

export type FromProxy =
  | { readonly kind: "listening"; readonly port: number }
  | { readonly kind: "not-listening"; readonly message: string; readonly system: string }
  /** The ROUTER is being asked to admit a connection. */
  | { readonly kind: "admitted"; readonly connection: number; readonly address: string }
  /** The connection that was admitted is gone, and its key was not asked about. */
  | { readonly kind: "admission-ended"; readonly connection: number }
  /** A connection was given up before anybody knew its key. */
  | { readonly kind: "unfinished"; readonly address: string; readonly reason: "foreign" | "late" }
  /** A connection sent more than a message may hold, and no message: it is to be cut. */
  | { readonly kind: "flood"; readonly connection: number };
