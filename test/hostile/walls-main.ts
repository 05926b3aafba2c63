/**
 * A node with all that a node has around it, and the probe in place of one of its executors: prints which walls stand and
 * what the probe could do. To be run as the user in question, with a folder that the user may write to, and with descriptor
 * 199 open to read from.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { possibleEnclosures } from "../../runtime/sandbox/process/enclosures.ts";
import type { Enclosure } from "../../runtime/sandbox/process/enclosures.ts";
import { passageOf, spawnBehind } from "../../runtime/sandbox/process/walls.ts";
import { openLocal } from "../../sdk/index.ts";
import { loadIdentity } from "../../nodes/wire/trust/identity-file.ts";
import { ANSWERS_DESCRIPTOR, PROBE_CODE } from "./wall-probe.ts";
import type { ProbeAnswers, ProbeTargets } from "./wall-probe.ts";

const NODE_FLAGS = ["--no-node-snapshot", "--no-warnings"];
const UNSHARE = "/usr/bin/unshare";
const DESCRIPTOR = 199;
const [folder = "", secret = ""] = process.argv.slice(2);

/** Stands for the code of executors, which mostly is the user's own who installed it. */
const code = join(folder, "code.js");
writeFileSync(code, "// code\n");
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

/** Behind one of the enclosures, with a pipe where an executor has its own. */
function start(enclosure: Enclosure, words: readonly string[]): ChildProcess {
  const command = [process.execPath, ...NODE_FLAGS, ...words];
  return spawnBehind(enclosure, passageOf(command, [code, UNSHARE], 1), ["pipe", "ignore", "pipe", "pipe"]);
}

async function readAll(stream: Readable): Promise<string> {
  let text = "";
  for await (const piece of stream.setEncoding("utf8")) text += piece as string;
  return text;
}

/** The first that stands, with a process behind it that does nothing. */
async function standing(): Promise<{ enclosure: Enclosure; neighbour: ChildProcess }> {
  for (const enclosure of possibleEnclosures()) {
    const neighbour = start(enclosure, [
      "--eval",
      `require("node:fs").writeSync(${ANSWERS_DESCRIPTOR}, "up"); setInterval(() => {}, 1e6);`,
    ]);
    const pipe = neighbour.stdio[ANSWERS_DESCRIPTOR] as Readable;
    const [said] = (await Promise.race([once(pipe, "data"), once(neighbour, "close")])) as [unknown];
    if (String(said) === "up") return { enclosure, neighbour };
  }
  throw new Error("no enclosure can be made");
}

const { enclosure, neighbour } = await standing();
const child = readFileSync(`/proc/${neighbour.pid}/task/${neighbour.pid}/children`, "utf8").trim();
const targets: ProbeTargets = {
  store: join(segments, readdirSync(segments)[0]!),
  identity: join(storeFolder, "node.identity"),
  home: join(home, ".bashrc"),
  code,
  node: process.pid,
  neighbour: enclosure.forks ? Number(child) : neighbour.pid!,
  secret,
  port,
  socket,
  abstractSocket,
  descriptor: DESCRIPTOR,
  temporary: tmpdir(),
  unshare: UNSHARE,
};
const probe = start(enclosure, ["--eval", PROBE_CODE]);
probe.stdin!.end(JSON.stringify(targets));
const [answers, said] = await Promise.all([
  readAll(probe.stdio[ANSWERS_DESCRIPTOR] as Readable),
  readAll(probe.stderr!),
]);
if (said !== "") console.error(said);
neighbour.kill("SIGKILL");
await pfs.close();
for (const server of servers) server.close();
console.log(JSON.stringify({ walls: enclosure.names, answers: JSON.parse(answers) as ProbeAnswers }));
