/**
 * Moving files, PacketFS beside what people use, each row in the same run and in turns. It runs in a network namespace of its own, so that
 * every byte on its loopback belongs to what is measured. See README.md.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { loadavg } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { tableOf } from "../gpu/report.ts";
import { benchDirectory } from "../corpus.ts";
import { spreadOf } from "../harness.ts";
import type { Spread } from "../harness.ts";
import { InstalledPackage } from "../installed.ts";
import { anchor, whyNot } from "./anchors.ts";
import { hasRsync, packetfs, rsync } from "./movers.ts";
import type { Mover, Served } from "./movers.ts";
import { OPEN_ROWS, measureOpen } from "./open-rows.ts";
import type { OpenRow } from "./open-rows.ts";
import { runClient } from "./processes.ts";
import { Relay } from "./relay.ts";
import type { LinkShape } from "./relay.ts";
import { ROWS } from "./rows.ts";
import type { Figures, Row } from "./rows.ts";
import { workload } from "./workloads.ts";
import type { Workload } from "./workloads.ts";

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string", default: "3" },
    part: { type: "string", default: "1" },
    data: { type: "string" },
    json: { type: "boolean", default: false },
  },
});
/** Files, stores and what is fetched, of the largest row. */
const SCRATCH_BYTES: number = 6 * 1024 ** 3;
const INSIDE = "PACKETFS_BENCH_NETWORK";
if (process.env[INSIDE] === undefined) {
  const user = process.getuid?.() === 0 ? [] : ["--map-root-user", "--user"];
  const again = [
    process.execPath,
    ...process.execArgv,
    fileURLToPath(import.meta.url),
    ...process.argv.slice(2),
  ];
  const { status } = spawnSync("unshare", [...user, "--net", "--", ...again], {
    stdio: "inherit",
    env: { ...process.env, [INSIDE]: "1" },
  });
  process.exit(status ?? 1);
}
execFileSync("ip", ["link", "set", "lo", "up"]);

