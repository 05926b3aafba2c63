/** pfs ls, pfs stat and pfs rm: what is stored under which name. */
import { Command } from "commander";
import type { FileInfo } from "../packetfs.ts";
import { formatBytes, formatTime, plural, printable } from "./format.ts";
import type { ListItem } from "./output.ts";
import { example } from "./help.ts";
import { onRun } from "./context.ts";
import type { Host, Context } from "./context.ts";
import type { Column } from "./output.ts";

const COLUMNS: readonly Column[] = [
  { title: "NAME", shrinks: true },
  { title: "SIZE", align: "right" },
  { title: "VERSION", align: "right" },
  { title: "STORED" },
  { title: "ROOT" },
];
const REF_DIGITS = 12;

export function lsCommand(host: Host): Command {
  const command = new Command("ls")
    .summary("list stored files")
    .description("List stored files by name. In a pipe: name, bytes, version, time and root, tab-separated.")
    .argument("[PREFIX]", "only names that begin with this")
    .addHelpText("after", example("pfs ls logs/2026-"));
  return onRun(command, host, async (context, [prefix]) => {
    const pfs = await context.open();
    const files = pfs.list(prefix === undefined ? {} : { prefix });
    await context.output.list(COLUMNS, items(context, files, true));
  });
}

export function statCommand(host: Host): Command {
  const command = new Command("stat")
    .summary("show what is known of stored files")
    .description("Show length, version, time and root of stored files, as ls does.")
    .argument("<NAME...>", "names or roots")
    .addHelpText("after", example("pfs stat access.log --json"));
  return onRun(command, host, async (context, names) => {
    const pfs = await context.open({ reachesNodes: true });
    const infos: FileInfo[] = [];
    for (const name of names) infos.push(await pfs.stat(name));
    await context.output.list(COLUMNS, items(context, infos, false));
  });
}

export function rmCommand(host: Host): Command {
  const command = new Command("rm")
    .summary("remove names")
    .description('Remove names. The bytes that no other name needs go with the next "pfs gc".')
    .argument("<NAME...>", "names")
    .addHelpText("after", example("pfs rm old.log older.log && pfs gc"));
  return onRun(command, host, async (context, names) => {
    const { output } = context;
    const pfs = await context.open();
    const unique = [...new Set(names)];
    // All are looked up first: with one name mistyped none is removed.
    for (const name of unique) await pfs.stat(name);
    for (const name of unique) await pfs.remove(name);
    if (output.json) return output.object({ removed: unique });
    output.talk(`removed ${plural(unique.length, "name")}`);
  });
}

async function* items(
  { output }: Context,
  files: AsyncIterable<FileInfo> | Iterable<FileInfo>,
  shortens: boolean,
): AsyncGenerator<ListItem> {
  const { isTerminal } = output;
  for await (const file of files) {
    const { name, root, length, version, storedAt } = file;
    yield {
      json: { name, root, length, version, storedAt },
      cells: [
        printable(name),
        isTerminal ? formatBytes(length) : String(length),
        // A root was given: which version of which name it is, if any, is not known.
        version === 0 ? "-" : String(version),
        version === 0 ? "-" : isTerminal ? formatTime(storedAt) : new Date(storedAt).toISOString(),
        isTerminal && shortens ? `${root.slice(0, REF_DIGITS)}…` : root,
      ],
    };
  }
}
