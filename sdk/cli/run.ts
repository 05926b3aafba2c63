/** pfs run */
import { readFile } from "node:fs/promises";
import { Command } from "commander";
import { messageOf } from "../../packets/errors.ts";
import { PacketCode } from "../code/builders.ts";
import { fileError, UsageError } from "../errors.ts";
import type { JobEvent, JobResult, PacketFS, ProgramBundle, RunOptions } from "../packetfs.ts";
import {
  formatBytes,
  formatCount,
  formatDuration,
  formatKernel,
  formatRate,
  formatValue,
  plural,
  printable,
} from "./format.ts";
import { example } from "./help.ts";
import { checkName, FILE_OPERAND, NAMED_FILE, oneOf, option, SIZE } from "./options.ts";
import type { Output } from "./output.ts";
import { Progress } from "./progress.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { filesByThemselves } from "./trees.ts";
import type { Column, ListItem } from "./output.ts";
import { valueCodec } from "../../runtime/program/values.ts";

const GROUP_COLUMNS: readonly Column[] = [{ title: "KEY", shrinks: true }, { title: "VALUE" }];

interface RunCommandOptions {
  readonly args?: string;
  readonly out?: string;
  readonly split?: number;
  readonly with?: readonly (readonly [name: string, file: string])[];
  readonly engine?: NonNullable<RunOptions["engine"]>;
  readonly check: boolean;
  readonly code?: boolean;
}

export function runCommand(host: Host): Command {
  const command = new Command("run")
    .summary("run a program over stored files")
    .description(
      "Run a program over stored files, on every core and node there is. The program is a TypeScript, JavaScript or WebAssembly module; it and what it imports are bundled, and run in a sandbox. The result goes to stdout: as Node shows values on a terminal, as JSON in a pipe, and groups as a key and a value on each line. What the program logs goes to stderr.",
    )
    .argument("<PROGRAM>", "a path to the program's module; with --code, packet code")
    .argument("<NAME...>", `the files that it reads: ${FILE_OPERAND}`)
    .addOption(
      option(
        "--args <JSON|@FILE>",
        "a JSON value for the program, or a file with one: its context.args",
        "PACKETFS_ARGS",
      ),
    )
    .addOption(
      option(
        "--out <NAME>",
        "store the result under this name instead of printing it: groups as lines of JSON, or as CSV if it ends with .csv",
        "PACKETFS_OUT",
      ),
    )
    .addOption(
      option("--split <BYTES>", "input per packet, such as 4MiB (default: chosen)", "PACKETFS_SPLIT", SIZE),
    )
    .addOption(
      option(
        "--with <NAME=FILE>",
        "a stored file that the program has beside those that it reads: its context.files.NAME; once for each",
        "PACKETFS_WITH",
        NAMED_FILE,
      ),
    )
    .addOption(
      option(
        "--engine <ENGINE>",
        "what computes the program's kernels, or packet code: gpu, cpu, or auto for what is expected to be faster (default: auto)",
        "PACKETFS_ENGINE",
        oneOf("auto", "gpu", "cpu"),
      ),
    )
    .addOption(
      option(
        "--code",
        'the program is packet code, which runs at the speed of memory: count("\\n"), match("text"), lines(), histogram(), lines().filter(contains("ERROR")).count(), columns({ id: "u32", x: "f64" }).filter("id", ">", 9).mean("x")',
        "PACKETFS_CODE",
      ),
    )
    .addOption(
      option("--no-check", "do not check the types of a TypeScript program first", "PACKETFS_NO_CHECK"),
    )
    .addHelpText("after", example('pfs run examples/grep.ts access.log --args \'{"pattern":"timeout"}\''));
  return onRun<RunCommandOptions>(command, host, run);
}

async function run(
  context: Context,
  [path = "", ...files]: readonly string[],
  options: RunCommandOptions,
): Promise<void> {
  const { output, signal } = context;
  const args = options.args === undefined ? undefined : await readArgs(options.args);
  if (options.out !== undefined) checkName(options.out);
  if (options.code === true && args !== undefined) throw new UsageError("packet code takes no --args");
  if (options.code === true && options.with !== undefined)
    throw new UsageError("packet code has no files beside those that it reads; leave --with out");
  // Bundled first: a program that is wrong shows before anything is opened.
  const program = options.code === true ? await parsed(path) : await bundled(path, options.check, context);
  const pfs = await context.open();
  const progress = new Progress(output, program instanceof PacketCode ? String(program) : program.name);
  const inputs = await filesByThemselves(context, pfs, files);
  const result = await pfs.run(program, inputs, {
    ...(args === undefined ? {} : { args }),
    ...(options.out === undefined ? {} : { out: options.out }),
    ...(options.split === undefined ? {} : { splitBytes: options.split }),
    ...(options.with === undefined ? {} : { files: namedFiles(options.with) }),
    ...(options.engine === undefined ? {} : { engine: options.engine }),
    signal,
    onEvent: (event) => show(event, output, progress),
  });
  progress.end();
  await writeResult(context, pfs, result);
  if (output.json) return;
  for (const report of result.statistics.kernels ?? []) output.talk(`kernel ${formatKernel(report)}`);
  output.talk(summary(result));
}

