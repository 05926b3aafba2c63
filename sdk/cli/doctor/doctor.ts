/** pfs doctor: what a maintainer asks for first. Each check says what it found, and what to do where that is not good enough. */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFile, rm, statfs, writeFile } from "node:fs/promises";
import { createRequire, findPackageJSON } from "node:module";
import { arch, availableParallelism, cpus, freemem, platform, release, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { Command } from "commander";
import packageJson from "../../../package.json" with { type: "json" };
import { errorToJson, hasCode } from "../../../packets/errors.ts";
import { ExitCode } from "../exit-codes.ts";
import { describeAccelerator, describeUnused, formatBytes, formatDuration, plural } from "../format.ts";
import { cacheBytes, storeDirectory } from "../options.ts";
import type { GlobalOptions } from "../options.ts";
import { makeTemporaryDirectory } from "../../../runtime/temporary-directory.ts";
import { example } from "../help.ts";
import { onRun } from "../context.ts";
import type { Host, Context } from "../context.ts";
import type { TokenSource } from "../secrets.ts";
import { cacheChecks } from "./cache.ts";
import { failure, inOneLine, ok, topicLines, warning } from "./check.ts";
import type { Check } from "./check.ts";
import { contentOf, storeChecks } from "./store.ts";

const DEPENDENCIES = ["zeromq", "isolated-vm", "piscina", "@msgpack/msgpack", "webgpu", "commander"];
const SHARED_MEMORY = "/dev/shm";
const MEMORY_BYTES_LEAST = 1024 ** 3;
const CHILD_TIMEOUT_MS = 20_000;
const require = createRequire(import.meta.url);

/** Variables that hold tokens. */
const SECRETS: ReadonlySet<string> = new Set(["PACKETFS_AT", "PACKETFS_JOIN"]);

export function doctorCommand(host: Host): Command {
  const command = new Command("doctor")
    .summary("look whether all is well on this machine")
    .description(
      "Look whether all is well on this machine: versions, cores and memory, the store or the hub that commands use, the sandbox, GPUs, the network. What it prints is what a bug report needs. Exits with 1 when something does not work.",
    )
    .addHelpText("after", example("pfs doctor > report.txt"));
  return onRun(command, host, doctor);
}

async function doctor({ output, options, token, signal, finish }: Context): Promise<void> {
  const checks: Check[] = [];
  const steps: readonly (() => Promise<Check[]> | Check[])[] = [
    versionChecks,
    machineChecks,
    // What every other command would use.
    () => (token === undefined ? storeChecks(...storePlace(options)) : hubChecks(token, options, signal)),
    () => cacheChecks(cacheBytes()),
    async () => [await sharedMemoryCheck(), await timeCheck(), await isolateCheck(), await programCheck()],
    () => kernelChecks(token === undefined ? storeDirectory(options) : undefined),
    // Known once a program has run.
    () => wallChecks(token === undefined ? storeDirectory(options) : undefined),
    networkChecks,
    environmentChecks,
  ];
  for (const step of steps) {
    signal.throwIfAborted();
    output.status("looking …");
    const found = await step();
    checks.push(...found);
    if (!output.json) for (const line of topicLines(inOneLine(found), output)) await output.line(line);
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

async function versionChecks(): Promise<Check[]> {
  const versions = await Promise.all(DEPENDENCIES.map(async (name) => `${name} ${await versionOf(name)}`));
  // Published along, so that it is no package of its own everywhere.
  versions.push(`esbuild ${(await import("esbuild")).version}`);
  return [
    ok("versions", "packetfs", packageJson.version),
    ok("versions", "node", `${process.version} (${process.execPath})`),
    ok(
      "versions",
      "V8, OpenSSL, SQLite",
      ["v8", "openssl", "sqlite"].map((of) => process.versions[of]).join(", "),
    ),
    ok("versions", "dependencies", versions.join(", ")),
  ];
}

function machineChecks(): Check[] {
  const memory = process.constrainedMemory();
  const limit = memory > 0 && memory < totalmem() ? memory : totalmem();
  const found = `${formatBytes(limit)}, ${formatBytes(freemem())} free`;
  return [
    ok("machine", "platform", `${platform()} ${arch()}, kernel ${release()}`),
    ok(
      "machine",
      "cores",
      `${availableParallelism()} of ${cpus().length}, ${cpus()[0]?.model.trim() ?? "unknown"}`,
    ),
    limit >= MEMORY_BYTES_LEAST
      ? ok("machine", "memory", found)
      : warning("machine", "memory", found, "programs that need much memory will be ended early"),
  ];
}

/** The directory, and which it is and what said that it is to be this one: the option itself, or its variable. */
function storePlace(options: GlobalOptions): [directory: string, place: string] {
  const { store } = options;
  const directory = storeDirectory(options);
  const typed = process.env["PACKETFS_STORE"] === store ? "PACKETFS_STORE" : "--store";
  return [directory, `${directory} (${store === undefined ? "the default" : typed})`];
}

/** With the node that was asked for; the store of this machine is not looked at, for no command but up and join uses it. */
async function hubChecks(
  source: TokenSource,
  { node }: GlobalOptions,
  signal: AbortSignal,
): Promise<Check[]> {
  const { origin } = source;
  const checks: Check[] = [];
  try {
    const { parseToken } = await import("../../../nodes/wire/trust/token.ts");
    const token = await source.read(signal);
    const { address } = parseToken(token, "client");
    checks.push(ok("hub", "address", `${address} (${origin}); the store of this machine is not used`));
    const { connect } = await import("../../remote.ts");
    const startedAt = performance.now();
    await using pfs = await connect(token, { signal, ...(node === undefined ? {} : { node }) });
    const nodes = await pfs.nodes();
    const took = formatDuration(performance.now() - startedAt);
    const through = node === undefined ? "" : `, as does node ${node}`;
    checks.push(ok("hub", "connection", `answers in ${took}${through}`));
    const workers = nodes.reduce((sum, each) => sum + each.workers, 0);
    const found = `${nodes.map(({ label }) => label).join(", ")}: ${plural(workers, "worker")}`;
    checks.push(
      workers > 0
        ? ok("hub", "machines", found)
        : warning("hub", "machines", found, "programs wait until a machine joins that lends some: pfs join"),
    );
    checks.push(ok("hub", "content", await contentOf(pfs)));
  } catch (error) {
    signal.throwIfAborted();
    const [reason = ""] = errorToJson(error).message.split("\n");
    const hint = hasCode(error, "PFS_PEER_UNREACHABLE")
      ? "start the hub with pfs up, write @HOST:PORT behind the token if it has moved"
      : "look whether the token is whole and good still";
    const advice = `${hint}, or do without ${origin} to use the store of this machine`;
    checks.push(failure("hub", "connection", reason, advice));
  }
  return checks;
}

/** Loads isolated-vm in a process of its own, as executors do: where it does not fit it may end the process. */
async function isolateCheck(): Promise<Check> {
  const script =
    'const { Isolate } = require("isolated-vm"); const isolate = new Isolate({ memoryLimit: 8 });' +
    'process.stdout.write(String(isolate.createContextSync().evalSync("6 * 7")));';
  try {
    const { stdout } = await promisify(execFile)(process.execPath, ["--no-node-snapshot", "-e", script], {
      cwd: dirname(require.resolve("../../../package.json")),
      timeout: CHILD_TIMEOUT_MS,
    });
    if (stdout === "42") return ok("sandbox", "isolated-vm", "works");
    return failure("sandbox", "isolated-vm", `answers ${JSON.stringify(stdout)}`, "no programs will run");
  } catch (error) {
    const [reason = ""] = errorToJson(error).message.split("\n");
    return failure(
      "sandbox",
      "isolated-vm",
      reason,
      "no programs will run: npm ci installs its prebuilt binary",
    );
  }
}

/** Runs a program over a file, from an empty store to its result. */
async function programCheck(): Promise<Check> {
  const directory = await makeTemporaryDirectory("doctor");
  try {
    const { openLocal } = await import("../../local.ts");
    await using pfs = await openLocal(join(directory, "store"));
    await pfs.put(Buffer.from("one\ntwo\n"), { name: "lines" });
    const source =
      'import { defineProgram, lines } from "packetfs";' +
      "export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });";
    const startedAt = performance.now();
    const { value } = await pfs.run({ source }, ["lines"]);
    const took = formatDuration(performance.now() - startedAt);
    if (value === 2) return ok("sandbox", "a program", `runs, in ${took}`);
    return failure(
      "sandbox",
      "a program",
      `gives ${JSON.stringify(value)} instead of 2`,
      "results are not to be trusted",
    );
  } catch (error) {
    const { message, code } = errorToJson(error);
    const advice = hasCode(error, "PFS_PROGRAM_TIME_LIMIT") ? "the machine is very slow or very busy" : code;
    return failure("sandbox", "a program", message, advice);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** A kernel that every engine computes, so that a GPU is taken where it is the faster one. */
const KERNEL = `import { block, bytes, defineKernel, defineProgram, u32 } from "packetfs";
  const ones = defineKernel({
    kind: "wgsl",
    inputs: { data: bytes(["n"]) },
    output: u32([1], { atomic: true }),
    result: "exact",
    operations: "n",
    workgroup: { size: [64], count: ["n / 256"] },
    source: \`
      fn main(@builtin(global_invocation_id) id: vec3u) {
        if (id.x * 4u < dims.n) { atomicAdd(&output[0], countOneBits(data[id.x])); }
      }\`,
    cpu: ({ data }) => Uint32Array.of(data.reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0)),
  });
  export default defineProgram({ input: block(4096), map: (data) => ones({ data })[0], combine: (a, b) => a + b });`;
const KERNEL_BYTES = 4096;

/**
 * Runs a kernel, before which GPUs are looked for, whatever was remembered of them beside the store, which remembers what is found
 * now; which of them are used for kernels, and why others are not.
 */
async function kernelChecks(storeOf: string | undefined): Promise<Check[]> {
  const directory = await makeTemporaryDirectory("doctor");
  const checks: Check[] = [];
  try {
    const { openLocal } = await import("../../local.ts");
    await using pfs = await openLocal(join(directory, "store"));
    await pfs.put(Buffer.alloc(KERNEL_BYTES, 0x0f), { name: "bytes" });
    const { value } = await pfs.run({ source: KERNEL }, ["bytes"]);
    const expected = KERNEL_BYTES * 4;
    checks.push(
      value === expected
        ? ok("kernels", "a kernel", "runs")
        : failure(
            "kernels",
            "a kernel",
            `gives ${JSON.stringify(value)} instead of ${expected}`,
            "results are not to be trusted",
          ),
    );
    if (storeOf !== undefined) {
      const { GPU_HISTORY_FILE, GpuHistory } = await import("../../../runtime/gpu-history.ts");
      const history = await GpuHistory.open(join(storeOf, GPU_HISTORY_FILE));
      await history.adopt(join(directory, "store", GPU_HISTORY_FILE));
      await history.keep();
    }
    for (const { accelerators, unusedAccelerators = [] } of await pfs.nodes()) {
      for (const accelerator of accelerators)
        checks.push(ok("kernels", "GPU", describeAccelerator(accelerator)));
      if (accelerators.length > 0) checks.push(...(await gpuWallChecks()));
      for (const unused of unusedAccelerators) checks.push(ok("kernels", "GPU", describeUnused(unused)));
    }
  } catch (error) {
    const { message, code } = errorToJson(error);
    checks.push(failure("kernels", "a kernel", message, code));
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
  return checks;
}

/** What stands between a compiler or a driver that a kernel has broken out of and this machine. */
async function gpuWallChecks(): Promise<Check[]> {
  const { gpuWalls } = await import("../../../runtime/accelerator/accelerators.ts");
  const walls = gpuWalls();
  if (walls === undefined) return [];
  const { standing, missing } = walls;
  const found = `behind ${standing.join(", ")}`;
  if (missing.length === 0) return [ok("kernels", "GPU process", found)];
  const advice = `without ${missing.join(", ")}: who breaks out of a GPU's compiler or driver is held by the others alone`;
  return [warning("kernels", "GPU process", found, advice)];
}

/** What stands between native code that has broken out of a program and this machine, and what of it stood there before. */
async function wallChecks(directory: string | undefined): Promise<Check[]> {
  const { standingWalls } = await import("../../../runtime/sandbox/process/executor-process.ts");
  const { WALL_HISTORY_FILE, WallHistory } = await import("../../../runtime/wall-history.ts");
  const file = directory === undefined ? undefined : join(directory, WALL_HISTORY_FILE);
  const states = standingWalls();
  const walls = states && file !== undefined ? await new WallHistory(file).compare(states) : states;
  if (walls === undefined) {
    const advice = "no executor process has started, so that nobody knows which there would be";
    return [failure("walls", "all", "unknown", advice)];
  }
  return walls.map(({ name, state, stood, advice = "" }) => {
    if (stood === true) {
      const forget = `to have it forgotten that it did, remove ${file}`;
      return warning("walls", name, "missing, though it stood here before", `${advice}; ${forget}`);
    }
    if (state === "missing") return warning("walls", name, state, advice);
    return ok("walls", name, state === "stands" ? state : `${state}: ${advice}`);
  });
}

/** What the time limits of programs count here. */
async function timeCheck(): Promise<Check> {
  const { TIME_SOURCE } = await import("../../../runtime/sandbox/process/executor-process.ts");
  if (TIME_SOURCE === "CPU time") return ok("sandbox", "time limits", "count CPU time");
  const advice =
    "this system does not tell the CPU time of threads, so a busy machine costs programs some of theirs";
  return warning("sandbox", "time limits", `count ${TIME_SOURCE}`, advice);
}

/** Where the shared memory lies through which programs get their bytes. */
async function sharedMemoryCheck(): Promise<Check> {
  const path = join(SHARED_MEMORY, `pfs-doctor-${randomBytes(8).toString("hex")}`);
  try {
    await writeFile(path, "x", { flag: "wx" });
    const { bavail, bsize } = await statfs(SHARED_MEMORY);
    const found = `${SHARED_MEMORY}, ${formatBytes(bavail * bsize)} free`;
    const { LANE_INPUT_BYTES, LANES_PER_PROCESS } = await import("../../../runtime/limits.ts");
    const needed = LANE_INPUT_BYTES * LANES_PER_PROCESS;
    if (bavail * bsize >= needed) return ok("sandbox", "tmpfs", found);
    const advice = `a program may have ${formatBytes(needed)} of it, so bytes reach programs through a file on disk instead, more slowly; a container gets more by --shm-size`;
    return warning("sandbox", "tmpfs", found, advice);
  } catch (error) {
    const advice = "bytes reach programs through a file on disk instead, more slowly";
    return warning("sandbox", "tmpfs", errorToJson(error).message, advice);
  } finally {
    await rm(path, { force: true });
  }
}

async function networkChecks(): Promise<Check[]> {
  try {
    const { capability, curveKeyPair, version } = await import("zeromq");
    curveKeyPair();
    const zeromq = ok("network", "zeromq", `libzmq ${version}`);
    return capability.curve === true
      ? [zeromq, ok("network", "encryption", "CURVE")]
      : [zeromq, failure("network", "encryption", "no CURVE", "pfs up, join and --at will not work")];
  } catch (error) {
    return [failure("network", "zeromq", errorToJson(error).message, "pfs up, join and --at will not work")];
  }
}

/** Which variables speak for options; what tokens say is nobody's business. */
function environmentChecks(): Check[] {
  const names = Object.keys(process.env).filter((name) => /^(PACKETFS_|NODE_OPTIONS$)/.test(name));
  if (names.length === 0) return [ok("environment", "variables", "none")];
  return names.map((name) => ok("environment", name, SECRETS.has(name) ? "…" : process.env[name]!));
}

async function versionOf(name: string): Promise<string> {
  try {
    const path = findPackageJSON(name, import.meta.url)!;
    const { version } = JSON.parse(await readFile(path, "utf8")) as { readonly version: string };
    return version;
  } catch {
    // Part of what was built, which was made of this very version.
    return (packageJson.devDependencies as Readonly<Record<string, string>>)[name] ?? "?";
  }
}
