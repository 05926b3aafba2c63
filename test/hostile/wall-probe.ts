/**
 * What native code could do that has taken over an executor process: probes run behind the same walls, in place of what
 * an executor runs, without the permission model, which is Node's and holds no native code. Each question is asked of the
 * kernel, so an answer of "yes" is a door that stands open. One probe is Node; one is Perl, which can make any system call;
 * and those of what a process could become execute it.
 */

import { closeInherited } from "../../runtime/sandbox/thread/descriptors.ts";
import { SHARED_MEMORY_DESCRIPTOR } from "../../runtime/sandbox/process/protocol.ts";

/** What lies around the process, by which the doors are tried. */
export interface ProbeTargets {
  /** A file of a store, one of an identity, one in a home, and one that the process itself is made of. */
  readonly store: string;
  readonly identity: string;
  readonly home: string;
  readonly code: string;
  /** The process of the node, and one of another program's executor. */
  readonly node: number;
  readonly neighbour: number;
  /** What the node's arguments and environment say, and nobody else may know. */
  readonly secret: string;
  /** A port on the loopback interface, the path of a socket, and the name of one that has no path. */
  readonly port: number;
  readonly socket: string;
  readonly abstractSocket: string;
  /** A descriptor that the node was started with. */
  readonly descriptor: number;
  /** Where everybody's temporary files are. */
  readonly temporary: string;
}

export const QUESTIONS = {
  readsStore: "read a store",
  readsIdentity: "read the node's keys",
  readsHome: "read files of the user's home",
  readsSystem: "read files of the system, /etc/passwd for one",
  readsArguments: "read the arguments of other processes",
  readsEnvironment: "read the environment of the node",
  readsMemory: "read the memory of another program's executor",
  readsDescriptor: "read a file that the node was started with open",
  writesTemporary: "write temporary files, in memory or on disk",
  writesStore: "change a store",
  writesCode: "change the code of executors",
  signalsNode: "signal the node",
  signalsNeighbour: "signal another program's executor",
  seesProcesses: "see other processes at all",
  reachesLoopback: "reach servers on this machine",
  reachesSocket: "reach sockets that have a path",
  reachesAbstractSocket: "reach sockets that have none",
  startsPrograms: "run the system's programs, a shell for one",
  startsProcessesWithoutEnd: "start processes without end",
  startsThreadsWithoutEnd: "start threads without end",
  makesNamespaces: "make user namespaces, behind which more of the kernel is in reach",
  callsKernel: "call what of the kernel few programs need: io_uring, bpf, ptrace, keys",
  gainsPrivileges: "gain privileges by setuid programs or capabilities",
  fillsDisks: "make large files, core dumps included",
} as const;
export type Question = keyof typeof QUESTIONS;
export type ProbeAnswers = Readonly<Record<Question, boolean>>;

/** Who is no shell must not become one either. */
export const SHELL = "/bin/sh";
export const PERL = "/usr/bin/perl";

/** Where the answers are written, as JSON: an executor's pipe to its node. */
export const ANSWERS_DESCRIPTOR = 3;

