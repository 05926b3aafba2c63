/**
 * Knows which connection belongs to which key, and that nobody chose a routing id.
 *
 * ZeroMQ tells a ROUTER neither the key of a sender nor whether its routing id was assigned (0 and a counter) or chosen by
 * the peer; and when an assigned id meets one that a peer chose before, libzmq ends the whole process (an assertion). So
 * the door lets one connection in at a time: the authenticator admits a key, then waits until the ROUTER has announced
 * the connection. Its id must be the next number of the counter; what is not was chosen by the holder of that very key.
 * Only who guesses the next number is not noticed here: that is made a poor bet by `scatterRoutingIds`.
 *
 *     ZAP: key K? ── expect(K) ─▶ 200 ─▶ ROUTER: new connection, id ── appeared(id) ─▶ K has connection id
 *                        └──────────────── waits ────────────────────────┘
 */
import type { RosterEntry } from "../trust/allow-list.ts";

/** A key that was let in, and from where. */
export interface Admission {
  readonly curveKey: Uint8Array;
  /** Undefined for the port's own proof. */
  readonly entry: RosterEntry | undefined;
  /** The peer's IP address. */
  readonly address: string;
}

export type Appearance =
  /** `connection` is its routing id as a number. */
  | { readonly kind: "admitted"; readonly connection: number; readonly admission: Admission }
  /** Nobody was expected (any more): it may not stay, but it may come again. */
  | { readonly kind: "unexpected"; readonly connection: number }
  /** It chose a name: harmless, and refused. */
  | { readonly kind: "named"; readonly admission: Admission | undefined }
  /** It chose an id that the ROUTER would assign one day. No other connection may be let in beside it. */
  | { readonly kind: "forged"; readonly admission: Admission | undefined };

export class Door {
  #nextId: number | undefined;
  #calibrated: (() => void) | undefined;
  #expected: { readonly admission: Admission; readonly appeared: () => void } | undefined;

  /** Says who comes next. Resolves when it has come, or was forgotten. One at a time. */
  expect(admission: Admission): Promise<void> {
    if (this.#expected !== undefined) throw new Error("one connection is let in at a time");
    return new Promise((resolve) => (this.#expected = { admission, appeared: resolve }));
  }

  /** Whoever was expected does not come. */
  forget(): void {
    this.#expected?.appeared();
    this.#expected = undefined;
  }

  /** Resolves when the port's own first connection has appeared. */
  async calibrated(): Promise<void> {
    if (this.#nextId === undefined) await new Promise<void>((resolve) => (this.#calibrated = resolve));
  }

  /** The ROUTER was replaced: its counter stands somewhere else. */
  reset(): void {
    this.forget();
    this.#nextId = undefined;
  }

  /** A connection appeared. The first one after the port was opened is the port's own: it shows where the counter stands. */
  appeared(routingId: Uint8Array): Appearance {
    const admission = this.#expected?.admission;
    this.forget();
    const connection = connectionOf(routingId);
    if (connection === undefined) return { kind: "named", admission };
    if (this.#nextId !== undefined && connection !== this.#nextId) return { kind: "forged", admission };
    this.#nextId = (connection + 1) >>> 0;
    this.#calibrated?.();
    if (admission === undefined) return { kind: "unexpected", connection };
    return { kind: "admitted", connection, admission };
  }
}

const ROUTING_ID_BYTES = 5;

/** The number in an assigned routing id; undefined for an id that a peer chose as its name. */
export function connectionOf(routingId: Uint8Array): number | undefined {
  if (routingId.byteLength !== ROUTING_ID_BYTES || routingId[0] !== 0) return undefined;
  return ((routingId[1]! << 24) | (routingId[2]! << 16) | (routingId[3]! << 8) | routingId[4]!) >>> 0;
}

/** The routing id of a connection. */
export function routingIdOf(connection: number): Uint8Array {
  return Uint8Array.of(0, connection >>> 24, connection >>> 16, connection >>> 8, connection);
}
