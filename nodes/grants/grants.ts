/** What grants allow and what of it is used, at a node: pure, with the time passed in. */
import { lengthSum, packetCount } from "../../packets/packet.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { GRANTS_PER_CLIENT_MAX, GRANT_MS, GRANT_SKEW_MS } from "../limits.ts";
import { invalidGrant } from "./grant.ts";
import type { Grant, GrantBearer } from "./grant.ts";

/** What a ceiling counts, for people. */
const COUNTED = {
  unanswered: "packets unanswered",
  packets: "packets",
  inputBytes: "bytes of input",
  cpuMs: "milliseconds of CPU time",
} as const;
type Ceiling = keyof typeof COUNTED;

/** What is used of one grant, whatever sessions and lanes use it. */
export class GrantAccount {
  readonly grant: Grant;
  readonly #used: Record<Ceiling, number> = { unanswered: 0, packets: 0, inputBytes: 0, cpuMs: 0 };
  readonly #listeners = new Set<(error: WireError) => void>();
  #ended: WireError | undefined;

  constructor(grant: Grant) {
    this.grant = grant;
  }

  /** How many packets more may be sent now. */
  get room(): number {
    const { unanswered, packets } = this.grant;
    return Math.max(0, Math.min(unanswered - this.#used.unanswered, packets - this.#used.packets));
  }

  /** Bytes of input that may still be read. */
  get inputRoom(): number {
    return this.grant.inputBytes - this.#used.inputBytes;
  }

  /** Whether more than half of it is used, so that it is time for another one. */
  get isWaning(): boolean {
    const { packets, inputBytes } = this.grant;
    return this.#used.packets * 2 > packets || this.#used.inputBytes * 2 > inputBytes;
  }

  /** Counts EXEC packets that are to be run. Throws PFS_GRANT_EXCEEDED, and counts nothing, when they are more than is granted. */
  take(frame: Uint8Array): void {
    const count = packetCount(frame);
    const bytes = lengthSum(frame, count);
    const used = this.#used;
    const { unanswered, packets, inputBytes } = this.grant;
    if (used.unanswered + count > unanswered) throw this.#exceeded("unanswered", count);
    if (used.packets + count > packets) throw this.#exceeded("packets", count);
    if (used.inputBytes + bytes > inputBytes) throw this.#exceeded("inputBytes", bytes);
    used.unanswered += count;
    used.packets += count;
    used.inputBytes += bytes;
  }

  /** So many of them are answered, or will not be. */
  answered(count: number): void {
    this.#used.unanswered -= count;
  }

  /** So many packets are under way that were counted under the grant which this one follows. */
  inherit(count: number): void {
    this.#used.unanswered += count;
  }

  /** Throws PFS_GRANT_EXCEEDED once packets used more CPU time than is granted. */
  spend(cpuMs: number): void {
    this.#used.cpuMs += cpuMs;
    if (this.#used.cpuMs > this.grant.cpuMs) throw this.#exceeded("cpuMs", 0);
  }

  /** Why it has ended, if it has. */
  get ended(): WireError | undefined {
    return this.#ended;
  }

  /** Calls `listener` when the grant ends, until the returned function is called. */
  onEnd(listener: (error: WireError) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  end(reason: string): void {
    if (this.#ended !== undefined) return;
    this.#ended = grantEnded(reason);
    for (const listener of this.#listeners) listener(this.#ended);
    this.#listeners.clear();
  }

  #exceeded(of: Ceiling, more: number): WireError {
    const max = this.grant[of];
    const text = `a grant of ${max} ${COUNTED[of]} does not allow ${this.#used[of] + more}`;
    return new WireError(WireErrorCode.grantExceeded, text, { of, max });
  }
}

export interface GrantedPackets {
  inFlight: number;
  done: number;
}

/** The grants that were shown to a node, as long as they have not expired: whoever shows one again finds it as used as it is. */
export class Grants {
  readonly #hub: Uint8Array;
  readonly #node: string;
  readonly #since: number;
  readonly #accounts = new Map<string, GrantAccount>();
  /** How many of them each client has. */
  readonly #perClient = new Map<string, number>();
  /** When the first of all that is kept ends. */
  #nextEnd = Infinity;
  /** Packets that clients sent under all of them: those that are not answered yet, and those that were. */
  readonly packets: GrantedPackets = { inFlight: 0, done: 0 };
  /** By job: until when grants for it may be shown that the hub has withdrawn. */
  readonly #withdrawn = new Map<string, number>();

  /** `hub` is the signing key of the node's hub, `since` when the node began, in milliseconds since 1970. */
  constructor(hub: Uint8Array, node: string, since: number) {
    this.#hub = hub;
    this.#node = node;
    this.#since = since;
  }

  /** What is left of the grant. Throws PFS_GRANT_INVALID, PFS_GRANT_ENDED, or PFS_PEER_QUOTA. */
  admit(grant: Grant, bearer: Omit<GrantBearer, "hub" | "node" | "since">): GrantAccount {
    const { now, client } = bearer;
    const reason = invalidGrant(grant, { ...bearer, hub: this.#hub, node: this.#node, since: this.#since });
    if (reason !== null) throw grantInvalid(reason);
    this.look(now);
    if (this.#withdrawn.has(grant.job)) throw grantEnded("the hub has withdrawn it");
    const known = this.#accounts.get(grant.id);
    if (known?.ended !== undefined) throw known.ended;
    if (known !== undefined) return known;
    const others = this.#perClient.get(client) ?? 0;
    if (others >= GRANTS_PER_CLIENT_MAX) {
      const max = GRANTS_PER_CLIENT_MAX;
      throw new WireError(WireErrorCode.quota, `a client may use ${max} grants at a time`, { max });
    }
    const account = new GrantAccount(grant);
    this.#accounts.set(grant.id, account);
    this.#perClient.set(client, others + 1);
    this.#nextEnd = Math.min(this.#nextEnd, grant.expiresAt);
    return account;
  }

  /** The hub says that nothing runs for this job any more. */
  withdraw(job: string, now: number): void {
    // Those that were not shown yet have expired after that.
    const until = now + GRANT_MS + GRANT_SKEW_MS;
    this.#withdrawn.set(job, until);
    this.#nextEnd = Math.min(this.#nextEnd, until);
    for (const account of this.#accounts.values())
      if (account.grant.job === job) account.end("the hub has withdrawn it");
    this.look(now);
  }

  /** Ends what has expired, and forgets it. */
  look(now: number): void {
    if (now < this.#nextEnd) return;
    this.#nextEnd = Infinity;
    for (const [id, account] of this.#accounts) {
      const { expiresAt, client } = account.grant;
      if (expiresAt > now) this.#nextEnd = Math.min(this.#nextEnd, expiresAt);
      else {
        this.#accounts.delete(id);
        this.#forgetOneOf(client);
        account.end("it has expired");
      }
    }
    for (const [job, until] of this.#withdrawn) {
      if (until > now) this.#nextEnd = Math.min(this.#nextEnd, until);
      else this.#withdrawn.delete(job);
    }
  }

  #forgetOneOf(client: string): void {
    const left = this.#perClient.get(client)! - 1;
    if (left > 0) this.#perClient.set(client, left);
    else this.#perClient.delete(client);
  }

  /** Grants that are kept, and jobs whose grants are refused. */
  get size(): number {
    return this.#accounts.size + this.#withdrawn.size;
  }
}

export function grantInvalid(reason: string): WireError {
  return new WireError(WireErrorCode.grantInvalid, `the grant lets nobody do this here: ${reason}`, {
    reason,
  });
}

function grantEnded(reason: string): WireError {
  return new WireError(WireErrorCode.grantEnded, `the grant has ended: ${reason}`, { reason });
}
