/** Containers mostly have little shared memory, and others may take what there was. */
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, it } from "vitest";
import { runSync } from "../../suites/run-sync.ts";
import { isSmallDisk } from "../../suites/small-disk.ts";

const UNSHARE = "/usr/bin/unshare";
const OWN = process.getuid?.() === 0 ? ["--mount"] : ["--user", "--map-root-user", "--mount"];
/** Room for the inputs of some processes. */
const SMALL_BYTES = 40 * 1024 * 1024;
const SMALL = `mount -t tmpfs -o size=${SMALL_BYTES} tmpfs /dev/shm; exec "$@"`;
const SHELL = [...OWN, "sh", "-ec", SMALL, "sh"];
const canMount =
  existsSync(UNSHARE) && runSync(UNSHARE, [...SHELL, ...isSmallDisk("/dev/shm", SMALL_BYTES)]).status === 0;

it.runIf(canMount)("a lane goes on elsewhere when the shared memory is full, and says so", () => {
  const main = fileURLToPath(new URL("./full-memory-main.ts", import.meta.url));
  const node = [process.execPath, "--no-node-snapshot", "--no-warnings", main];
  const { stdout, stderr } = runSync(UNSHARE, [...SHELL, ...node]);
  expect(stderr).toBe("");
  const { lost, ops, notes } = JSON.parse(stdout) as { lost?: string; ops: string[]; notes: string[] };
  expect(lost).toBeUndefined();
  expect(ops).toEqual(Array.from({ length: 12 }, () => "return"));
  expect(notes.length).toBeGreaterThan(0);
  for (const note of notes) expect(note).toContain("shared-memory");
});
