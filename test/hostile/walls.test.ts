/**
 * What stands between native code in an executor process and the machine, asked of the kernel by a probe in such a
 * process's place. Which walls there are depends on the machine; what each of them promises does not.
 */
import { spawn } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { WallName } from "../../runtime/sandbox/process/enclosures.ts";
import { QUESTIONS } from "./wall-probe.ts";
import type { ProbeAnswers, Question } from "./wall-probe.ts";

const LINUX = process.platform === "linux";
const ROOT = process.getuid?.() === 0;
const SETPRIV = "/usr/bin/setpriv";
/** A user without a name, and with nothing. */
const SOMEBODY = 12_345;
const SECRET = "a-join-token-for-nobody-else";

interface Report {
  readonly walls: readonly WallName[];
  readonly answers: ProbeAnswers;
}

/** Runs a node with the probe in place of an executor, as the user who runs this test or as somebody else. */
async function probe(user?: number): Promise<Report> {
  const folder = mkdtempSync(join(tmpdir(), "packetfs-walls-"));
  // As homes are: others may look in, and files say who may read them.
  chmodSync(folder, 0o755);
  if (user !== undefined) chownSync(folder, user, user);
  const inherited = join(folder, "inherited");
  writeFileSync(inherited, "open");
  const main = fileURLToPath(new URL("./walls-main.ts", import.meta.url));
  const as = user === undefined ? [] : [SETPRIV, `--reuid=${user}`, `--regid=${user}`, "--clear-groups"];
  const node = [process.execPath, "--no-node-snapshot", "--no-warnings", main, folder, SECRET];
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
  [WallName.userNamespace]: ["startsProcessesWithoutEnd"],
  [WallName.limits]: ["fillsDisks"],
};

function expectShut({ walls, answers }: Report): void {
  const shut = new Set(walls.flatMap((wall) => SHUT[wall] ?? []));
  expect([...shut].filter((question) => answers[question]).map((question) => QUESTIONS[question])).toEqual(
    [],
  );
}

describe.runIf(LINUX)("native code in an executor process", () => {
  it("meets the walls that are said to stand", async () => {
    expectShut(await probe());
  });

  it.runIf(ROOT)("meets them as a normal user's too", async () => {
    expectShut(await probe(SOMEBODY));
  });
});
