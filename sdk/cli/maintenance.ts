/** pfs verify and pfs gc: keeping a store sound and small. */
import { Command } from "commander";
import type { Option } from "commander";
import { NODES_WAIT_MS_MAX } from "../../nodes/limits.ts";
import type { MaintenanceOptions, VerifyReport } from "../packetfs.ts";
import { ExitCode } from "./exit-codes.ts";
import { formatBytes, formatCount, plural, printable } from "./format.ts";
import { example } from "./help.ts";
import { onRun } from "./context.ts";
import type { Context, Host } from "./context.ts";
import { option, wholeNumber } from "./options.ts";

interface MaintenanceCommandOptions {
  readonly nodesWait?: number;
}

interface GcCommandOptions extends MaintenanceCommandOptions {
  readonly cache?: boolean;
}

/** A node that is at work for longer keeps nobody from knowing about the others. */
function nodesWaitOption(): Option {
  return option(
    "--nodes-wait <SECONDS>",
    "with --at, wait so long for the nodes when the hub is done (default: as long as they work)",
    "PACKETFS_NODES_WAIT",
    wholeNumber(1, NODES_WAIT_MS_MAX / 1000),
  );
}

function waiting({ nodesWait }: MaintenanceCommandOptions): MaintenanceOptions {
  return nodesWait === undefined ? {} : { nodesMs: nodesWait * 1000 };
}

export function verifyCommand(host: Host): Command {
  const command = new Command("verify")
    .summary("read every stored chunk and check it")
    .description(
      "Read every stored chunk and check it against its hash, and that no name misses a chunk; with --at in the stores of the hub and its nodes, where a chunk counts in each that has it. Exits with 4 when something is damaged or missing.",
    )
    .addOption(nodesWaitOption())
    .addHelpText("after", example("pfs verify || pfs doctor"));
  return onRun<MaintenanceCommandOptions>(
    command,
    host,
    async ({ output, signal, open, finish }, _, options) => {
      output.status("reading every chunk …");
      const report = await (await open()).verify({ signal, ...waiting(options) });
      const { chunks, bytes, damaged, repaired, incomplete, lostRecords, mendedRecords } = report;
      const { stores, unreachable } = report;
      const brokenRecords = lostRecords - mendedRecords;
      const isSound = damaged.length === 0 && incomplete.length === 0 && brokenRecords === 0;
      if (!isSound) finish(ExitCode.integrity);
      if (output.json) return output.object({ sound: isSound, ...report });
      for (const line of chunkLines("repaired", repaired, stores)) await output.line(line);
      for (const line of chunkLines("damaged", damaged, stores)) await output.line(line);
      for (const name of incomplete) await output.line(`incomplete file\t${printable(name)}`);
      if (mendedRecords > 0)
        output.talk(`${plural(mendedRecords, "damaged record")} of segments written anew`);
      for (const store of stores) output.talk(diskText(store));
      for (const label of unreachable) output.talk(unreachableText(label));
      const checked = `${plural(chunks, "chunk")}, ${formatBytes(bytes)}`;
      if (isSound) return output.talk(`${checked}: all sound`);
      const found = [
        `${plural(damaged.length, "chunk")} damaged`,
        `${plural(incomplete.length, "file")} incomplete`,
        ...(brokenRecords === 0 ? [] : [`${plural(brokenRecords, "record")} of segments damaged`]),
      ];
      output.talk(`${checked}: ${found.join(", ")}`);
    },
  );
}

/** A line for each chunk and, in a network, each machine whose store it is in; there may be one that does not say whose. */
function chunkLines(
  state: "damaged" | "repaired",
  refs: readonly string[],
  stores: VerifyReport["stores"],
): string[] {
  const holders = new Map<string, string[]>();
  for (const store of stores)
    for (const ref of store[state]) holders.set(ref, [...(holders.get(ref) ?? []), store.label]);
  return refs.flatMap((ref) => {
    const line = `${state} chunk\t${ref}`;
    return holders.get(ref)?.map((label) => `${line}\t${printable(label)}`) ?? [line];
  });
}

/** What is whole again may be the first word of a disk that dies. */
function diskText({ label, damaged, repaired, lostRecords }: VerifyReport["stores"][number]): string {
  const found = [
    ...(damaged.length === 0 ? [] : [`${plural(damaged.length, "chunk")} damaged`]),
    ...(repaired.length === 0 ? [] : [`${plural(repaired.length, "damaged chunk")} repaired`]),
    ...(lostRecords === 0 ? [] : [`${plural(lostRecords, "damaged record")} of segments`]),
  ];
  return `${printable(label)}: ${found.join(", ")}; look whether its disk fails`;
}

function unreachableText(label: string): string {
  return `${printable(label)} did not answer: nothing is known of its store`;
}

export function gcCommand(host: Host): Command {
  const command = new Command("gc")
    .summary("free the space of chunks that no name needs")
    .description(
      "Free the space of chunks that no name needs, with --at at the hub and its nodes: what it keeps and frees is together what verify reads. Safe beside running puts and jobs. Names files that cannot be read whole: what they need is kept, as far as it can be known.",
    )
    .addOption(nodesWaitOption())
    .addOption(
      option(
        "--cache",
        "instead, forget what commands remember on this machine of files that they stored at hubs and fetched, in PACKETFS_CACHE_BYTES at most (0 for none), and remove what is left of gets that nobody went on with: nothing that is stored is lost",
        "PACKETFS_CACHE",
      ),
    )
    .addHelpText("after", example("pfs rm old.log && pfs gc"));
  return onRun<GcCommandOptions>(command, host, async (context, _, options) => {
    if (options.cache === true) return await clearCache(context);
    const { output, signal, open } = context;
    output.status("looking for chunks that no name needs …");
    const report = await (await open()).gc({ signal, ...waiting(options) });
    if (output.json) return output.object({ ...report });
    const { keptChunks, freedChunks, freedBytes, incomplete, unreadableSegments, unreachable } = report;
    for (const name of incomplete) await output.line(`incomplete file\t${printable(name)}`);
    if (incomplete.length > 0) {
      const files = plural(incomplete.length, "file");
      output.talk(
        `${files} cannot be read whole, and what they may need was kept: store them again or remove them`,
      );
    }
    if (unreadableSegments > 0)
      output.talk(`${plural(unreadableSegments, "segment")} left as they are: the disk does not read them`);
    for (const label of unreachable) output.talk(unreachableText(label));
    output.talk(
      `freed ${plural(freedChunks, "chunk")}, ${formatBytes(freedBytes)}; kept ${formatCount(keptChunks)}`,
    );
  });
}

async function clearCache({ output, signal }: Context): Promise<void> {
  const { ClientMemory } = await import("../memory/client-memory.ts");
  using memory = await ClientMemory.open();
  const freedBytes = await memory.clear(signal);
  const { directory } = memory;
  if (output.json) return output.object({ directory, freedBytes });
  output.talk(`freed ${formatBytes(freedBytes)} of ${directory}`);
}
