/** "pfs cancel" speaks of jobs, wherever it is said. */
import { expect, it } from "vitest";
import { makePlace } from "../sdk/cli/run-pfs.ts";

it("a job that is not running is no file that is missing", async () => {
  const { run } = await makePlace();
  await run(["put", "text.txt"]);
  const { err, status } = await run(["cancel", "nope"]);
  expect(status).toBe(3);
  expect(err).toMatch(/^pfs: [^\n]*job[^\n]*nope[^\n]*\n$/);
});
