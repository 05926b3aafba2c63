/**
 * Which walls this machine has: found out once, by the first process that starts, and kept. From then on there are no others,
 * however slow the machine is and however many starts fail.
 *
 *   unknown ──▶ a process starts behind the strongest: it stands
 *      ▲  └──▶ one ends by itself ──▶ probe: does a program that only ends run there?
 *      │                                ├─▶ no: impossible here, with the reason. The next is tried
 *      └────────────────────────────────┴─▶ yes, or killed, or short of something: nothing is said of the wall
 */
import { spawn } from "node:child_process";
import type { ChildProcess, StdioOptions } from "node:child_process";
import { availableParallelism } from "node:os";
import {
  EXECUTOR_DESCRIPTORS_BASE,
  EXECUTOR_DESCRIPTORS_PER_THREAD,
  EXECUTOR_STARTS_MAX,
  EXECUTOR_STDERR_BYTES,
  EXECUTOR_TASKS_BASE,
  EXECUTOR_TASKS_PER_THREAD,
} from "../../limits.ts";
import { possibleConfinements } from "./confinement.ts";
import type { Confinement } from "./confinement.ts";
import { possibleEnclosures, probeCommand } from "./enclosures.ts";
import { WallName, wallStates } from "./wall-states.ts";
import type { ConfinedCommand, Enclosure } from "./enclosures.ts";
import type { Refusals, WallState } from "./wall-states.ts";

/** What a process starts behind, Node's permission model aside. */
export interface Isolation {
  readonly enclosure: Enclosure;
  /** Within the enclosure, if there is one. */
  readonly confinement: Confinement | undefined;
}

/** An isolation, with Node's permission model or without. */
export interface Candidate extends Isolation {
  readonly permission: boolean;
}

/** What a machine says that has too little of something now: it says nothing about what is allowed. */
const SCARCE = /cannot allocate memory|resource temporarily unavailable|too many open files|out of memory/i;
/** What Node says where it may not read its code, or does not find it: it would say it again. */
const UNREADABLE =
  /ERR_ACCESS_DENIED|ERR_MODULE_NOT_FOUND|MODULE_NOT_FOUND|EACCES|error while loading shared/;
/** Ends that come from outside. */
const KILLED: readonly NodeJS.Signals[] = ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"];

export class Walls {
  #candidates: readonly Candidate[];
  #standing: Candidate | undefined;
  #refusals: Refusals = {};

  /** Both are what may be tried, the strongest first. */
  constructor(
    enclosures: readonly Enclosure[] = possibleEnclosures(),
    confinements: readonly Confinement[] = possibleConfinements(),
  ) {
    this.#candidates = isolationsOf(enclosures, confinements).flatMap((isolation) => [
      { ...isolation, permission: true },
      // Packages that are linked from elsewhere are not readable under the permission model, the least of the walls.
      { ...isolation, permission: false },
    ]);
  }

  /** What stands, or is to be tried next. */
  get current(): Candidate {
    return this.#standing ?? this.#candidates[0]!;
  }

  /** Undefined until something stands. */
  get states(): readonly WallState[] | undefined {
    return this.#standing && wallStates(namesOf(this.#standing), this.#refusals);
  }

  /** A process has started behind it. Returns false when others have found something else that stands. */
  stand(candidate: Candidate): boolean {
    this.#standing ??= candidate;
    return this.#standing === candidate;
  }

  /**
   * The `starts`-th process in a row has ended by itself before it was ready, and said `reason`. Returns whether the next is
   * to be started behind something else.
   */
  async refused(candidate: Candidate, reason: string, starts: number): Promise<boolean> {
    if (this.#standing === undefined && !SCARCE.test(reason)) {
      const { enclosure, confinement } = candidate;
      const possible = await probe(candidate);
      // With what is weaker within it is tried first: it may be that which is impossible.
      const bare = { enclosure, confinement: undefined };
      const enclosurePossible =
        possible === false && confinement !== undefined ? await probe(bare) : possible;
      const repeated = UNREADABLE.test(reason) || starts >= EXECUTOR_STARTS_MAX;
      if (enclosurePossible === false) {
        this.#drop((each) => each.enclosure === enclosure, { enclosure: reason });
      } else if (possible === false && enclosurePossible === true) {
        const refused = (each: Candidate): boolean =>
          each.enclosure === enclosure && each.confinement === confinement;
        this.#drop(refused, { confinement: reason });
      } else if (possible === true && repeated) {
        this.#drop((each) => each === candidate, {});
      }
    }
    return this.current !== candidate;
  }

  #drop(dropped: (candidate: Candidate) => boolean, refusals: Refusals): void {
    // Others may have found what stands while this was probed.
    if (this.#standing !== undefined) return;
    const left = this.#candidates.filter((each) => !dropped(each));
    if (left.length === 0) return;
    this.#candidates = left;
    // Of interest is what was said where the strongest was tried.
    this.#refusals = { ...refusals, ...this.#refusals };
  }
}

