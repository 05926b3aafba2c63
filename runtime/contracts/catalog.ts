/** What a catalog says of names. */
import type { Ref } from "../../packets/digest.ts";

/** One version of one name. */
export interface NameRecord {
  readonly name: string;
  /** The stream that the name points to. */
  readonly root: Ref;
  /** Bytes that the stream yields. */
  readonly length: number;
  /** 1 for a name's first version. */
  readonly version: number;
  /** Milliseconds since 1970, as the machine that stored it told the time. */
  readonly storedAt: number;
}
