/**
 * Keeps a hub's allow list equal to what its disk says: tokens as people made and revoked them (`tokens.ts`), and the nodes that
 * joined by them, in `allow-list.json`, which the hub alone writes. It looks again all the while, so whoever is revoked beside the
 * running hub, or expires, is out within ACCESS_LOOK_MS.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { messageOf } from "../../packets/errors.ts";
import { replaceFile } from "../../runtime/durable-file.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { systemCode } from "../../runtime/errors.ts";
import { ACCESS_LOOK_MS, ACCESS_SETTLED_MS } from "../limits.ts";
import { AllowList } from "../wire/trust/allow-list.ts";
import type { AllowListEntry } from "../wire/trust/allow-list.ts";
import { Role } from "../wire/link.ts";
import type { HubTokens, TokenRecord } from "./tokens.ts";

/** How many damaged files people are told of at once. */
const DAMAGED_TOLD_MAX = 64;

/** What may go wrong while the hub looks, for as long as it does. */
const Outage = {
  read: "tokens cannot be read, and stay as they were",
  write: "nodes that joined cannot be written down",
} as const;
type Outage = (typeof Outage)[keyof typeof Outage];

export interface AccessOptions {
  /** The hub's store. */
  readonly directory: string;
  /** The hub's own name for people, which no node gets. */
  readonly label: string;
  readonly tokens: HubTokens;
  /** News for people. */
  readonly onEvent: (text: string) => void;
}

export class Access {
  readonly allowList: AllowList;
  readonly #options: AccessOptions;
  readonly #file: string;
  readonly #ticker: NodeJS.Timeout;
  readonly #unwatch: () => void;
  #onChange: (() => void) | undefined;
  /** Of what was read last; undefined when it may have changed since without showing. */
  #stamp: string | undefined;
  #lastLook: Promise<void> = Promise.resolve();
  #looking = 0;
  #lastSave: Promise<void> = Promise.resolve();
  #saved = "";
  /** Whether the last save failed, and another one is due. */
  #isUnsaved = false;
  /** What people were told, so that they are told once of each outage, and of each damage as long as it is there. */
  readonly #outages = new Set<Outage>();
  #damaged: ReadonlySet<string> = new Set();

