/** pfs nodes, pfs lanes, pfs jobs and pfs cancel: who works, and on what. */
import { Command } from "commander";
import type { JobInfo, LaneInfo, MachineLanes, NodeInfo } from "../packetfs.ts";
import { SdkError, SdkErrorCode } from "../errors.ts";
import {
  describeAccelerator,
  describeUnused,
  errorLines,
  formatBytes,
  formatCard,
  formatCount,
  formatDuration,
  formatKernel,
  formatTime,
  isoTime,
  plural,
  printable,
  wrapWords,
} from "./format.ts";
import { example } from "./help.ts";
import { onRun } from "./context.ts";
import type { Host } from "./context.ts";
import { LANES_LISTED_MAX } from "../../nodes/limits.ts";
import { LANES_MAX } from "../../packets/limits.ts";
import { option, wholeNumber } from "./options.ts";
import type { Column, ListItem, Output } from "./output.ts";

const NODE_COLUMNS: readonly Column[] = [
  { title: "LABEL", shrinks: true },
  { title: "ROLE" },
  { title: "ADDRESS", shrinks: true },
  { title: "WORKERS", align: "right" },
  { title: "IN FLIGHT", align: "right" },
  { title: "DONE", align: "right" },
  { title: "STATE" },
  { title: "SEEN" },
  { title: "ID", shrinks: "first" },
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
/** What computed kernels, where jobs have any: a pipe is told of all. */
const ENGINE_COLUMN: Column = { title: "ENGINE" };
/** Lanes of each machine that are listed unless more are asked for. */
const LANES_SHOWN = 20;
/** Ended jobs that are listed unless more are asked for. */
const ENDED_SHOWN = 20;
/** How the faults of programs begin, which the columns before them say already. */
const FAULT_PREFACE = /^program "[^"]*" failed on packet \d+: /;

const LANE_COLUMNS: readonly Column[] = [
  { title: "NODE", shrinks: true },
  { title: "LANE", align: "right" },
  { title: "PROGRAM", shrinks: true },
  { title: "OWNER" },
  { title: "STATE" },
  { title: "PACKETS", align: "right" },
  { title: "FAULTS", align: "right" },
  { title: "CPU", align: "right" },
  { title: "IN", align: "right" },
  { title: "OUT", align: "right" },
  { title: "AGE", align: "right" },
];
/** Digits of an owner's id that a terminal shows. */
const OWNER_DIGITS = 8;

interface LanesCommandOptions {
  readonly limit?: number;
}

interface NodesCommandOptions {
  readonly allow?: string;
}

interface JobsCommandOptions {
  readonly limit?: number;
  readonly all?: boolean;
}

export function nodesCommand(host: Host): Command {
  const command = new Command("nodes")
    .summary("list the nodes that work together")
    .description(
      "List this machine, or with --at the hub and the nodes that have joined it. A node that keeps getting wrong what others get right is barred: it gets no more packets until --allow lets it in again.",
    )
    .addOption(option("--allow <NODE>", "let a barred node in again: its label or id", "PACKETFS_ALLOW"))
    .addHelpText("after", example('pfs nodes --at "$(cat client.token)"'));
  return onRun<NodesCommandOptions>(command, host, async ({ output, open }, _operands, { allow }) => {
    const pfs = await open();
    if (allow !== undefined) await pfs.allow(allow);
    const nodes = await pfs.nodes();
    await output.list(NODE_COLUMNS, nodes.map(nodeItem));
    for (const { label, id, barred } of nodes) {
      // To be typed as it stands.
      const asWord = /^[\w.-]+$/.test(label) ? label : id;
      for (const { reason } of barred) {
        output.talk(
          `${printable(label)} gets no more packets: ${printable(reason)}; "pfs nodes --allow ${asWord}" lets it in again`,
        );
      }
    }
    if (!output.json) for (const line of acceleratorLines(nodes)) output.talk(line);
    for (const kind of ["js", "code"] as const) {
      const [first] = nodes.flatMap(({ editions }) => editions[kind] ?? []);
      for (const { label, editions } of nodes) {
        const others = (editions[kind] ?? []).filter((edition) => edition !== first);
        if (others.length === 0) continue;
        output.talk(
          `${printable(label)} runs ${others.join(", ")}, not ${first}: a job runs on one of them alone`,
        );
      }
    }
  });
}

