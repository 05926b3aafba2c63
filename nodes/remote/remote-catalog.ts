/** The names of a hub or node, over a link. */
import { refToHex, sameBytes } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { MessageType } from "../../packets/envelope.ts";
import { packetCount } from "../../packets/packet.ts";
import { NAME_BYTES_MAX } from "../../packets/limits.ts";
import { invalidName } from "../../packets/name.ts";
import type { Binding, Catalog, NameCondition, NameRecord } from "../../runtime/contracts/catalog.ts";
import type { WholePut } from "../../runtime/contracts/chunks.ts";
import { StoreErrorCode } from "../../runtime/errors.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { ALONG_BYTES_MAX, LIST_ENTRIES_MAX } from "../limits.ts";
import { NamesMeta } from "../messages.ts";
import type { NameMeta } from "../messages.ts";
import { unpackChunks } from "../transfer/chunk-batch.ts";
import type { Chunk, ChunkBatch } from "../transfer/chunk-batch.ts";
import type { Link } from "../wire/link.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { LastingLink } from "./lasting-link.ts";

/** A put at the peer, whose chunks a name is to keep. */
export interface RemotePut {
  readonly id: string;
  /** Has the put's chunks kept over a session in which it was not known yet. */
  readonly renew: (link: Link) => Promise<void>;
}

export class RemoteCatalog implements Catalog {
  readonly #link: LastingLink;
  readonly #timeoutMs: number | undefined;

  /** A question may take `timeoutMs`, and without it as long as the peer says that it is at work. */
  constructor(link: LastingLink, timeoutMs?: number) {
    this.#link = link;
    this.#timeoutMs = timeoutMs;
  }

  async resolve(name: string): Promise<NameRecord | undefined> {
    if (!isSendable(name)) return undefined;
    const { records } = await this.#ask({ op: "resolve", name });
    return records.length === 0 ? undefined : theOne(records, name);
  }

