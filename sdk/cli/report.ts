/** How a command's failure is told: one sentence on stderr, or one JSON object on stdout, and an exit status. */
import { CommanderError } from "commander";
import { errorToJson, PacketfsError } from "../../packets/errors.ts";
import type { ErrorJson } from "../../packets/errors.ts";
import { systemError, UsageError } from "../errors.ts";
import { ExitCode, exitCodeOf } from "./exit-codes.ts";
import { printable } from "./format.ts";
import { jsonText } from "./output.ts";
import type { Output } from "./output.ts";
import type { Signals } from "./signals.ts";

/** Says what went wrong and gives the exit status. */
export async function reportError(error: unknown, output: Output, signals: Signals): Promise<ExitCode> {
  if (error instanceof CommanderError && error.exitCode === 0) return ExitCode.ok;
  // Whoever read our output has had enough: not a failure, and nobody is left to tell.
  if (output.readerGone.aborted) return ExitCode.ok;
  const asked = signals.exitCode();
  const known = understand(error);
  await say(known, output, asked !== undefined);
  return asked ?? exitCodeOf(known);
}

async function say(error: unknown, output: Output, cancelled: boolean): Promise<void> {
  const json = errorToJson(error);
  if (output.json) {
    const text = jsonText({ error: { ...json, cause: undefined } });
    if (output.carriesBytes) output.complain(text);
    else await output.line(text);
    return;
  }
  const [sentence, ...trace] = describe(json);
  if (cancelled) {
    output.talk("pfs: cancelled");
    output.detail(`  ${sentence}`);
    return;
  }
  output.complain(`pfs: ${sentence}`);
  // Where in the program it happened.
  for (const line of trace) output.complain(line);
  for (let cause = json.cause; cause !== undefined; cause = cause.cause) {
    output.detail(`  because: ${describe(cause)[0]}`);
  }
  if (Object.keys(json.data).length > 0) output.detail(`  ${json.code} ${JSON.stringify(json.data)}`);
  if (error instanceof Error && !(error instanceof PacketfsError)) output.detail(error.stack ?? "");
}

/** The error as one of ours where we know what it means. */
function understand(error: unknown): unknown {
  if (error instanceof CommanderError) {
    const [sentence = ""] = error.message.replace(/^error: /, "").split("\n");
    return new UsageError(`${sentence.replace(/\.$/, "")}${hint(error)}`);
  }
  return systemError(error);
}

function hint(error: CommanderError): string {
  const suggestion = /\(Did you mean [^)]*\)/.exec(error.message)?.[0];
  if (suggestion !== undefined) return ` ${suggestion}`;
  return '; "pfs --help" lists what there is';
}

/** The message's lines, harmless for a terminal. */
function describe({ code, message }: ErrorJson): string[] {
  const lines = message.split("\n").map(printable);
  return code === "PFS_INTERNAL" ? [`${lines[0]} (a defect of PacketFS; --verbose says more)`] : lines;
}
