/** What V8 compiles of executors is kept by the first that starts, and taken by those that start later. */
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, rmSync, statSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { builtUrl, compiledCode } from "../../../runtime/built.ts";
import { NODE_FLAGS } from "../../../runtime/sandbox/process/launch.ts";
import { startExecutor } from "./harness.ts";

const main = new URL("../../../runtime/sandbox/thread/executor-main.ts", import.meta.url);
const folder = mkdtempSync(join(tmpdir(), "pfs-compiled-"));
const LONG_AGO = new Date(0);

beforeAll(async () => {
  await (await startExecutor()).close();
  cpSync(dirname(fileURLToPath(builtUrl(main))), folder, { recursive: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** When it was kept what V8 compiled of an executor's first file, after a Node with these flags has loaded that. */
async function keptAfter(flags: readonly string[], more = false): Promise<Date> {
  const [kept = ""] = readdirSync(join(folder, "compiled")).filter((name) =>
    name.startsWith("executor-main-"),
  );
  const path = join(folder, "compiled", kept);
  utimesSync(path, LONG_AGO, LONG_AGO);
  const script = `const { load, keep } = require(${JSON.stringify(join(folder, "compiled.cjs"))}); load("executor-main"); keep(${more});`;
  await promisify(execFile)(process.execPath, [...flags, "-e", script], { env: {} });
  return statSync(path).mtime;
}

test("the first executor leaves it to the others", () => {
  for (const name of ["executor-main", "executor-thread", "prelude"]) {
    expect([name, compiledCode().isMissing(name)]).toEqual([name, false]);
    expect(compiledCode().read(name)!.byteLength).toBeGreaterThan(10_000);
  }
});

test("V8 takes it with the flags of executors, and with no others", async () => {
  expect(await keptAfter(NODE_FLAGS)).toEqual(LONG_AGO);
  expect(await keptAfter(NODE_FLAGS, true)).not.toEqual(LONG_AGO);
  expect(await keptAfter(NODE_FLAGS)).toEqual(LONG_AGO);
  expect(await keptAfter(NODE_FLAGS.filter((flag) => flag !== "--expose-gc"))).not.toEqual(LONG_AGO);
});