/** The strongest first. */
export function isolationsOf(
  enclosures: readonly Enclosure[],
  confinements: readonly Confinement[],
): Isolation[] {
  return enclosures.flatMap((enclosure) =>
    [...confinements, undefined].map((confinement) => ({ enclosure, confinement })),
  );
}

export function namesOf({ enclosure, confinement, permission }: Candidate): readonly WallName[] {
  return [...enclosure.names, ...(confinement?.names ?? []), ...(permission ? [WallName.permission] : [])];
}

/** Whether a process was ended from outside: that says nothing about what it was started behind. */
export function isKilled(signal: NodeJS.Signals | null): boolean {
  return signal !== null && KILLED.includes(signal);
}

/** What a command takes along that runs as an executor of so many threads does. */
export function confinedCommand(
  command: readonly string[],
  reads: readonly string[],
  threads: number,
): ConfinedCommand {
  return {
    command,
    reads: [process.execPath, ...reads],
    tasksMax: EXECUTOR_TASKS_BASE + EXECUTOR_TASKS_PER_THREAD * (threads + availableParallelism()),
    descriptorsMax: EXECUTOR_DESCRIPTORS_BASE + EXECUTOR_DESCRIPTORS_PER_THREAD * threads,
  };
}

export function spawnBehind(
  { enclosure, confinement }: Isolation,
  confined: ConfinedCommand,
  stdio: StdioOptions,
): ChildProcess {
  const [command, ...args] = enclosure.command(confinement?.confine(confined) ?? confined);
  return spawn(command!, args, {
    cwd: process.platform === "win32" ? undefined : "/",
    env: environment(),
    stdio,
    // In a group of its own: Ctrl-C is for the node to deal with.
    detached: process.platform !== "win32",
    windowsHide: true,
  });
}

/** Nothing to read there but the time zone, which is UTC for all programs. */
export function environment(): NodeJS.ProcessEnv {
  const { SystemRoot } = process.env;
  return process.platform === "win32" ? { TZ: "UTC", SystemRoot } : { TZ: "UTC" };
}

/** Whether an isolation can be made; undefined when its end says nothing. It has all the time that it takes. */
function probe(isolation: Isolation): Promise<boolean | undefined> {
  const { promise, resolve } = Promise.withResolvers<boolean | undefined>();
  const child = spawnBehind(isolation, confinedCommand(probeCommand(), [], 1), ["ignore", "ignore", "pipe"]);
  let said = "";
  child.stderr!.setEncoding("latin1").on("data", (text: string) => {
    said = (said + text).slice(-EXECUTOR_STDERR_BYTES);
  });
  child.on("error", ({ message }) => resolve(SCARCE.test(message) ? undefined : false));
  child.on("close", (code, signal) => {
    if (code === 0) resolve(true);
    else resolve(isKilled(signal) || SCARCE.test(said) ? undefined : false);
  });
  return promise;
}