export function lanesCommand(host: Host): Command {
  const command = new Command("lanes")
    .summary("list the lanes that programs are loaded in")
    .description(
      "List the lanes of the hub and its nodes (--at), of 65,535 on each: whose program runs there, what its packets are doing, and what they took. On each machine those that run packets come first, then those that used most CPU time. In a pipe: node, lane, program, owner, state, packets, faults, milliseconds of CPU time, bytes read, bytes made and age, tab-separated.",
    )
    .addOption(
      option(
        "--limit <N>",
        `list so many of each machine (default: ${LANES_SHOWN})`,
        "PACKETFS_LIMIT",
        wholeNumber(0, LANES_LISTED_MAX),
      ),
    )
    .addHelpText("after", example('pfs lanes --at "$(cat client.token)"'));
  return onRun<LanesCommandOptions>(command, host, async ({ output, open }, _operands, options) => {
    const machines = await (await open()).lanes({ limit: options.limit ?? LANES_SHOWN });
    await output.list(
      LANE_COLUMNS,
      machines.flatMap((machine) => machine.lanes.map((lane) => laneItem(machine, lane, output))),
    );
    // "nodes" has them as JSON.
    if (output.json) return;
    for (const { label, open: lanes, use } of machines) {
      const packets = `${plural(use.packets, "packet")} (${plural(use.faults, "fault")})`;
      output.talk(
        `${printable(label)}: ${plural(lanes, "lane")} of ${formatCount(LANES_MAX)}; ${packets} took ${formatDuration(use.cpuMs)} of CPU time since it was started`,
      );
    }
  });
}

function laneItem(machine: MachineLanes, lane: LaneInfo, { isTerminal }: Output): ListItem {
  const { id, label } = machine;
  const { packets, faults, cpuMs, inputBytes, outputBytes, ageMs, tenant = "-" } = lane;
  const duration = (milliseconds: number): string =>
    isTerminal ? formatDuration(milliseconds) : String(Math.round(milliseconds));
  const bytes = (count: number): string => (isTerminal ? formatBytes(count) : String(count));
  return {
    json: { node: id, label, ...lane },
    cells: [
      printable(label),
      String(lane.lane),
      printable(lane.program),
      isTerminal ? tenant.slice(0, OWNER_DIGITS) : tenant,
      lane.state,
      isTerminal ? formatCount(packets) : String(packets),
      isTerminal ? formatCount(faults) : String(faults),
      duration(cpuMs),
      bytes(inputBytes),
      bytes(outputBytes),
      duration(ageMs),
    ],
  };
}

export function jobsCommand(host: Host): Command {
  const command = new Command("jobs")
    .summary("list jobs, running and recent")
    .description(
      "List the jobs that run, then those that have ended, the newest first; or show all that is known of some, the whole error too. In a pipe: job, program, state, packets done of how many, milliseconds, start and error, tab-separated.",
    )
    .argument("[JOB...]", "show these alone")
    .addOption(
      option(
        "--limit <N>",
        `list so many that have ended (default: ${ENDED_SHOWN})`,
        "PACKETFS_LIMIT",
        wholeNumber(0),
      ),
    )
    .addOption(option("--all", "list all that are remembered", "PACKETFS_ALL"))
    .addHelpText("after", example("pfs jobs --json | jq -r 'select(.state == \"running\").job'"));
  return onRun<JobsCommandOptions>(command, host, async ({ output, open }, asked, options) => {
    const jobs = await (await open()).jobs();
    if (asked.length > 0) return showJobs(output, asked, jobs);
    const running = jobs.filter(({ state }) => state === "running");
    const ended = jobs.filter(({ state }) => state !== "running");
    const limit = options.all === true ? ended.length : (options.limit ?? ENDED_SHOWN);
    const shown = [...running, ...ended.slice(0, limit)];
    await listJobs(output, shown);
    const rest = jobs.length - shown.length;
    if (rest > 0 && options.limit === undefined) {
      output.talk(`${plural(rest, "older job")} not shown; --all lists them too`);
    }
    if (output.isTerminal && shown.some(({ error }) => error !== undefined)) {
      output.talk('"pfs jobs JOB" shows an error whole');
    }
  });
}

async function listJobs(output: Output, jobs: readonly JobInfo[]): Promise<void> {
  const showsEngine = !output.isTerminal || jobs.some(({ kernels }) => kernels !== undefined);
  const last = JOB_COLUMNS.at(-1)!;
  await output.list(
    showsEngine ? [...JOB_COLUMNS.slice(0, -1), ENGINE_COLUMN, last] : JOB_COLUMNS,
    jobs.map((job) => jobItem(job, output, showsEngine)),
  );
}

async function showJobs(output: Output, asked: readonly string[], jobs: readonly JobInfo[]): Promise<void> {
  const found = asked.map((id) => {
    const job = jobs.find((each) => each.job === id);
    if (job !== undefined) return job;
    const message = `no job ${printable(id)} is remembered; "pfs jobs --all" lists those that are`;
    throw new SdkError(SdkErrorCode.notFound, message, { job: id });
  });
  if (!output.isTerminal || output.json) {
    return await listJobs(output, found);
  }
  await output.line(found.map((job) => jobCard(job, output.width)).join("\n\n"));
}