const scratch = mkdtempSync(join(benchDirectory(SCRATCH_BYTES), "packetfs-transfer-"));
const data = values.data ?? join(scratch, "data");
mkdirSync(data, { recursive: true });
process.once("exit", () => rmSync(scratch, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => process.exit(1));

using installed = new InstalledPackage();
const rounds = Number(values.rounds);
const loadBefore = loadavg()[0]!;
const measured: {
  readonly row: Row | OpenRow;
  readonly movers: readonly (readonly [string, readonly Figures[]])[];
}[] = [];
const isRsyncThere = hasRsync();
const rivals = {
  plain: rsync(),
  compressed: rsync("-z", "--zc=zstd"),
  resuming: rsync("--partial", "--inplace"),
};
const isMeant = ({ name }: { readonly name: string }): boolean =>
  values.only === undefined || values.only.split(",").some((word) => name.includes(word));
const rows = ROWS.filter(isMeant);
if (![...ROWS, ...OPEN_ROWS].some(isMeant)) {
  const names = [...ROWS, ...OPEN_ROWS].map(({ name }) => `  ${name}`);
  console.error(`no row's name has "${values.only}"; there are\n${names.join("\n")}`);
  process.exit(2);
}
const skipped = new Map<string, string>();
for (const row of rows) {
  const beside = (row.anchors ?? []).filter((name) => {
    const reason = whyNot(name);
    if (reason !== undefined) skipped.set(name, reason);
    return reason === undefined;
  });
  const movers: readonly Mover[] = [
    packetfs(installed, row.isClear === true),
    ...(row.rival === undefined || !isRsyncThere ? [] : [rivals[row.rival]]),
    ...beside.map((name) => anchor(name)),
  ];
  const all = movers.map(({ name }) => [name, [] as Figures[]] as const);
  for (let round = 0; round < rounds; round++)
    for (const [index, mover] of movers.entries()) {
      const figures = await measure(row, mover);
      all[index]![1].push(figures);
      process.stderr.write(`${row.name}: ${mover.name}: ${JSON.stringify(figures)}\n`);
    }
  measured.push({ row, movers: all });
}
for (const row of OPEN_ROWS.filter(isMeant)) {
  const movers: readonly Mover[] = [packetfs(installed, false), ...(isRsyncThere ? [rivals.plain] : [])];
  const all = movers.map(({ name }) => [name, [] as Figures[]] as const);
  for (let round = 0; round < rounds; round++)
    for (const [index, mover] of movers.entries()) {
      const figures = await measureOpen(row, mover, scratch, loopbackBytes);
      all[index]![1].push(figures);
      process.stderr.write(`${row.name}: ${mover.name}: ${JSON.stringify(figures)}\n`);
    }
  measured.push({ row, movers: all });
}
if (!isRsyncThere) skipped.set("rsync", "rsync is not installed");
report();

/** Does a row's work once. */
async function measure(row: Row, mover: Mover): Promise<Figures> {
  if (row.isKilled !== true) return await moved(row, mover);
  const { bytes: wholeBytes } = await moved(row, mover);
  return { ...(await moved(row, mover, wholeBytes / 2)), wholeBytes };
}

/** After so many bytes on the wire the client is killed, if that is said, and runs again. */
async function moved(row: Row, mover: Mover, killedAt?: number): Promise<Figures> {
  const folder = mkdtempSync(join(scratch, "run-"));
  const work = workload(row.work, data, Number(values.part));
  try {
    const served = await mover.serve(
      row.serverHas.map((version) => work[version]),
      folder,
    );
    await using server = served.server;
    const target = join(folder, "target");
    const shape: LinkShape | undefined = row.link;
    await using relay = shape === undefined ? undefined : await Relay.to(served.port, shape);
    const reached = relay?.port ?? served.port;
    const counted = relay === undefined ? loopbackBytes : (): number => relay.bytes;
    if (row.isPut === true) await prepared(served, row, work, reached);
    else if (row.isKnown === true) await fetched(served, row, work, { target, reached });
    else if (row.clientHas !== undefined) execFileSync("cp", ["-a", work[row.clientHas], target]);
    const command = row.isPut === true ? served.put(work.after, reached) : served.get(target, reached);
    const options = { env: served.env ?? {}, cwd: folder };
    const before = counted();
    if (killedAt !== undefined) {
      const { status } = await runClient(command, {
        ...options,
        isKilled: () => counted() - before >= killedAt,
      });
      if (status !== null) throw new Error(`${mover.name}, ${row.name}: it had ended before it was killed`);
    }
    const { result, ...use } = await server.during(() => runClient(command, options));
    if (result.status !== 0) throw new Error(`${mover.name}, ${row.name}: ${result.said}`);
    const bytes = counted() - before;
    if (row.isPut !== true) execFileSync("diff", ["-rq", "--no-dereference", work.after, target]);
    return {
      bytes,
      seconds: result.seconds,
      cpuSeconds: result.cpuSeconds + use.cpuSeconds,
      clientPeak: result.peakBytes,
      serverPeak: use.peakBytes,
    };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Who stores a version has stored the one before, or this one. */
async function prepared(served: Served, row: Row, work: Workload, reached: number): Promise<void> {
  if (row.clientHas === undefined) return;
  const { status, said } = await runClient(served.put(work[row.clientHas], reached), {
    env: served.env ?? {},
  });
  if (status !== 0) throw new Error(said);
}

/** Who fetches a version has fetched it from there before, or the one before it, which somebody else put a new one upon. */
async function fetched(
  served: Served,
  row: Row,
  work: Workload,
  { target, reached }: { readonly target: string; readonly reached: number },
): Promise<void> {
  const commands = [
    served.get(target, reached),
    ...(row.clientHas === "before" ? [served.put(work.after, reached)] : []),
  ];
  for (const [index, command] of commands.entries()) {
    const env = index === 0 ? served.env : { ...served.env, ...served.otherEnv };
    const { status, said } = await runClient(command, { env: env ?? {} });
    if (status !== 0) throw new Error(said);
  }
}

/** What went over the loopback of this namespace, with all headers. */
function loopbackBytes(): number {
  const line = /lo: *(.*)/.exec(readFileSync("/proc/net/dev", "latin1"))![1]!;
  return Number(line.trim().split(/ +/)[8]);
}

function report(): void {
  const results = measured.map(({ row, movers }) => ({
    row: row.name,
    movers: movers.map(([name, figures]) => ({ name, ...spreadsOf(figures) })),
    goals: row.goals.flatMap(({ says, figure, most }) => {
      const rival = "rival" in row && row.rival !== undefined && isRsyncThere ? movers[1] : undefined;
      const figures = movers[0]![1].flatMap((own, round) => figure(own, rival?.[1][round]) ?? []);
      if (figures.length === 0) return [];
      const found = spreadOf(figures);
      return [{ goal: says, most, figure: found, reached: found.median <= most }];
    }),
  }));
  for (const [name, reason] of skipped) process.stderr.write(`${name} is not measured: ${reason}\n`);
  if (values.json) return console.log(JSON.stringify({ loadBefore, results }));
  const table = results.flatMap(({ row, movers, goals }) => [
    ...movers.map((mover, index) => [
      index === 0 ? row : "",
      mover.name,
      shown(mover.bytes, 1e6),
      shown(mover.seconds, 1),
      shown(mover.cpuSeconds, 1),
      `${Math.round(mover.clientPeak.median / 1e6)} + ${Math.round(mover.serverPeak.median / 1e6)}`,
    ]),
    ...goals.map(({ goal, most, figure, reached }) => [
      "",
      `${reached ? "✓" : "✗"} ${goal} ≤ ${most}`,
      shown(figure, 1),
      "",
      "",
      "",
    ]),
  ]);
  const columns = ["row", "who", "MB on the wire", "s", "CPU s, both ends", "MB of memory, client + server"];
  console.log(
    tableOf({ title: `Moving files (load before: ${loadBefore.toFixed(1)})`, columns, rows: table }),
  );
}

function spreadsOf(figures: readonly Figures[]): Readonly<Record<keyof Figures, Spread>> {
  const keys = Object.keys(figures[0]!) as (keyof Figures)[];
  return Object.fromEntries(
    keys.map((key) => [key, spreadOf(figures.map((figure) => figure[key]!))]),
  ) as Record<keyof Figures, Spread>;
}

function shown({ median, min, max }: Spread, unit: number): string {
  const [middle, least, most] = [median, min, max].map((value) => Number((value / unit).toPrecision(3)));
  return `${middle} (${least}–${most})`;
}
