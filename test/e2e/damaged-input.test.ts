/** A program never sees bytes that are not the file's: where they are damaged on disk the run fails, whatever its splits. */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makePlace } from "../sdk/cli/run-pfs.ts";
import { noise } from "./inputs.ts";

const SUM = `import { bytes, defineProgram } from "packetfs";
  export default defineProgram({
    input: bytes(),
    map: (all) => all.reduce((sum, byte) => sum + byte, 0),
    combine: (a: number, b: number) => a + b,
  });`;

it.each(["64KiB", "96KiB", "1MiB", "3MiB"])("a run over damaged bytes fails, %s a packet", async (split) => {
  const { cwd, run, json } = await makePlace();
  await writeFile(join(cwd, "sum.ts"), SUM);
  await writeFile(join(cwd, "noise.bin"), noise(3_000_000, 61));
  await json(["put", "noise.bin"]);
  const segments = join(cwd, "store", "segments");
  const [segment] = await readdir(segments);
  const path = join(segments, segment!);
  const bytes = await readFile(path);
  bytes[700_000]! ^= 1;
  await writeFile(path, bytes);
  const { status, out, err } = await run(["run", "sum.ts", "noise.bin", "--split", split]);
  expect({ status, out }).toEqual({ status: 4, out: "" });
  expect(err).toMatch(/damaged/);
});
