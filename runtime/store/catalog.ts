/** The store's catalog: the index's names as its users see them, and the writer, which changes them. */
import { REF_BYTES } from "../../packets/layout.ts";
import type { Binding, Catalog, GcRoots, NameCondition, NameRecord } from "../contracts/catalog.ts";
import type { IndexReader } from "./index/reader.ts";
import type { NamePosition, NameRow } from "./index/name-table.ts";
import { NameAction, nameFromBytes, nameToSearch, storedAtOf } from "./segments/format.ts";
import type { WriterClient } from "./writer/client.ts";

export class StoreCatalog implements Catalog, GcRoots {
  readonly #index: IndexReader;
  readonly #writer: () => WriterClient;

  /** `writer` throws PFS_STORE_READ_ONLY or PFS_STORE_CLOSED where nothing can be written. */
  constructor(index: IndexReader, writer: () => WriterClient) {
    this.#index = index;
    this.#writer = writer;
  }

  async resolve(name: string): Promise<NameRecord | undefined> {
    const bytes = nameToSearch(name);
    const row = bytes && this.#index.use(({ names }) => names.latest(bytes));
    return row?.action === NameAction.bind ? recordOf(row) : undefined;
  }

  async history(name: string): Promise<NameRecord[]> {
    const bytes = nameToSearch(name);
    return bytes === undefined ? [] : this.#index.use(({ names }) => names.history(bytes)).map(recordOf);
  }

  async findRoots(digits: string, limit: number): Promise<NameRecord[]> {
    const bound = (digit: string): Uint8Array => Buffer.from(digits.padEnd(REF_BYTES * 2, digit), "hex");
    return this.#index.use(({ names }) => names.withRoots(bound("0"), bound("f"), limit)).map(recordOf);
  }

  async *list(prefix = "", after = ""): AsyncGenerator<NameRecord, void, undefined> {
    const start = Buffer.from(prefix, "utf8");
    let last: Uint8Array = Buffer.from(after, "utf8");
    // A name that is the prefix itself is listed too, so the search begins before it.
    if (Buffer.compare(last, start) < 0) last = before(start);
    for (;;) {
      const page = this.#index.use(({ names }) => names.live(last));
      for (const row of page) {
        if (Buffer.compare(row.name.subarray(0, start.byteLength), start) > 0) return;
        if (startsWith(row.name, start)) yield recordOf(row);
      }
      if (page.length === 0) return;
      last = page.at(-1)!.name;
    }
  }

  async bind(binding: Binding, condition: NameCondition = {}): Promise<NameRecord> {
    checkBinding(binding);
    const writer = this.#writer();
    const id = writer.openWriter();
    try {
      return await writer.call({ kind: "bind", writer: id, ...binding, expected: condition.expected });
    } finally {
      writer.closeWriter(id);
    }
  }

  async remove(name: string, condition: NameCondition = {}): Promise<boolean> {
    return this.#writer().call({ kind: "remove-name", name, expected: condition.expected });
  }

  async *roots(): AsyncGenerator<NameRecord[], void, undefined> {
    let last: NamePosition = { name: new Uint8Array(0), sequence: 0 };
    for (;;) {
      const page = this.#index.use(({ names }) => names.listed(last));
      if (page.length === 0) return;
      yield page.map(recordOf);
      last = page.at(-1)!;
    }
  }
}

/** Throws a RangeError for what no file can be. */
export function checkBinding({ root, length }: Binding): void {
  if (root.byteLength !== REF_BYTES) throw new RangeError(`a root has ${REF_BYTES} bytes`);
  if (!Number.isSafeInteger(length) || length < 0) throw new RangeError(`no file has ${length} bytes`);
}

/** A byte string that is smaller than `bytes` and has no name between them. */
function before(bytes: Buffer): Uint8Array {
  if (bytes.byteLength === 0) return bytes;
  const lower = Buffer.from(bytes);
  const last = lower.byteLength - 1;
  if (lower[last] === 0) return lower.subarray(0, last);
  lower[last]!--;
  // UTF-8 has no byte 0xff: nothing that begins with the lower bytes is larger than this.
  return Buffer.concat([lower, Uint8Array.of(0xff)]);
}

function startsWith(bytes: Uint8Array, prefix: Uint8Array): boolean {
  return Buffer.compare(bytes.subarray(0, prefix.byteLength), prefix) === 0;
}

function recordOf({ name, root, length, version, storedAt }: NameRow): NameRecord {
  // Older stores have times that no date can be made of.
  return { name: nameFromBytes(name), root, length, version, storedAt: storedAtOf(storedAt) };
}
