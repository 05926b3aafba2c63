/** The write sessions that a peer has open here, by the name that the peer gave each put. Gone with the peer's link. */
import type { WriteSession } from "../../runtime/contracts/chunks.ts";
import { WireError } from "../errors.ts";
import { PUTS_PER_LINK_MAX } from "../limits.ts";

export class PutSessions implements AsyncDisposable {
  readonly #open: () => Promise<WriteSession>;
  readonly #sessions = new Map<string, Promise<WriteSession>>();

  constructor(open: () => Promise<WriteSession>) {
    this.#open = open;
  }

  /** The put's session, opened when it is new. Rejects with PFS_PEER_QUOTA beyond PUTS_PER_LINK_MAX. */
  async get(put: string): Promise<WriteSession> {
    const existing = this.#sessions.get(put);
    if (existing !== undefined) return await existing;
    if (this.#sessions.size >= PUTS_PER_LINK_MAX) {
      throw new WireError("PFS_PEER_QUOTA", `a peer may have ${PUTS_PER_LINK_MAX} puts open at a time`, {
        max: PUTS_PER_LINK_MAX,
      });
    }
    const opened = this.#open();
    this.#sessions.set(put, opened);
    return await opened;
  }

  async end(put: string): Promise<void> {
    const session = this.#sessions.get(put);
    this.#sessions.delete(put);
    await (await session)?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const put of this.#sessions.keys()) await this.end(put);
  }
}
