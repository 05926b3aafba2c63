/** What users saw of answers that depended on how a file was cut: each answer is one, whatever the splits, embedded. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";

let directory: string;
let pfs: PacketFS;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "packetfs-borders-"));
  pfs = await openLocal(directory, { workers: 2 });
  await pfs.put(Buffer.from("1e400\n2\n3\n4\n"), { name: "numbers" });
  await pfs.put(Buffer.from("1\n2\n3\n4\n"), { name: "digits" });
  await pfs.put(Buffer.from("x\n".repeat(20_000)), { name: "many" });
});
afterAll(async () => {
  await pfs.close();
  await rm(directory, { recursive: true });
});

async function valueOf(program: string, name: string, splitBytes?: number): Promise<unknown> {
  const source = `import { columns, defineProgram, lines, records, shared, top } from "packetfs"; ${program}`;
  const { value } = await pfs.run({ source }, [name], splitBytes === undefined ? {} : { splitBytes });
  return value;
}

it("sums and extremes beyond the numbers of JSON", async () => {
  const program = `export default defineProgram({ input: lines(), map: (l) => ({ sum: Number(l), max: Number(l) }),
    combine: (a, b) => ({ sum: a.sum + b.sum, max: Math.max(a.max, b.max) }) });`;
  for (const splitBytes of [undefined, 4]) {
    expect(await valueOf(program, "numbers", splitBytes)).toEqual({ sum: Infinity, max: Infinity });
  }
});

it("histograms in typed arrays", async () => {
  const program = `export default defineProgram({ input: lines(),
    map: (l) => { const counts = new Uint32Array(5); counts[Number(l)] = 1; return counts; },
    combine: (a, b) => a.map((count, index) => count + b[index]) });`;
  for (const splitBytes of [undefined, 2]) {
    expect(await valueOf(program, "digits", splitBytes)).toEqual(new Uint32Array([0, 1, 1, 1, 1]));
  }
});

it("what a module counts, whoever ran which packet", async () => {
  const program = `let n = 0; const every = /x/g; export default defineProgram({ input: lines(),
    map: () => [++n, every.test("xx") ? 1 : 0], combine: (a, b) => [Math.max(a[0], b[0]), a[1] + b[1]] });`;
  const first = await valueOf(program, "many", 1024);
  for (let run = 0; run < 3; run++) expect(await valueOf(program, "many", 1024)).toEqual(first);
});

it("a promise and a function, as faults that say where", async () => {
  const asynchronous = `const map: any = async () => 1; export default defineProgram({ input: lines(), map, combine: (a: any) => a });`;
  await expect(valueOf(asynchronous, "digits")).rejects.toThrow(
    "$ is a promise, but programs are synchronous (line 1",
  );
  const nested = `export default defineProgram({ input: lines(), map: (l) => ({ sum: l === "3" ? () => 1 : 2 }) });`;
  await expect(valueOf(nested, "digits")).rejects.toThrow("$.sum is a function (line 3, byte 4");
});

it("a table and the largest groups, over any splits", async () => {
  const program = `const names = shared(() => new Map([["1", "one"], ["2", "two"], ["3", "one"]]));
    export default defineProgram({ input: lines(), yields: "groups", map: (l, { emit }) => emit(names.get(l) ?? "", 1),
      combine: (a: number, b: number) => a + b, result: top(2) });`;
  for (const splitBytes of [undefined, 2]) {
    expect(await valueOf(program, "digits", splitBytes)).toEqual([
      ["one", 2],
      ["", 1],
    ]);
  }
});

it("the first bad record, whatever is wrong behind it", async () => {
  await pfs.put(Buffer.from("610000780000610000" + "6100", "hex"), { name: "rows" });
  await pfs.put(Buffer.from("610a780ae2280a", "hex"), { name: "text" });
  await pfs.put(Buffer.from(`a\nx\n${"y".repeat(17 << 20)}\n`), { name: "long" });
  const rows = `export default defineProgram({ input: columns({ a: "u8", b: "u16" }),
    map: ({ a }) => { if (a === 120) throw new RangeError("an x"); } });`;
  const overlap = `export default defineProgram({
    input: records({ separator: "\\n", encoding: "utf-8", overlapBytes: 1 }),
    map: (text) => { if (text.startsWith("x")) throw new RangeError("an x"); } });`;
  const eachLine = `export default defineProgram({ input: lines(),
    map: (line) => { if (line === "x") throw new RangeError("an x"); } });`;
  for (const [program, name, place, sizes] of [
    [rows, "rows", { at: 3 }, [3]],
    [overlap, "text", { at: 2, line: 2 }, [2, 3]],
    [eachLine, "long", { at: 2, line: 2 }, [1 << 20]],
  ] as const) {
    for (const splitBytes of [undefined, ...sizes]) {
      await expect(valueOf(program, name, splitBytes)).rejects.toMatchObject({
        code: "PFS_PROGRAM_THREW",
        data: { file: name, ...place },
      });
    }
  }
});
