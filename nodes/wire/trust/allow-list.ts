/** Who may connect, and as what: the allow-list that the port asks before it lets a key in. */
import * as v from "valibot";
import { WireError, WireErrorCode } from "../../errors.ts";
import { ADDRESS_CHARACTERS_MAX, LABEL_CHARACTERS_MAX, ALLOW_LIST_ENTRIES_MAX } from "../../limits.ts";
import { KEY_BYTES, peerId } from "./keys.ts";
import { Role } from "../link.ts";

export interface AllowListEntry {
  /** Follows from the signing key. */
  readonly id: string;
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
  readonly role: Role;
  /** For people. */
  readonly label: string;
  /** HOST:PORT where others reach it. */
  readonly address?: string;
}

/** An entry as JSON: keys as hexadecimal digits, the id left out because it follows. */
export interface AllowListEntryJson {
  readonly signingKey: string;
  readonly curveKey: string;
  readonly role: Role;
  readonly label: string;
  readonly address?: string | undefined;
}

const hexKey = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
const entryJson = v.object({
  signingKey: hexKey,
  curveKey: hexKey,
  role: v.picklist(Object.values(Role)),
  label: v.pipe(v.string(), v.maxLength(LABEL_CHARACTERS_MAX)),
  address: v.optional(v.pipe(v.string(), v.maxLength(ADDRESS_CHARACTERS_MAX))),
});
const allowListJson = v.pipe(v.array(entryJson), v.maxLength(ALLOW_LIST_ENTRIES_MAX));

export class AllowList {
  readonly #byId = new Map<string, AllowListEntry>();
  readonly #byCurveKey = new Map<string, AllowListEntry>();
  readonly #removalListeners = new Set<(entry: AllowListEntry) => void>();

  /** The allow list that `toJSON` wrote. Throws PFS_ALLOW_LIST_INVALID. */
  static fromJSON(json: unknown): AllowList {
    const result = v.safeParse(allowListJson, json);
    if (!result.success) throw invalid(result.issues[0].message);
    const allowList = new AllowList();
    for (const { signingKey, curveKey, role, label, address } of result.output) {
      const keys = { signingKey: Buffer.from(signingKey, "hex"), curveKey: Buffer.from(curveKey, "hex") };
      allowList.add({ ...keys, role, label, ...(address === undefined ? {} : { address }) });
    }
    return allowList;
  }

  /** Adds an entry, or replaces the one with the same id. Throws PFS_ALLOW_LIST_INVALID when another id has its CURVE key. */
  add(entry: Omit<AllowListEntry, "id">): AllowListEntry {
    if (entry.signingKey.byteLength !== KEY_BYTES || entry.curveKey.byteLength !== KEY_BYTES) {
      throw invalid("a key has 32 bytes");
    }
    const { role, label, address } = entry;
    const added: AllowListEntry = {
      id: peerId(entry.signingKey),
      signingKey: Uint8Array.from(entry.signingKey),
      curveKey: Uint8Array.from(entry.curveKey),
      role,
      label,
      ...(address === undefined ? {} : { address }),
    };
    const owner = this.#byCurveKey.get(hex(added.curveKey));
    if (owner !== undefined && owner.id !== added.id) throw invalid("two entries have the same CURVE key");
    const previous = this.#byId.get(added.id);
    if (previous === undefined && this.#byId.size >= ALLOW_LIST_ENTRIES_MAX) {
      throw invalid(`more than ${ALLOW_LIST_ENTRIES_MAX} entries`);
    }
    if (previous !== undefined) this.#byCurveKey.delete(hex(previous.curveKey));
    this.#byId.set(added.id, added);
    this.#byCurveKey.set(hex(added.curveKey), added);
    return added;
  }

  /** Whether there was such an entry. Its sessions end, and its key is not let in any more. */
  remove(id: string): boolean {
    const entry = this.#byId.get(id);
    if (entry === undefined) return false;
    this.#byId.delete(id);
    this.#byCurveKey.delete(hex(entry.curveKey));
    for (const listener of this.#removalListeners) listener(entry);
    return true;
  }

  byId(id: string): AllowListEntry | undefined {
    return this.#byId.get(id);
  }

  byCurveKey(curveKey: Uint8Array): AllowListEntry | undefined {
    return this.#byCurveKey.get(hex(curveKey));
  }

  entries(): AllowListEntry[] {
    return [...this.#byId.values()];
  }

  /** Calls `listener` with each entry that is removed from now on. Returns what ends that. */
  onRemoval(listener: (entry: AllowListEntry) => void): () => void {
    this.#removalListeners.add(listener);
    return () => void this.#removalListeners.delete(listener);
  }

  toJSON(): AllowListEntryJson[] {
    return this.entries().map(({ signingKey, curveKey, role, label, address }) => ({
      signingKey: hex(signingKey),
      curveKey: hex(curveKey),
      role,
      label,
      ...(address === undefined ? {} : { address }),
    }));
  }
}

function hex(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("hex");
}

function invalid(reason: string): WireError {
  return new WireError(WireErrorCode.allowListInvalid, `the allow list is invalid: ${reason}`, { reason });
}
