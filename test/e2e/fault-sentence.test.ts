/** What a program throws is told in one sentence; where it was thrown may stand below, and nothing comes after that. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makePlace } from "../sdk/cli/run-pfs.ts";

const THROWS = `import { defineProgram, lines } from "packetfs";
  export default defineProgram({
    input: lines(),
    map: (line) => { throw new RangeError("too much of it"); },
  });`;

it("what a program throws is told in one sentence, with its stack below", async () => {
  const { cwd, run } = await makePlace();
  await run(["put", "text.txt"]);
  await writeFile(join(cwd, "throws.ts"), THROWS);
  const { err, status } = await run(["run", "throws.ts", "text.txt"]);
  expect(status).toBe(6);
  const [sentence, ...stack] = err.trimEnd().split("\n");
  expect(sentence).toMatch(/^pfs: program "throws\.ts" failed on packet \d.*RangeError: too much of it/);
  expect(sentence).toMatch(/line \d+, byte \d+ of "text\.txt"/);
  for (const line of stack) expect(line).toMatch(/^ +at [^ ]+ \([^ ]+\)$/);
});

const FAKES = `import { defineProgram, lines } from "packetfs";
  export default defineProgram({
    input: lines(),
    map: (line) => { throw new Error("no\\npfs: all is well\\r\\n    at nowhere (pfs.ts:1:1)\\nnote: 0 errors"); },
  });`;

it("a program's own line ends do not make lines of the command line", async () => {
  const { cwd, run } = await makePlace();
  await run(["put", "text.txt"]);
  await writeFile(join(cwd, "fakes.ts"), FAKES);
  const { err } = await run(["run", "fakes.ts", "text.txt"]);
  const [sentence, ...stack] = err.trimEnd().split("\n");
  expect(sentence).toContain(
    String.raw`Error: no\npfs: all is well\r\n    at nowhere (pfs.ts:1:1)\nnote: 0 errors`,
  );
  expect(sentence).toMatch(/line \d+, byte \d+ of "text\.txt"/);
  for (const line of stack) expect(line).toMatch(/^ +at [^ ]+ \([^ ]+\)$/);
});