export function cancelCommand(host: Host): Command {
  const command = new Command("cancel")
    .summary("end a running job")
    .description("End a running job. Its packets in flight are dropped.")
    .argument("<JOB>", 'the id of a job, as "pfs jobs" shows it')
    .addHelpText("after", example("pfs cancel 7f3a09c1"));
  return onRun(command, host, async ({ output, open, token }, [job = ""]) => {
    if (token === undefined) {
      const message = `no hub is named to end job ${printable(job)} at: name it with --at; a job without one ends with its "pfs run", by Ctrl-C`;
      throw new SdkError(SdkErrorCode.notFound, message, { job });
    }
    await (await open()).cancel(job);
    if (output.json) return output.object({ cancelled: job });
    output.talk(`cancelled job ${printable(job)}`);
  });
}

function nodeItem(node: NodeInfo): ListItem {
  const { id, label, role, address, workers, inFlight, done, lastSeenMs, barred } = node;
  const { editions, accelerators, unusedAccelerators, walls, lanes } = node;
  const made = { editions, accelerators, unusedAccelerators, walls };
  return {
    json: { id, label, role, address, workers, ...made, inFlight, done, lastSeenMs, lanes, barred },
    cells: [
      printable(label),
      role,
      address ?? "-",
      String(workers),
      String(inFlight),
      formatCount(done),
      barred.length > 0 ? "barred" : "ok",
      formatAge(lastSeenMs),
      id,
    ],
  };
}

/** Which GPUs kernels run on, and why they do not run on others: machines that say the same are named together. */
function acceleratorLines(nodes: readonly NodeInfo[]): string[] {
  const used = nodes.flatMap(({ label, accelerators }) =>
    accelerators.map((each) => `${printable(label)} runs kernels on ${describeAccelerator(each)}`),
  );
  const labels = new Map<string, string[]>();
  for (const { label, unusedAccelerators = [] } of nodes) {
    for (const unused of unusedAccelerators) {
      const what = describeUnused(unused);
      labels.set(what, [...(labels.get(what) ?? []), printable(label)]);
    }
  }
  return [...used, ...[...labels].map(([what, at]) => `${at.join(", ")}: ${what}`)];
}

function jobItem(info: JobInfo, { isTerminal }: Output, showsEngine: boolean): ListItem {
  const { job, program, state, startedAt, milliseconds, done, tasks, kernels, error } = info;
  const message = error?.message ?? "";
  const engines = [...new Set(kernels?.map(({ engine }) => engine))].join("+");
  return {
    json: { job, program, state, startedAt, milliseconds, done, tasks, kernels, error },
    cells: [
      job,
      printable(program),
      state,
      `${done}/${tasks}`,
      isTerminal ? formatDuration(milliseconds) : String(milliseconds),
      isTerminal ? formatAge(Date.now() - startedAt) : isoTime(startedAt),
      ...(showsEngine ? [engines === "" ? "-" : engines] : []),
      isTerminal ? errorLines(message.replace(FAULT_PREFACE, ""))[0]! : printable(message),
    ],
  };
}

/** "3m ago": how long something is past. */
function formatAge(milliseconds: number): string {
  return milliseconds < 1000 ? "now" : `${formatDuration(milliseconds, 1)} ago`;
}

/** Columns that the titles of a job's card take. */
const CARD_TITLE_WIDTH = "program  ".length;

/** Text beside a title of a card, in lines that fit. */
function wrapped(text: string, width: number): string {
  return wrapWords(text, width - CARD_TITLE_WIDTH).replaceAll("\n", `\n${" ".repeat(CARD_TITLE_WIDTH)}`);
}

/** All of a job, with the lines of its program's stack. */
function jobCard(info: JobInfo, width: number): string {
  const { job, program, state, startedAt, milliseconds, done, tasks, kernels = [], error } = info;
  const [sentence = "", ...trace] = errorLines(error?.message ?? "");
  return formatCard([
    ["job", job],
    ["program", printable(program)],
    ["state", state],
    ["packets", `${formatCount(done)} of ${formatCount(tasks)} done`],
    ["started", formatTime(startedAt)],
    ["time", formatDuration(milliseconds)],
    ...kernels.map((report) => ["kernel", wrapped(formatKernel(report), width)] as const),
    ...(error === undefined
      ? []
      : ([["error", [`${error.code}: ${sentence}`, ...trace].join("\n")]] as const)),
  ]);
}
