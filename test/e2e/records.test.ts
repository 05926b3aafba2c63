/** What a program says of a file does not depend on where the file was cut, nor on who worked on it. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNetwork } from "../../sdk/cli/demo/network.ts";
import type { Network } from "../../sdk/cli/demo/network.ts";
import { connect, openLocal } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { bytesOf, noise, numbers, prose, sha256 } from "./inputs.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/", import.meta.url));
/** Bytes: less than some records, no multiple of anything, a border within a character, a quote or a number. */
const SPLIT_BYTES = 1000;

interface Case {
  readonly program: string;
  readonly input: Buffer;
  readonly args: unknown;
}

const CASES: readonly Case[] = [
  { program: "word-count.ts", input: prose(12_000, 21), args: null },
  { program: "grep.ts", input: prose(12_000, 22), args: { pattern: "größe7|word1\\b" } },
  { program: "csv-aggregate.ts", input: sales(200), args: { by: "city", of: "amount" } },
  {
    program: "filter-json-lines.ts",
    input: events(100),
    args: { least: "error", keep: ["time", "message"] },
  },
  // Eight rows of pixels are a record of 46,080 bytes: splits are never smaller.
  { program: "thumbnail.ts", input: noise(1920 * 3 * 8 * 4, 23), args: null },
];

/** Rows whose quoted fields hold separators, quotes and line ends, and no line end after the last. */
function sales(rows: number): Buffer {
  const next = numbers(24);
  const cities = ["Bonn", '"the ""Big"" Apple, NY"', '"São\nPaulo"', '"Köln\r\n\r\n"', '""'];
  const lines = ["note,city,amount"];
  for (let row = 0; row < rows; row++) {
    const note = row % 17 === 0 ? `"${'""\n,'.repeat((next() % 90) + 1)}"` : `row ${row}`;
    lines.push(`${note},${cities[next() % cities.length]!},${row % 11 === 0 ? "" : (next() % 1000) - 500}`);
  }
  return Buffer.from(lines.join("\r\n"));
}

function events(count: number): Buffer {
  const levels = ["debug", "info", "warning", "error", "fatal"];
  const lines = Array.from({ length: count }, (_, time) =>
    JSON.stringify({
      time,
      level: levels[time % 5],
      message: `it is “${time}”\n`,
      rest: "x".repeat((time * 7) % 1500),
    }),
  );
  return Buffer.from(lines.join("\n"));
}

let local: PacketFS;
let remote: PacketFS;
let network: Network;
beforeAll(async () => {
  local = await openLocal(join(await temporaryDirectory(), "store"), { workers: 1 });
  network = await startNetwork({ nodes: 1, workers: 1 });
  remote = await connect(network.clientToken);
});
afterAll(async () => {
  await remote.close();
  await local.close();
  await network.stop();
});

/** The job's result in a form that can be compared, and how many packets it took. */
async function resultOf(
  pfs: PacketFS,
  { program, args }: Case,
  splitBytes: number,
): Promise<{ result: unknown; tasks: number }> {
  const { value, file, statistics } = await pfs.run({ path: join(EXAMPLES, program) }, [program], {
    args,
    splitBytes,
  });
  const result = file === undefined ? value : sha256(await bytesOf(pfs, file.root));
  return { result, tasks: statistics.tasks };
}

describe("records", () => {
  it("are those of every example program", () => {
    const programs = readdirSync(EXAMPLES).filter((name) => name.endsWith(".ts"));
    // The picture has no records.
    const tested = [...CASES.map(({ program }) => program), "mandelbrot.ts", "use-from-typescript.ts"];
    expect(programs.toSorted()).toEqual(tested.toSorted());
  });

  it.each(CASES.map((each) => [each.program, each] as const))("are whole for %s", async (program, each) => {
    for (const pfs of [local, remote]) await pfs.put(each.input, { name: program });
    const whole = await resultOf(local, each, each.input.length);
    expect(whole.tasks).toBe(1);
    expect(whole.result).toBeTruthy();
    expect(whole.result).not.toEqual([]);
    expect(whole.result).not.toBe(sha256(Buffer.alloc(0)));
    for (const pfs of [local, remote]) {
      const split = await resultOf(pfs, each, SPLIT_BYTES);
      expect(split.tasks).toBeGreaterThan(2);
      expect(split.result).toEqual(whole.result);
    }
  });
});
