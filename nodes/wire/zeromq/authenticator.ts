/**
 * Decides which keys may connect: the ZAP handler (ZeroMQ RFC 27) of one context. It admits a CURVE key that the allow list
 * has and nothing else, one connection at a time (see `AdmissionControl`). Ports of the context are open only while it lives.
 */
import { Reply } from "zeromq";
import type { Context } from "zeromq";
import {
  ADMISSION_TICKS,
  CONNECTIONS_MAX,
  CONNECTIONS_PER_KEY_MAX,
  REFUSAL_REPORTS_PER_SECOND,
  SUSPENSION_MS,
  STALLS_MAX,
  SUSPECTS_MAX,
  TICK_MS,
} from "../../limits.ts";
import type { AllowList, AllowListEntry } from "../trust/allow-list.ts";
import { KEY_BYTES } from "../trust/keys.ts";

export const ZAP_ENDPOINT = "inproc://zeromq.zap.01";
export const ZAP_DOMAIN = "packetfs";

/** Somebody whom the port does not know. */
export interface Stranger {
  /** CURVE public key, 64 hexadecimal digits; empty when the connection had none. */
  readonly curveKey: string;
  /** IP address. */
  readonly address: string;
  /** Refusals since the last report, this one included: reports are rate-limited. */
  readonly refusals: number;
}

export interface AuthenticatorOptions {
  readonly context: Context;
  readonly allowList: AllowList;
  readonly admissions: AdmissionControl;
  /** How many connections a key has, and how many there are. */
  readonly connections: (curveKey: string) => { readonly ofKey: number; readonly all: number };
  readonly onStranger?: ((stranger: Stranger) => void) | undefined;
}

interface Suspect {
  /** Admitted connections that never appeared, since the first of them. */
  stalls: number;
  suspendedUntil: number;
}

const REFUSED_KEPT = 64;

export class Authenticator {
  /** Resolves when it has ended, for whatever reason. From then on its context's ports must be closed. */
  readonly ended: Promise<void>;
  readonly #options: AuthenticatorOptions;
  readonly #socket: Reply;
  readonly #suspects = new Map<string, Suspect>();
  readonly #refused = new Set<string>();
  #only: Uint8Array | undefined;
  #refusals = 0;
  #unreported = 0;
  #reportTokens = REFUSAL_REPORTS_PER_SECOND;
  #reportedAt = 0;

  private constructor(options: AuthenticatorOptions, socket: Reply) {
    this.#options = options;
    this.#socket = socket;
    this.ended = this.#run();
  }

  /** It answers from then on. */
  static start(options: AuthenticatorOptions): Authenticator {
    const socket = new Reply({ context: options.context, linger: 0 });
    socket.bindSync(ZAP_ENDPOINT);
    return new Authenticator(options, socket);
  }

  /** Connections refused so far. */
  get refusals(): number {
    return this.#refusals;
  }

  /** Whether this key was among the last ones that were refused. */
  hasRefused(curveKey: Uint8Array): boolean {
    return this.#refused.has(hex(curveKey));
  }

  /** Admits this key alone until `admitListed`. */
  admitOnly(curveKey: Uint8Array): void {
    this.#only = curveKey;
  }

  admitListed(): void {
    this.#only = undefined;
  }

  /** Keeps a key out for a while. */
  suspend(curveKey: Uint8Array): void {
    this.#suspect(hex(curveKey)).suspendedUntil = performance.now() + SUSPENSION_MS;
  }

  close(): void {
    this.#socket.close();
  }

