/** Runs the command line: understands it, does it, and leaves with the right exit status. */
import { ExitCode } from "./exit-codes.ts";
import { createProgram } from "./commands.ts";
import { switchIsOn, tidyEnvironment } from "./options.ts";
import { Output } from "./output.ts";
import { listenForSignals, reportError } from "./ending.ts";

async function main(words: readonly string[]): Promise<never> {
  tidyEnvironment(process.env);
  const output = new Output({
    json: switchIsOn("json", words),
    quiet: switchIsOn("quiet", words),
    verbose: switchIsOn("verbose", words),
  });
  const signals = listenForSignals(() => output.status(""));
  let exitCode: ExitCode = ExitCode.ok;
  const host = {
    output,
    signal: AbortSignal.any([signals.signal, output.readerGone]),
    finish: (code: ExitCode) => {
      exitCode = code;
    },
  };
  const program = createProgram(host, words[0]);
  try {
    const done = program.parseAsync(words.length === 0 ? ["help"] : words, { from: "user" });
    await Promise.race([done, signals.overdue]);
  } catch (error) {
    exitCode = await reportError(error, output, signals);
  }
  await output.flush();
  return signals.leave(exitCode);
}

void main(process.argv.slice(2));
