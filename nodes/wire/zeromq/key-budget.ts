/**
 * What the connections of one key may have in the ROUTER together: parts of messages that are not whole yet cost memory, and
 * a key may have many connections. When it is used up, the first one that needs more goes on alone, so that its message ends
 * and the next one's turn comes; the others are not read meanwhile.
 */
import { KEY_TURN_MS_MAX, UNDELIVERED_BYTES_FREE, UNDELIVERED_BYTES_PER_KEY_MAX } from "../../limits.ts";

/** One connection. */
export interface Account {
  /** Bytes that the ROUTER got and that did not come out of it. */
  readonly undelivered: number;
  /** A number that changes when something comes out of it. */
  readonly delivered: number;
}

export class KeyBudget<T extends Account = Account> {
  readonly #accounts = new Set<T>();
  /** Who goes on alone, what had come out of it then, and since when nothing has, by the loop's clock. */
  #first: T | undefined;
  #deliveredThen = 0;
  #since: number | undefined;

  get isEmpty(): boolean {
    return this.#accounts.size === 0;
  }

  add(account: T): void {
    this.#accounts.add(account);
  }

  delete(account: T): void {
    this.#accounts.delete(account);
    if (this.#first === account) this.#first = undefined;
  }

  /** Whether more may be read of this one. */
  hasRoomFor(account: T): boolean {
    if (account === this.#first || account.undelivered <= UNDELIVERED_BYTES_FREE) return true;
    if (this.#used() <= UNDELIVERED_BYTES_PER_KEY_MAX) return true;
    if (this.#first !== undefined && this.#first.undelivered > UNDELIVERED_BYTES_FREE) return false;
    this.#first = account;
    this.#since = undefined;
    return true;
  }

  /** To be asked at every tick while others wait: the one that they wait for, when nothing came out of it for too long. */
  stalled(time: number): T | undefined {
    const first = this.#first;
    if (first === undefined) return undefined;
    if (this.#since === undefined || first.delivered !== this.#deliveredThen) {
      this.#since = time;
      this.#deliveredThen = first.delivered;
    }
    if (time - this.#since <= KEY_TURN_MS_MAX) return undefined;
    this.#first = undefined;
    return first;
  }

  #used(): number {
    let bytes = 0;
    for (const { undelivered } of this.#accounts) bytes += undelivered;
    return bytes;
  }
}
