/** What a client may have a lane do, which it loaded under a grant of the hub: the lane's own share of the grant's account. */
import type { PacketfsError } from "../../packets/errors.ts";
import { packetCount } from "../../packets/packet.ts";
import type { GrantAccount, Grants } from "../grants/grants.ts";
import type { Grant } from "../grants/grant.ts";

/** What is loaded, and by whom. */
export interface GrantedProgram {
  readonly client: string;
  readonly executor: string;
  readonly program: Uint8Array;
  readonly isInline: boolean;
}

export class LaneTerms {
  readonly #grants: Grants;
  readonly #program: GrantedProgram;
  readonly #onEnd: (error: PacketfsError) => void;
  #account: GrantAccount;
  #stopListening: () => void = () => {};
  #timer: NodeJS.Timeout | undefined;
  #unanswered = 0;
  #cpuMs = 0;
  #isOver = false;

  /** Throws as `Grants.admit`. `onEnd` is called, once, when the grant ends before the lane does. */
  constructor(grants: Grants, program: GrantedProgram, grant: Grant, onEnd: (error: PacketfsError) => void) {
    this.#grants = grants;
    this.#program = program;
    this.#onEnd = onEnd;
    this.#account = this.#begin(grant);
  }

  /** The lane goes on under another grant for the same. Throws as `Grants.admit`: then it goes on under the one that it has. */
  renew(grant: Grant): void {
    const previous = this.#account;
    const stopListening = this.#stopListening;
    this.#account = this.#begin(grant);
    stopListening();
    previous.answered(this.#unanswered);
    this.#account.inherit(this.#unanswered);
  }

  /** Throws PFS_GRANT_EXCEEDED. */
  take(frame: Uint8Array): void {
    this.#account.take(frame);
    const count = packetCount(frame);
    this.#unanswered += count;
    this.#grants.packets.inFlight += count;
  }

  /** So many packets more were answered, and the lane has used so much CPU time in all. Throws PFS_GRANT_EXCEEDED. */
  answered(packets: number, cpuMs: number): void {
    this.#unanswered -= packets;
    this.#account.answered(packets);
    this.#grants.packets.inFlight -= packets;
    this.#grants.packets.done += packets;
    const spent = cpuMs - this.#cpuMs;
    this.#cpuMs = cpuMs;
    this.#account.spend(spent);
  }

  /** The lane is over. */
  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    clearTimeout(this.#timer);
    this.#stopListening();
    this.#account.answered(this.#unanswered);
    this.#grants.packets.inFlight -= this.#unanswered;
    this.#unanswered = 0;
  }

  #begin(grant: Grant): GrantAccount {
    const now = Date.now();
    const account = this.#grants.admit(grant, { ...this.#program, now });
    this.#stopListening = account.onEnd((error) => this.#onEnd(error));
    clearTimeout(this.#timer);
    const leftMs = grant.expiresAt - now;
    this.#timer = setTimeout(() => account.end("it has expired"), leftMs).unref();
    return account;
  }
}
