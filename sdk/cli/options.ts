/** The options that every command has, and how options and their variables are declared and read. */
import envPaths from "env-paths";
import { Command, Option } from "commander";
import type { Address } from "../../nodes/wire/trust/address.ts";
import { invalidName, versionOfName } from "../../packets/name.ts";
import { SdkError, SdkErrorCode, UsageError } from "../errors.ts";
import { formatCount, parseBytes, printable } from "./format.ts";

/** How bytes travel that are verified by their hashes: in the clear where both sides would have it so. */
export type BulkMode = "sealed" | "clear";

export interface GlobalOptions {
  readonly store?: string;
  readonly at?: string;
  readonly tokenFile?: string;
  readonly node?: string;
  readonly bulk?: BulkMode;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

const GROUP = "On every command";

/** What can stand where a command takes a stored file. */
export const FILE_OPERAND = "a name, a version of it (NAME@3), or a root or the first digits of one";

/** An option and the variable that stands in for it. Throws PFS_USAGE for a value that is not what it takes. */
export function option(
  flags: string,
  description: string,
  variable: string,
  value?: ValueOf<unknown>,
): Option {
  const made = new Option(flags, description).env(variable);
  if (!made.required) return made;
  return made.argParser((text, before: unknown) => {
    const said = process.env[variable] === text ? variable : made.long!;
    if (text === "") throw new UsageError(`${said} is empty; give it a value, or leave it out`);
    const parsed = value === undefined ? text : value.parse(text);
    if (parsed !== undefined)
      return value?.isList === true ? [...((before ?? []) as unknown[]), parsed] : parsed;
    throw new UsageError(`${said} takes ${value!.takes}, not "${printable(text)}"`);
  });
}

/** For secrets: what stands on a command line every user of the machine can read. */
function tokenFileOption(): Option {
  return option(
    "--token-file <FILE>",
    "read the token from this file, so that it is in no list of processes; - is stdin",
    "PACKETFS_TOKEN_FILE",
  );
}

export function addGlobalOptions(program: Command): void {
  const options = [
    option("--store <DIR>", "use the store in this directory", "PACKETFS_STORE"),
    option(
      "--at <TOKEN>",
      'use a running hub instead: the client token that "pfs up" printed, with @HOST:PORT behind it when the hub has moved; - is stdin',
      "PACKETFS_AT",
    ),
    tokenFileOption(),
    option(
      "--node <LABEL>",
      "with --at, use the store of that node: put, get, cat and stat",
      "PACKETFS_NODE",
    ),
    option(
      "--bulk <HOW>",
      "with --at, up and join: files travel encrypted (sealed), or in a network that you trust unencrypted (clear) where the other side says so too (default: sealed)",
      "PACKETFS_BULK",
      oneOf("sealed", "clear"),
    ),
    option("--json", "machine-readable output, errors too", "PACKETFS_JSON"),
    option("--quiet", "say nothing but data and errors", "PACKETFS_QUIET"),
    option("--verbose", "say more, and why something failed", "PACKETFS_VERBOSE"),
  ];
  for (const each of options) program.addOption(each.helpGroup(GROUP));
}

/** What other programs call an option, and what it is called here, where the command has one of these. */
const LIKELY: Readonly<Record<string, readonly string[]>> = {
  "-V": ["--version", "--verbose"],
  "-v": ["--verbose", "--version"],
  "-q": ["--quiet"],
  "-s": ["--quiet", "--store"],
  "-j": ["--json", "--workers"],
  "-n": ["--name", "--limit", "--workers"],
  "-l": ["--listen", "--limit"],
  "-a": ["--all", "--at"],
  "-d": ["--store", "--depth"],
  "-p": ["--listen"],
  "-w": ["--workers"],
  "-o": ["--output", "--out"],
  "-t": ["--at"],
  "-r": ["--range"],
  "-H": ["--help"],
  "-?": ["--help"],
  "--output": ["--out"],
  "--out": ["--output"],
  "--silent": ["--quiet"],
  "--debug": ["--verbose"],
  "--dir": ["--store"],
  "--directory": ["--store"],
  "--db": ["--store"],
  "--token": ["--at", "--token-file"],
  "--hub": ["--at"],
  "--host": ["--listen", "--at"],
  "--connect": ["--at"],
  "--port": ["--listen"],
  "--bind": ["--listen"],
  "--address": ["--listen"],
  "--threads": ["--workers"],
  "--cpus": ["--workers"],
  "--cores": ["--workers"],
  "--jobs": ["--workers"],
  "--concurrency": ["--workers"],
  "--arg": ["--args"],
  "--arguments": ["--args"],
  "--file": ["--with"],
  "--input": ["--with"],
  "--gpu": ["--engine"],
  "--cpu": ["--engine"],
  "--device": ["--engine"],
  "--chunk-size": ["--split"],
  "--split-size": ["--split"],
  "--bytes": ["--range"],
  "--offset": ["--range"],
  "--count": ["--limit"],
  "--max": ["--limit"],
  "-f": ["--output"],
  "--force": ["--output"],
  "--history": ["--versions"],
  "--as": ["--name"],
  "--no-types": ["--no-check"],
  "--skip-check": ["--no-check"],
};

/** What was meant by an option that a command does not know, as an end of the sentence that says so. */
export function likelyOption(wrong: string, known: readonly Option[]): string | undefined {
  const meant = LIKELY[wrong]?.find((long) => long === "--help" || known.some((each) => each.long === long));
  return meant === undefined ? undefined : `(Did you mean ${meant}?)`;
}

/** Switches are off when their variable is empty, 0 or false, and an empty variable is none at all. */
export function tidyEnvironment(environment: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith("PACKETFS_")) continue;
    const isSwitch =
      /_(ALL|CACHE|JSON|QUIET|VERBOSE|VERSIONS|NO_CHECK|CHECKSUM|DELETE|DRY_RUN|KEEP_SETUID|RECURSIVE|SAFE_LINKS|SKIP_UNREADABLE)$/.test(
        name,
      );
    if (value === "" || (isSwitch && (value === "0" || value === "false"))) delete environment[name];
  }
}

