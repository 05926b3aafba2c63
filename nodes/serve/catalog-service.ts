/** Answers for names. A name is bound only to a file that can be read: its every chunk is somewhere in the network. */
import type { Codec } from "../../packets/codec.ts";
import { MessageType } from "../../packets/envelope.ts";
import { hasCode } from "../../packets/errors.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { invalidName } from "../../packets/name.ts";
import { refAt, refKey, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { describeStream } from "../../runtime/stream/execute.ts";
import { checkExtents, firstMissing, reachable, remembering } from "../../runtime/stream/walk.ts";
import type { Binding, Catalog, NameCondition, NameRecord } from "../../runtime/contracts/catalog.ts";
import type { ChunkSizes, ChunkSource, WholeFiles } from "../../runtime/contracts/chunks.ts";
import { StoreErrorCode, nameChanged } from "../../runtime/errors.ts";
import { PUT_WHOLE_BYTES_MAX } from "../../runtime/limits.ts";
import { WireError } from "../errors.ts";
import { ALONG_BYTES_MAX, ALONG_CHUNKS_MAX, LIST_CHARACTERS_MAX, LIST_ENTRIES_MAX } from "../limits.ts";
import { NameMeta } from "../messages.ts";
import { BroughtChunks } from "../transfer/brought-chunks.ts";
import { ChunkPacker, unpackChunks } from "../transfer/chunk-batch.ts";
import type { Chunk } from "../transfer/chunk-batch.ts";
import { readMeta } from "../wire/session/meta.ts";
import type { OutMessage, WireMessage } from "../wire/link.ts";
import { writeChunks } from "./chunk-service.ts";
import type { PutWriters } from "./chunk-service.ts";
import type { Handler, Service } from "./service.ts";
import type { Usage } from "./usage.ts";

export interface CatalogServiceOptions {
  readonly catalog: Catalog;
  readonly source: ChunkSource;
  readonly hasAnywhere: (refs: Uint8Array) => Promise<Uint8Array>;
  /** What this machine has itself. */
  readonly store: ChunkSource & ChunkSizes & WholeFiles;
  readonly puts: PutWriters;
  /** Whose chunks come along with names. */
  readonly usage?: Usage;
  /** Frees what stands elsewhere under a name that was removed, which had these versions, one at least. */
  readonly removed?: (name: string, versions: readonly NameRecord[]) => Promise<void>;
}

export class CatalogService implements Service {
  readonly handlers: ReadonlyMap<MessageType, Handler>;
  readonly #options: CatalogServiceOptions;
  readonly #packer = new ChunkPacker();

  constructor(options: CatalogServiceOptions) {
    this.#options = options;
    this.handlers = new Map([[MessageType.NAME, (message: WireMessage) => this.#answer(message)]]);
  }

  async #answer(message: WireMessage): Promise<OutMessage> {
    const request = readMeta(NameMeta, message);
    const { catalog, puts } = this.#options;
    switch (request.op) {
      case "set": {
        const { put, expected, codec } = request;
        if (codec !== undefined) return await this.#putWhole(request, { expected }, { ...message, codec });
        return names([await this.#bind(request, { expected }, put)]);
      }
      case "resolve": {
        const record = await catalog.resolve(request.name);
        if (record === undefined) return names([]);
        const bytesMax = Math.min(request.along ?? 0, ALONG_BYTES_MAX);
        const fits = bytesMax > 0 && record.length <= bytesMax;
        return fits ? await this.#withChunks(record, bytesMax) : names([record]);
      }
      case "history":
        return names(await catalog.history(request.name));
      case "find-roots":
        return names(await catalog.findRoots(request.digits, request.limit));
      case "list":
        return this.#list(request.prefix, request.after);
      case "remove": {
        const { name, expected } = request;
        const versions = await this.#remove(name, expected);
        if (versions.length > 0) await this.#options.removed?.(name, versions);
        return names(versions.slice(0, 1));
      }
      case "flush":
        await (await puts.get(request.put)).flush();
        return names([]);
      case "end":
        await puts.end(request.put);
        return names([]);
    }
  }

  async #bind(
    { name, root, length }: Binding,
    condition: NameCondition,
    put: string | undefined,
  ): Promise<NameRecord> {
    assertName(name);
    await this.#assertComplete(root, length);
    const { catalog, puts } = this.#options;
    const binds = put === undefined ? catalog : await puts.get(put);
    return await binds.bind({ name, root, length }, condition);
  }

  /** Stores a file whose chunks came along with its name. */
  async #putWhole(
    { name, root, length }: Binding,
    condition: NameCondition,
    { packets, chunks: body, codec }: Pick<WireMessage, "packets" | "chunks"> & { readonly codec: Codec },
  ): Promise<OutMessage> {
    assertName(name);
    const chunks = await unpackChunks({ packets, body, codec }, PUT_WHOLE_BYTES_MAX);
    const brought = new BroughtChunks();
    brought.add(chunks);
    await this.#assertComplete(root, length, brought);
    const { store, usage } = this.#options;
    const { record, newChunks, newBytes, storedBytes } = await writeChunks(chunks, usage, (block) =>
      store.putWhole(block.block, block.lengths, { name, root, length }, condition),
    );
    const stored = { newChunks, newBytes, storedBytes };
    return { type: MessageType.OK, meta: { records: [record], more: false, stored } };
  }

  /** Resolves with what was removed, the latest version first; empty where there is nothing. */
  async #remove(name: string, expected: number | undefined): Promise<readonly NameRecord[]> {
    const { catalog } = this.#options;
    for (;;) {
      const versions = await catalog.history(name);
      const version = versions[0]?.version ?? 0;
      if (expected !== undefined && expected !== version) throw nameChanged(name, expected, version);
      try {
        // The name may be bound anew meanwhile: then what was found is not what would be removed.
        return (await catalog.remove(name, { expected: version })) ? versions : [];
      } catch (error) {
        if (expected !== undefined || !hasCode(error, StoreErrorCode.nameChanged)) throw error;
      }
    }
  }

  /** What came along counts as there. */
  async #assertComplete(root: Ref, length: number, brought?: BroughtChunks): Promise<void> {
    const { hasAnywhere: has, store } = this.#options;
    const others = remembering(this.#options.source);
    const source = brought?.before(others) ?? others;
    const hasAnywhere = brought === undefined ? has : (refs: Uint8Array) => brought.has(refs, has);
    const sizes = brought?.sizesBefore(store) ?? store;
    // Of a derived stream nobody knows it yet: such a name says 0.
    const { length: yielded = 0, isPlain } = await describeStream(source, root);
    if (yielded !== length) {
      throw new WireError("PFS_MESSAGE_INVALID", `the stream yields ${yielded} bytes, not ${length}`, {});
    }
    const missing = await firstMissing(source, root, hasAnywhere);
    if (missing === undefined) return isPlain ? checkExtents(source, root, sizes) : undefined;
    const ref = refToHex(missing);
    throw new WireError("PFS_CHUNK_MISSING", `the file is not complete: chunk ${ref} is on no node`, { ref });
  }

  /** What its reader would ask for next, if that is little. */
  async #withChunks(record: NameRecord, bytesMax: number): Promise<OutMessage> {
    // Whoever asks for them meets what is wrong with them.
    const chunks = await fewChunks(this.#options.store, record.root, bytesMax).catch(() => []);
    if (chunks.length === 0) return names([record]);
    const { packets, body, codec } = await this.#packer.pack(chunks);
    return { type: MessageType.OK, meta: { records: [record], more: false, codec }, packets, chunks: body };
  }

  async #list(prefix: string, after: string): Promise<OutMessage> {
    const records: NameRecord[] = [];
    let characters = 0;
    for await (const record of this.#options.catalog.list(prefix, after)) {
      if (records.length === LIST_ENTRIES_MAX || characters >= LIST_CHARACTERS_MAX)
        return names(records, true);
      records.push(record);
      characters += record.name.length;
    }
    return names(records);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#options.puts[Symbol.asyncDispose]();
  }
}

function assertName(name: string): void {
  const reason = invalidName(name);
  if (reason === null) return;
  throw new WireError("PFS_NAME_INVALID", `"${name}" is no name for a file: ${reason}`, { reason });
}

function names(records: readonly NameRecord[], more = false): OutMessage {
  return { type: MessageType.OK, meta: { records, more } };
}

/** Everything that a stream needs, none of it where that is more than `bytesMax` or many chunks. Rejects as reading does. */
async function fewChunks(store: ChunkSource & ChunkSizes, root: Ref, bytesMax: number): Promise<Chunk[]> {
  const found = new Map<string, Ref>();
  // Its streams are read once.
  const source = remembering(store);
  for await (const refs of reachable(source, root)) {
    for (let index = 0; index < refs.byteLength / REF_BYTES; index++) {
      const ref = refAt(refs, index);
      found.set(refKey(ref), ref);
    }
    if (found.size > ALONG_CHUNKS_MAX) return [];
  }
  const refs = [...found.values()];
  const sizes = await store.sizes(Buffer.concat(refs));
  if (sizes.reduce((sum, bytes) => sum + bytes, 0) > bytesMax) return [];
  const chunks = await source.read(refs);
  return refs.map((ref, index) => ({ ref, bytes: chunks[index]! }));
}
