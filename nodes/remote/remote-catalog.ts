/** The names of a hub or node, over a link. */
import { sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { MessageType } from "../../packets/envelope.ts";
import type { NameRecord } from "../../runtime/contracts/catalog.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { NamesMeta } from "../messages.ts";
import type { NameMeta } from "../messages.ts";
import type { Link } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";

export class RemoteCatalog {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  async resolve(name: string): Promise<NameRecord | undefined> {
    const { records } = await this.#ask({ op: "resolve", name });
    return records.length === 0 ? undefined : theOne(records, name);
  }

  /** The name's versions that are still kept, the latest first. */
  async history(name: string): Promise<readonly NameRecord[]> {
    return (await this.#ask({ op: "history", name })).records;
  }

  /** Kept versions whose roots begin with these hexadecimal digits: one for each root, at most `limit`. */
  async findRoots(digits: string, limit: number): Promise<readonly NameRecord[]> {
    return (await this.#ask({ op: "find-roots", digits, limit })).records;
  }

  /** Live names that begin with `prefix`, in byte order. */
  async *list(prefix: string): AsyncGenerator<NameRecord> {
    for (let after = ""; ;) {
      const { records, more } = await this.#ask({ op: "list", prefix, after });
      for (const record of records) {
        // Whoever goes back would be listed without end.
        const isNext = Buffer.compare(Buffer.from(record.name), Buffer.from(after)) > 0;
        if (!isNext || !record.name.startsWith(prefix)) throw wrong("names that were not asked for");
        after = record.name;
        yield record;
      }
      if (!more) return;
      if (records.length === 0) throw wrong("no names, and says that there are more");
    }
  }

  /** Binds a name to what was stored in `put`; durable when it resolves. */
  async bind(name: string, root: Ref, length: number, put: string): Promise<NameRecord> {
    const { records } = await this.#ask({ op: "set", name, root, length, put });
    const record = theOne(records, name);
    if (!sameBytes(record.root, root) || record.length !== length) throw wrong("another file than was named");
    return record;
  }

  /** Rejects with PFS_NOT_FOUND. */
  async remove(name: string): Promise<void> {
    await this.#ask({ op: "remove", name });
  }

  /** What was stored in `put` is durable when this resolves. */
  async flush(put: string): Promise<void> {
    await this.#ask({ op: "flush", put });
  }

  /** From now on gc may collect what was stored in `put` and no name reaches. */
  async endPut(put: string): Promise<void> {
    await this.#ask({ op: "end", put });
  }

  async #ask(meta: NameMeta): Promise<{ records: NameRecord[]; more: boolean }> {
    return readMeta(NamesMeta, await this.#link.request({ type: MessageType.NAME, meta }));
  }
}

function theOne(records: readonly NameRecord[], name: string): NameRecord {
  const [record] = records;
  if (record === undefined || records.length > 1 || record.name !== name) throw wrong("another name");
  return record;
}

function wrong(what: string): WireError {
  return new WireError(WireErrorCode.metaInvalid, `a peer answered with ${what}`, { reason: what });
}
