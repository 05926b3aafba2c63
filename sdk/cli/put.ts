/** pfs put */
import { access, constants, stat } from "node:fs/promises";
import { basename, resolve } from "node:path";
import { Command } from "commander";
import { fileError, UsageError } from "../errors.ts";
import type { FileSource, PacketFS, PutTreeOptions, TreeRule } from "../packetfs.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { formatBytes, formatCount, formatDuration, formatTransfer, plural, printable } from "./format.ts";
import { example } from "./help.ts";
import { checkName, option } from "./options.ts";
import { dryRunOption, listCosts } from "./costs.ts";
import { Progress } from "./progress.ts";
import { checksumOption, filterOptions } from "./trees.ts";

interface PutCommandOptions {
  readonly name?: string;
  readonly checksum?: boolean;
  readonly skipUnreadable?: boolean;
  readonly dryRun?: boolean;
}

export function putCommand(host: Host): Command {
  const command = new Command("put")
    .summary("store files and directories")
    .description(
      "Store files, directories with all below them, or what comes from stdin (-). Each is durable when its root is printed, which names exactly these bytes. A name that is stored already gets a new version; the last ones before it stay readable as NAME@1, NAME@2 and so on. Chunks that are stored already are not stored again.",
    )
    .argument("<FILE...>", "paths of files or directories, or - for stdin")
    .addOption(
      option(
        "--name <NAME>",
        "store it under this name (default: the file's own); not one like NAME@3, which reads version 3",
        "PACKETFS_NAME",
      ),
    )
    .addOption(checksumOption())
    .addOption(
      option(
        "--skip-unreadable",
        "leave out what cannot be read of a directory, and say so",
        "PACKETFS_SKIP_UNREADABLE",
      ),
    )
    .addOption(dryRunOption("what storing each file would send, and store nothing"))
    .addHelpText("after", example("pg_dump shop | pfs put - --name backups/shop.sql"));
  const rules = filterOptions(command);
  return onRun<PutCommandOptions>(command, host, (context, paths, options) =>
    put(context, paths, options, rules()),
  );
}

async function put(
  context: Context,
  paths: readonly string[],
  { name, checksum = false, skipUnreadable = false, dryRun = false }: PutCommandOptions,
  filter: readonly TreeRule[],
): Promise<void> {
  if (name !== undefined && paths.length > 1)
    throw new UsageError("--name goes with one file; store the files one by one, each with its own");
  // All are looked at first: with one path mistyped none is stored.
  const sources: Source[] = [];
  for (const path of paths) sources.push(await openSource(path, name));
  const names = sources.map((source) => source.name);
  for (const each of names) checkName(each);
  const repeated = names.find((each, index) => names.indexOf(each) < index);
  if (repeated !== undefined) {
    throw new UsageError(
      `several of the files would be called ${printable(repeated)}: store them one by one, with --name`,
    );
  }
  const pfs = await context.open({ creates: !dryRun, reachesNodes: true });
  if (dryRun) return await tellCosts(context, pfs, sources);
  for (const source of sources) {
    if (source.directory === undefined) await store(context, pfs, source);
    else
      await storeDirectory(context, pfs, source.name, source.directory, {
        filter,
        checksum,
        skipsUnreadable: skipUnreadable,
      });
  }
}

async function tellCosts(context: Context, pfs: PacketFS, sources: readonly Source[]): Promise<void> {
  const files = sources.map(({ source, directory, name }) => {
    if (directory !== undefined)
      throw new UsageError(
        `${printable(name)} is a directory: "pfs sync DIR NAME --dry-run" says what would change`,
      );
    if (source === process.stdin || !("path" in source) || typeof source.path !== "string")
      throw new UsageError("what comes from stdin can be read once; --dry-run takes files");
    return { name, path: source.path };
  });
  const { signal } = context;
  await listCosts(context, files, ({ name, path }) => pfs.costOfPut(path, { name, signal }));
}

async function storeDirectory(
  { output, signal }: Context,
  pfs: PacketFS,
  name: string,
  path: string,
  options: PutTreeOptions,
): Promise<void> {
  const progress = new Progress(output, printable(name));
  const startedAt = performance.now();
  const result = await pfs.putTree(path, {
    ...options,
    name,
    signal,
    onProgress: (bytes, total) => progress.update(bytes, total),
    onSkipped: (each, reason) => output.talk(`left out ${printable(each)}: ${reason}`),
  });
  progress.end();
  const milliseconds = Math.round(performance.now() - startedAt);
  if (output.json) return output.object({ ...result, name, milliseconds });
  await output.line(`${result.root}  ${printable(name)}`);
  const entries = result.entries === 1 ? "1 entry" : `${formatCount(result.entries)} entries`;
  const { transfer } = result;
  const cost =
    transfer === undefined
      ? `${plural(result.newChunks, "new chunk")}, ${formatBytes(result.storedBytes)} at rest`
      : formatTransfer(transfer);
  output.talk(
    `stored ${entries}, ${formatBytes(result.length)} in ${formatDuration(milliseconds)}: ` +
      `${plural(result.readFiles, "file")} read, ${cost}`,
  );
}

async function store(
  { output, signal, aborted }: Context,
  pfs: PacketFS,
  { source, total, name }: Source,
): Promise<void> {
  const progress = new Progress(output, printable(name));
  const startedAt = performance.now();
  const result = await Promise.race([
    pfs.put(source, { name, signal, onProgress: (bytes, step) => progress.updateStep(bytes, total, step) }),
    aborted,
  ]);
  progress.end();
  const milliseconds = Math.round(performance.now() - startedAt);
  if (output.json) return output.object({ ...result, name, milliseconds });
  await output.line(`${result.root}  ${printable(name)}`);
  const took = `stored ${formatBytes(result.length)} in ${formatDuration(milliseconds)}`;
  if (result.transfer !== undefined) return output.talk(`${took}: ${formatTransfer(result.transfer)}`);
  output.talk(
    `${took}: ${plural(result.chunks, "chunk")}, ${formatCount(result.newChunks)} new, ${formatBytes(result.storedBytes)} at rest`,
  );
}

interface Source {
  readonly source: FileSource;
  /** Bytes, where they are known beforehand. */
  readonly total: number | undefined;
  readonly name: string;
  /** The path of one, where it is a directory. */
  readonly directory: string | undefined;
}

async function openSource(path: string, name: string | undefined): Promise<Source> {
  if (path === "-") {
    if (name === undefined) throw new UsageError("what comes from stdin needs a name: add --name NAME");
    return { source: process.stdin, total: undefined, name, directory: undefined };
  }
  try {
    const found = await stat(path);
    const directory = found.isDirectory() ? path : undefined;
    // "." and "src/.." are called by the names that they have.
    const own = basename(directory === undefined ? path : resolve(path));
    await access(path, constants.R_OK);
    const total = found.isFile() ? found.size : undefined;
    return { source: { path }, total, name: name ?? own, directory };
  } catch (error) {
    throw fileError(error, "read", path);
  }
}
