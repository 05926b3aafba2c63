/** The catalog as the store's users see it. */
import type { Catalog, NameRow } from "./catalog.ts";
import type { IndexReader } from "./index-reader.ts";
import { NameAction, nameFromBytes, nameToBytes } from "../segments/name-format.ts";
import type { NameRecord } from "../../contracts/catalog.ts";

export function resolveName(catalog: Catalog, name: string): NameRecord | undefined {
  const row = catalog.latest(nameToBytes(name));
  return row?.action === NameAction.bind ? recordOf(row) : undefined;
}

/** The versions that can still be read, the latest first. */
export function nameHistory(catalog: Catalog, name: string): NameRecord[] {
  return catalog.history(nameToBytes(name)).map(recordOf);
}

/**
 * The live names that begin with `prefix` and come after `after`, in the order of their UTF-8 bytes. Read a page at a time:
 * what is named or removed meanwhile may or may not be seen.
 */
export function* listNames(
  index: IndexReader,
  prefix: string,
  after: string,
): Generator<NameRecord, void, undefined> {
  const start = Buffer.from(prefix, "utf8");
  let last: Uint8Array = Buffer.from(after, "utf8");
  // A name that is the prefix itself is listed too, so the search begins before it.
  if (Buffer.compare(last, start) < 0) last = before(start);
  for (;;) {
    const page = index.use(({ catalog }) => catalog.live(last));
    for (const row of page) {
      if (Buffer.compare(row.name.subarray(0, start.byteLength), start) > 0) return;
      if (startsWith(row.name, start)) yield recordOf(row);
    }
    if (page.length === 0) return;
    last = page.at(-1)!.name;
  }
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
  return { name: nameFromBytes(name), root, length, version, storedAt };
}
