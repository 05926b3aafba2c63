/** Who may connect, and as what: the allow-list that the port asks before it lets a key in. */
import * as v from "valibot";
import { WireError, WireErrorCode } from "../../errors.ts";
import { ADDRESS_CHARACTERS_MAX, LABEL_CHARACTERS_MAX, ALLOW_LIST_ENTRIES_MAX } from "../../limits.ts";
import { KEY_BYTES, keyToHex, keysFromJson, keysToJson, peerId } from "./keys.ts";
import type { KeysJson } from "./keys.ts";
import { Role } from "../link.ts";

/** What the holder of one key may have at one machine, all its sessions together. What is left out has no limit of its own. */
export interface Quota {
  /** Bytes of chunks that it stored and that were new. */
  readonly storedBytes?: number | undefined;
  /** Jobs that run. */
  readonly jobs?: number | undefined;
  /** Packets of its jobs and loaded programs that are not answered yet. */
  readonly packets?: number | undefined;
}

export interface AllowListEntry {
  /** Follows from the signing key. */
  readonly id: string;
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
  readonly role: Role;
  /** For people. Two nodes never have the same one. */
  readonly label: string;
  /** HOST:PORT where others reach it. */
  readonly address?: string | undefined;
  /** Of a node: the id of the join token that it came by. */
  readonly joinedBy?: string | undefined;
  /** Milliseconds since 1970, from which on the key is not let in any more. */
  readonly expiresAt?: number | undefined;
  readonly quota?: Quota | undefined;
}

/** An entry as JSON: keys as hexadecimal digits, the id left out because it follows. */
export interface AllowListEntryJson
  extends KeysJson, Omit<AllowListEntry, "id" | "signingKey" | "curveKey" | "joinedBy"> {
  /** `joinedBy`, as every version has it. */
  readonly invite?: string | undefined;
}

const hexKey = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/));
/** Public keys, the same in the files of tokens and in an allow list. */
export const keysJson: {
  readonly signingKey: v.GenericSchema<string>;
  readonly curveKey: v.GenericSchema<string>;
} = { signingKey: hexKey, curveKey: hexKey };
const limit = v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0)));
const quotaJson: v.GenericSchema<unknown, Quota> = v.object({
  storedBytes: limit,
  jobs: limit,
  packets: limit,
});
/** What people decide about a key, beside its role and its name: the same in the files of tokens and in an allow list. */
export const keyTerms: {
  readonly expiresAt: v.GenericSchema<unknown, number | undefined>;
  readonly quota: v.GenericSchema<unknown, Quota | undefined>;
} = {
  expiresAt: v.optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0))),
  quota: v.optional(quotaJson),
};
const entryJson = v.object({
  ...keysJson,
  role: v.picklist(Object.values(Role)),
  label: v.pipe(v.string(), v.maxLength(LABEL_CHARACTERS_MAX)),
  address: v.optional(v.pipe(v.string(), v.maxLength(ADDRESS_CHARACTERS_MAX))),
  invite: v.optional(v.pipe(v.string(), v.regex(/^[0-9a-f]{32}$/))),
  ...keyTerms,
});
/** Of entries that were removed. */
const REMOVED_LABELS_KEPT = 1024;
const allowListJson = v.pipe(v.array(entryJson), v.maxLength(ALLOW_LIST_ENTRIES_MAX));

export class AllowList {
  readonly #byId = new Map<string, AllowListEntry>();
  readonly #byCurveKey = new Map<string, AllowListEntry>();
  /** Which node has a label; the owner's own belongs to nobody on the list. */
  readonly #nodeOfLabel = new Map<string, string>();
  readonly #revoked = new Set<string>();
  /** By CURVE key, how those were called that were removed last. */
  readonly #removedLabels = new Map<string, string>();
  readonly #removalListeners = new Set<(entry: AllowListEntry) => void>();
  #refresh: (() => Promise<void>) | undefined;

  /** `ownLabel`: how the list's owner is called, which no node on it may be. */
  constructor(ownLabel?: string) {
    if (ownLabel !== undefined) this.#nodeOfLabel.set(ownLabel, "");
  }

  /** The allow list that `toJSON` wrote. Throws PFS_ALLOW_LIST_INVALID. */
  static fromJSON(json: unknown): AllowList {
    const result = v.safeParse(allowListJson, json);
    if (!result.success) throw invalid(result.issues[0].message);
    const allowList = new AllowList();
    for (const { invite, ...entry } of result.output)
      allowList.add({ ...entry, ...keysFromJson(entry), joinedBy: invite });
    return allowList;
  }

