/** A machine that has lost walls says so wherever programs are started, and only then. */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makePlace } from "../sdk/cli/run-pfs.ts";
import { runSync } from "../suites/run-sync.ts";

const PERL = "/usr/bin/perl";
/** A machine whose Perl does not run: what makes two of the walls is gone. */
const WITHOUT_PERL = ["unshare", "--mount", "sh", "-ec", `mount --bind /dev/null ${PERL}; exec "$@"`, "sh"];
const canLose =
  existsSync(PERL) && runSync(WITHOUT_PERL[0]!, [...WITHOUT_PERL.slice(1), "true"]).status === 0;
const LOST = /behind less than they did here before: without Landlock, system call filter\. "pfs doctor"/;
const PROGRAM =
  'import { defineProgram, lines } from "packetfs";\n' +
  "export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });";

interface Check {
  readonly topic: string;
  readonly name: string;
  readonly found: string;
  readonly advice?: string;
}

it.runIf(canLose)("lost walls are told by run, up and doctor", async () => {
  const { cwd, run, json } = await makePlace();
  await writeFile(join(cwd, "count.js"), PROGRAM);
  await json(["put", "text.txt"]);
  const count = ["run", "count.js", "text.txt"];
  const settings = { PACKETFS_STORE: join(cwd, "store") };
  const without = { environment: settings, through: WITHOUT_PERL };

  const first = await run([...count, "--verbose"]);
  expect(first).toMatchObject({ status: 0, out: "20000\n" });
  expect(first.err).toMatch(/programs run behind: .*Landlock, system call filter/);

  const lost = await run(count, without);
  expect(lost).toMatchObject({ status: 0, out: "20000\n" });
  expect(lost.err).toMatch(LOST);

  const up = await run(["up", "--listen", "127.0.0.1:0"], {
    ...without,
    whileRunning: (child) => {
      let said = "";
      child.stderr!.on("data", (piece: Buffer) => {
        said += piece.toString();
        if (said.includes("programs run behind") && said.endsWith("\n")) child.kill("SIGINT");
      });
    },
  });
  expect(up.err).toMatch(LOST);

  const doctor = await run(["doctor", "--json"], without);
  const { checks } = JSON.parse(doctor.out) as { readonly checks: readonly Check[] };
  for (const name of ["Landlock", "system call filter"]) {
    expect(checks.find((check) => check.name === name)).toMatchObject({
      found: "missing, though it stood here before",
      advice: expect.stringMatching(/perl.*walls\.json/s) as unknown,
    });
  }

  const again = await run(count);
  expect(again).toMatchObject({ status: 0, out: "20000\n" });
  expect(again.err).not.toMatch(LOST);
});
