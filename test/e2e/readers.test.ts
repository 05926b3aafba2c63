/** Files as people have them, through a whole job: the same answer and the same fault whatever the splits. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";

let pfs: PacketFS;
beforeAll(async () => {
  pfs = await openLocal(join(await temporaryDirectory(), "store"), { workers: 2 });
});
afterAll(async () => {
  await pfs.close();
});

let files = 0;

/** Splits of a few bytes, of some, and one. */
const SPLITS = [5, 40, undefined];

function program(reader: string, rest: string): { source: string } {
  return {
    source: `import { bytes, csv, jsonLines, lines, records, defineProgram } from "packetfs";
      export default defineProgram({ input: ${reader}, ${rest} });`,
  };
}

async function run(
  content: string | Uint8Array,
  reader: string,
  rest: string,
  splitBytes: number | undefined,
): Promise<unknown> {
  const name = `file-${++files}`;
  await pfs.put(typeof content === "string" ? Buffer.from(content) : content, { name });
  const options = splitBytes === undefined ? {} : { splitBytes };
  const { value } = await pfs.run(program(reader, rest), [name], options);
  return value;
}

describe.each(SPLITS)("in splits of %j bytes", (splitBytes) => {
  it.each([
    [
      "a,b\r1,2\r3,4\r",
      [
        { a: "1", b: "2" },
        { a: "3", b: "4" },
      ],
    ],
    ["a,,\n1,2,3\n", [{ a: "1", column2: "2", column3: "3" }]],
    [
      "a,b\n1,2,\n3,4,\n",
      [
        { a: "1", b: "2" },
        { a: "3", b: "4" },
      ],
    ],
    ['sep=;\na;b\n1;"2\n;"\n', [{ a: "1", b: "2\n;" }]],
  ])("reads the CSV %j", async (text, rows) => {
    expect(await run(text, "csv()", "map: (row) => row", splitBytes)).toEqual(rows);
  });

  it("reads text in its encoding, JSON with large integers, and the last bytes", async () => {
    const wide = Buffer.from("\u{feff}ä\n😀\nlast", "utf16le");
    const all = "map: (record) => record";
    expect(await run(wide, 'lines({ encoding: "utf-16le" })', all, splitBytes)).toEqual(["ä", "😀", "last"]);
    const id = "map: (record) => String(record.id)";
    const json = '{"id":9007199254740993}\n{"id":7}\n';
    expect(await run(json, "jsonLines({ bigint: true })", id, splitBytes)).toEqual(["9007199254740993", "7"]);
    const sizes = "map: (record) => record.length";
    expect(await run("0123456789", "bytes(4)", sizes, splitBytes)).toEqual([4, 4, 2]);
    const paragraphs = 'records({ separator: "\\n\\n", encoding: "utf-8" })';
    expect(await run("a\nb\n\n\n\nc", paragraphs, all, splitBytes)).toEqual(["a\nb", "c"]);
  });

  it("names file, byte and line of a row and of a record that the program refuses", async () => {
    const rows = ["h1,h2", "1,2", "3,4", "5,6", "7,8", "9,9,9", ""].join("\n");
    const refused = run(rows, "csv()", "map: () => 1", splitBytes);
    const file = `file-${files}`;
    await expect(refused).rejects.toMatchObject({
      code: "PFS_RECORD_INVALID",
      message: expect.stringContaining(
        `a row has 3 fields, the header 2 (line 6, byte 22 of "${file}", on node `,
      ),
      data: { file, at: 22, line: 6 },
    });
    await expect(run("a,,\n1,2\n\na,b,c,d\n", "csv()", "map: () => 1", splitBytes)).rejects.toMatchObject({
      data: { at: 9, line: 4 },
    });
    const throws =
      'map: (line) => { if (line === "x") throw new Error("no number"); return 1; }, combine: (a, b) => a + b';
    const many = splitBytes === 5 ? 300 : 30_000;
    await expect(run(`${"1\n".repeat(many)}x\n`, "lines()", throws, splitBytes)).rejects.toMatchObject({
      code: "PFS_PROGRAM_THREW",
      message: expect.stringMatching(/Error: no number \(line \d+, byte \d+ of "file-\d+", on node /),
      data: { at: many * 2, line: many + 1 },
    });
  });

  it("refuses what is no text by its name, and bytes of another encoding by their place", async () => {
    const gzip = Uint8Array.from([0x1f, 0x8b, 8, 0, 10, 10, 10, 10, 10, 10, 10, 10]);
    await expect(run(gzip, "lines()", "map: () => 1", splitBytes)).rejects.toMatchObject({
      code: "PFS_RECORD_INVALID",
      message: expect.stringContaining("this is gzip, not text: decompress it first"),
      data: { at: 0, line: 1 },
    });
    const latin = Buffer.from("one\ntwo\nd\xe4\n", "latin1");
    await expect(run(latin, "lines()", "map: () => 1", splitBytes)).rejects.toMatchObject({
      message: expect.stringContaining("not UTF-8"),
      data: { at: 9, line: 3 },
    });
  });
});

it("gives the shipped example its numbers with one split and several", async () => {
  const { value: one } = await sums(undefined);
  expect(one).toEqual([["A", { count: 4, sum: Infinity, min: 2, max: Infinity, mean: Infinity }]]);
  expect((await sums(9)).value).toEqual(one);
});

async function sums(splitBytes: number | undefined): Promise<{ readonly value?: unknown }> {
  await pfs.put(Buffer.from("city,amount\nA,1e400\nA,5\nA,7\nA,2\n"), { name: "sales.csv" });
  const path = new URL("../../examples/csv-aggregate.ts", import.meta.url).pathname;
  const options = { args: { by: "city", of: "amount" }, ...(splitBytes === undefined ? {} : { splitBytes }) };
  return pfs.run({ path }, ["sales.csv"], options);
}