  async #run(): Promise<void> {
    try {
      for (;;) {
        const request = await this.#socket.receive();
        const admission = await this.#decide(request);
        if (admission === undefined) {
          await this.#socket.send(response(request, "400", "not in the allow list"));
        } else {
          const appeared = this.#options.admissions.expect(admission);
          await this.#socket.send(response(request, "200", "OK"));
          await this.#awaitAppearance(admission, appeared);
        }
      }
    } catch {
      // A closed or broken socket ends the task; `ended` says so to whoever must close the ports.
    } finally {
      this.#options.admissions.forget();
      this.#socket.close();
    }
  }

  async #decide(request: readonly Uint8Array[]): Promise<Admission | undefined> {
    const [version, , , address, , mechanism, credentials] = request;
    const from = text(address);
    if (text(version) !== "1.0" || text(mechanism) !== "CURVE" || credentials?.byteLength !== KEY_BYTES) {
      return this.#refuse("", from);
    }
    const key = hex(credentials);
    if (this.#only !== undefined) {
      const isOwn = Buffer.compare(credentials, this.#only) === 0;
      return isOwn ? { curveKey: this.#only, entry: undefined, address: from } : this.#refuse(key, from);
    }
    const entry = await this.#options.allowList.lookUp(credentials);
    const { ofKey, all } = this.#options.connections(key);
    const isFull = ofKey >= CONNECTIONS_PER_KEY_MAX || all >= CONNECTIONS_MAX;
    if (entry === undefined || isFull || this.#isSuspended(key)) return this.#refuse(key, from);
    return { curveKey: entry.curveKey, entry, address: from };
  }

  #refuse(curveKey: string, address: string): undefined {
    this.#refusals++;
    this.#refused.add(curveKey);
    if (this.#refused.size > REFUSED_KEPT) this.#refused.delete(this.#refused.values().next().value!);
    // The stranger of the port check is no news.
    if (this.#only !== undefined) return;
    this.#unreported++;
    const now = performance.now();
    const refill = ((now - this.#reportedAt) / 1000) * REFUSAL_REPORTS_PER_SECOND;
    const tokens = Math.min(REFUSAL_REPORTS_PER_SECOND, this.#reportTokens + refill);
    if (tokens < 1) return;
    this.#reportTokens = tokens - 1;
    this.#reportedAt = now;
    const refusals = this.#unreported;
    this.#unreported = 0;
    this.#options.onStranger?.({ curveKey, address, refusals });
  }

  /** A connection that ends between its admission and its appearance must not keep the others out. */
  async #awaitAppearance(admission: Admission, appeared: Promise<void>): Promise<void> {
    let stalled = false;
    let ticks = 0;
    const timer = setInterval(() => {
      if (++ticks < ADMISSION_TICKS) return;
      stalled = true;
      this.#options.admissions.forget();
    }, TICK_MS);
    await appeared;
    clearInterval(timer);
    if (!stalled) return;
    const suspect = this.#suspect(hex(admission.curveKey));
    if (++suspect.stalls < STALLS_MAX) return;
    suspect.stalls = 0;
    suspect.suspendedUntil = performance.now() + SUSPENSION_MS;
  }

  #suspect(key: string): Suspect {
    const known = this.#suspects.get(key);
    if (known !== undefined) return known;
    // The oldest is forgotten: keys that are suspended are few, for they must be in the allow list.
    if (this.#suspects.size >= SUSPECTS_MAX) this.#suspects.delete(this.#suspects.keys().next().value!);
    const suspect = { stalls: 0, suspendedUntil: 0 };
    this.#suspects.set(key, suspect);
    return suspect;
  }

  #isSuspended(key: string): boolean {
    const suspect = this.#suspects.get(key);
    return suspect !== undefined && performance.now() < suspect.suspendedUntil;
  }
}

function response(request: readonly Uint8Array[], status: string, reason: string): (string | Uint8Array)[] {
  const [version = "1.0", requestId = ""] = request;
  return [version, requestId, status, reason, "", ""];
}

function text(bytes: Uint8Array | undefined): string {
  return bytes === undefined ? "" : Buffer.from(bytes).toString("latin1");
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** A key that was let in, and from where. */
export interface Admission {
  readonly curveKey: Uint8Array;
  /** Undefined for the port's own check. */
  readonly entry: AllowListEntry | undefined;
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

/**
 * Knows which connection belongs to which key, and that nobody chose a routing id.
 *
 * ZeroMQ tells a ROUTER neither the key of a sender nor whether its routing id was assigned (0 and a counter) or chosen by
 * the peer; and when an assigned id meets one that a peer chose before, libzmq ends the whole process (an assertion). So
 * one connection is let in at a time: the authenticator admits a key, then waits until the ROUTER has announced the
 * connection. Its id must be the next number of the counter; what is not was chosen by the holder of that very key.
 * Only who guesses the next number is not noticed here: that is made a poor bet by `randomizeRoutingIds`.
 *
 *     ZAP: key K? ── expect(K) ─▶ 200 ─▶ ROUTER: new connection, id ── appeared(id) ─▶ K has connection id
 *                        └──────────────── waits ────────────────────────┘
 */
export class AdmissionControl {
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
