/** Programs that bring large data with them: what bundling takes loads, is there for every packet, and is limited by name. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";

const ENTRIES = 200_000;
/** JSON as a table has it: together a little under what a program may have. */
const table = Object.fromEntries(
  Array.from({ length: ENTRIES }, (_, index) => [`a key in table ${index}`, `value ${index}`]),
);

let directory: string;
let pfs: PacketFS;
beforeAll(async () => {
  directory = await temporaryDirectory();
  pfs = await openLocal(join(directory, "store"), { workers: 2 });
  const lines = Array.from({ length: 2000 }, (_, index) => `${(index * 7919) % ENTRIES}\n`);
  await pfs.put(Buffer.from(lines.join("")), { name: "numbers" });
});
afterAll(() => pfs.close());

it("a table of 200,000 entries loads, for each of hundreds of packets, where every change to it is refused", async () => {
  const text = JSON.stringify(table);
  expect(text.length).toBeGreaterThan(7_500_000);
  await mkdir(join(directory, "program"));
  await writeFile(join(directory, "program/table.json"), text);
  await writeFile(
    join(directory, "program/look-up.ts"),
    `import { defineProgram, lines } from "packetfs";
     import table from "./table.json" with { type: "json" };
     const values: Record<string, string> = table;
     let changes = 0;
     export default defineProgram({
       input: lines(),
       map: (line) => {
         const key = \`a key in table \${line}\`;
         const value = values[key];
         try { values[key] = "changed"; changes++; } catch {}
         return (value === \`value \${line}\` ? 1 : 0) - changes;
       },
       combine: (a: number, b: number) => a + b,
     });`,
  );
  const path = join(directory, "program/look-up.ts");
  const { value, statistics } = await pfs.run({ path }, ["numbers"], { splitBytes: 64 });
  expect(value).toBe(2000);
  expect(statistics.tasks).toBeGreaterThan(150);
});

it("arguments may be a table too, up to their limit, which is named", async () => {
  const source = `import { defineProgram, lines } from "packetfs";
    export default defineProgram({
      input: lines(),
      init: (args: { readonly words: readonly string[] }) => args.words,
      map: (line, { state }) => state[Number(line) % state.length]!.length,
      combine: (a: number, b: number) => a + b,
    });`;
  const words = (count: number): { words: string[] } => ({
    words: Array<string>(count).fill("x".repeat(97)),
  });
  const run = (args: unknown): Promise<unknown> =>
    pfs.run({ source }, ["numbers"], { splitBytes: 64, args }).then(({ value }) => value);
  expect(await run(words(9_990))).toBe(2000 * 97);
  await expect(run(words(15_000))).rejects.toMatchObject({
    code: "PFS_USAGE",
    message: expect.stringMatching(/^args are more than 1 MB of JSON: store what is large as a file/),
    data: { max: 1_000_000 },
  });
  await expect(run({ words: 1n })).rejects.toMatchObject({
    code: "PFS_USAGE",
    message: expect.stringContaining('its "words" is a bigint'),
  });
});
