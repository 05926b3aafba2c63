/** What people read of the walls around an executor process: names, whether they stand, and how to get those that are missing. */

export const WallName = {
  environment: "empty environment",
  descriptors: "closed descriptors",
  permission: "permission model",
  user: "user id of its own",
  userNamespace: "user namespace",
  root: "empty root",
  processes: "pid namespace",
  network: "network namespace",
  ipc: "IPC namespace",
  privileges: "no new privileges",
  limits: "resource limits",
  landlock: "Landlock",
  systemCalls: "system call filter",
} as const;
export type WallName = (typeof WallName)[keyof typeof WallName];

/** Why a wall may be missing, and how to get it. */
const ADVICE: Record<WallName, string> = {
  [WallName.environment]: "",
  [WallName.descriptors]: "only Linux tells a process which descriptors it was given",
  [WallName.permission]: "packages must lie in node_modules itself, and not be linked there from elsewhere",
  [WallName.user]: "only root can run programs as another user; their code must be readable for all users",
  [WallName.userNamespace]:
    "allow user namespaces: sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0; or install bubblewrap, if the system lets that make them; in a container, run it with --security-opt seccomp=unconfined",
  [WallName.root]:
    "needs mount namespaces, or root, and the programs unshare, mount, pivot_root, setpriv and prlimit (util-linux); in a container, run it with --cap-add SYS_ADMIN or --security-opt seccomp=unconfined --security-opt systempaths=unconfined",
  [WallName.processes]: "comes with the empty root",
  [WallName.network]: "comes with the empty root, or with unshare (util-linux) and user namespaces or root",
  [WallName.ipc]: "comes with the network namespace",
  [WallName.privileges]: "needs Linux and the program setpriv (util-linux)",
  [WallName.limits]: "needs Linux and the programs setpriv and prlimit (util-linux)",
  [WallName.landlock]:
    "needs Linux 5.13 or later, with landlock in /sys/kernel/security/lsm, and the program perl (perl-base on Debian and Ubuntu, perl on others)",
  [WallName.systemCalls]:
    "needs Linux with seccomp filters, on x64 or arm64, and the program perl (perl-base on Debian and Ubuntu, perl on others)",
};

const USER_REPLACED =
  "only root can give it; the empty root and the pid namespace keep programs from what is the user's";

export interface WallState {
  readonly name: WallName;
  /** "replaced" where the others hold what it would. */
  readonly state: "stands" | "missing" | "replaced";
  /** Where it does not stand: why, and how to get it. */
  readonly advice?: string;
  /** Where it is missing, though it stood here at an earlier start. */
  readonly stood?: boolean;
}

/** What was said where the strongest of those that are impossible was tried. */
export interface Refusals {
  readonly enclosure?: string;
  readonly confinement?: string;
}

/** Those that others come with, and whose refusal is therefore of interest. */
const REFUSED: Readonly<Partial<Record<WallName, keyof Refusals>>> = {
  [WallName.userNamespace]: "enclosure",
  [WallName.root]: "enclosure",
  [WallName.landlock]: "confinement",
  [WallName.systemCalls]: "confinement",
};

/** Each wall with its state, given those that stand, and what the system said where a stronger one was tried. */
export function wallStates(standing: readonly WallName[], refusals: Refusals): WallState[] {
  const stands = (name: WallName): boolean => standing.includes(name);
  return Object.values(WallName).map((name) => {
    if (stands(name)) return { name, state: "stands" };
    const isUser = name === WallName.user && process.getuid?.() !== 0;
    if (isUser && stands(WallName.root) && stands(WallName.processes))
      return { name, state: "replaced", advice: USER_REPLACED };
    const of = REFUSED[name];
    const said = of && refusals[of];
    return { name, state: "missing", advice: said === undefined ? ADVICE[name] : `${said}; ${ADVICE[name]}` };
  });
}

export function namesOfStanding(states: readonly WallState[]): WallName[] {
  return states.filter(({ state }) => state === "stands").map(({ name }) => name);
}

/** What a machine says of its walls to the people who start it. */
export function describeWalls(states: readonly WallState[]): string {
  if (states.length === 0) return 'no executor process starts here; "pfs doctor" looks why';
  const standing = `programs run behind: ${namesOfStanding(states).join(", ")}`;
  const missing = states.filter(({ state }) => state === "missing").map(({ name }) => name);
  if (missing.length === 0) return standing;
  const lost = describeLostWalls(states);
  const ending = lost === undefined ? '. "pfs doctor" says why, and how to get them' : `; ${lost}`;
  return `${standing}; missing: ${missing.join(", ")}${ending}`;
}

/** What of it was better once; undefined when nothing was. */
export function describeLostWalls(states: readonly WallState[]): string | undefined {
  const lost = states.filter(({ stood }) => stood === true).map(({ name }) => name);
  if (lost.length === 0) return undefined;
  return `programs run behind less than they did here before: without ${lost.join(", ")}. "pfs doctor" says why, and how to get it back`;
}
