/**
 * The same job gives the same answer to the last bit, whoever works on it: the programs here are those that would show any
 * other order of adding up. Their answers on one lane are compared with those of more lanes and of machines that die.
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startNetwork } from "../../sdk/cli/demo/network.ts";
import type { Network } from "../../sdk/cli/demo/network.ts";
import { connect, openLocal } from "../../sdk/index.ts";
import type { JobEvent, JobResult, PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { signalThatEnded } from "../suites/processes.ts";

const LINES = 60_000;
const FILE = "decimals.csv";

/** Decimals of very different sizes in three cities: any other order of adding them ends in other digits. */
const text = Array.from({ length: LINES }, (_, index) => {
  const decimal = Math.abs(Math.sin(index + 1)) * 10 ** (index % 9);
  return `${decimal.toFixed(4)},${["oslo", "rome", "lima"][index % 3]!}\n`;
}).join("");

/** Some work, so that there is a middle to be killed in. */
const WORK = `function work(line) { let n = 0; for (let i = 0; i < 3000; i++) n += line.charCodeAt(i % line.length); return n; }`;
const LINE_READER = `input: { kind: "lines" }`;

const PROGRAMS = {
  sum: `${WORK} export default { ${LINE_READER},
    map: (line) => (work(line), Number(line.split(",")[0])), combine: (a, b) => a + b }`,
  // Equal keys stay in the order in which they came together.
  top: `export default { ${LINE_READER},
    map: (line) => [[Math.round(Math.sqrt(Number(line.split(",")[0]))), line]],
    combine: (a, b) => [...a, ...b].sort((x, y) => y[0] - x[0]).slice(0, 40) }`,
  byCity: `export default { ${LINE_READER}, yields: "groups",
    map(line, { emit }) { const [n, city] = line.split(","); emit(city, { sum: Number(n), squares: n * n, count: 1 }); },
    combine: (a, b) => ({ sum: a.sum + b.sum, squares: a.squares + b.squares, count: a.count + b.count }),
    reduce: (city, [{ sum, squares, count }]) => Math.sqrt(squares / count - (sum / count) ** 2) }`,
  list: `export default { ${LINE_READER}, map: (line, { index }) => index % 500 === 0 ? line : undefined,
    reduce: (lines) => lines.reduce((sum, line) => sum + Number(line.split(",")[0]), 0) }`,
  upper: `export default { ${LINE_READER}, yields: "bytes",
    map: (line, { write }) => write(line.toUpperCase() + "\\n") }`,
} as const;
type ProgramName = keyof typeof PROGRAMS;
const NAMES = Object.keys(PROGRAMS) as ProgramName[];

async function run(
  pfs: PacketFS,
  name: ProgramName,
  onEvent?: (event: JobEvent) => void,
): Promise<JobResult> {
  return await pfs.run({ source: PROGRAMS[name] }, [FILE], onEvent === undefined ? {} : { onEvent });
}

/** A value with every bit of its numbers, or the root of what it is the file of. */
function answerOf({ value, file }: JobResult): string {
  return file === undefined ? JSON.stringify(value) : file.root;
}

async function answers(pfs: PacketFS): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for (const name of NAMES) found[name] = answerOf(await run(pfs, name));
  return found;
}

describe("a job's answer", () => {
  let expected: Record<string, string>;
  let directory: string;
  let network: Network;

  beforeAll(async () => {
    directory = join(await temporaryDirectory(), "store");
    await using pfs = await openLocal(directory, { workers: 1 });
    await pfs.put(new TextEncoder().encode(text), { name: FILE });
    expected = await answers(pfs);
    network = await startNetwork({ nodes: 2, workers: 1 });
    await using remote = await connect(network.clientToken);
    await remote.put(new TextEncoder().encode(text), { name: FILE });
  });
  afterAll(() => network.stop());

  it("is one that a different order of adding up would change", () => {
    const numbers = text
      .trimEnd()
      .split("\n")
      .map((line) => Number(line.split(",")[0]));
    const leftToRight = numbers.reduce((sum, number) => sum + number, 0);
    expect(Number(expected["sum"])).not.toBe(leftToRight);
    expect(Math.abs(Number(expected["sum"]) - leftToRight) / leftToRight).toBeLessThan(1e-12);
  });

  it.each([2, 4, 7])("is the same to the last bit with %i workers", async (workers) => {
    await using pfs = await openLocal(directory, { workers });
    expect(await answers(pfs)).toEqual(expected);
  });

  it("is the same on a network, and when a node is killed in the middle", async () => {
    await using pfs = await connect(network.clientToken);
    expect(await answers(pfs)).toEqual(expected);
    const [victim] = network.nodes;
    const result = await run(pfs, "sum", (event) => {
      if (event.kind === "progress" && event.done > 0) victim!.process.kill("SIGKILL");
    });
    expect(await signalThatEnded(victim!.process)).toBe("SIGKILL");
    expect(answerOf(result)).toBe(expected["sum"]);
    expect(result.statistics.notes.join("\n")).toMatch(/\blost\b/);
    expect(await answers(pfs)).toEqual(expected);
  });
});