/** CommonJS, to be run by `node --eval`, with the targets as JSON on its standard input. */
export const PROBE_CODE: string = `
const fs = require("node:fs"), net = require("node:net"), { spawnSync } = require("node:child_process");
const { closeSync, readFileSync, readdirSync } = fs;
// As executors do before anything of a program's is there.
(${closeInherited.toString()})(${SHARED_MEMORY_DESCRIPTOR});
const targets = JSON.parse(fs.readFileSync(0, "utf8"));
const can = (attempt) => { try { return attempt() !== false; } catch { return false; } };
const closing = (descriptor) => { fs.closeSync(descriptor); };
const reads = (path) => can(() => fs.readFileSync(path).length > 0);
const processes = () => fs.readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name) && name !== String(process.pid));
const says = (file, name) => new RegExp("^" + name + ":?\\\\s+(\\\\S+)", "m").exec(fs.readFileSync("/proc/self/" + file, "utf8"))?.[1];
const limit = (name) => Number(says("limits", name));
const makes = (folder) => can(() => {
  const path = folder + "/packetfs-probe-" + process.pid;
  closing(fs.openSync(path, "wx"));
  can(() => fs.unlinkSync(path));
});
const runs = (file, args) => can(() => spawnSync(file, args, { timeout: 60000 }).status === 0);
const memory = (pid) => can(() => {
  const place = parseInt(fs.readFileSync("/proc/" + pid + "/maps", "latin1"), 16);
  const descriptor = fs.openSync("/proc/" + pid + "/mem", "r");
  return fs.readSync(descriptor, Buffer.alloc(1), 0, 1, place) === 1;
});
const connects = (to) => new Promise((resolve) => {
  const socket = net.connect(to, () => { socket.destroy(); resolve(true); }).on("error", () => resolve(false));
});
(async () => {
  const answers = {
    readsStore: reads(targets.store),
    readsIdentity: reads(targets.identity),
    readsHome: reads(targets.home),
    readsSystem: reads("/etc/passwd"),
    readsArguments: can(() => processes().some((pid) => {
      try { return fs.readFileSync("/proc/" + pid + "/cmdline", "latin1").includes(targets.secret); } catch { return false; }
    })),
    readsEnvironment: can(() => fs.readFileSync("/proc/" + targets.node + "/environ", "latin1").includes(targets.secret)),
    readsMemory: memory(targets.neighbour),
    readsDescriptor: can(() => fs.readSync(targets.descriptor, Buffer.alloc(1), 0, 1, 0) === 1),
    writesTemporary: makes(targets.temporary) || makes("/dev/shm"),
    writesStore: can(() => closing(fs.openSync(targets.store, "r+"))),
    writesCode: can(() => closing(fs.openSync(targets.code, "r+"))),
    signalsNode: can(() => process.kill(targets.node, 0)),
    signalsNeighbour: can(() => process.kill(targets.neighbour, 0)),
    seesProcesses: can(() => processes().length > 0),
    reachesLoopback: await connects({ host: "127.0.0.1", port: targets.port }),
    reachesSocket: await connects({ path: targets.socket }),
    reachesAbstractSocket: await connects({ path: "\\0" + targets.abstractSocket }),
    startsPrograms: runs("${SHELL}", ["-c", "true"]),
    startsProcessesWithoutEnd: !(limit("Max processes") <= 4096) && runs(process.execPath, ["--version"]),
    startsThreadsWithoutEnd: !(limit("Max processes") <= 4096),
    gainsPrivileges: says("status", "NoNewPrivs") !== "1" || /[1-9a-f]/.test(says("status", "CapEff")),
    fillsDisks: !(limit("Max file size") === 0 && limit("Max core file size") === 0),
  };
  fs.writeSync(${ANSWERS_DESCRIPTOR}, JSON.stringify(answers));
})();
`;

/** CommonJS, to be run by `node --eval`: the process becomes a shell, and ends with code 0 if it did. */
export const BECOME_CODE: string = `process.execve("${SHELL}", ["${SHELL}", "-c", "exit 0"], {});`;

/** What the probe of system calls says last. */
export const CALLS_PROBE_END = "end";
/** Numbers of system calls on x64 and arm64. */
const CALLS = {
  write: [1, 64],
  tgkill: [234, 131],
  ptrace: [101, 117],
  unshare: [272, 97],
  io_uring_setup: [425, 425],
  bpf: [321, 280],
  perf_event_open: [298, 241],
  keyctl: [250, 219],
  userfaultfd: [323, 282],
  process_vm_readv: [310, 270],
  open_by_handle_at: [304, 265],
} as const;
const SELDOM = [
  "ptrace",
  "io_uring_setup",
  "bpf",
  "perf_event_open",
  "keyctl",
  "userfaultfd",
  "process_vm_readv",
  "open_by_handle_at",
] as const;

/** What Perl is told to ask the kernel itself; writes the questions that it answers with yes as the probe does, a comma after each. */
export function callsProbe({ node, neighbour }: ProbeTargets): string {
  const numberOf = (name: keyof typeof CALLS): number => CALLS[name][process.arch === "arm64" ? 1 : 0];
  const threadGroupKill = numberOf("tgkill");
  const seize = 0x4206;
  const newUser = 0x1000_0000;
  return `
sub yes { my ($question) = @_; my $line = "$question,"; syscall(${numberOf("write")}, ${ANSWERS_DESCRIPTOR}, $line, length($line)) }
for my $number (${SELDOM.map(numberOf).join(", ")}) {
  my $result = syscall($number, -1, 0, 0, 0, 0);
  yes("callsKernel") if $result >= 0 || $! != 38;
}
yes("signalsNode") if syscall(${threadGroupKill}, ${node}, ${node}, 0) == 0;
yes("signalsNeighbour") if syscall(${threadGroupKill}, ${neighbour}, ${neighbour}, 0) == 0;
yes("readsMemory") if syscall(${numberOf("ptrace")}, ${seize}, ${neighbour}, 0, 0) == 0;
yes("makesNamespaces") if syscall(${numberOf("unshare")}, ${newUser}) == 0;
yes("${CALLS_PROBE_END}");
`;
}
