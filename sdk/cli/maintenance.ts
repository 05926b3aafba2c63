/** pfs verify and pfs gc: keeping a store sound and small. */
import { Command } from "commander";
import { ExitCode } from "./exit-codes.ts";
import { formatBytes, formatCount, plural, printable } from "./format.ts";
import { example } from "./help.ts";
import { onRun } from "./context.ts";
import type { Host } from "./context.ts";

export function verifyCommand(host: Host): Command {
  const command = new Command("verify")
    .summary("read every stored chunk and check it")
    .description(
      "Read every stored chunk and check it against its hash, and that no name misses a chunk; with --at in the stores of the hub and its nodes, where a chunk counts in each that has it. Exits with 4 when something is damaged or missing.",
    )
    .addHelpText("after", example("pfs verify || pfs doctor"));
  return onRun(command, host, async ({ output, signal, open, finish }) => {
    output.status("reading every chunk …");
    const report = await (await open()).verify({ signal });
    const { chunks, bytes, damaged, incomplete } = report;
    const isSound = damaged.length === 0 && incomplete.length === 0;
    if (!isSound) finish(ExitCode.integrity);
    if (output.json) return output.object({ sound: isSound, chunks, bytes, damaged, incomplete });
    for (const ref of damaged) await output.line(`damaged chunk\t${ref}`);
    for (const name of incomplete) await output.line(`incomplete file\t${printable(name)}`);
    const checked = `${plural(chunks, "chunk")}, ${formatBytes(bytes)}`;
    if (isSound) return output.talk(`${checked}: all sound`);
    output.talk(
      `${checked}: ${plural(damaged.length, "chunk")} damaged, ${plural(incomplete.length, "file")} incomplete`,
    );
  });
}

export function gcCommand(host: Host): Command {
  const command = new Command("gc")
    .summary("free the space of chunks that no name needs")
    .description(
      "Free the space of chunks that no name needs, with --at at the hub and its nodes: what it keeps and frees is together what verify reads. Safe beside running puts and jobs.",
    )
    .addHelpText("after", example("pfs rm old.log && pfs gc"));
  return onRun(command, host, async ({ output, signal, open }) => {
    output.status("looking for chunks that no name needs …");
    const report = await (await open()).gc({ signal });
    if (output.json) return output.object({ ...report });
    const { keptChunks, freedChunks, freedBytes } = report;
    output.talk(
      `freed ${plural(freedChunks, "chunk")}, ${formatBytes(freedBytes)}; kept ${formatCount(keptChunks)}`,
    );
  });
}
