/** pfs get and pfs cat: bytes of stored files, verified on the way. */
import { access } from "node:fs/promises";
import { basename, join } from "node:path";
import { Command } from "commander";
import { UsageError } from "../errors.ts";
import type { FileInfo, GetOptions, PacketFS } from "../packetfs.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { findTarget, isDirectory } from "./file-target.ts";
import { formatBytes, formatDuration, printable } from "./format.ts";
import { example } from "./help.ts";
import { FILE_OPERAND, option } from "./options.ts";
import { jsonText } from "./output.ts";
import { Progress } from "./progress.ts";

interface GetCommandOptions {
  readonly output?: string;
  readonly range?: string;
}

type Range = NonNullable<GetOptions["range"]>;

/** Another spelling of "-". Opened anew, what stands behind it would be written over from its beginning. */
const STDOUT = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

export function getCommand(host: Host): Command {
  const command = new Command("get")
    .summary("write stored files to disk")
    .description(
      "Write stored files, or a range of one, to disk or to stdout. Every byte is verified. A file that is there is replaced when all bytes have come, untouched when not; it keeps its mode and owner, and links to it are followed. What it holds already is not fetched from a hub again.",
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
    .addHelpText("after", example("pfs get access.log error.log -o logs/"));
  return onRun<GetCommandOptions>(command, host, get);
}

export function catCommand(host: Host): Command {
  const command = new Command("cat")
    .summary("write stored files to stdout")
    .description("Write stored files to stdout, one after the other.")
    .argument("<NAME...>", FILE_OPERAND)
    .addHelpText("after", example("pfs cat monday.log tuesday.log | grep timeout"));
  return onRun(command, host, cat);
}

async function get(context: Context, files: readonly string[], options: GetCommandOptions): Promise<void> {
  const { output, aborted } = context;
  const range = options.range === undefined ? undefined : parseRange(options.range);
  const to = options.output ?? (range === undefined ? undefined : "-");
  const isToStdout = to !== undefined && STDOUT.includes(to);
  if (files.length > 1 && range !== undefined)
    throw new UsageError("--range goes with one file; get the others without it");
  if (files.length > 1 && isToStdout) throw new UsageError('several files go to stdout with "pfs cat"');
  output.carriesBytes = isToStdout;
  const pfs = await context.open({ reachesNodes: true });
  // All are looked up first: what is mistyped or cannot be written shows before the first byte has come.
  const infos: FileInfo[] = [];
  for (const file of files) infos.push(await pfs.stat(file));
  const [{ length }] = infos as [FileInfo];
  if (range !== undefined && range.start > length) {
    throw new UsageError(
      `the range begins at byte ${range.start}, but ${printable(files[0]!)} has ${length}`,
    );
  }
  const paths = isToStdout ? ["-"] : await targetPaths(infos, to);
  const targets = isToStdout ? [] : await Promise.all(paths.map((path) => findTarget(path, aborted)));
  for (const [index, info] of infos.entries()) {
    const startedAt = performance.now();
    const contentOf = (held: readonly string[]): AsyncIterable<Uint8Array> =>
      read(context, pfs, { file: files[index]!, info, range, held });
    const bytes = await (targets[index]?.write(contentOf) ?? toStdout(context, contentOf([])));
    const milliseconds = Math.round(performance.now() - startedAt);
    await report(context, files[index]!, info, { path: paths[index]!, length: bytes, milliseconds });
  }
}

interface Written {
  readonly path: string;
  readonly length: number;
  readonly milliseconds: number;
}

async function report({ output }: Context, file: string, info: FileInfo, written: Written): Promise<void> {
  // Who has had enough of the bytes is told nothing of them.
  if (output.carriesBytes && output.readerGone.aborted) return;
  const { path, length, milliseconds } = written;
  const json = { name: info.name, root: info.root, ...written };
  if (output.json) return output.carriesBytes ? output.complain(jsonText(json)) : output.object(json);
  output.talk(
    `${printable(file)}: ${formatBytes(length)} in ${formatDuration(milliseconds)}, verified` +
      (output.carriesBytes ? "" : ` → ${path}`),
  );
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
  const infos: FileInfo[] = [];
  for (const file of files) infos.push(await pfs.stat(file));
  for (const [index, file] of files.entries()) {
    const wanted = { file, info: infos[index]!, range: undefined, held: [] };
    await toStdout(context, read(context, pfs, wanted));
  }
}

interface Wanted {
  readonly file: string;
  readonly info: FileInfo;
  readonly range: Range | undefined;
  /** Files that may hold some of it already. */
  readonly held: readonly string[];
}

async function* read(
  { output, signal }: Context,
  pfs: PacketFS,
  { file, info, range, held }: Wanted,
): AsyncGenerator<Uint8Array> {
  const end = Math.min(range?.end ?? info.length, info.length);
  const total = end - (range?.start ?? 0);
  const progress = new Progress(output, printable(file));
  let done = 0;
  // By root: the bytes are those that were looked up, even if the name is given to others meanwhile.
  const options = { signal, reuse: held, ...(range === undefined ? {} : { range }) };
  for await (const piece of pfs.get(info.root, options)) {
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
