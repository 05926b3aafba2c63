/**
 * Who is being let in: which connection belongs to which key, and that nobody chose a routing id.
 *
 * ZeroMQ tells a ROUTER neither the key of a sender nor whether its routing id was assigned (0 and a counter) or chosen by
 * the peer; and when an assigned id meets one that a peer chose before, libzmq ends the whole process (an assertion). So one
 * connection at a time is the candidate: the proxy hands on its INITIATE, the authenticator admits its key, and the next one
 * comes when the ROUTER has announced the connection, or has refused and closed it. Its id must be the next number of the
 * counter; what is not was chosen by the holder of that very key. Only who guesses the next number is not noticed here: that
 * is made a poor bet by `randomizeRoutingIds`.
 *
 *     begin ─▶ INITIATE ─▶ ZAP: key K? ── expect(K) ─▶ 200 ─▶ ROUTER: new connection, id ── appeared(id) ─▶ K has id
 *                               └── refused ─▶ 400 ─▶ closed ─────────────────────────────────────────────▶ end
 */
import type { AllowListEntry } from "../trust/allow-list.ts";

/** A key that was let in, and from where. */
export interface Admission {
  readonly curveKey: Uint8Array;
  /** Undefined for the port's own check. */
  readonly entry: AllowListEntry | undefined;
  /** The peer's IP address. */
  readonly address: string;
}

export type Appearance<T> =
  /** `connection` is its routing id as a number. */
  | {
      readonly kind: "admitted";
      readonly connection: number;
      readonly admission: Admission;
      readonly candidate: T | undefined;
    }
  /** Nobody was expected (any more): it may not stay, but it may come again. */
  | { readonly kind: "unexpected"; readonly connection: number }
  /** It chose a name: harmless, and refused. */
  | { readonly kind: "named"; readonly admission: Admission | undefined; readonly candidate: T | undefined }
  /** It chose an id that the ROUTER would assign one day. No other connection may be let in beside it. */
  | { readonly kind: "forged"; readonly admission: Admission | undefined; readonly candidate: T | undefined };

export class Admissions<T extends { readonly address: string } = { readonly address: string }> {
  #nextId: number | undefined;
  #calibrated: (() => void) | undefined;
  #begun: (() => void) | undefined;
  #candidate: T | undefined;
  #expected: Admission | undefined;

  /** Who is being let in. */
  get candidate(): T | undefined {
    return this.#candidate;
  }

  /** Resolves with who is being let in, when somebody is. */
  async candidateCame(): Promise<T> {
    while (this.#candidate === undefined) await new Promise<void>((resolve) => (this.#begun = resolve));
    return this.#candidate;
  }

  begin(candidate: T): void {
    if (this.#candidate !== undefined) throw new Error("one connection is let in at a time");
    this.#candidate = candidate;
    this.#begun?.();
  }

  /** The candidate has come, or does not come. */
  end(): void {
    this.#candidate = undefined;
    this.#expected = undefined;
  }

  /** Says who comes next. */
  expect(admission: Admission): void {
    this.#expected = admission;
  }

  /** Resolves when the port's own first connection has appeared. */
  async calibrated(): Promise<void> {
    if (this.#nextId === undefined) await new Promise<void>((resolve) => (this.#calibrated = resolve));
  }

  /** A connection appeared. The first one after the port was opened is the port's own: it shows where the counter stands. */
  appeared(routingId: Uint8Array): Appearance<T> {
    const admission = this.#expected;
    // A connection that was not expected is not the candidate, who still comes.
    const candidate = admission === undefined ? undefined : this.#candidate;
    if (admission !== undefined) this.end();
    const connection = connectionOf(routingId);
    if (connection === undefined) return { kind: "named", admission, candidate };
    if (this.#nextId !== undefined && connection !== this.#nextId)
      return { kind: "forged", admission, candidate };
    this.#nextId = (connection + 1) >>> 0;
    this.#calibrated?.();
    if (admission === undefined) return { kind: "unexpected", connection };
    return { kind: "admitted", connection, admission, candidate };
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
