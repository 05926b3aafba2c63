/** The options that every command has, and how options and their variables are declared and read. */
import envPaths from "env-paths";
import { Command, InvalidArgumentError, Option } from "commander";
import type { Address } from "../../nodes/wire/trust/address.ts";
import { invalidName } from "../../packets/name.ts";
import { SdkError, SdkErrorCode, UsageError } from "../errors.ts";
import { parseBytes } from "./format.ts";

export interface GlobalOptions {
  readonly store?: string;
  readonly at?: string;
  readonly node?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly verbose?: boolean;
}

const GROUP = "On every command";

/** What can stand where a command takes a stored file. */
export const FILE_OPERAND = "a name, a version of it (NAME@3), or a root or the first digits of one";

/** An option and the variable that stands in for it. */
export function option(flags: string, description: string, variable: string): Option {
  return new Option(flags, description).env(variable);
}

export function addGlobalOptions(program: Command): void {
  const options = [
    option("--store <DIR>", "use the store in this directory", "PACKETFS_STORE"),
    option(
      "--at <TOKEN>",
      'use a running hub instead: the client token that "pfs up" printed',
      "PACKETFS_AT",
    ),
    option(
      "--node <LABEL>",
      "with --at, use the store of that node: put, get, cat and stat",
      "PACKETFS_NODE",
    ),
    option("--json", "machine-readable output, errors too", "PACKETFS_JSON"),
    option("--quiet", "say nothing but data and errors", "PACKETFS_QUIET"),
    option("--verbose", "say more, and why something failed", "PACKETFS_VERBOSE"),
  ];
  for (const each of options) program.addOption(each.helpGroup(GROUP));
}

/** Switches are off when their variable is empty, 0 or false, and an empty variable is none at all. */
export function tidyEnvironment(environment: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(environment)) {
    if (!name.startsWith("PACKETFS_")) continue;
    const isSwitch = /_(JSON|QUIET|VERBOSE|VERSIONS|NO_CHECK)$/.test(name);
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

/** For options that take a number of things. */
export function parseCount(text: string): number {
  const count = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(count)) throw new InvalidArgumentError("Expected a whole number.");
  return count;
}

/** For options that take a number of bytes. */
export function parseSize(text: string): number {
  try {
    return parseBytes(text);
  } catch {
    throw new InvalidArgumentError("Expected bytes, or a size like 64KiB or 4MB.");
  }
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

/** Refuses what cannot name a file, before a store is made for it. Throws PFS_NAME_INVALID. */
export function checkName(name: string): void {
  const reason = invalidName(name);
  if (reason === null) return;
  throw new SdkError(SdkErrorCode.nameInvalid, `${JSON.stringify(name)} cannot name a file: ${reason}`, {
    reason,
  });
}
