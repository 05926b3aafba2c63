/**
 * What stands between native code in an executor process and the machine, asked of the kernel by a probe in such a
 * process's place. Which walls there are depends on the machine; what each of them promises does not.
 */
import { spawn } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { WallName } from "../../runtime/sandbox/process/wall-states.ts";
import { ROOT as SOURCES } from "../source-tree.ts";
import { PERL, QUESTIONS } from "./wall-probe.ts";
import type { ProbeAnswers, Question } from "./wall-probe.ts";

/** The probes' own needs. */
const LINUX = process.platform === "linux" && existsSync(PERL);
const ROOT = process.getuid?.() === 0;
const BUBBLEWRAP = "/usr/bin/bwrap";
const SETPRIV = "/usr/bin/setpriv";
/** A user without a name, and with nothing. */
const SOMEBODY = 12_345;
const SECRET = "a-join-token-for-nobody-else";

interface Report {
  readonly walls: readonly WallName[];
  readonly answers: ProbeAnswers;
}

/** What a machine has to make walls of; see walls-main.ts. */
type Has = "everything" | "bubblewrap" | "no namespaces" | "neither";

/** Runs a node with probes in place of its executors, as the user who runs this test or as somebody else. */
async function probe(has: Has, user?: number): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), "packetfs-walls-"));
  // As homes are: others may look in, and files say who may read them.
  chmodSync(folder, 0o755);
  if (user !== undefined) chownSync(folder, user, user);
  const inherited = join(folder, "inherited");
  writeFileSync(inherited, "open");
  const main = fileURLToPath(new URL("./walls-main.ts", import.meta.url));
  const as = user === undefined ? [] : [SETPRIV, `--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
  const node = [process.execPath, "--no-node-snapshot", "--no-warnings", main, folder, SECRET, has];
  // As a shell's descriptor it has a number that Node does not look at.
  const script = 'exec "${@:2}" 199< "$1"';
  const child = spawn("bash", ["-c", script, "bash", inherited, ...as, ...node], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, PACKETFS_JOIN: SECRET },
  });
  let said = "";
  for await (const piece of child.stdout!.setEncoding("utf8")) said += piece as string;
  rmSync(folder, { recursive: true, force: true });
  return JSON.parse(said) as Report;
}

/** Doors that are shut behind a wall. */
const SHUT: Partial<Record<WallName, readonly Question[]>> = {
  [WallName.user]: [
    "readsStore",
    "readsIdentity",
    "writesStore",
    "writesCode",
    "readsMemory",
    "signalsNode",
    "readsEnvironment",
  ],
  [WallName.descriptors]: ["readsDescriptor"],
  [WallName.root]: [
    "readsStore",
    "readsIdentity",
    "readsHome",
    "readsSystem",
    "writesTemporary",
    "writesStore",
    "writesCode",
    "reachesSocket",
    "startsPrograms",
  ],
  [WallName.processes]: [
    "readsArguments",
    "readsEnvironment",
    "readsMemory",
    "signalsNode",
    "signalsNeighbour",
    "seesProcesses",
  ],
  [WallName.network]: ["reachesLoopback", "reachesAbstractSocket"],
  [WallName.privileges]: ["gainsPrivileges"],
  [WallName.userNamespace]: ["startsProcessesWithoutEnd", "startsThreadsWithoutEnd", "makesNamespaces"],
  [WallName.limits]: ["fillsDisks"],
  [WallName.landlock]: [
    "readsStore",
    "readsIdentity",
    "readsHome",
    "readsSystem",
    "readsArguments",
    "readsEnvironment",
    "readsMemory",
    "writesTemporary",
    "writesStore",
    "writesCode",
    "startsPrograms",
  ],
  [WallName.systemCalls]: [
    "writesTemporary",
    "writesStore",
    "writesCode",
    "signalsNode",
    "signalsNeighbour",
    "reachesLoopback",
    "reachesSocket",
    "reachesAbstractSocket",
    "startsProcessesWithoutEnd",
    "makesNamespaces",
    "callsKernel",
  ],
};

function expectShut({ walls, answers }: Report): void {
  const shut = new Set(walls.flatMap((wall) => SHUT[wall] ?? []));
  expect([...shut].filter((question) => answers[question]).map((question) => QUESTIONS[question])).toEqual(
    [],
  );
}

/** What SECURITY.md says of each question: the cells of a column of its table, by what stands in the first. */
function promised(title: string): Record<string, boolean> {
  const lines = readFileSync(join(SOURCES, "SECURITY.md"), "utf8").split("\n");
  const first = lines.findIndex((line) => line.startsWith("| native code could |"));
  const cells = (line: string): string[] =>
    line
      .split("|")
      .slice(1, -1)
      .map((cell) => cell.trim());
  const column = cells(lines[first]!).indexOf(title);
  const end = lines.findIndex((line, index) => index > first && !line.startsWith("|"));
  return Object.fromEntries(
    lines.slice(first + 2, end).map((line) => [cells(line)[0]!, cells(line)[column] === "**yes**"]),
  );
}

const ENCLOSED = [WallName.userNamespace, WallName.root, WallName.landlock, WallName.systemCalls];
const CASES: readonly { readonly has: Has; readonly walls: readonly WallName[] }[] = [
  { has: "everything", walls: ENCLOSED },
  ...(existsSync(BUBBLEWRAP) ? [{ has: "bubblewrap", walls: ENCLOSED } as const] : []),
  { has: "no namespaces", walls: [WallName.limits, WallName.landlock, WallName.systemCalls] },
  { has: "neither", walls: [WallName.limits] },
];
const USERS = [
  ...(ROOT ? [{ who: "root", user: undefined }] : []),
  { who: "user", user: ROOT ? SOMEBODY : undefined },
];

describe.runIf(LINUX)("native code in an executor process", () => {
  it.each(USERS.flatMap((user) => CASES.map((machine) => ({ ...user, ...machine }))))(
    "meets what SECURITY.md says, as $who, with $has",
    async ({ who, user, has, walls }) => {
      const report = await probe(has, user);
      expectShut(report);
      // Another machine may have less.
      if (!walls.every((wall) => report.walls.includes(wall))) return;
      const title = has === "everything" || has === "bubblewrap" ? who : `${who}, ${has}`;
      const said = Object.fromEntries(
        Object.entries(report.answers).map(([question, answer]) => [QUESTIONS[question as Question], answer]),
      );
      expect(said).toEqual(promised(title));
    },
  );
});
