/** pfs doctor says of the store what is so: it calls nothing well that no command could use, and no directory a store that is none. */
import { chmod, mkdir, readdir, rm, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Check } from "../../../sdk/cli/doctor/check.ts";
import { storeChecks } from "../../../sdk/cli/doctor/store.ts";
import { makePlace, pfs, temporaryDirectory } from "./run-pfs.ts";
import { runSync } from "../../suites/run-sync.ts";

/** What is said of the store in a directory. */
function look(store: string): Promise<readonly Check[]> {
  return storeChecks(store, store);
}

/** The same, by a process of its own. */
async function lookThrough(through: readonly string[], store: string): Promise<Check> {
  const { status, out } = await pfs(["doctor", "--json", "--store", store], { through });
  const { checks } = JSON.parse(out) as { checks: Check[] };
  const [found] = checks.filter(({ topic }) => topic === "store");
  expect(status).toBe(1);
  return found!;
}

const AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const canBeNobody = runSync(AS_NOBODY[0]!, [...AS_NOBODY.slice(1), "true"]).status === 0;

describe("doctor", () => {
  it("says that a directory is no store, and gives no advice on whose it is", async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, "letter.txt"), "to somebody");
    await chmod(directory, 0o755);
    for (const store of [directory, "/"]) {
      const [check, ...others] = await look(store);
      expect(others).toEqual([]);
      expect(check).toMatchObject({ name: "directory", state: "failure" });
      expect(check!.advice).toMatch(/not a store; name another directory with --store$/);
    }
  });

  it("says whether the first put can make the store, and leaves nothing there", async () => {
    const directory = await temporaryDirectory();
    await writeFile(join(directory, "file"), "");
    await mkdir(join(directory, "empty"));
    for (const name of ["empty", "new", "new/er"]) {
      const [check] = await look(join(directory, name));
      expect(check).toMatchObject({ state: "ok", found: expect.stringMatching(/the first put makes it$/) });
    }
    for (const store of ["/proc/x", join(directory, "file"), join(directory, "file", "store")])
      expect(await look(store)).toMatchObject([{ name: "directory", state: "failure" }]);
    expect(await readdir(directory, { recursive: true })).toEqual(["empty", "file"]);
  });

  it.runIf(canBeNobody)("says so where this user may make none, or read none", async () => {
    const directory = await temporaryDirectory();
    await chmod(directory, 0o755);
    const unmade = await lookThrough(AS_NOBODY, join(directory, "store"));
    expect(unmade).toMatchObject({ state: "failure", advice: expect.stringMatching(/permission denied$/) });
    await mkdir(join(directory, "others"), { mode: 0o700 });
    const unread = await lookThrough(AS_NOBODY, join(directory, "others"));
    expect(unread).toMatchObject({
      state: "failure",
      advice: expect.stringMatching(/permission denied; name another/),
    });
  });

  it("misses the files of a store that are gone or cut short", async () => {
    const { cwd, json } = await makePlace();
    await json(["put", "text.txt"]);
    const store = join(cwd, "store");
    expect((await look(store)).map(({ state }) => state)).not.toContain("failure");
    const [segment = ""] = await readdir(join(store, "segments"));
    const path = join(store, "segments", segment);
    for (const harm of [() => truncate(path, 200), () => rm(path)]) {
      await harm();
      expect(await look(store)).toContainEqual({
        topic: "store",
        name: "segments",
        state: "failure",
        found: `1 file gone or cut short, such as ${path}`,
        advice: expect.stringContaining("pfs verify names the files") as unknown,
      });
    }
    // A store is told to be closed to others, and nothing else is.
    await chmod(store, 0o755);
    expect(await look(store)).toContainEqual(
      expect.objectContaining({ name: "directory", advice: expect.stringContaining("chmod") as unknown }),
    );
  });
});
