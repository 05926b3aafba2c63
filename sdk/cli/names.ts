/** pfs ls, pfs stat and pfs rm: what is stored under which name. */
import { Command } from "commander";
import { hasCode } from "../../packets/errors.ts";
import { UsageError } from "../errors.ts";
import type { FileInfo, FileKind, PacketFS } from "../packetfs.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { formatBytes, formatCard, formatCount, formatTime, isoTime, plural, printable } from "./format.ts";
import { example } from "./help.ts";
import { FILE_OPERAND, option } from "./options.ts";
import type { Column, ListItem } from "./output.ts";
import { listTree } from "./trees.ts";

const COLUMNS: readonly Column[] = [
  { title: "NAME", shrinks: true },
  { title: "SIZE", align: "right" },
  { title: "VERSION", align: "right" },
  { title: "STORED" },
  { title: "ROOT" },
];
/** Enough of a root to name a file by it. */
const ROOT_DIGITS = 12;

interface LsCommandOptions {
  readonly versions?: boolean;
  readonly recursive?: boolean;
}

export function lsCommand(host: Host): Command {
  const command = new Command("ls")
    .summary("list stored files")
    .description(
      "List stored files by name. In a pipe: name, bytes, version, time and root, tab-separated. NAME@3 names a version of a file wherever a name can stand, and so do the first eight or more digits of its root. The names of stored directories end with a slash; NAME/ and NAME/PATH list what is in them, in a pipe: mode, bytes, time and path.",
    )
    .argument("[PREFIX]", "only names that begin with this, or a stored directory and a slash")
    .addOption(option("--versions", "the kept versions of the one name that is given", "PACKETFS_VERSIONS"))
    .addOption(option("--recursive", "of a stored directory, all that is below it too", "PACKETFS_RECURSIVE"))
    .addHelpText("after", example("pfs ls logs/2026-"));
  return onRun<LsCommandOptions>(command, host, async (context, [prefix], { versions, recursive }) => {
    if (versions === true && prefix === undefined)
      throw new UsageError("--versions needs a name: pfs ls --versions NAME");
    const pfs = await context.open();
    if (versions !== true && prefix !== undefined && (prefix.includes("/") || recursive === true)) {
      const tree = await pfs.openTree(prefix, { signal: context.signal }).catch((error: unknown) => {
        if (hasCode(error, "PFS_NOT_FOUND") || hasCode(error, "PFS_NOT_A_TREE")) return undefined;
        throw error;
      });
      if (tree !== undefined) return await listTree(context, tree, recursive === true);
    }
    const files =
      versions === true ? await pfs.history(prefix!) : pfs.list(prefix === undefined ? {} : { prefix });
    const count = await context.output.list(COLUMNS, items(context, pfs, files));
    if (count === 0 && prefix !== undefined && !context.output.json)
      context.output.talk(`no name begins with ${printable(prefix)}`);
  });
}

export function statCommand(host: Host): Command {
  const command = new Command("stat")
    .summary("show what is known of stored files")
    .description("Show length, version, time and root of stored files. In a pipe, as ls does.")
    .argument("<NAME...>", FILE_OPERAND)
    .addHelpText("after", example("pfs stat access.log --json"));
  return onRun(command, host, async (context, names) => {
    const { output } = context;
    const pfs = await context.open({ reachesNodes: true });
    const infos: FileInfo[] = [];
    for (const name of names) infos.push(await statStored(pfs, name));
    if (!output.isTerminal || output.json)
      return void (await output.list(COLUMNS, items(context, pfs, infos)));
    const kinds = await pfs.kinds(infos.map(({ root }) => root));
    await output.line(infos.map((info, index) => card(info, kinds[index])).join("\n\n"));
  });
}