/** Throws PFS_USAGE for a name that is given twice. */
function namedFiles(pairs: readonly (readonly [name: string, file: string])[]): Record<string, string> {
  const files = new Map(pairs);
  if (files.size === pairs.length) return Object.fromEntries(files);
  const [twice] = pairs.find(([name], at) => pairs.some(([other], before) => before < at && other === name))!;
  throw new UsageError(`--with gives ${printable(twice)} twice`);
}

async function bundled(path: string, isChecked: boolean, context: Context): Promise<ProgramBundle> {
  const { output, signal } = context;
  const [{ bundleProgram }, { checkTypes }, { cacheDirectory }] = await Promise.all([
    import("../programs/bundle.ts"),
    import("../programs/type-check.ts"),
    import("../programs/result-cache.ts"),
  ]);
  const program = await bundleProgram({ path }, { cache: cacheDirectory("bundles") });
  const skipped = isChecked ? await checkTypes(path, program, { signal }) : "--no-check";
  if (skipped !== undefined) output.talk(`types were not checked: ${printable(skipped)}`);
  return program;
}

async function parsed(text: string): Promise<PacketCode> {
  const { parseCode } = await import("../code/parse.ts");
  return parseCode(text);
}

function show(event: JobEvent, output: Output, progress: Progress): void {
  switch (event.kind) {
    case "started":
      return output.detail(
        `job ${event.job}: ${plural(event.tasks, "packet")}, ${formatBytes(event.inputBytes)}`,
      );
    case "progress":
      return progress.update(
        event.doneBytes,
        event.inputBytes,
        `${formatCount(event.done)}/${plural(event.tasks, "packet")}`,
      );
    case "log":
      for (const line of event.text.replace(/\n$/, "").split("\n")) {
        output.talk(`[${event.at} ${printable(event.node)}] ${printable(line)}`);
      }
      return;
    case "note":
      return output.talk(`note: ${printable(event.text)}`);
  }
}

/**
 * A file's root, groups as two columns, a value, or bytes. Values are for programs as the JSON that stands for them
 * (runtime/program/values.ts), and for people, at a terminal, as Node shows them.
 */
async function writeResult(context: Context, pfs: PacketFS, result: JobResult): Promise<void> {
  const { output, signal } = context;
  const { job, yields, file, statistics } = result;
  const isShown = result.value !== undefined && (output.json || yields !== "groups");
  const value = isShown ? valueCodec.json(result.value, "the result is") : undefined;
  if (output.json) return output.object({ job, yields, value, file, statistics });
  if (file?.name !== undefined) return output.line(`${file.root}  ${printable(file.name)}`);
  if (yields === "groups") return void (await output.list(GROUP_COLUMNS, groupItems(result, output)));
  if (file !== undefined) {
    output.carriesBytes = true;
    for await (const piece of pfs.get(file.root, { signal })) {
      await output.write(piece);
      if (output.readerGone.aborted) return;
    }
    return;
  }
  await output.line(
    output.isTerminal ? formatValue(result.value ?? null, output.width) : JSON.stringify(value ?? null),
  );
}

async function* groupItems(result: JobResult, { isTerminal }: Output): AsyncGenerator<ListItem> {
  for await (const [key, of] of result as AsyncIterable<readonly [string, unknown]>) {
    const shown = isTerminal ? of : valueCodec.json(of, "the result is");
    const text = isTerminal ? formatValue(shown ?? null) : JSON.stringify(shown ?? null);
    yield { json: {}, cells: [printable(key), typeof shown === "string" ? printable(shown) : text] };
  }
}

function summary({ job, statistics }: JobResult): string {
  const { tasks, inputBytes, milliseconds, retries, byNode } = statistics;
  const speed = milliseconds > 0 ? `, ${formatRate(inputBytes, milliseconds)}` : "";
  const nodes = Object.entries(byNode);
  const shares = nodes.map(([label, done]) => `${formatCount(done)} on ${printable(label)}`).join(", ");
  return [
    `job ${job}: ${formatBytes(inputBytes)} in ${formatDuration(milliseconds)}${speed}`,
    plural(tasks, "packet") + (nodes.length > 1 ? `, ${shares}` : ""),
    // Merges among them, which are no packets of the input.
    ...(retries > 0 ? [`${formatCount(retries)} had to run again, merges included`] : []),
  ].join("; ");
}

/** JSON as it is, or in a file: what is long does not fit into a command line. */
async function readArgs(text: string): Promise<unknown> {
  const path = text.startsWith("@") ? text.slice(1) : undefined;
  const json = path === undefined ? text : await readText(path);
  try {
    return JSON.parse(json);
  } catch (error) {
    const reason = messageOf(error);
    throw new UsageError(`${path ?? "--args"} is not JSON: ${printable(reason)}`);
  }
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw fileError(error, "read", path);
  }
}
