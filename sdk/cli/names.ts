/** pfs ls, pfs stat and pfs rm: what is stored under which name. */
import { Command } from "commander";
import { UsageError } from "../errors.ts";
import type { FileInfo, PacketFS } from "../packetfs.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { formatBytes, formatCard, formatCount, formatTime, isoTime, plural, printable } from "./format.ts";
import { example } from "./help.ts";
import { FILE_OPERAND, option } from "./options.ts";
import type { Column, ListItem } from "./output.ts";

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
}

export function lsCommand(host: Host): Command {
  const command = new Command("ls")
    .summary("list stored files")
    .description(
      "List stored files by name. In a pipe: name, bytes, version, time and root, tab-separated. NAME@3 names a version of a file wherever a name can stand, and so do the first eight or more digits of its root.",
    )
    .argument("[PREFIX]", "only names that begin with this")
    .addOption(option("--versions", "the kept versions of the one name that is given", "PACKETFS_VERSIONS"))
    .addHelpText("after", example("pfs ls logs/2026-"));
  return onRun<LsCommandOptions>(command, host, async (context, [prefix], { versions }) => {
    if (versions === true && prefix === undefined)
      throw new UsageError("--versions needs a name: pfs ls --versions NAME");
    const pfs = await context.open();
    const files =
      versions === true ? await pfs.history(prefix!) : pfs.list(prefix === undefined ? {} : { prefix });
    const count = await context.output.list(COLUMNS, items(context, files));
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
    for (const name of names) infos.push(await pfs.stat(name));
    if (!output.isTerminal || output.json) return void (await output.list(COLUMNS, items(context, infos)));
    await output.line(infos.map(card).join("\n\n"));
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
    const unique = [...new Set(names)];
    // All are looked up first: with one name mistyped none is removed.
    for (const name of unique) await checkIsName(pfs, name);
    for (const name of unique) await pfs.remove(name);
    if (output.json) return output.object({ removed: unique });
    output.talk(`removed ${plural(unique.length, "name")}`);
  });
}

async function checkIsName(pfs: PacketFS, name: string): Promise<void> {
  const found = await pfs.stat(name);
  if (found.name === name && found.version > 0) return;
  const what = found.version > 0 ? "a version of a name" : "a root";
  throw new UsageError(`${printable(name)} is ${what}; rm takes names, and removes all their versions`);
}

async function* items(
  { output: { isTerminal } }: Context,
  files: AsyncIterable<FileInfo> | Iterable<FileInfo>,
): AsyncGenerator<ListItem> {
  for await (const file of files) {
    const { name, root, length, version, storedAt } = file;
    yield {
      json: { name, root, length, version, storedAt },
      cells: [
        isTerminal ? shownName(name) : printable(name),
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
function card({ name, root, length, version, storedAt }: FileInfo): string {
  const size = formatBytes(length);
  return formatCard([
    ["name", version === 0 ? "-" : shownName(name)],
    ["size", length < 1000 ? size : `${size} (${plural(length, "byte")})`],
    ["version", version === 0 ? "-" : formatCount(version)],
    ["stored", version === 0 ? "-" : formatTime(storedAt)],
    ["root", root],
  ]);
}
