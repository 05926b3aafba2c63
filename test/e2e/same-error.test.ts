/** A job that fails fails with the same error, whoever works on it: that of the first record that fails, not the fastest. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";

/** Every record fails, and the first one last. */
const SLOW_START = `export default {
  input: { kind: "lines" },
  map: (line, { offset }) => {
    if (offset === 0) for (let i = 0; i < 3e7; i++);
    throw new Error("bad " + line);
  },
}`;

it("tells of the first record that fails, with 1, 2 and 4 workers, every time", async () => {
  const directory = join(await temporaryDirectory(), "store");
  const text = Array.from({ length: 4_000 }, (_, index) => `${index}\n`).join("");
  const told = new Set<string>();
  for (const workers of [1, 2, 4]) {
    await using pfs = await openLocal(directory, { workers });
    await pfs.put(new TextEncoder().encode(text), { name: "x" });
    for (let repeat = 0; repeat < 4; repeat++) {
      const error: unknown = await pfs
        .run({ source: SLOW_START }, ["x"], { splitBytes: 64 })
        .catch((reason: unknown) => reason);
      expect(error).toMatchObject({ code: "PFS_PROGRAM_THREW", data: { file: "x", at: 0, line: 1 } });
      told.add((error as Error).message.split("\n")[0]!);
    }
  }
  expect([...told]).toEqual([expect.stringMatching(/Error: bad 0 \(line 1, byte 0 of "x"/)]);
});
