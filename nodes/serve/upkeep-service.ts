/** Lets a client look after the store behind the link. */
import { MessageType } from "../../packets/envelope.ts";
import { reachable } from "../../runtime/machine/walk.ts";
import type { Store } from "../../runtime/store/store.ts";
import type { ChunkSource } from "../../runtime/store/types.ts";
import type { StoreReport } from "../../runtime/store/verifier.ts";
import { UpkeepMeta } from "../messages.ts";
import { readMeta } from "../wire/meta.ts";
import type { OutMessage, WireMessage } from "../wire/link.ts";
import type { Handler, Service } from "./service.ts";

export interface UpkeepServiceOptions {
  readonly store: Store;
  readonly source: ChunkSource;
  readonly hasAnywhere: (refs: Uint8Array) => Promise<Uint8Array>;
}

export class UpkeepService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #options: UpkeepServiceOptions;
  readonly #closing = new AbortController();

  constructor(options: UpkeepServiceOptions) {
    this.#options = options;
    this.handlers = new Map([[MessageType.UPKEEP, (message: WireMessage) => this.#answer(message)]]);
  }

  async #answer(message: WireMessage): Promise<OutMessage> {
    const { op } = readMeta(UpkeepMeta, message);
    const { store } = this.#options;
    const report = op === "gc" ? await store.gc(this.#closing.signal) : await this.#verify();
    return { type: MessageType.OK, chunks: Buffer.from(JSON.stringify(report)) };
  }

  /** A name is incomplete here only when no node has what this store lacks: files may stay where they were made. */
  async #verify(): Promise<StoreReport> {
    const { store } = this.#options;
    const report = await store.verify(this.#closing.signal);
    const incomplete: string[] = [];
    for (const name of report.incomplete) if (!(await this.#isComplete(name))) incomplete.push(name);
    return { ...report, incomplete };
  }

  async #isComplete(name: string): Promise<boolean> {
    const { store, source, hasAnywhere } = this.#options;
    const root = store.resolve(name)?.root;
    if (root === undefined) return true;
    try {
      for await (const refs of reachable(source, root))
        if ((await hasAnywhere(refs)).includes(0)) return false;
      return true;
    } catch {
      return false;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
  }
}
