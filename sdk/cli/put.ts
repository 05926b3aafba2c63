/** pfs put */
import { access, constants, stat } from "node:fs/promises";
import { basename } from "node:path";
import { Command } from "commander";
import { fileError, UsageError } from "../errors.ts";
import type { FileSource } from "../packetfs.ts";
import { formatBytes, formatCount, formatDuration, plural, printable } from "./format.ts";
import { example } from "./help.ts";
import { checkName, option } from "./options.ts";
import { Progress } from "./progress.ts";
import { onRun } from "./context.ts";
import type { Host, Context } from "./context.ts";

interface PutCommandOptions {
  readonly name?: string;
}

export function putCommand(host: Host): Command {
  const command = new Command("put")
    .summary("store a file")
    .description(
      "Store a file, or what comes from stdin (-). It is durable when the command ends. Prints the root, which names exactly these bytes, and the name. Chunks that are stored already are not stored again.",
    )
    .argument("<FILE|->", "a path, or - for stdin")
    .addOption(option("--name <NAME>", "store it under this name (default: the file's own)", "PACKETFS_NAME"))
    .addHelpText("after", example("pg_dump shop | pfs put - --name backups/shop.sql"));
  return onRun<PutCommandOptions>(command, host, put);
}

async function put(
  context: Context,
  [path = ""]: readonly string[],
  options: PutCommandOptions,
): Promise<void> {
  const { output, signal, aborted } = context;
  const { source, total, name } = await openSource(path, options.name);
  checkName(name);
  const pfs = await context.open({ creates: true, reachesNodes: true });
  const progress = new Progress(output, printable(name));
  const startedAt = performance.now();
  const result = await Promise.race([
    pfs.put(source, { name, signal, onProgress: (bytes) => progress.update(bytes, total) }),
    aborted,
  ]);
  progress.end();
  const milliseconds = Math.round(performance.now() - startedAt);
  if (output.json) return output.object({ ...result, name, milliseconds });
  await output.line(`${result.root}  ${printable(name)}`);
  output.talk(
    `stored ${formatBytes(result.length)} in ${formatDuration(milliseconds)}: ` +
      `${plural(result.chunks, "chunk")}, ${formatCount(result.newChunks)} new, ${formatBytes(result.storedBytes)} at rest`,
  );
}

interface Source {
  readonly source: FileSource;
  /** Bytes, where they are known beforehand. */
  readonly total: number | undefined;
  readonly name: string;
}

async function openSource(path: string, name: string | undefined): Promise<Source> {
  if (path === "-") {
    if (name === undefined) throw new UsageError("what comes from stdin needs a name: add --name NAME");
    return { source: process.stdin, total: undefined, name };
  }
  try {
    const found = await stat(path);
    if (found.isDirectory()) throw new UsageError(`${path} is a directory; put takes one file`);
    await access(path, constants.R_OK);
    const total = found.isFile() ? found.size : undefined;
    return { source: { path }, total, name: name ?? basename(path) };
  } catch (error) {
    throw fileError(error, "read", path);
  }
}