  private constructor(options: AccessOptions) {
    this.#options = options;
    this.allowList = new AllowList(options.label);
    this.#file = allowListFile(options.directory);
    // A disk that hangs must not keep out those who are known.
    this.allowList.refreshBy(() =>
      Promise.race([this.look(), sleep(ACCESS_LOOK_MS, undefined, { ref: false })]),
    );
    this.#ticker = setInterval(() => {
      // A disk that hangs must not be asked again and again.
      if (this.#looking === 0) void this.look();
    }, ACCESS_LOOK_MS).unref();
    this.#unwatch = options.tokens.watch(() => {
      // One that is under way may have looked already where the change is; one more sees all.
      if (this.#looking < 2) void this.look();
    });
  }

  /** Rejects with PFS_ALLOW_LIST_INVALID, PFS_IDENTITY_INVALID and as the system does. */
  static async open(options: AccessOptions): Promise<Access> {
    const access = new Access(options);
    try {
      await access.#read();
      for (const node of await readNodes(options.directory)) {
        // Whose token is gone is gone with it; a node of an older version joins again by itself.
        const { joinedBy } = node;
        if (joinedBy === undefined || access.allowList.byId(joinedBy)?.role !== Role.join) continue;
        if (!access.allowList.isRevoked(node.id)) access.allowList.add(node);
      }
      return access;
    } catch (error) {
      access.close();
      throw error;
    }
  }

  /** Calls `listener` after entries came or went, other than by `add`. */
  onChange(listener: () => void): void {
    this.#onChange = listener;
  }

  /**
   * Resolves when the list is what the disk said at some moment after the call. Never rejects: what cannot be read leaves all as it is,
   * but for keys that have expired, and people are told. So they are of what cannot be written, which the next look tries again.
   */
  async look(): Promise<void> {
    this.#looking++;
    this.#lastLook = this.#lastLook.then(() => this.#look());
    await this.#lastLook;
    this.#looking--;
  }

  /** The nodes that have joined are durable when this resolves; a crash leaves the old file or the new one. */
  save(): Promise<void> {
    const saved = this.#lastSave.then(async () => {
      const nodes = this.allowList.toJSON().filter(({ role }) => role === Role.node);
      const text = `${JSON.stringify(nodes, undefined, 1)}\n`;
      this.#isUnsaved = text !== this.#saved;
      if (!this.#isUnsaved) return;
      await replaceFile(this.#file, text);
      this.#saved = text;
      this.#isUnsaved = false;
    });
    this.#lastSave = saved.catch(() => undefined);
    return saved;
  }

  close(): void {
    clearInterval(this.#ticker);
    this.#unwatch();
  }

  async #look(): Promise<void> {
    const expired = this.allowList.removeExpired(Date.now());
    for (const entry of expired)
      this.#options.onEvent(
        outText(entry, entry.role === Role.node ? "the token it came by has expired" : "it has expired"),
      );
    let hasChanged = expired.length > 0;
    await this.#attempt(Outage.read, async () => {
      const { text } = await this.#options.tokens.stamp();
      if (text !== this.#stamp && (await this.#read())) hasChanged = true;
    });
    if (hasChanged) this.#onChange?.();
    if (hasChanged || this.#isUnsaved) await this.#attempt(Outage.write, () => this.save());
  }

  /** Does `work`, and tells people when that fails, but not again before it went well. */
  async #attempt(outage: Outage, work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.#outages.delete(outage);
    } catch (error) {
      const reason = messageOf(error);
      if (!this.#outages.has(outage)) this.#options.onEvent(`${outage}: ${reason}`);
      this.#outages.add(outage);
    }
  }

  /** Takes over what the disk says. Resolves with whether that is something new. */
  async #read(): Promise<boolean> {
    const { tokens: disk } = this.#options;
    const { text, changedAt } = await disk.stamp();
    const { tokens, revoked, damaged } = await disk.read();
    // A second change within the same tick of the file system's clock does not show.
    this.#stamp = Math.abs(Date.now() - changedAt) < ACCESS_SETTLED_MS ? undefined : text;
    const news = damaged.filter((complaint) => !this.#damaged.has(complaint));
    for (const complaint of news.slice(0, DAMAGED_TOLD_MAX)) this.#options.onEvent(complaint);
    this.#damaged = new Set(damaged);
    let hasChanged = false;
    const now = Date.now();
    const valid = new Map(
      tokens
        .filter(({ expiresAt }) => expiresAt === undefined || expiresAt > now)
        .map((token) => [token.id, token]),
    );
    const all = new Set(tokens.map(({ id }) => id));
    for (const entry of this.allowList.entries()) {
      const { id, role, joinedBy = "" } = entry;
      // A node goes with the token that it joined by.
      const token = role === Role.node ? joinedBy : id;
      if (valid.has(token) && !revoked.has(id)) continue;
      hasChanged = true;
      const who = role === Role.node && !revoked.has(id) ? "the token it came by" : "it";
      const how = all.has(token) && !revoked.has(id) ? "has expired" : "was revoked";
      // Whoever tries to come back is told why it may not.
      if (revoked.has(id)) this.allowList.revoke(id);
      else this.allowList.remove(id);
      this.#options.onEvent(outText(entry, `${who} ${how}`));
    }
    for (const id of revoked) this.allowList.revoke(id);
    for (const token of valid.values()) {
      const entry = entryOf(token);
      const previous = this.allowList.byId(token.id);
      if (previous !== undefined && isSame(previous, entry)) continue;
      hasChanged = true;
      this.allowList.add(entry);
    }
    return hasChanged;
  }
}

/** For people: a token and a machine may be called the same. */
function outText({ role, label }: AllowListEntry, reason: string): string {
  return `${role === Role.node ? "machine" : "the token"} ${label} is out: ${reason}`;
}

function allowListFile(directory: string): string {
  return join(directory, "allow-list.json");
}

/** The nodes that have joined a hub, as its disk says. Rejects with PFS_ALLOW_LIST_INVALID and as the system does. */
export async function readNodes(directory: string): Promise<AllowListEntry[]> {
  const file = allowListFile(directory);
  try {
    const json: unknown = JSON.parse(await readFile(file, "utf8"));
    return AllowList.fromJSON(json)
      .entries()
      .filter(({ role }) => role === Role.node);
  } catch (error) {
    const system = systemCode(error);
    if (system === "ENOENT") return [];
    if (/^E[A-Z]+$/.test(system)) throw error;
    const message = `the allow list ${file} is damaged: ${messageOf(error)}`;
    throw new WireError(WireErrorCode.allowListInvalid, message, { reason: "damaged" }, { cause: error });
  }
}

function entryOf({
  name,
  role,
  signingKey,
  curveKey,
  expiresAt,
  quota,
}: TokenRecord): Omit<AllowListEntry, "id"> {
  return {
    signingKey,
    curveKey,
    role: role === "node" ? Role.join : role,
    label: name,
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(quota === undefined ? {} : { quota }),
  };
}

function isSame(
  entry: AllowListEntry,
  { role, label, expiresAt, quota }: Omit<AllowListEntry, "id">,
): boolean {
  return (
    entry.role === role &&
    entry.label === label &&
    entry.expiresAt === expiresAt &&
    JSON.stringify(entry.quota) === JSON.stringify(quota)
  );
}
