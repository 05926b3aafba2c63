/**
 * The body of a name record: that a name was bound to a root, or removed.
 *
 *   OFFSET SIZE
 *   0      1    action     1 bind, 2 remove
 *   1      3    zero
 *   4      4    version
 *   8      8    storedAt   milliseconds since 1970
 *   16     8    length     bytes that the root's stream yields
 *   24     32   root       zero when the name is removed
 *   56     …    name       UTF-8
 */
import { readInteger, readInteger32, writeInteger, writeInteger32 } from "../../../packets/integer.ts";
import { REF_BYTES } from "../../../packets/layout.ts";
import { invalidName } from "../../../packets/name.ts";
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { recordBytes } from "./segment-format.ts";

export const NameAction = { bind: 1, remove: 2 } as const;
export type NameAction = (typeof NameAction)[keyof typeof NameAction];

/** One event in the life of a name. */
export interface NameEvent {
  readonly action: NameAction;
  readonly name: Uint8Array;
  readonly version: number;
  readonly storedAt: number;
  readonly length: number;
  /** 32 bytes. */
  readonly root: Uint8Array;
}

const Offset = { version: 4, storedAt: 8, length: 16, root: 24, name: 56 } as const;

/** What the record of a name of `nameBytes` takes in its segment. */
export function nameRecordBytes(nameBytes: number): number {
  return recordBytes(Offset.name + nameBytes);
}

export function encodeName(event: NameEvent): Uint8Array {
  const bytes = new Uint8Array(Offset.name + event.name.byteLength);
  bytes[0] = event.action;
  writeInteger32(bytes, Offset.version, event.version);
  writeInteger(bytes, Offset.storedAt, event.storedAt);
  writeInteger(bytes, Offset.length, event.length);
  bytes.set(event.root, Offset.root);
  bytes.set(event.name, Offset.name);
  return bytes;
}

/** The event in a body whose hash was checked; undefined when it is of a kind that this version does not know. */
export function decodeName(bytes: Uint8Array): NameEvent | undefined {
  const action = bytes[0] as NameAction;
  if (bytes.byteLength <= Offset.name || (action !== NameAction.bind && action !== NameAction.remove)) {
    return undefined;
  }
  return {
    action,
    name: bytes.slice(Offset.name),
    version: readInteger32(bytes, Offset.version),
    storedAt: readInteger(bytes, Offset.storedAt),
    length: readInteger(bytes, Offset.length),
    root: bytes.slice(Offset.root, Offset.root + REF_BYTES),
  };
}

/** A name as the catalog's bytes. Throws PFS_NAME_INVALID {reason}. */
export function nameToBytes(name: string): Uint8Array {
  const reason = invalidName(name);
  if (reason === null) return Buffer.from(name, "utf8");
  throw new StoreError(
    StoreErrorCode.invalidName,
    `${JSON.stringify(name)} is no name for a file: ${reason}`,
    { reason },
  );
}

/** The bytes under which a name would be found. Undefined when none can be: older stores have names that are refused now. */
export function nameToSearch(name: string): Uint8Array | undefined {
  return name === "" || !name.isWellFormed() ? undefined : Buffer.from(name, "utf8");
}

export function nameFromBytes(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
}
