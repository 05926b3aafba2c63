/**
 * What temporary files and directories have in their names to say whose they are, for others to tell those of a process
 * that was killed from those that are in use. Numbers of processes mean something in one pid namespace of one machine.
 *
 *   <machine>-<boot>-<pid>-<start>     start: of the process, in ticks since the machine's
 */
import { createHash } from "node:crypto";
import { readFileSync, readlinkSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { hostname } from "node:os";
import { systemCode } from "./errors.ts";

/** The source of a regular expression that matches a mark, without groups. */
export const PROCESS_MARK = "[0-9a-f]{8}-[0-9a-f]{8}-\\d+-\\d+";

/** `elsewhere`: of another machine, of whose processes nothing is known here. */
export type ProcessState = "alive" | "dead" | "elsewhere";

export async function stateOfProcess(mark: string): Promise<ProcessState> {
  const [machine, boot, pid = "", start = ""] = mark.split("-");
  const own = place();
  if (machine !== own.machine) return "elsewhere";
  // Another start of this machine, or another machine of the same name: every Linux has the same first pid namespace.
  if (boot !== own.boot) return own.hasId ? "dead" : "elsewhere";
  return (await isAlive(pid, start)) ? "alive" : "dead";
}

/** The number of a process may be another's by now. */
async function isAlive(pid: string, start: string): Promise<boolean> {
  if (ownStart() !== "")
    return startOf(await readFile(`/proc/${pid}/stat`, "latin1").catch(() => "")) === start;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return systemCode(error) === "EPERM";
  }
}

/** When a process started, from its `stat`. */
function startOf(stat: string): string {
  // The name of the process stands in parentheses and may hold anything.
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}

/** Of this process; the empty text where the system does not say. */
function ownStart(): string {
  return startOf(textOf("/proc/self/stat"));
}

interface Place {
  readonly machine: string;
  readonly boot: string;
  /** Whether it was given one when it was set up. */
  readonly hasId: boolean;
}

let known: Place | undefined;

/** Where this process runs, found out when somebody wants to know: most commands write no temporary file. */
function place(): Place {
  if (known !== undefined) return known;
  const id = /^[0-9a-f]{32}$/m.exec(textOf("/etc/machine-id"))?.[0] ?? "";
  const machine = digest(`${hostname()} ${id} ${pidNamespace()}`);
  known = { machine, boot: digest(textOf("/proc/sys/kernel/random/boot_id")), hasId: id !== "" };
  return known;
}

/** Of this process. */
export function ownMark(): string {
  const { machine, boot } = place();
  return `${machine}-${boot}-${process.pid}-${ownStart() || "0"}`;
}

function pidNamespace(): string {
  try {
    return readlinkSync("/proc/self/ns/pid");
  } catch {
    return "";
  }
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return "";
  }
}

function digest(text: string): string {
  return createHash("sha256").update(text).digest("hex").slice(0, 8);
}
