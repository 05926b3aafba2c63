/** pfs nodes, pfs jobs and pfs cancel: who works, and on what. */
import { Command } from "commander";
import type { JobInfo, NodeInfo } from "../packetfs.ts";
import { formatCount, formatDuration, formatTime, printable } from "./format.ts";
import type { ListItem } from "./output.ts";
import { example } from "./help.ts";
import { onRun } from "./context.ts";
import type { Host } from "./context.ts";
import type { Column } from "./output.ts";

const NODE_COLUMNS: readonly Column[] = [
  { title: "LABEL", shrinks: true },
  { title: "ROLE" },
  { title: "ADDRESS", shrinks: true },
  { title: "WORKERS", align: "right" },
  { title: "IN FLIGHT", align: "right" },
  { title: "DONE", align: "right" },
  { title: "SEEN" },
  { title: "ID", shrinks: true },
];

const JOB_COLUMNS: readonly Column[] = [
  { title: "JOB" },
  { title: "PROGRAM", shrinks: true },
  { title: "STATE" },
  { title: "PACKETS", align: "right" },
  { title: "TIME", align: "right" },
  { title: "STARTED" },
  { title: "ERROR", shrinks: true },
];

export function nodesCommand(host: Host): Command {
  const command = new Command("nodes")
    .summary("list the nodes that work together")
    .description("List this machine, or with --at the hub and the nodes that have joined it.")
    .addHelpText("after", example('pfs nodes --at "$(cat client.token)"'));
  return onRun(command, host, async ({ output, open }) => {
    const nodes = await (await open()).nodes();
    await output.list(NODE_COLUMNS, nodes.map(nodeItem));
    const [first] = nodes.flatMap(({ editions }) => editions);
    for (const { label, editions } of nodes) {
      const others = editions.filter((edition) => edition !== first);
      if (others.length === 0) continue;
      output.talk(
        `${printable(label)} runs ${others.join(", ")}, not ${first}: a job runs on one of them alone`,
      );
    }
  });
}

export function jobsCommand(host: Host): Command {
  const command = new Command("jobs")
    .summary("list jobs, running and recent")
    .description("List jobs, running and recent.")
    .addHelpText("after", example("pfs jobs --json | jq -r 'select(.state == \"running\").job'"));
  return onRun(command, host, async ({ output, open }) => {
    const jobs = await (await open()).jobs();
    await output.list(JOB_COLUMNS, jobs.map(jobItem));
  });
}

export function cancelCommand(host: Host): Command {
  const command = new Command("cancel")
    .summary("end a running job")
    .description("End a running job. Its packets in flight are dropped.")
    .argument("<JOB>", 'its id, as "pfs jobs" shows it')
    .addHelpText("after", example("pfs cancel 7f3a"));
  return onRun(command, host, async ({ output, open }, [job = ""]) => {
    await (await open()).cancel(job);
    if (output.json) return output.object({ cancelled: job });
    output.talk(`cancelled job ${printable(job)}`);
  });
}

function nodeItem(node: NodeInfo): ListItem {
  const { id, label, role, address, workers, editions, inFlight, done, lastSeenMs } = node;
  return {
    json: { id, label, role, address, workers, editions, inFlight, done, lastSeenMs },
    cells: [
      printable(label),
      role,
      address ?? "-",
      String(workers),
      String(inFlight),
      formatCount(done),
      lastSeenMs < 1000 ? "now" : `${formatDuration(lastSeenMs)} ago`,
      id,
    ],
  };
}

function jobItem({ job, program, state, startedAt, milliseconds, done, tasks, error }: JobInfo): ListItem {
  return {
    json: { job, program, state, startedAt, milliseconds, done, tasks, error },
    cells: [
      job,
      printable(program),
      state,
      `${done}/${tasks}`,
      formatDuration(milliseconds),
      formatTime(startedAt),
      printable(error?.message ?? ""),
    ],
  };
}
