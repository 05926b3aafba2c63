/**
 * A node with all that a node has around it, and probes in place of its executors: prints which walls stand and what the
 * probes could do. To be run as the user in question, with a folder that the user may write to, and with descriptor 199 open
 * to read from. The third argument says which walls the machine is to be taken to have.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { possibleConfinements } from "../../runtime/sandbox/process/confinement.ts";
import { possibleEnclosures } from "../../runtime/sandbox/process/enclosures.ts";
import { WallName } from "../../runtime/sandbox/process/wall-states.ts";
import type { Enclosure } from "../../runtime/sandbox/process/enclosures.ts";
import { confinedCommand, isolationsOf, spawnBehind } from "../../runtime/sandbox/process/walls.ts";
import type { Isolation } from "../../runtime/sandbox/process/walls.ts";
import { openLocal } from "../../sdk/index.ts";
import { loadIdentity } from "../../nodes/wire/trust/identity-file.ts";
import {
  ANSWERS_DESCRIPTOR,
  BECOME_CODE,
  CALLS_PROBE_END,
  callsProbe,
  PERL,
  PROBE_CODE,
} from "./wall-probe.ts";
import type { ProbeAnswers, ProbeTargets } from "./wall-probe.ts";

const NODE_FLAGS = ["--no-node-snapshot", "--no-warnings", "--openssl-config=/proc/self/none"];
const DESCRIPTOR = 199;
const [folder = "", secret = "", has = "everything"] = process.argv.slice(2);
const NAMESPACES: readonly WallName[] = [WallName.userNamespace, WallName.root, WallName.network];

/** "everything", "bubblewrap" and Perl, "no namespaces", or "neither", which has no Perl either. */
function isolations(): Isolation[] {
  const isLeft = ({ names, command }: Enclosure): boolean => {
    if (has === "everything") return true;
    if (has === "bubblewrap") return command(confinedCommand(["true"], [], 1))[0]!.endsWith("/bwrap");
    return !names.some((name) => NAMESPACES.includes(name));
  };
  return isolationsOf(possibleEnclosures().filter(isLeft), has === "neither" ? [] : possibleConfinements());
}

/** Stands for the code of executors, which mostly is the user's own who installed it. */
const code = join(folder, "code.js");
writeFileSync(code, "// code\n");
const calls = join(folder, "calls.pl");
writeFileSync(calls, "");
const home = join(folder, "home");
mkdirSync(home);
writeFileSync(join(home, ".bashrc"), "# mine\n");
const storeFolder = join(folder, "store");
const pfs = await openLocal(storeFolder);
await pfs.put(Buffer.from("bytes of somebody's file"), { name: "file" });
await loadIdentity(join(storeFolder, "node.identity"));
const segments = join(storeFolder, "segments");

const socket = join(folder, "socket");
const abstractSocket = `packetfs-${process.pid}`;
const servers = [0, socket, `\0${abstractSocket}`].map((at) =>
  createServer((connection) => connection.destroy()).listen(at),
);
await Promise.all(servers.map((server) => once(server, "listening")));
const { port } = servers[0]!.address() as { port: number };

/** Where an executor would be, with a pipe where one has its own. */
function start(isolation: Isolation, command: readonly string[]): ChildProcess {
  const stdio = ["pipe", "ignore", "pipe", "pipe"] as const;
  return spawnBehind(isolation, confinedCommand(command, [code, calls], 1), [...stdio]);
}

function startNode(isolation: Isolation, words: readonly string[]): ChildProcess {
  return start(isolation, [process.execPath, ...NODE_FLAGS, ...words]);
}

async function readAll(stream: Readable): Promise<string> {
  let text = "";
  for await (const piece of stream.setEncoding("utf8")) text += piece as string;
  return text;
}

/** The first that stands, with a process behind it that does nothing. */
async function standing(): Promise<{ isolation: Isolation; neighbour: ChildProcess }> {
  for (const isolation of isolations()) {
    const neighbour = startNode(isolation, [
      "--eval",
      `require("node:fs").writeSync(${ANSWERS_DESCRIPTOR}, "up"); setInterval(() => {}, 1e6);`,
    ]);
    const pipe = neighbour.stdio[ANSWERS_DESCRIPTOR] as Readable;
    const [said] = (await Promise.race([once(pipe, "data"), once(neighbour, "close")])) as [unknown];
    if (String(said) === "up") return { isolation, neighbour };
  }
  throw new Error("no isolation can be made");
}

/** What a probe answers, once it has ended. */
async function answersOf(probe: ChildProcess, input: string): Promise<string> {
  probe.stdin!.on("error", () => undefined).end(input);
  const [answers, said] = await Promise.all([
    readAll(probe.stdio[ANSWERS_DESCRIPTOR] as Readable),
    readAll(probe.stderr!),
  ]);
  if (said !== "") console.error(said);
  return answers;
}

const { isolation, neighbour } = await standing();
const child = readFileSync(`/proc/${neighbour.pid}/task/${neighbour.pid}/children`, "utf8").trim();
const targets: ProbeTargets = {
  store: join(segments, readdirSync(segments)[0]!),
  identity: join(storeFolder, "node.identity"),
  home: join(home, ".bashrc"),
  code,
  node: process.pid,
  neighbour: isolation.enclosure.forks ? Number(child) : neighbour.pid!,
  secret,
  port,
  socket,
  abstractSocket,
  descriptor: DESCRIPTOR,
  temporary: tmpdir(),
};
const answers = JSON.parse(
  await answersOf(startNode(isolation, ["--eval", PROBE_CODE]), JSON.stringify(targets)),
) as ProbeAnswers;
writeFileSync(calls, callsProbe(targets));
const called = await answersOf(start(isolation, [PERL, calls]), "");
const doors = called.split(",").slice(0, -1);
if (doors.pop() !== CALLS_PROBE_END) throw new Error("the probe of system calls ended early");
const shell = startNode(isolation, ["--eval", BECOME_CODE]);
shell.stderr!.resume();
const [becameShell] = (await once(shell, "close")) as [number | null];
neighbour.kill("SIGKILL");
await pfs.close();
for (const server of servers) server.close();
console.log(
  JSON.stringify({
    walls: [...isolation.enclosure.names, ...(isolation.confinement?.names ?? [])],
    answers: {
      ...answers,
      makesNamespaces: false,
      callsKernel: false,
      ...(becameShell === 0 ? { startsPrograms: true } : {}),
      ...Object.fromEntries(doors.map((question) => [question, true])),
    },
  }),
);
