/** pfs get and pfs cat: bytes of stored files, verified on the way. */
import { access } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { Command } from "commander";
import { hasCode } from "../../packets/errors.ts";
import { UsageError } from "../errors.ts";
import type {
  FileInfo,
  GetFileResult,
  GetOptions,
  PacketFS,
  TransferInfo,
  Tree,
  TreeRule,
} from "../packetfs.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { findTarget, isDirectory } from "../target/file-target.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatShare,
  formatTransfer,
  printable,
} from "./format.ts";
import { example } from "./help.ts";
import { FILE_OPERAND, option } from "./options.ts";
import { jsonText } from "./output.ts";
import { dryRunOption, listCosts } from "./costs.ts";
import { Progress } from "./progress.ts";
import { checksumOption, filterOptions } from "./trees.ts";

interface GetCommandOptions {
  readonly output?: string;
  readonly range?: string;
  readonly checksum?: boolean;
  readonly keepSetuid?: boolean;
  readonly safeLinks?: boolean;
  readonly dryRun?: boolean;
}

type Range = NonNullable<GetOptions["range"]>;

/** Another spelling of "-". Opened anew, what stands behind it would be written over from its beginning. */
const STDOUT = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

export function getCommand(host: Host): Command {
  const command = new Command("get")
    .summary("write stored files to disk")
    .description(
      "Write stored files, or a range of one, to disk or to stdout. Every byte is verified. A file that is there is replaced when all bytes have come, untouched when not; it keeps its mode and owner, and links to it are followed. What it holds already is not fetched from a hub again. A stored directory is written to -o DIR, or into it where that ends with a slash; one that is there keeps what else is in it, and files that are whole are not written again. Nothing is written outside of it.",
    )
    .argument("<NAME...>", FILE_OPERAND)
    .addOption(
      option(
        "-o, --output <FILE|DIR|->",
        "write here, - is stdout (default: the name's last part, which must not be there yet; a range: stdout)",
        "PACKETFS_OUTPUT",
      ),
    )
    .addOption(
      option(
        "--range <A-B>",
        "bytes A up to B of one file, B not included; A- reaches to the end",
        "PACKETFS_RANGE",
      ),
    )
    .addOption(checksumOption())
    .addOption(
      option("--keep-setuid", "keep setuid and setgid bits of files of a directory", "PACKETFS_KEEP_SETUID"),
    )
    .addOption(
      option(
        "--safe-links",
        "leave out symbolic links that lead out of the directory",
        "PACKETFS_SAFE_LINKS",
      ),
    )
    .addOption(dryRunOption("what each file would bring here, and write nothing"))
    .addHelpText("after", example("pfs get access.log error.log -o logs/"));
  const rules = filterOptions(command);
  return onRun<GetCommandOptions>(command, host, (context, files, options) =>
    get(context, files, options, rules()),
  );
}

export function catCommand(host: Host): Command {
  const command = new Command("cat")
    .summary("write stored files to stdout")
    .description("Write stored files to stdout, one after the other.")
    .argument("<NAME...>", FILE_OPERAND)
    .addHelpText("after", example("pfs cat monday.log tuesday.log | grep timeout"));
  return onRun(command, host, cat);
}

async function get(
  context: Context,
  files: readonly string[],
  options: GetCommandOptions,
  filter: readonly TreeRule[],
): Promise<void> {
  const { output, signal } = context;
  const range = options.range === undefined ? undefined : parseRange(options.range);
  const to = options.output ?? (range === undefined ? undefined : "-");
  const isToStdout = to !== undefined && STDOUT.includes(to);
  if (files.length > 1 && range !== undefined)
    throw new UsageError("--range goes with one file; get the others without it");
  if (files.length > 1 && isToStdout) throw new UsageError('several files go to stdout with "pfs cat"');
  output.carriesBytes = isToStdout;
  const pfs = await context.open({ reachesNodes: true });
  // All are looked up first: what is mistyped or cannot be written shows before the first byte has come.
  const infos: Found[] = await lookUp(context, pfs, files);
  if (infos.some(({ tree }) => tree?.entry()?.type === "directory")) {
    if (options.dryRun === true)
      throw new UsageError(
        '--dry-run takes files; "pfs sync NAME DIR --dry-run" says what would change in a directory',
      );
    if (range !== undefined || isToStdout)
      throw new UsageError("a directory has no bytes of its own; name a file in it, as NAME/PATH");
    return await getDirectories(context, pfs, infos, { ...options, filter });
  }
  const [{ length }] = infos as [Found];
  if (range !== undefined && range.start > length) {
    throw new UsageError(
      `the range begins at byte ${range.start}, but ${printable(files[0]!)} has ${length}`,
    );
  }
  if (options.dryRun === true) {
    if (isToStdout) throw new UsageError("--dry-run takes whole files that go to files");
    const paths = await targetPaths(infos, to);
    const wanted = infos.map((info, index) => ({
      name: printable(files[index]!),
      info,
      path: paths[index]!,
    }));
    return await listCosts(context, wanted, ({ info, path }) =>
      pfs.costOfGet(textOf(info), path, { signal, ...(info.version === 0 ? {} : { name: info.name }) }),
    );
  }
  const paths = isToStdout ? ["-"] : await targetPaths(infos, to);
  if (!isToStdout) for (const path of paths) await findTarget(path, signal);
  for (const [index, info] of infos.entries()) {
    const startedAt = performance.now();
    const wanted = { file: files[index]!, info, range };
    const got = isToStdout
      ? { length: await toStdout(context, read(context, pfs, wanted)) }
      : await toFile(context, pfs, wanted, paths[index]!);
    const milliseconds = Math.round(performance.now() - startedAt);
    await report(context, files[index]!, info, { ...got, path: paths[index]!, milliseconds });
  }
}

