/**
 * The walls around an executor process, made by programs that Linux systems bring along: unshare, mount, pivot_root, setpriv
 * and prlimit of util-linux, and sh; or bubblewrap, where it is installed. Whoever breaks out of V8 meets them one by one; see
 * SECURITY.md for what each of them holds.
 *
 *   as root      unshare ──▶ sh: empty root ──▶ setpriv: user id ──▶ unshare ═▶ sh: enter it ──▶ setpriv ──▶ prlimit ──▶ node
 *   otherwise    unshare ══════════════▶ sh: empty root, enter it ──▶ setpriv: no privileges ──▶ prlimit ──▶ node
 *
 * Each ──▶ executes the next in the same process. At ═▶ there is a child, the first in its pid namespace, which is killed
 * when its parent is.
 */
import { readdirSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { findProgram } from "../../find-program.ts";
import { WallName } from "./wall-states.ts";

/** A command that runs behind the walls, and what it needs there. */
export interface ConfinedCommand {
  /** Node, what it is told, and what it runs. */
  readonly command: readonly string[];
  /** Absolute paths of files and folders that it reads, all of them. */
  readonly reads: readonly string[];
  /** Threads and processes together. */
  readonly tasksMax: number;
  readonly descriptorsMax: number;
}

/** Several walls, that stand together or not at all. */
export interface Enclosure {
  readonly names: readonly WallName[];
  /** Whether the process is a child of the one that is started. */
  readonly forks: boolean;
  /** The whole command. */
  readonly command: (confined: ConfinedCommand) => readonly string[];
}

interface Tools {
  readonly setpriv: string;
  readonly prlimit: string;
}

interface NamespaceTools extends Tools {
  readonly unshare: string;
  readonly mount: string;
  readonly umount: string;
  readonly pivot: string;
  readonly sh: string;
}

/**
 * Users that come and go, in the range that systemd gives such users of: nobody owns files by them. It lies within what
 * containers map.
 */
const USER_FIRST = 61_184;
const USER_LAST = 65_519;
const EVERYWHERE: readonly WallName[] = [
  WallName.environment,
  ...(process.platform === "linux" ? [WallName.descriptors] : []),
];
/** Where the new root is put together: nothing that is wanted lies there, and it is everywhere. */
const ROOT = "/sys";
const MOUNTS = `${ROOT}/mounts`;
/** The end of a process's parent is its own. */
const WITH_PARENT = ["--pdeathsig", "SIGKILL"];
const NO_PRIVILEGES = ["--inh-caps=-all", "--bounding-set=-all", "--no-new-privs", ...WITH_PARENT];
const NAMESPACES = ["--mount", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child=SIGKILL"];
const BUBBLEWRAP_FLAGS = [
  "--unshare-all",
  "--unshare-user",
  "--disable-userns",
  "--cap-drop",
  "ALL",
  "--as-pid-1",
  "--die-with-parent",
];
/** What Perl reads before its script. */
const EMPTY_FILE = ["--dev-bind", "/dev/null", "/dev/null"];
const ENTER = ["--proc", "/proc", "--remount-ro", "/", "--"];
const ENCLOSED: readonly WallName[] = [WallName.root, WallName.processes, WallName.network, WallName.ipc];
const LIMITED: readonly WallName[] = [WallName.privileges, WallName.limits];
const SHARED_OBJECT = /^\/.*\.so(?:\.|$)/;

/** What may be tried, the strongest first; the last is none at all. */
export function possibleEnclosures(): Enclosure[] {
  const none = { names: EVERYWHERE, forks: false, command: ({ command }: ConfinedCommand) => command };
  const [setpriv, prlimit] = [findProgram("setpriv"), findProgram("prlimit")];
  if (process.platform !== "linux" || setpriv === undefined || prlimit === undefined) return [none];
  const tools = { setpriv, prlimit };
  const spaces = namespaceTools(tools);
  const byBubblewrap = bubblewrapEnclosures(tools);
  const users = spaces === undefined ? byBubblewrap : usersEnclosures(spaces, byBubblewrap);
  const enclosures = process.getuid?.() === 0 ? rootsEnclosures(tools, spaces, users) : users;
  return [...enclosures, bounded([], () => [setpriv, "--no-new-privs", ...WITH_PARENT], tools), none];
}

/** What a command must reach there before it is Node's turn: to see whether an enclosure can be made at all. */
export function probeCommand(): string[] {
  return [findProgram("prlimit") ?? process.execPath, "--version"];
}

function rootsEnclosures(
  tools: Tools,
  spaces: NamespaceTools | undefined,
  [userEnclosed, ...users]: readonly Enclosure[],
): Enclosure[] {
  const { setpriv } = tools;
  const stripped = [setpriv, ...NO_PRIVILEGES];
  const other = (): string[] => [setpriv, ...anotherUser(), ...NO_PRIVILEGES];
  const weaker = [
    bounded([WallName.user], other, tools, { ownTasks: true }),
    bounded([], () => stripped, tools),
  ];
  if (spaces === undefined || userEnclosed === undefined) return weaker;
  const { unshare, sh } = spaces;
  const within = [unshare, ...NAMESPACES, sh, "-ec"];
  const enclosed = (names: readonly WallName[], drop: () => readonly string[]): Enclosure => ({
    names: [...EVERYWHERE, ...names, ...ENCLOSED, ...LIMITED],
    forks: true,
    command: (confined) => {
      const script = [...makeRoot(confined, spaces), ...enterRoot(spaces)];
      return [...within, scriptOf(script), sh, ...drop(), ...limits(confined, spaces, true)];
    },
  });
  const inUserNamespace: Enclosure = {
    names: [...EVERYWHERE, WallName.user, WallName.userNamespace, ...ENCLOSED, ...LIMITED],
    forks: true,
    command: (confined) => {
      const make = [unshare, "--mount", sh, "-ec", scriptOf(makeRoot(confined, spaces)), sh];
      const leave = [setpriv, ...anotherUser(), ...WITH_PARENT];
      // What was mounted outside of the user namespace cannot be moved within it, but what is bound there can.
      const bind = `${spaces.mount} -n --rbind ${ROOT} ${ROOT}`;
      const enter = scriptOf([bind, noMoreNamespaces(), ...enterRoot(spaces)]);
      const cross = [unshare, "--user", "--map-root-user", ...NAMESPACES, sh, "-ec", enter, sh];
      return [...make, ...leave, ...cross, ...stripped, ...limits(confined, spaces, true)];
    },
  };
  const cut = [unshare, "--net", "--ipc"];
  const alone = [WallName.network, WallName.ipc];
  return [
    inUserNamespace,
    enclosed([WallName.user], other),
    // Where the code is readable for its owner only, or root is one of a container's and has less than a root's rights.
    userEnclosed,
    enclosed([], () => stripped),
    bounded([WallName.user, ...alone], () => [...cut, ...other()], tools, { ownTasks: true }),
    ...users,
    weaker[0]!,
    bounded(alone, () => [...cut, ...stripped], tools),
    weaker[1]!,
  ];
}

function usersEnclosures(spaces: NamespaceTools, byBubblewrap: readonly Enclosure[]): Enclosure[] {
  const { unshare, sh, setpriv } = spaces;
  const enclosed: Enclosure = {
    names: [...EVERYWHERE, WallName.userNamespace, ...ENCLOSED, ...LIMITED],
    forks: true,
    command: (confined) => {
      const script = scriptOf([...makeRoot(confined, spaces), noMoreNamespaces(), ...enterRoot(spaces)]);
      const cross = [unshare, "--user", "--map-root-user", ...NAMESPACES, sh, "-ec", script, sh];
      const start = [setpriv, ...WITH_PARENT, ...cross, setpriv, ...NO_PRIVILEGES];
      return [...start, ...limits(confined, spaces, true)];
    },
  };
  const cut = [unshare, "--user", "--map-root-user", "--net", "--ipc"];
  const names = [WallName.userNamespace, WallName.network, WallName.ipc];
  return [
    enclosed,
    ...byBubblewrap,
    bounded(names, () => [...cut, setpriv, ...NO_PRIVILEGES], spaces, { ownTasks: true }),
  ];
}

/** The same by bubblewrap, which some systems let make user namespaces, and nobody else but root. */
function bubblewrapEnclosures(tools: Tools): Enclosure[] {
  const bubblewrap = findProgram("bwrap");
  if (bubblewrap === undefined) return [];
  return [
    {
      names: [...EVERYWHERE, WallName.userNamespace, ...ENCLOSED, ...LIMITED],
      forks: true,
      command: (confined) => [
        bubblewrap,
        ...BUBBLEWRAP_FLAGS,
        ...rootPaths(confined, tools).flatMap((path) => ["--ro-bind", path, path]),
        ...EMPTY_FILE,
        ...ENTER,
        ...limits(confined, tools, true),
      ],
    },
  ];
}

/**
 * One that shows its process the file system and the processes of the machine. `drop` are the words before the command that take
 * rights from it; with `ownTasks` its user has no other tasks.
 */
function bounded(
  names: readonly WallName[],
  drop: () => readonly string[],
  tools: Tools,
  { ownTasks = false }: { readonly ownTasks?: boolean } = {},
): Enclosure {
  return {
    names: [...EVERYWHERE, ...names, ...LIMITED],
    forks: false,
    command: (confined) => [...drop(), ...limits(confined, tools, ownTasks)],
  };
}

/** The system counts the tasks of a user, so that only a user who has no others can be held to a number of them. */
function limits(
  { command, tasksMax, descriptorsMax }: ConfinedCommand,
  { prlimit }: Tools,
  own: boolean,
): string[] {
  const tasks = own ? [`--nproc=${tasksMax}`] : [];
  const bounds = ["--core=0", "--fsize=0", "--msgqueue=0", `--nofile=${descriptorsMax}`];
  return [prlimit, ...bounds, ...tasks, ...command];
}

/** Mounts a file system that is empty but for what the command reads, which is there and cannot be written to. */
function makeRoot(confined: ConfinedCommand, tools: NamespaceTools): string[] {
  const { mount } = tools;
  const paths = rootPaths(confined, tools);
  const files = paths.filter((path) => !isDirectory(path));
  const folders = paths.map((path) => (files.includes(path) ? dirname(path) : path));
  const line = (path: string): string =>
    `${fstabWord(path)} ${ROOT}${fstabWord(path)} none bind,ro,nosuid,nodev 0 0`;
  return [
    `${mount} -n -t tmpfs -o mode=755,size=1m,nosuid,nodev packetfs ${ROOT}`,
    `mkdir -p ${["/proc", "/old", "/dev", ...folders].map((path) => quoted(ROOT + path)).join(" ")}`,
    // Perl reads what is empty before its script; no device.
    ...["/dev/null", ...files].map((path) => `: > ${quoted(ROOT + path)}`),
    // mount takes its list from a regular file only.
    `printf '%s\\n' ${paths.map((path) => quoted(line(path))).join(" ")} > ${MOUNTS}`,
    `${mount} -n -a -T ${MOUNTS}`,
    `rm ${MOUNTS}`,
  ];
}

/** What an empty root has. */
function rootPaths({ reads }: ConfinedCommand, { setpriv, prlimit }: Tools): string[] {
  return [...new Set([...reads, ...sharedObjects().map((path) => dirname(path)), setpriv, prlimit])];
}

/** What is not there is told by what starts, with its name. */
export function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Nothing of the machine's file system is left behind; /proc tells of the pid namespace, and of nothing else. */
function enterRoot({ mount, umount, pivot }: NamespaceTools): string[] {
  return [
    `${mount} -n -t proc -o subset=pid,nosuid,nodev,noexec proc ${ROOT}/proc`,
    `${mount} -n -o remount,bind,ro,nosuid,nodev,noexec ${ROOT}`,
    `cd ${ROOT}`,
    `${pivot} . old`,
    "cd /",
    `/old${umount} -n -l /old`,
    // The shell's own.
    "unset PWD OLDPWD",
  ];
}

/** Much of the kernel is reached by nobody but who makes a user namespace. */
function noMoreNamespaces(): string {
  return "echo 0 > /proc/sys/user/max_user_namespaces";
}

function scriptOf(lines: readonly string[]): string {
  return [...lines, 'exec "$@"'].join("\n");
}

function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

function fstabWord(path: string): string {
  return path.replaceAll(/[\s\\#]/g, (each) => `\\${each.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

let libraries: readonly string[] | undefined;

/** Paths of the libraries that Node was loaded from, and of the loader. */
export function sharedObjects(): readonly string[] {
  if (libraries !== undefined) return libraries;
  // Else it asks name servers who the peers of this process are.
  const report = process.report as typeof process.report & { excludeNetwork: boolean };
  const { excludeNetwork } = report;
  report.excludeNetwork = true;
  const { sharedObjects: all } = report.getReport() as unknown as { sharedObjects: readonly string[] };
  report.excludeNetwork = excludeNetwork;
  libraries = all.filter((path) => SHARED_OBJECT.test(path));
  return libraries;
}

/** A user that no process runs as. */
function anotherUser(): string[] {
  const taken = new Set(readdirSync("/proc").map((name) => ownerOf(`/proc/${name}`)));
  const users = USER_LAST - USER_FIRST + 1;
  const first = Math.floor(Math.random() * users);
  const free = Array.from({ length: users }, (_, index) => USER_FIRST + ((first + index) % users));
  const user = free.find((each) => !taken.has(each)) ?? USER_FIRST;
  return [`--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
}

function ownerOf(path: string): number | undefined {
  return statSync(path, { throwIfNoEntry: false })?.uid;
}

function namespaceTools(tools: Tools): NamespaceTools | undefined {
  const found = ["unshare", "mount", "umount", "pivot_root", "sh"].map(findProgram);
  const [unshare, mount, umount, pivot, sh] = found;
  if (!unshare || !mount || !umount || !pivot || !sh) return undefined;
  return { ...tools, unshare, mount, umount, pivot, sh };
}
