/** The writers that a peer has open here, by the name that the peer gave each put. Gone with the peer's link. */
import type { StoreWriter } from "../../runtime/contracts/chunks.ts";
import { WireError } from "../errors.ts";
import { PUTS_PER_LINK_MAX } from "../limits.ts";

export class PutWriters implements AsyncDisposable {
  readonly #open: () => Promise<StoreWriter>;
  readonly #writers = new Map<string, Promise<StoreWriter>>();

  constructor(open: () => Promise<StoreWriter>) {
    this.#open = open;
  }

  /** The put's writer, opened when it is new. Rejects with PFS_PEER_QUOTA beyond PUTS_PER_LINK_MAX. */
  async get(put: string): Promise<StoreWriter> {
    const existing = this.#writers.get(put);
    if (existing !== undefined) return await existing;
    if (this.#writers.size >= PUTS_PER_LINK_MAX) {
      throw new WireError("PFS_PEER_QUOTA", `a peer may have ${PUTS_PER_LINK_MAX} puts open at a time`, {
        max: PUTS_PER_LINK_MAX,
      });
    }
    const opened = this.#open();
    this.#writers.set(put, opened);
    return await opened;
  }

  async end(put: string): Promise<void> {
    const writer = this.#writers.get(put);
    this.#writers.delete(put);
    await (await writer)?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const put of this.#writers.keys()) await this.end(put);
  }
}