interface Written {
  readonly path: string;
  readonly length: number;
  readonly milliseconds: number;
  readonly unchanged?: true;
  readonly transfer?: TransferInfo;
}

async function report({ output }: Context, file: string, info: FileInfo, written: Written): Promise<void> {
  // Who has had enough of the bytes is told nothing of them.
  if (output.carriesBytes && output.readerGone.aborted) return;
  const { path, length, milliseconds, unchanged, transfer } = written;
  const version = info.version === 0 ? {} : { version: info.version };
  const json = { name: info.name, ...version, root: info.root, ...written };
  if (output.json) return output.carriesBytes ? output.complain(jsonText(json)) : output.object(json);
  output.talk(
    `${printable(file)}: ${formatBytes(length)} in ${formatDuration(milliseconds)}, ${unchanged === true ? "unchanged" : "verified"}` +
      (output.carriesBytes ? "" : ` → ${path}`) +
      (transfer === undefined ? "" : `; ${formatTransfer(transfer)}`),
  );
}

/** A file that is stored by itself, or one in a directory that is. */
interface Found extends FileInfo {
  /** Opened at the file, or at the directory that is meant. */
  readonly tree?: Tree;
}

async function lookUp({ signal }: Context, pfs: PacketFS, files: readonly string[]): Promise<Found[]> {
  const found: Found[] = [];
  for (const file of files) {
    try {
      found.push(await pfs.stat(file));
    } catch (error) {
      if (!file.includes("/") || !hasCode(error, "PFS_NOT_FOUND")) throw error;
      const tree = await pfs.openTree(file, { signal }).catch((inTree: unknown) => {
        throw hasCode(inTree, "PFS_NOT_A_TREE") ? error : inTree;
      });
      const { length } = tree.entry()!;
      found.push({ ...tree.info, name: `${tree.info.name}/${tree.path}`, length, tree });
    }
  }
  const kinds = await pfs.kinds(found.map(({ root }) => root));
  return await Promise.all(
    found.map(async (each, index) => {
      if (each.tree !== undefined || kinds[index] !== "tree") return each;
      return { ...each, tree: await pfs.openTree(sameVersion(each), { signal }) };
    }),
  );
}

/** What was looked up, also if the name is given to something else meanwhile; by its name, whose versions may be here. */
function sameVersion({ name, version, root }: FileInfo): string {
  return version === 0 ? root : `${name}@${version}`;
}

/** Of several, each into a directory of its own name; files among them beside those. */
async function getDirectories(
  context: Context,
  pfs: PacketFS,
  found: readonly Found[],
  options: GetCommandOptions & { readonly filter: readonly TreeRule[] },
): Promise<void> {
  const { output, signal } = context;
  const { output: to, checksum = false, keepSetuid = false, safeLinks = false, filter } = options;
  const isWithin = to !== undefined && (to.endsWith("/") || found.length > 1);
  if (isWithin && !(await isDirectory(resolve(to))))
    throw new UsageError(`${to} is not a directory; make it first`);
  for (const each of found) {
    if (each.tree?.entry()?.type !== "directory")
      throw new UsageError(
        `${printable(each.name)} is a file; get files and directories one after the other`,
      );
    const path = to === undefined || isWithin ? join(to ?? "", lastPart(each)) : to;
    if (to === undefined) await checkIsNotThere(path);
    const progress = new Progress(output, printable(each.name));
    const startedAt = performance.now();
    const { files, bytes, entries, unsafeLinks, transfer } = await each.tree.write(path, {
      filter,
      checksum,
      keepsPrivileges: keepSetuid,
      safeLinks,
      signal,
      onProgress: (done, total) => progress.update(done, total),
    });
    progress.end();
    const milliseconds = Math.round(performance.now() - startedAt);
    if (output.json) {
      const { name, root } = each;
      const json = { name, root, path, entries, files, length: bytes, milliseconds, unsafeLinks };
      await output.object(transfer === undefined ? json : { ...json, transfer });
      continue;
    }
    for (const link of unsafeLinks) output.talk(`left out ${printable(link)}: it leads out of the directory`);
    output.talk(
      `${printable(each.name)}: ${formatCount(files)} of ${formatCount(entries)} entries, ${formatBytes(bytes)} in ${formatDuration(milliseconds)}, verified → ${path}` +
        (transfer === undefined ? "" : `; ${formatTransfer(transfer)}`),
    );
  }
}

