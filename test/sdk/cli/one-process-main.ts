/** Does what sdk/cli/main.ts does, for one command line after the other: see one-process.ts. */
import { createProgram } from "../../../sdk/cli/commands.ts";
import { reportError } from "../../../sdk/cli/ending.ts";
import { ExitCode } from "../../../sdk/cli/exit-codes.ts";
import { switchIsOn, tidyEnvironment } from "../../../sdk/cli/options.ts";
import { Output } from "../../../sdk/cli/output.ts";
import type { Ended } from "./one-process.ts";

tidyEnvironment(process.env);
// Each command looks out for the end of whoever reads.
process.stdout.setMaxListeners(0);

/** What the present one writes, and how it ended. */
let ended: Ended = { status: ExitCode.ok, out: "", err: "" };
process.stdout.write = collect((text) => (ended.out += text));
process.stderr.write = collect((text) => (ended.err += text));

process.on("message", (words: readonly string[]) => void run(words));
process.send!("ready");

async function run(words: readonly string[]): Promise<void> {
  ended = { status: ExitCode.ok, out: "", err: "" };
  const output = new Output({
    json: switchIsOn("json", words),
    quiet: switchIsOn("quiet", words),
    verbose: switchIsOn("verbose", words),
  });
  const { signal } = new AbortController();
  const finish = (code: ExitCode): void => void (ended.status = code);
  try {
    await createProgram({ output, signal, finish }, words[0]).parseAsync(words, { from: "user" });
  } catch (error) {
    const overdue = new Promise<never>(() => undefined);
    const leave = (): never => {
      throw new Error("nobody asked for it");
    };
    ended.status = await reportError(error, output, { signal, overdue, exitCode: () => undefined, leave });
  }
  await output.flush();
  process.send!(ended);
}

function collect(take: (text: string) => void): typeof process.stdout.write {
  return (data: Uint8Array | string, ...rest: unknown[]) => {
    take(typeof data === "string" ? data : Buffer.from(data).toString());
    const done = rest.at(-1);
    if (typeof done === "function") process.nextTick(done as () => void);
    return true;
  };
}
