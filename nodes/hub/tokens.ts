/**
 * The tokens of a hub as they stand on its disk, which alone says who may come in. `pfs token` changes them, beside a hub that runs
 * or not; the hub reads them. Each is a file of its own, so that no two changes meet in one.
 *
 *   hub.identity            who the hub is
 *   hub.address             where it was last reached: HOST:PORT for the tokens that are made
 *   client.identity         the secrets of the two tokens that `pfs up` prints: a client's, called "client",
 *   invite.identity         and a node's, called "join"
 *   tokens/NAME.json        every other token: its public keys and what it may do. Its secret is in the token alone
 *   tokens/ID.revoked       a machine that joined and may not come back under its key, whatever token it has
 */
import { stat, watch } from "node:fs";
import type { BigIntStats } from "node:fs";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import * as v from "valibot";
import { messageOf } from "../../packets/errors.ts";
import {
  createFile,
  makeDirectory,
  removeLeftTemporaries,
  replaceFile,
  syncDirectory,
} from "../../runtime/durable-file.ts";
import { WireError, WireErrorCode } from "../errors.ts";
import { systemCode } from "../../runtime/errors.ts";
import { TOKEN_NAME_CHARACTERS_MAX } from "../limits.ts";
import { keyTerms, keysJson } from "../wire/trust/allow-list.ts";
import type { Quota } from "../wire/trust/allow-list.ts";
import { findIdentity, loadIdentity } from "../wire/trust/identity-file.ts";
import { Identity, keysFromJson, keysToJson, peerId } from "../wire/trust/keys.ts";
import { formatToken } from "../wire/trust/token.ts";

/** What a token lets its bearer be. */
export const TokenRole = {
  client: "client",
  reader: "reader",
  submitter: "submitter",
  node: "node",
} as const;
export type TokenRole = (typeof TokenRole)[keyof typeof TokenRole];

/** What people decide about a token. */
export interface TokenTerms {
  readonly name: string;
  readonly role: TokenRole;
  /** Milliseconds since 1970. */
  readonly expiresAt?: number | undefined;
  readonly quota?: Quota | undefined;
}

/** A token without its secret. */
export interface TokenRecord extends TokenTerms {
  /** Of its bearer: 32 hexadecimal digits. */
  readonly id: string;
  readonly signingKey: Uint8Array;
  readonly curveKey: Uint8Array;
  /** Milliseconds since 1970; not known of the two that `pfs up` prints. */
  readonly createdAt?: number | undefined;
}

/** All that the disk says. */
export interface TokenRecords {
  readonly tokens: readonly TokenRecord[];
  /** Ids of machines that may not come back. */
  readonly revoked: ReadonlySet<string>;
  /** What is wrong with files that cannot be understood: what stands in them is not let in. */
  readonly damaged: readonly string[];
}

export interface PrintedTokens {
  readonly clientToken: string;
  readonly joinToken: string;
}

/** Names of the two tokens that `pfs up` prints, and the files of their secrets. */
const PRINTED = { client: "client.identity", join: "invite.identity" } as const;
/** Costs a third of what `node:fs/promises` does for the same. */
const statOf = promisify(stat);
const ENDING = ".json";
const REVOKED_ENDING = ".revoked";

const tokenFile = v.object({
  version: v.literal(1),
  role: v.picklist(Object.values(TokenRole)),
  ...keysJson,
  createdAt: v.pipe(v.number(), v.safeInteger()),
  ...keyTerms,
});