  /** As `resolve`; chunks of the file, verified, come along where it is so small that the peer sends it at once. */
  async resolveFile(name: string): Promise<{ record: NameRecord; chunks: readonly Chunk[] } | undefined> {
    if (!isSendable(name)) return undefined;
    const meta: NameMeta = { op: "resolve", name, along: ALONG_BYTES_MAX };
    const reply = await this.#link.repeat((link) => link.request({ type: MessageType.NAME, meta }));
    const { records, codec } = readMeta(NamesMeta, reply);
    if (records.length === 0) return undefined;
    const record = theOne(records, name);
    if (codec === undefined) return { record, chunks: [] };
    return { record, chunks: await unpackChunks({ packets: reply.packets, body: reply.chunks, codec }) };
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
  async bind(binding: Binding, { expected }: NameCondition = {}, put?: RemotePut): Promise<NameRecord> {
    const { name, root, length } = binding;
    return await this.#binding(binding, expected, async (link, boundBefore) => {
      await put?.renew(link);
      const bound = await boundBefore();
      if (bound !== undefined) return bound;
      const meta: NameMeta = { op: "set", name, root, length, put: put?.id, expected };
      return boundTo(binding, (await this.#askOver(link, meta)).records);
    });
  }

  /**
   * Binds a name to a file whose chunks, or those that are not there, are in `batch`, and are stored with it. Whether they were new is
   * not known where the answer to an earlier try was lost. The peer has to say that it understands that (WHOLE_PUT_FEATURE).
   */
  async bindWhole(
    binding: Binding,
    batch: ChunkBatch,
    { expected }: NameCondition = {},
  ): Promise<Omit<WholePut, "refs">> {
    const { name, root, length } = binding;
    const { packets, body, codec } = batch;
    return await this.#binding(binding, expected, async (link, boundBefore) => {
      const bound = await boundBefore();
      const sent = { storedBytes: packets.byteLength + body.byteLength };
      if (bound !== undefined) return { record: bound, newChunks: 0, newBytes: 0, ...sent };
      const meta: NameMeta = { op: "set", name, root, length, expected, codec };
      const message = { type: MessageType.NAME, meta, packets, chunks: body };
      const { records, stored } = readMeta(NamesMeta, await link.request(message));
      const record = boundTo(binding, records);
      if (stored === undefined || stored.newChunks > packetCount(packets)) throw wrong("more than was sent");
      return { record, newChunks: stored.newChunks, newBytes: stored.newBytes, ...sent };
    });
  }

  /** `bind` is told how to find out whether an earlier try of it has done it, whose answer never came. */
  async #binding<Bound>(
    binding: Binding,
    expected: number | undefined,
    bind: (link: Link, boundBefore: () => Promise<NameRecord | undefined>) => Promise<Bound>,
  ): Promise<Bound> {
    const { name } = binding;
    const reason = invalidName(name);
    if (reason !== null)
      throw new WireError("PFS_NAME_INVALID", `"${name}" is no name for a file: ${reason}`, { reason });
    return await this.#link.repeat(
      async (link, { number }) =>
        await bind(link, async () =>
          number === 0 ? undefined : await this.#boundBefore(link, binding, expected),
        ),
    );
  }

  async remove(name: string, { expected }: NameCondition = {}): Promise<boolean> {
    if (!isSendable(name)) return false;
    const remove = async (link: Link, version: number | undefined): Promise<boolean> => {
      const { records } = await this.#askOver(link, { op: "remove", name, expected: version });
      return records.length > 0 && theOne(records, name).name === name;
    };
    // One session and no other: nothing is asked twice.
    if (!this.#link.isLasting) return await this.#link.repeat((link) => remove(link, expected));
    let first: { readonly record: NameRecord | undefined } | undefined;
    return await this.#link.repeat(async (link) => {
      const { records } = await this.#askOver(link, { op: "resolve", name });
      const record = records.length === 0 ? undefined : theOne(records, name);
      if (first === undefined) {
        first = { record };
        return await remove(link, expected);
      }
      // What is gone now may be the work of an earlier try, whose answer never came; what is there now, somebody's new file.
      if (expected !== undefined && (first.record?.version ?? 0) !== expected)
        return await remove(link, expected);
      if (first.record === undefined) return record === undefined && (await remove(link, expected));
      if (record === undefined || !isSame(record, first.record)) return true;
      try {
        await remove(link, record.version);
      } catch (error) {
        if (expected !== undefined || !hasCode(error, StoreErrorCode.nameChanged)) throw error;
      }
      return true;
    });
  }

  /** What was stored in `put` is durable when this resolves. */
  async flush(put: RemotePut): Promise<void> {
    await this.#link.repeat(async (link) => {
      await put.renew(link);
      await this.#askOver(link, { op: "flush", put: put.id });
    });
  }

  /** From now on gc may collect what was stored in `put` and no name reaches. */
  async endPut(put: string, link: Link): Promise<void> {
    await this.#askOver(link, { op: "end", put });
  }

  /** The record that an earlier try has made, whose answer never came. */
  async #boundBefore(
    link: Link,
    { name, root, length }: Binding,
    expected: number | undefined,
  ): Promise<NameRecord | undefined> {
    const [record] = (await this.#askOver(link, { op: "resolve", name })).records;
    if (record === undefined || !sameBytes(record.root, root) || record.length !== length) return undefined;
    return expected === undefined || record.version === expected + 1 ? record : undefined;
  }

  async #ask(meta: NameMeta): Promise<NamesMeta> {
    return await this.#link.repeat((link) => this.#askOver(link, meta));
  }

  async #askOver(link: Link, meta: NameMeta): Promise<NamesMeta> {
    const timeoutMs = this.#timeoutMs;
    const options = timeoutMs === undefined ? {} : { timeoutMs };
    return readMeta(NamesMeta, await link.request({ type: MessageType.NAME, meta }, options));
  }
}

/** Whether the name is one that a message may have; no other is bound anywhere. */
function isSendable(name: string): boolean {
  return name.isWellFormed() && name.length <= NAME_BYTES_MAX;
}

/** Whether both are the same version; one that was bound after a removal may have its number. */
function isSame(one: NameRecord, other: NameRecord): boolean {
  return (
    one.version === other.version &&
    one.storedAt === other.storedAt &&
    one.length === other.length &&
    sameBytes(one.root, other.root)
  );
}

function boundTo({ name, root, length }: Binding, records: readonly NameRecord[]): NameRecord {
  const record = theOne(records, name);
  if (!sameBytes(record.root, root) || record.length !== length) throw wrong("another file than was named");
  return record;
}

function theOne(records: readonly NameRecord[], name: string): NameRecord {
  const [record] = records;
  if (record === undefined || records.length > 1 || record.name !== name) throw wrong("another name");
  return record;
}

function wrong(what: string): WireError {
  return new WireError(WireErrorCode.metaInvalid, `a peer answered with ${what}`, { reason: what });
}