  /**
   * Adds an entry, or replaces the one with the same id. A node whose label another node has gets a number behind it. Throws
   * PFS_ALLOW_LIST_INVALID when another id has its CURVE key, or when the key was revoked.
   */
  add(entry: Omit<AllowListEntry, "id">): AllowListEntry {
    if (entry.signingKey.byteLength !== KEY_BYTES || entry.curveKey.byteLength !== KEY_BYTES) {
      throw invalid("a key has 32 bytes");
    }
    const id = peerId(entry.signingKey);
    if (this.#revoked.has(id)) throw invalid("the key was revoked");
    const { role } = entry;
    const added: AllowListEntry = {
      ...entry,
      id,
      label: role === Role.node ? this.#freeLabel(entry.label, id) : entry.label,
      signingKey: Uint8Array.from(entry.signingKey),
      curveKey: Uint8Array.from(entry.curveKey),
    };
    const owner = this.#byCurveKey.get(keyToHex(added.curveKey));
    if (owner !== undefined && owner.id !== added.id) throw invalid("two entries have the same CURVE key");
    const previous = this.#byId.get(added.id);
    if (previous === undefined && this.#byId.size >= ALLOW_LIST_ENTRIES_MAX) {
      throw invalid(`more than ${ALLOW_LIST_ENTRIES_MAX} entries`);
    }
    if (previous !== undefined) this.#forget(previous);
    this.#byId.set(added.id, added);
    this.#byCurveKey.set(keyToHex(added.curveKey), added);
    this.#removedLabels.delete(keyToHex(added.curveKey));
    if (role === Role.node) this.#nodeOfLabel.set(added.label, id);
    return added;
  }

  /** Whether there was such an entry. Its sessions end, and its key is not let in any more. */
  remove(id: string): boolean {
    const entry = this.#byId.get(id);
    if (entry === undefined) return false;
    this.#forget(entry);
    this.#removedLabels.set(keyToHex(entry.curveKey), entry.label);
    if (this.#removedLabels.size > REMOVED_LABELS_KEPT)
      this.#removedLabels.delete(this.#removedLabels.keys().next().value!);
    for (const listener of this.#removalListeners) listener(entry);
    return true;
  }

  /** As `remove`, whether it is there or not, and for good: `add` refuses it from now on. */
  revoke(id: string): void {
    this.#revoked.add(id);
    this.remove(id);
  }

  isRevoked(id: string): boolean {
    return this.#revoked.has(id);
  }

  /** Removes what has expired by `now`, in milliseconds since 1970, and returns it. */
  removeExpired(now: number): AllowListEntry[] {
    const expired = this.entries().filter(({ expiresAt }) => expiresAt !== undefined && expiresAt <= now);
    for (const { id } of expired) this.remove(id);
    return expired;
  }

  byId(id: string): AllowListEntry | undefined {
    return this.#byId.get(id);
  }

  byCurveKey(curveKey: Uint8Array): AllowListEntry | undefined {
    return this.#byCurveKey.get(keyToHex(curveKey));
  }

  /** How an entry with this key was called that was removed: of the last ones, for people. */
  removedLabel(curveKey: Uint8Array): string | undefined {
    return this.#removedLabels.get(keyToHex(curveKey));
  }

  /** As `byCurveKey`, but a key that is not here may have been allowed this very moment: then the list is refreshed first. */
  async lookUp(curveKey: Uint8Array): Promise<AllowListEntry | undefined> {
    const entry = this.byCurveKey(curveKey);
    if (entry !== undefined || this.#refresh === undefined) return entry;
    await this.#refresh();
    return this.byCurveKey(curveKey);
  }

  /** Says what brings the list up to date. */
  refreshBy(refresh: () => Promise<void>): void {
    this.#refresh = refresh;
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
    return this.entries().map(
      ({ signingKey, curveKey, role, label, address, joinedBy, expiresAt, quota }) => ({
        ...keysToJson({ signingKey, curveKey }),
        role,
        label,
        address,
        invite: joinedBy,
        expiresAt,
        quota,
      }),
    );
  }

  #forget({ id, curveKey, label }: AllowListEntry): void {
    this.#byId.delete(id);
    this.#byCurveKey.delete(keyToHex(curveKey));
    if (this.#nodeOfLabel.get(label) === id) this.#nodeOfLabel.delete(label);
  }

  /** The label, or the first of "label-2", "label-3" … that no other node has. */
  #freeLabel(label: string, id: string): string {
    for (let number = 1; ; number++) {
      const ending = number === 1 ? "" : `-${number}`;
      const free = label.slice(0, LABEL_CHARACTERS_MAX - ending.length) + ending;
      const holder = this.#nodeOfLabel.get(free);
      if (holder === undefined || holder === id) return free;
    }
  }
}

function invalid(reason: string): WireError {
  return new WireError(WireErrorCode.allowListInvalid, `the allow list is invalid: ${reason}`, { reason });
}