export class HubTokens {
  /** The hub's store. */
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
  }

  /** Who the hub is; made at its first start, with the tokens that it prints. Rejects with PFS_IDENTITY_INVALID. */
  async start(): Promise<Identity> {
    const hub = await loadIdentity(this.#file("hub.identity"));
    for (const file of Object.values(PRINTED)) await loadIdentity(this.#file(file));
    await makeDirectory(this.#file("tokens"));
    await removeLeftTemporaries(this.#file("tokens"));
    return hub;
  }

  /** The tokens to print, of a hub that is reached at `address`, which tokens made from now on say too. */
  async printed(address: string): Promise<PrintedTokens> {
    const hub = await this.#hub();
    const [client, join] = await Promise.all(
      Object.values(PRINTED).map((file) => loadIdentity(this.#file(file))),
    );
    if ((await this.#address()) !== address) await replaceFile(this.#file("hub.address"), `${address}\n`);
    const { curveKey, signingKey } = hub;
    return {
      clientToken: formatToken({
        kind: "client",
        curveKey,
        signingKey,
        secret: client!.exportSecret(),
        address,
      }),
      joinToken: formatToken({ kind: "join", curveKey, signingKey, secret: join!.exportSecret(), address }),
    };
  }

  /**
   * Makes a token, durable when it resolves; what it resolves with is all there is of its secret. Rejects with PFS_TOKEN_INVALID when
   * the name is taken or is none, and with PFS_NOT_FOUND where there is no hub.
   */
  async add({ name, role, expiresAt, quota }: TokenTerms): Promise<string> {
    const hub = await this.#hub();
    const reason = invalidTokenName(name);
    if (reason !== null) throw invalid(`"${name.slice(0, 100)}" is no name for a token: ${reason}`, "name");
    const bearer = Identity.create();
    const json = { version: 1, role, ...keysToJson(bearer), createdAt: Date.now(), expiresAt, quota };
    await makeDirectory(this.#file("tokens"));
    const file = join(this.#file("tokens"), name + ENDING);
    const isNew = !(await this.#isTaken(name)) && (await createFile(file, `${JSON.stringify(json)}\n`));
    if (!isNew)
      throw invalid(`there is a token called "${name}" already; revoke it, or choose another name`, "taken");
    return formatToken({
      kind: role === TokenRole.node ? "join" : "client",
      curveKey: hub.curveKey,
      signingKey: hub.signingKey,
      secret: bearer.exportSecret(),
      address: await this.#address(),
    });
  }

  /** All that the disk says. Rejects with PFS_NOT_FOUND where there is no hub, with PFS_IDENTITY_INVALID, and as the system does. */
  async read(): Promise<TokenRecords> {
    await this.#hub();
    const tokens: TokenRecord[] = [];
    const damaged: string[] = [];
    const revoked = new Set<string>();
    for (const [name, file] of Object.entries(PRINTED)) {
      const identity = await findIdentity(this.#file(file));
      if (identity === undefined) continue;
      const { id, signingKey, curveKey } = identity;
      const role = name === "client" ? TokenRole.client : TokenRole.node;
      tokens.push({ name, role, id, signingKey, curveKey });
    }
    for (const file of await this.#tokenFiles()) {
      if (file.endsWith(REVOKED_ENDING)) revoked.add(file.slice(0, -REVOKED_ENDING.length));
      if (!file.endsWith(ENDING)) continue;
      const text = await readFile(join(this.#file("tokens"), file), "utf8").catch(ignoreMissing);
      // Revoked since the directory was read.
      if (text === undefined) continue;
      const record = recordOf(file.slice(0, -ENDING.length), text);
      if (typeof record === "string") damaged.push(`the token file ${file} is damaged: ${record}`);
      else tokens.push(record);
    }
    return { tokens, revoked, damaged };
  }

  /** Whether there was such a token. Those who have it are out when the hub reads this, nodes that joined by it too. */
  async revoke(name: string): Promise<boolean> {
    if (!isPrinted(name) && invalidTokenName(name) !== null) return false;
    const directory = isPrinted(name) ? this.directory : this.#file("tokens");
    const file = isPrinted(name) ? PRINTED[name] : name + ENDING;
    try {
      await rm(join(directory, file));
    } catch (error) {
      if (systemCode(error) === "ENOENT") return false;
      throw error;
    }
    await syncDirectory(directory);
    return true;
  }

  /** Keeps a machine that joined out, under the key that it has. */
  async revokeMachine(id: string): Promise<void> {
    await makeDirectory(this.#file("tokens"));
    await createFile(join(this.#file("tokens"), id + REVOKED_ENDING), "");
  }

  /** A text that is another one when what `read` says may be; it costs next to nothing. */
  async stamp(): Promise<{ readonly text: string; readonly changedAt: number }> {
    const places = ["tokens", ...Object.values(PRINTED)].map((name) => this.#file(name));
    const found: (BigIntStats | undefined)[] = [];
    // One after the other: a hub that does nothing else is not to wake three threads for it.
    for (const place of places) found.push(await statOf(place, { bigint: true }).catch(ignoreMissing));
    const text = found.map((each) => (each === undefined ? "-" : `${each.ino}:${each.mtimeNs}`)).join(" ");
    const changedAt = Math.max(0, ...found.map((each) => Number(each?.mtimeMs ?? 0n)));
    return { text, changedAt };
  }

  /**
   * Calls `listener` when tokens were made or revoked, where the system tells: not of the two that `pfs up` prints, nor from another
   * machine, nor when it watches too much already. Returns what ends that.
   */
  watch(listener: () => void): () => void {
    try {
      const watcher = watch(this.#file("tokens"), { persistent: false }, listener);
      watcher.on("error", () => watcher.close());
      return () => watcher.close();
    } catch {
      return () => {};
    }
  }

  async #hub(): Promise<Identity> {
    const hub = await findIdentity(this.#file("hub.identity"));
    if (hub !== undefined) return hub;
    const message = `there is no hub in ${this.directory}: "pfs up" makes one`;
    throw new WireError(WireErrorCode.notFound, message, { path: this.directory });
  }

  /** Where the hub was last reached; an empty text when nobody knows. */
  async #address(): Promise<string> {
    return ((await readFile(this.#file("hub.address"), "utf8").catch(ignoreMissing)) ?? "").trim();
  }

  /** Whether there is a token of that name, be it in other case: there are disks on which that is one file. */
  async #isTaken(name: string): Promise<boolean> {
    const names = (await this.#tokenFiles())
      .filter((file) => file.endsWith(ENDING))
      .map((file) => file.slice(0, -ENDING.length));
    return [...Object.keys(PRINTED), ...names].some((each) => each.toLowerCase() === name.toLowerCase());
  }

  async #tokenFiles(): Promise<string[]> {
    return (await readdir(this.#file("tokens")).catch(ignoreMissing)) ?? [];
  }

  #file(name: string): string {
    return join(this.directory, name);
  }
}

function isPrinted(name: string): name is keyof typeof PRINTED {
  return Object.hasOwn(PRINTED, name);
}

/** Why a text cannot name a token, or null. */
function invalidTokenName(name: string): string | null {
  if (name.length > TOKEN_NAME_CHARACTERS_MAX)
    return `it has more than ${TOKEN_NAME_CHARACTERS_MAX} characters`;
  if (/^[0-9a-f]{32}$/.test(name)) return "it looks like an id";
  return /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(name)
    ? null
    : "it may have letters, digits, dots, dashes and underscores, and begins with a letter or digit";
}

/** What a token's file says, or what is wrong with it. */
function recordOf(name: string, text: string): TokenRecord | string {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    return messageOf(error);
  }
  const result = v.safeParse(tokenFile, json);
  if (!result.success) return result.issues[0].message;
  const { role, createdAt, expiresAt, quota } = result.output;
  const keys = keysFromJson(result.output);
  return { name, role, id: peerId(keys.signingKey), ...keys, createdAt, expiresAt, quota };
}

function ignoreMissing(error: unknown): undefined {
  if (systemCode(error) === "ENOENT") return undefined;
  throw error;
}

function invalid(message: string, reason: string): WireError {
  return new WireError(WireErrorCode.tokenInvalid, message, { reason });
}
