/** The names of a hub or node, over a link. */
import { refToHex, sameBytes } from "../../packets/digest.ts";
import { MessageType } from "../../packets/envelope.ts";
import { NAME_BYTES_MAX } from "../../packets/limits.ts";
import { invalidName } from "../../packets/name.ts";
import type { Binding, Catalog, NameCondition, NameRecord } from "../../runtime/contracts/catalog.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { LIST_ENTRIES_MAX } from "../limits.ts";
import { NamesMeta } from "../messages.ts";
import type { NameMeta } from "../messages.ts";
import type { Link } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";

export class RemoteCatalog implements Catalog {
  readonly #link: Link;

  constructor(link: Link) {
    this.#link = link;
  }

  async resolve(name: string): Promise<NameRecord | undefined> {
    if (!isSendable(name)) return undefined;
    const { records } = await this.#ask({ op: "resolve", name });
    return records.length === 0 ? undefined : theOne(records, name);
  }

  async history(name: string): Promise<readonly NameRecord[]> {
    if (!isSendable(name)) return [];
    const { records } = await this.#ask({ op: "history", name });
    if (records.some((record) => record.name !== name)) throw wrong("another name");
    return records;
  }

  /** At most LIST_ENTRIES_MAX, whatever the limit. */
  async findRoots(digits: string, limit: number): Promise<readonly NameRecord[]> {
    const most = Math.min(limit, LIST_ENTRIES_MAX);
    const { records } = await this.#ask({ op: "find-roots", digits, limit: most });
    if (records.length > most || records.some(({ root }) => !refToHex(root).startsWith(digits)))
      throw wrong("roots that were not asked for");
    return records;
  }

  async *list(prefix = "", after = ""): AsyncGenerator<NameRecord, void, undefined> {
    for (let last = after; ;) {
      const { records, more } = await this.#ask({ op: "list", prefix, after: last });
      for (const record of records) {
        // Whoever goes back would be listed without end.
        const isNext = Buffer.compare(Buffer.from(record.name), Buffer.from(last)) > 0;
        if (!isNext || !record.name.startsWith(prefix)) throw wrong("names that were not asked for");
        last = record.name;
        yield record;
      }
      if (!more) return;
      if (records.length === 0) throw wrong("no names, and says that there are more");
    }
  }

  /** As every catalog does; with `put`, what was written in it is made durable too. */
  async bind(
    { name, root, length }: Binding,
    { expected }: NameCondition = {},
    put?: string,
  ): Promise<NameRecord> {
    const reason = invalidName(name);
    if (reason !== null)
      throw new WireError("PFS_NAME_INVALID", `"${name}" is no name for a file: ${reason}`, { reason });
    const { records } = await this.#ask({ op: "set", name, root, length, put, expected });
    const record = theOne(records, name);
    if (!sameBytes(record.root, root) || record.length !== length) throw wrong("another file than was named");
    return record;
  }

  async remove(name: string, { expected }: NameCondition = {}): Promise<boolean> {
    if (!isSendable(name)) return false;
    const { records } = await this.#ask({ op: "remove", name, expected });
    return records.length > 0 && theOne(records, name).name === name;
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

/** Whether the name is one that a message may have; no other is bound anywhere. */
function isSendable(name: string): boolean {
  return name.isWellFormed() && name.length <= NAME_BYTES_MAX;
}

function theOne(records: readonly NameRecord[], name: string): NameRecord {
  const [record] = records;
  if (record === undefined || records.length > 1 || record.name !== name) throw wrong("another name");
  return record;
}

function wrong(what: string): WireError {
  return new WireError(WireErrorCode.metaInvalid, `a peer answered with ${what}`, { reason: what });
}
