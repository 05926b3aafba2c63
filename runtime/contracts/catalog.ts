/** Names: which stream each of them points to, and what it pointed to before. */
import type { Ref } from "../../packets/digest.ts";

/** One version of one name. */
export interface NameRecord {
  readonly name: string;
  /** The stream that the name points to. */
  readonly root: Ref;
  /** Bytes that the stream yields. */
  readonly length: number;
  /** 1 for a name's first version, and again for the first one after it was removed. */
  readonly version: number;
  /** Milliseconds since 1970, as the machine that stored it told the time. */
  readonly storedAt: number;
}

/** What a name is made to point to. */
export interface Binding {
  readonly name: string;
  readonly root: Ref;
  /** Bytes that the root's stream yields. */
  readonly length: number;
}

export interface NameCondition {
  /** The version that the name must have now, 0 for none: otherwise nothing changes, and the call rejects with PFS_NAME_CHANGED. */
  readonly expected?: number | undefined;
}

export interface Catalog {
  /** A name's latest version. Undefined when there is no such name, or what is asked for cannot be one. */
  resolve(name: string): Promise<NameRecord | undefined>;
  /** The name's versions that are still kept (NAME_VERSIONS_MAX), the latest first; none after it was removed. */
  history(name: string): Promise<readonly NameRecord[]>;
  /** Kept versions whose roots begin with these hexadecimal digits, in lower case: one for each root, at most `limit`. */
  findRoots(digits: string, limit: number): Promise<readonly NameRecord[]>;
  /**
   * The names that begin with `prefix` and come after `after`, in the order of their UTF-8 bytes. What is named or removed
   * meanwhile may or may not be seen.
   */
  list(prefix?: string, after?: string): AsyncIterable<NameRecord>;
  /**
   * Binds the name to the root, durably: the next version. Rejects with PFS_NAME_INVALID {reason}, PFS_NAME_CHANGED {name,
   * expected, version}, or PFS_CHUNK_MISSING {ref} when the root is not here. A writer's `bind` makes what it wrote durable too.
   */
  bind(binding: Binding, condition?: NameCondition): Promise<NameRecord>;
  /** Removes a name and its history, durably. False when there is no such name. Rejects with PFS_NAME_CHANGED. */
  remove(name: string, condition?: NameCondition): Promise<boolean>;
}

/** What gc asks of the catalog beside its chunks; another machine's is not asked for it. */
export interface GcRoots {
  /** Every version that is kept, by name and age, some hundred at a time: what gc must not free. */
  roots(): AsyncIterable<readonly NameRecord[]>;
}
