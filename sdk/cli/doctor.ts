/** pfs doctor: what a maintainer asks for first. */
import { styleText } from "node:util";
import { Command } from "commander";
import {
  environmentChecks,
  isolateCheck,
  machineChecks,
  networkChecks,
  programCheck,
  sharedMemoryCheck,
  storeChecks,
  versionChecks,
} from "./checks.ts";
import type { Check } from "./checks.ts";
import { ExitCode } from "./exit-codes.ts";
import { plural, printable } from "./format.ts";
import { storeDirectory } from "./options.ts";
import { example } from "./help.ts";
import { onRun } from "./session.ts";
import type { Host, Session } from "./session.ts";

const MARKS = { ok: " ", warning: "!", failure: "✗" } as const;
const COLOURS = { ok: "green", warning: "yellow", failure: "red" } as const;
const NAME_WIDTH = 22;

export function doctorCommand(host: Host): Command {
  const command = new Command("doctor")
    .summary("look whether all is well on this machine")
    .description(
      "Look whether all is well on this machine: versions, cores and memory, the store, the sandbox, the network. What it prints is what a bug report needs. Exits with 1 when something does not work.",
    )
    .addHelpText("after", example("pfs doctor > report.txt"));
  return onRun(command, host, doctor);
}

async function doctor({ output, options, signal, finish }: Session): Promise<void> {
  const checks: Check[] = [];
  const steps: readonly (() => Promise<Check[]> | Check[])[] = [
    versionChecks,
    machineChecks,
    () => storeChecks(storeDirectory(options)),
    async () => [await sharedMemoryCheck(), await isolateCheck(), await programCheck()],
    networkChecks,
    environmentChecks,
  ];
  for (const step of steps) {
    signal.throwIfAborted();
    output.status("looking …");
    const found = await step();
    checks.push(...found);
    if (!output.json) for (const line of topicLines(found)) await output.line(line);
  }
  const failures = checks.filter((check) => check.state === "failure");
  const warnings = checks.filter((check) => check.state === "warning");
  if (failures.length > 0) finish(ExitCode.failed);
  if (output.json) return output.object({ ok: failures.length === 0, checks });
  output.talk(
    failures.length + warnings.length === 0
      ? "\nall is well"
      : `\n${plural(failures.length, "failure")}, ${plural(warnings.length, "warning")}`,
  );
}

function topicLines(checks: readonly Check[]): string[] {
  const [first] = checks;
  if (first === undefined) return [];
  const style = { stream: process.stdout };
  return [
    styleText("bold", first.topic, style),
    ...checks.flatMap(({ state, name, found, advice }) => {
      const mark = styleText(COLOURS[state], MARKS[state], style);
      const line = `${mark} ${name.padEnd(NAME_WIDTH)}${printable(found)}`;
      return advice === undefined ? [line] : [line, `  ${" ".repeat(NAME_WIDTH)}→ ${advice}`];
    }),
  ];
}