export function rmCommand(host: Host): Command {
  const command = new Command("rm")
    .summary("remove names")
    .description(
      'Remove names with all their versions. The bytes that no other name needs go with the next "pfs gc".',
    )
    .argument("<NAME...>", "names")
    .addHelpText("after", example("pfs rm old.log older.log && pfs gc"));
  return onRun(command, host, async (context, names) => {
    const { output } = context;
    const pfs = await context.open();
    // All are looked up first: with one name mistyped none is removed.
    const found: string[] = [];
    for (const name of names) found.push(await nameOf(pfs, name));
    const unique = [...new Set(found)];
    for (const name of unique) await pfs.remove(name);
    if (output.json) return output.object({ removed: unique });
    output.talk(`removed ${plural(unique.length, "name")}`);
  });
}

async function nameOf(pfs: PacketFS, text: string): Promise<string> {
  const { name, version } = await statStored(pfs, text);
  if (version > 0 && (text === name || text === `${name}/`)) return name;
  const what = version > 0 ? "a version of a name" : "a root";
  throw new UsageError(`${printable(text)} is ${what}; rm takes names, and removes all their versions`);
}

/** Of a file, or of a stored directory as `ls` shows it, with a slash at its end. Rejects with PFS_NOT_FOUND. */
export async function statStored(pfs: PacketFS, text: string): Promise<FileInfo> {
  try {
    return await pfs.stat(text);
  } catch (error) {
    if (!text.endsWith("/") || !hasCode(error, "PFS_NOT_FOUND")) throw error;
    const info = await pfs.stat(text.slice(0, -1)).catch(() => undefined);
    if (info === undefined || (await pfs.kinds([info.root]))[0] !== "tree") throw error;
    return info;
  }
}

/** Names whose streams are looked at together, to tell directories. */
const KINDS_AT_ONCE = 256;

async function* items(
  context: Context,
  pfs: PacketFS,
  files: AsyncIterable<FileInfo> | Iterable<FileInfo>,
): AsyncGenerator<ListItem> {
  let page: FileInfo[] = [];
  for await (const file of files) {
    page.push(file);
    if (page.length < KINDS_AT_ONCE) continue;
    yield* itemsOf(context, pfs, page);
    page = [];
  }
  if (page.length > 0) yield* itemsOf(context, pfs, page);
}

async function* itemsOf(
  { output: { isTerminal } }: Context,
  pfs: PacketFS,
  files: readonly FileInfo[],
): AsyncGenerator<ListItem> {
  const kinds = await pfs.kinds(files.map(({ root }) => root));
  for (const [index, file] of files.entries()) {
    const { name, root, length, version, storedAt } = file;
    const slash = kinds[index] === "tree" ? "/" : "";
    yield {
      json: { name, root, length, version, storedAt, kind: kinds[index] },
      cells: [
        (isTerminal ? shownName(name) : printable(name)) + slash,
        isTerminal ? formatBytes(length) : String(length),
        // A root was given: which version of which name it is, if any, is not known.
        version === 0 ? "-" : String(version),
        version === 0 ? "-" : isTerminal ? formatTime(storedAt) : isoTime(storedAt),
        isTerminal ? root.slice(0, ROOT_DIGITS) : root,
      ],
    };
  }
}

/** Quoted where white space, or what takes no room at all, stands at an end of it: nobody would see it, or the whole name. */
function shownName(name: string): string {
  const shown = printable(name);
  return /^[\s\p{Cf}]|[\s\p{Cf}]$/u.test(name) ? `"${shown}"` : shown;
}

/** All of a file on lines of their own, for a terminal that has no room for a root in a row. */
function card({ name, root, length, version, storedAt }: FileInfo, kind: FileKind | undefined): string {
  const size = formatBytes(length);
  return formatCard([
    ["name", version === 0 ? "-" : shownName(name)],
    ...(kind === "tree" ? [["kind", "directory"] as const] : []),
    ["size", length < 1000 ? size : `${size} (${plural(length, "byte")})`],
    ["version", version === 0 ? "-" : formatCount(version)],
    ["stored", version === 0 ? "-" : formatTime(storedAt)],
    ["root", root],
  ]);
}