/** A path for each of the files: in a directory, the one that is given, or in the current directory. */
async function targetPaths(infos: readonly FileInfo[], to: string | undefined): Promise<string[]> {
  if (to !== undefined && !(await isDirectory(to))) {
    if (infos.length === 1) return [to];
    throw new UsageError(`${to} is not a directory, which several files need`);
  }
  const paths = infos.map((info) => join(to ?? "", lastPart(info)));
  const repeated = paths.find((path, index) => paths.indexOf(path) < index);
  if (repeated !== undefined) throw new UsageError(`several of the files would be written to ${repeated}`);
  for (const path of to === undefined ? paths : []) await checkIsNotThere(path);
  return paths;
}

async function cat(context: Context, files: readonly string[]): Promise<void> {
  context.output.carriesBytes = true;
  const pfs = await context.open({ reachesNodes: true });
  // All are looked up first: a name that is missing shows before the first byte, not in the middle.
  const infos = await lookUp(context, pfs, files);
  const directory = infos.find(({ tree }) => tree?.entry()?.type === "directory");
  if (directory !== undefined) {
    throw new UsageError(
      `${printable(directory.name)} is a directory; name a file in it, as ${printable(directory.name)}/PATH`,
    );
  }
  for (const [index, file] of files.entries()) {
    const wanted = { file, info: infos[index]!, range: undefined };
    await toStdout(context, read(context, pfs, wanted));
  }
}

interface Wanted {
  readonly file: string;
  readonly info: Found;
  readonly range: Range | undefined;
}

/** By its root: the bytes are those that were looked up, even if the name is given to others meanwhile. */
function textOf({ root, tree }: Found): string {
  return tree === undefined ? root : `${root}/${tree.path}`;
}

async function toFile(
  { output, signal }: Context,
  pfs: PacketFS,
  { file, info, range }: Wanted,
  path: string,
): Promise<GetFileResult> {
  const progress = new Progress(output, printable(file));
  const got = await pfs.getFile(textOf(info), path, {
    signal,
    onProgress: (bytes, total, step) => progress.updateStep(bytes, total, step),
    onLeft: (bytes, total) => {
      progress.end();
      output.talk(
        `${printable(file)}: ${formatShare(bytes, total)} of it is here; the same command goes on from there`,
      );
    },
    ...(info.version === 0 ? {} : { name: info.name }),
    ...(range === undefined ? {} : { range }),
  });
  progress.end();
  return got;
}

async function* read(
  { output, signal }: Context,
  pfs: PacketFS,
  { file, info, range }: Wanted,
): AsyncGenerator<Uint8Array> {
  const end = Math.min(range?.end ?? info.length, info.length);
  const total = end - (range?.start ?? 0);
  const progress = new Progress(output, printable(file));
  let done = 0;
  const options = { signal, ...(range === undefined ? {} : { range }) };
  for await (const piece of pfs.get(textOf(info), options)) {
    yield piece;
    done += piece.byteLength;
    progress.update(done, total);
  }
  progress.end();
}

async function toStdout({ output }: Context, content: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const piece of content) {
    await output.write(piece);
    if (output.readerGone.aborted) break;
    bytes += piece.byteLength;
  }
  return bytes;
}

/** "100-200", "100-". Bytes, the end not included. */
function parseRange(text: string): Range {
  const match = /^(\d+)-(\d*)$/.exec(text);
  const start = Number(match?.[1]);
  const end = match?.[2] === "" ? undefined : Number(match?.[2]);
  if (match === null || !Number.isSafeInteger(start) || (end !== undefined && !Number.isSafeInteger(end))) {
    throw new UsageError(`"${text}" is not a range: write 100-200 for bytes 100 to 199, or 100- to the end`);
  }
  if (end !== undefined && end < start) throw new UsageError(`the range ${text} ends before it begins`);
  return end === undefined ? { start } : { start, end };
}

function lastPart({ name, version }: FileInfo): string {
  if (version === 0) throw new UsageError("a root has no file name; add -o FILE, or -o - for stdout");
  return basename(name);
}

/** What is there already is not replaced unasked. */
async function checkIsNotThere(path: string): Promise<void> {
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (isThere) throw new UsageError(`${path} exists already; add -o ${path} to replace it`);
}