/** Whether a switch is on, before the command line has been understood: errors in it must know how to be shown. */
export function switchIsOn(name: "json" | "quiet" | "verbose", words: readonly string[]): boolean {
  const end = words.indexOf("--");
  const options = end < 0 ? words : words.slice(0, end);
  return options.includes(`--${name}`) || `PACKETFS_${name.toUpperCase()}` in process.env;
}

/** The directory of the embedded store, or of the node's own. */
export function storeDirectory(options: GlobalOptions): string {
  return options.store ?? envPaths("packetfs", { suffix: "" }).data;
}

/**
 * Bytes of disk that commands may take to remember what they stored at hubs, 0 for none; undefined for the default. Throws PFS_USAGE.
 */
export function cacheBytes(): number | undefined {
  const text = process.env["PACKETFS_CACHE_BYTES"];
  if (text === undefined) return undefined;
  const bytes = text === "0" ? 0 : SIZE.parse(text);
  if (bytes !== undefined) return bytes;
  throw new UsageError(
    `PACKETFS_CACHE_BYTES takes ${SIZE.takes}, or 0 to remember nothing, not "${printable(text)}"`,
  );
}

/** What an option's value has to be; a command that is given another one says so with the option's name. */
export interface ValueOf<Value> {
  readonly parse: (text: string) => Value | undefined;
  /** What is asked for, as an end of the sentence "--split takes …". */
  readonly takes: string;
  /** The option may stand several times, and has all that it was given. */
  readonly isList?: boolean;
}

/** For options that take a number of things, digits alone. */
export function wholeNumber(min: number, max: number = Number.MAX_SAFE_INTEGER): ValueOf<number> {
  const most = max === Number.MAX_SAFE_INTEGER ? "on" : `to ${formatCount(max)}`;
  return {
    parse: (text) => {
      const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
      return Number.isSafeInteger(count) && count >= min && count <= max ? count : undefined;
    },
    takes: `a whole number from ${min} ${most}`,
  };
}

/** For options that take a number of bytes. */
export const SIZE: ValueOf<number> = { parse: parseBytes, takes: "bytes, or a size like 64KiB or 4MB" };

/** For options that give something a name, once or several times. */
export const NAMED_FILE: ValueOf<readonly [name: string, file: string]> = {
  parse: (text) => {
    const at = text.indexOf("=");
    return at > 0 && at < text.length - 1 ? [text.slice(0, at), text.slice(at + 1)] : undefined;
  },
  takes: "a name and a stored file, as b=matrix.f32",
  isList: true,
};

/** For options that take one of several words. */
export function oneOf<Word extends string>(...words: readonly Word[]): ValueOf<Word> {
  return {
    parse: (text) => words.find((word) => word === text),
    takes: `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`,
  };
}

/** HOST:PORT, [IPV6]:PORT or PORT. Throws PFS_USAGE. */
export function parseEndpoint(text: string, defaultHost: string): Address {
  const match = /^(?:(?:\[([0-9a-f:.]+)\]|([^:[\]\s]+)):)?(\d{1,5})$/i.exec(text);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new UsageError(`"${text}" is not HOST:PORT, such as 0.0.0.0:7400 or 127.0.0.1:0 for any free port`);
  }
  return { host: match[1] ?? match[2] ?? defaultHost, port };
}

/**
 * Refuses what cannot name a file, before a store is made for it, and what reads as a version of another name: that version
 * could only be read by its root then. Throws PFS_NAME_INVALID.
 */
export function checkName(name: string): void {
  const read = versionOfName(name);
  const reason =
    invalidName(name) ??
    (read === undefined
      ? null
      : `it is how version ${read.version} of ${JSON.stringify(read.name)} is read; choose a name that does not end in @ and a number`);
  if (reason === null) return;
  throw new SdkError(SdkErrorCode.nameInvalid, `${JSON.stringify(name)} cannot name a file: ${reason}`, {
    reason,
  });
}
