/**
 * Puts whose connection broke: what was stored in them stays safe from gc for a while, so that a client which comes back need
 * not send it again.
 */
import type { StoredFormWriter } from "../../runtime/contracts/chunks.ts";
import type { SetTimer } from "../../runtime/job/jobs.ts";
import { PUTS_PER_LINK_MAX, PUT_HELD_MS } from "../limits.ts";
import { unrefTimer } from "./followed-jobs.ts";

interface HeldPut {
  readonly writer: StoredFormWriter;
  /** Takes back that it is to be closed. */
  readonly keep: () => void;
}

export class HeldPuts {
  readonly #setTimer: SetTimer;
  /** By the id of the key that they are of, and the name of the put, the oldest first. */
  readonly #held = new Map<string, Map<string, HeldPut>>();

  constructor(setTimer: SetTimer = unrefTimer) {
    this.#setTimer = setTimer;
  }

  /** Has the writer from now on; of a key with too many the oldest one is closed. */
  hold(key: string, put: string, writer: StoredFormWriter): void {
    this.#close(key, put);
    const puts = this.#held.get(key) ?? new Map<string, HeldPut>();
    this.#held.set(key, puts);
    const keep = this.#setTimer(() => this.#close(key, put), PUT_HELD_MS);
    puts.set(put, { writer, keep });
    const [oldest] = puts.keys();
    if (puts.size > PUTS_PER_LINK_MAX) this.#close(key, oldest!);
  }

  /** The put goes on. */
  take(key: string, put: string): StoredFormWriter | undefined {
    const puts = this.#held.get(key);
    const held = puts?.get(put);
    held?.keep();
    puts?.delete(put);
    if (puts?.size === 0) this.#held.delete(key);
    return held?.writer;
  }

  #close(key: string, put: string): void {
    // The store that it is of may have failed meanwhile, and says so to those who use it.
    void this.take(key, put)
      ?.close()
      .catch(() => undefined);
  }
}
