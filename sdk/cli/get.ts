/** pfs get and pfs cat: bytes of stored files, verified on the way. */
import { access } from "node:fs/promises";
import { basename } from "node:path";
import { Command } from "commander";
import { UsageError } from "../errors.ts";
import type { FileInfo, GetOptions, PacketFS } from "../packetfs.ts";
import { checkTarget, writeWhole } from "./file-target.ts";
import { formatBytes, formatDuration, printable } from "./format.ts";
import { example } from "./help.ts";
import { option } from "./options.ts";
import { jsonText } from "./output.ts";
import { Progress } from "./progress.ts";
import { onRun } from "./context.ts";
import type { Host, Context } from "./context.ts";

interface GetCommandOptions {
  readonly output?: string;
  readonly range?: string;
}

type Range = NonNullable<GetOptions["range"]>;

export function getCommand(host: Host): Command {
  const command = new Command("get")
    .summary("write a stored file to disk")
    .description(
      "Write a stored file, or a range of it, to disk or to stdout. Every byte is verified; the target is replaced when all have come, and untouched when not.",
    )
    .argument("<NAME|ROOT>", "a name, or a root (64 hexadecimal digits)")
    .addOption(
      option(
        "-o, --output <FILE|->",
        "write here; - is stdout (default: the name's last part)",
        "PACKETFS_OUTPUT",
      ),
    )
    .addOption(
      option("--range <A-B>", "bytes A up to B, B not included; A- reaches to the end", "PACKETFS_RANGE"),
    )
    .addHelpText("after", example("pfs get access.log --range 0-4096 -o head.log"));
  return onRun<GetCommandOptions>(command, host, get);
}

export function catCommand(host: Host): Command {
  const command = new Command("cat")
    .summary("write stored files to stdout")
    .description("Write stored files to stdout, one after the other.")
    .argument("<NAME...>", "names or roots")
    .addHelpText("after", example("pfs cat monday.log tuesday.log | grep timeout"));
  return onRun(command, host, cat);
}

async function get(
  context: Context,
  [file = ""]: readonly string[],
  options: GetCommandOptions,
): Promise<void> {
  const { output } = context;
  const range = options.range === undefined ? undefined : parseRange(options.range);
  const path = options.output ?? (await defaultTarget(file));
  output.carriesBytes = path === "-";
  if (path !== "-") await checkTarget(path);
  const pfs = await context.open({ reachesNodes: true });
  const info = await pfs.stat(file);
  if (range !== undefined && range.start > info.length) {
    throw new UsageError(
      `the range begins at byte ${range.start}, but ${printable(file)} has ${info.length}`,
    );
  }
  const startedAt = performance.now();
  const content = read(context, pfs, file, info, range);
  const length = path === "-" ? await toStdout(context, content) : await writeWhole(path, content);
  const milliseconds = Math.round(performance.now() - startedAt);
  const report = { name: info.name, root: info.root, path, length, milliseconds };
  if (output.json) return path === "-" ? output.complain(jsonText(report)) : output.object(report);
  output.talk(
    `${printable(file)}: ${formatBytes(length)} in ${formatDuration(milliseconds)}, verified` +
      (path === "-" ? "" : ` → ${path}`),
  );
}

async function cat(context: Context, files: readonly string[]): Promise<void> {
  context.output.carriesBytes = true;
  const pfs = await context.open({ reachesNodes: true });
  // All are looked up first: a name that is missing shows before the first byte, not in the middle.
  const infos: FileInfo[] = [];
  for (const file of files) infos.push(await pfs.stat(file));
  for (const [index, file] of files.entries()) {
    await toStdout(context, read(context, pfs, file, infos[index]!, undefined));
  }
}

async function* read(
  { output, signal }: Context,
  pfs: PacketFS,
  file: string,
  info: FileInfo,
  range: Range | undefined,
): AsyncGenerator<Uint8Array> {
  const end = Math.min(range?.end ?? info.length, info.length);
  const total = end - (range?.start ?? 0);
  const progress = new Progress(output, printable(file));
  let done = 0;
  // By root: the bytes are those that were looked up, even if the name is given to others meanwhile.
  for await (const piece of pfs.get(info.root, { signal, ...(range === undefined ? {} : { range }) })) {
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

/** The last part of the name, in the current directory. What is there already is not replaced unasked. */
async function defaultTarget(file: string): Promise<string> {
  if (/^[0-9a-f]{64}$/i.test(file))
    throw new UsageError("a root has no file name; add -o FILE, or -o - for stdout");
  const path = basename(file);
  const isThere = await access(path).then(
    () => true,
    () => false,
  );
  if (isThere) throw new UsageError(`${path} exists already; add -o ${path} to replace it`);
  return path;
}
