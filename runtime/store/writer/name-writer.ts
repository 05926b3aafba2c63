/** Binds and removes names: a record each, and the one sync that makes it durable together with its chunks. */
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { findPlace } from "./block-append.ts";
import { NameAction, encodeName, nameToBytes, nameToSearch } from "../segments/name-format.ts";
import type { NameEvent } from "../segments/name-format.ts";
import { Codec } from "../../../packets/codec.ts";
import { RecordKind } from "../segments/segment-format.ts";
import type { OpenWriter } from "./open-writers.ts";
import type { Binding, NameCondition, NameRecord } from "../../contracts/catalog.ts";
import type { WriterContext } from "./writer-context.ts";

export class NameWriter {
  readonly #store: WriterContext;
  readonly #durable: () => Promise<void>;

  /** `durable` resolves when everything appended before is durable and in the index. */
  constructor(store: WriterContext, durable: () => Promise<void>) {
    this.#store = store;
    this.#durable = durable;
  }

  /** Rejects with PFS_NAME_INVALID {reason}, PFS_NAME_CHANGED {name, expected, version}, or PFS_CHUNK_MISSING {ref} when the root is not here. */
  async bind(
    writer: OpenWriter,
    { name, root, length }: Binding,
    { expected }: NameCondition,
  ): Promise<NameRecord> {
    const bytes = nameToBytes(name);
    if (findPlace(this.#store, root) === undefined) throw missingRoot(root);
    const now = versionOf(this.#latest(bytes));
    if (expected !== undefined && expected !== now) throw changed(name, expected, now);
    const version = now + 1;
    const storedAt = Date.now();
    await this.#append(writer, { action: NameAction.bind, name: bytes, version, storedAt, length, root });
    return { name, root, length, version, storedAt };
  }

  /** Whether there was such a name. */
  async remove(name: string, { expected }: NameCondition): Promise<boolean> {
    const bytes = nameToSearch(name);
    const latest = bytes && this.#latest(bytes);
    const version = versionOf(latest);
    if (expected !== undefined && expected !== version) throw changed(name, expected, version);
    if (bytes === undefined || version === 0) return false;
    const { writers, segments } = this.#store;
    const writer = writers.open(segments.place);
    try {
      const root = new Uint8Array(REF_BYTES);
      const removal = { action: NameAction.remove, name: bytes, version, length: 0, root };
      await this.#append(writer, { ...removal, storedAt: Date.now() });
      return true;
    } finally {
      writers.close(writer.id);
    }
  }

  #latest(name: Uint8Array): NameEvent | undefined {
    return this.#store.commits.latest(name) ?? this.#store.tables.names.latest(name);
  }

  /** Durable when it resolves, and everything appended before it. */
  async #append(writer: OpenWriter, event: NameEvent): Promise<void> {
    const { segments, commits, writers } = this.#store;
    const body = encodeName(event);
    const sequence = this.#store.nextSequence();
    const record = { kind: RecordKind.name, codec: Codec.plain, plainBytes: body.byteLength, body };
    // One sync makes the chunks and the name durable: recovery stops at the first record that is not whole, so it never
    // finds a name whose chunks did not reach the disk.
    const place = segments.append({ ...record, sequence, ref: sha256(body) });
    commits.addName({ event, sequence, place });
    writers.touch(writer);
    await segments.flush();
    await this.#durable();
    if (writer.failure !== undefined) throw writer.failure;
  }
}

/** 0 when the name is not bound. */
function versionOf(latest: NameEvent | undefined): number {
  return latest?.action === NameAction.bind ? latest.version : 0;
}

function changed(name: string, expected: number, version: number): StoreError {
  const now = version === 0 ? "there is none now" : `it has version ${version} now`;
  return new StoreError(
    StoreErrorCode.nameChanged,
    `${JSON.stringify(name)} was changed meanwhile: version ${expected} was expected, ${now}`,
    { name, expected, version },
  );
}

function missingRoot(root: Uint8Array): StoreError {
  const ref = refToHex(root);
  return new StoreError(StoreErrorCode.chunkMissing, `a name cannot point to ${ref}, which is not here`, {
    ref,
  });
}
