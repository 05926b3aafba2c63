/** Groups of more keys than one packet takes: the same bytes on any number of workers, on nodes, and after one was killed. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { PARTITION_BYTES, RESULT_BYTES_MAX } from "../../runtime/limits.ts";
import { startNetwork } from "../../sdk/cli/demo/network.ts";
import type { Network } from "../../sdk/cli/demo/network.ts";
import { connect, openLocal } from "../../sdk/index.ts";
import type { JobEvent, JobResult, PacketFS } from "../../sdk/index.ts";
import { Random } from "../sim/random.ts";
import { executorsOf, HAS_PROC, peakBytesOf, signalThatEnded } from "../suites/processes.ts";
import { COUNT_LINES } from "../count-lines.ts";

const SUMS = {
  source: `import { defineProgram, lines } from "packetfs";
export default defineProgram({
  input: lines(),
  yields: "groups",
  map(line: string, { emit }) {
    const at = line.indexOf(" ");
    emit(line.slice(at + 1), Number(line.slice(0, at)));
  },
  combine: (a: number, b: number) => a + b,
});`,
};
const LARGEST = {
  source: SUMS.source.replace("lines }", "lines, top }").replace(/\}\);$/, "  result: top(7),\n});"),
};

const LONG = {
  source: `import { defineProgram, lines } from "packetfs";
export default defineProgram({
  input: lines(),
  yields: "groups",
  map(line: string, { emit }) {
    emit(line, line.repeat(300));
  },
  combine: (a: string) => a,
});`,
};

/** Keys are long, and some of what JSON escapes and UTF-8 and UTF-16 sort otherwise. */
const KEYS = 16_000;
function keyOf(index: number): string {
  const odd = ["", '"\\', "é", "\uffff", "😀"][index % 5]!;
  return `${odd}${((index * 7919) % KEYS).toString(36)} ${"of a length that makes many bytes of few keys ".repeat(5)}`;
}

function linesOf(seed: number): string {
  const random = new Random(seed);
  let text = "";
  for (let index = 0; index < 3 * KEYS; index++) {
    // Many values are those of one key.
    const key = random.chance(0.3) ? 7 : random.integer(0, KEYS - 1);
    text += `${random.integer(1, 100_000) / 1000} ${keyOf(key)}\n`;
  }
  return text;
}

const text = linesOf(3);
const keys = new Map<string, number>();
for (const line of text.slice(0, -1).split("\n")) {
  const at = line.indexOf(" ");
  keys.set(line.slice(at + 1), (keys.get(line.slice(at + 1)) ?? 0) + Number(line.slice(0, at)));
}
const sorted = [...keys.keys()].sort();

async function contentOf(pfs: PacketFS, name: string): Promise<string> {
  const pieces: Uint8Array[] = [];
  for await (const piece of pfs.get(name)) pieces.push(piece.slice());
  return Buffer.concat(pieces).toString();
}

/** How many processes were there to be killed. */
function kill(pid: number): number {
  try {
    process.kill(pid, "SIGKILL");
    return 1;
  } catch {
    return 0;
  }
}

/** The most memory that an executor process has while so many keys are counted, and the bytes of their lines. */
async function peakBytes(store: string, count: number): Promise<{ peak: number; bytes: number }> {
  const others = new Set(executorsOf(process.pid));
  await using pfs = await openLocal(store, { workers: 1 });
  const { length } = await pfs.put(distinctLines(count), { name: "distinct" });
  let peak = 0;
  const watch = setInterval(() => {
    for (const pid of executorsOf(process.pid)) if (!others.has(pid)) peak = Math.max(peak, peakBytesOf(pid));
  }, 50);
  await pfs
    .run(COUNT_LINES, ["distinct"], { out: "counts", splitBytes: 1024 * 1024 })
    .finally(() => clearInterval(watch));
  expect(peak).toBeGreaterThan(0);
  return { peak, bytes: length };
}

async function* distinctLines(count: number): AsyncGenerator<Uint8Array> {
  let lines = "";
  for (let index = 0; index < count; index++) {
    lines += `${((index * 7919) % 1_000_003).toString(36)} ${"of a length that makes many bytes ".repeat(3)}\n`;
    if (lines.length < 64 * 1024) continue;
    yield Buffer.from(lines);
    lines = "";
  }
  yield Buffer.from(lines);
}

/** The sums as they are stored. */
async function sums(pfs: PacketFS, onEvent?: (event: JobEvent) => void): Promise<string> {
  await pfs.run(SUMS, ["lines"], { out: "sums", ...(onEvent === undefined ? {} : { onEvent }) });
  return await contentOf(pfs, "sums");
}

describe("many keys", () => {
  const directory = mkdtempSync(join(tmpdir(), "packetfs-keys-"));
  let network: Network;
  let expected: string;
  beforeAll(async () => {
    await using pfs = await openLocal(directory, { workers: 1 });
    await pfs.put(Buffer.from(text), { name: "lines" });
    expected = await sums(pfs);
    network = await startNetwork({ nodes: 2, workers: 1 });
    await using client = await connect(network.clientToken);
    await client.put(Buffer.from(text), { name: "lines" });
  });
  afterAll(async () => {
    await network.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it("have the values of a plain map, in the order of their UTF-16 units", () => {
    expect(text.length).toBeGreaterThan(2 * PARTITION_BYTES);
    const groups = expected
      .slice(0, -1)
      .split("\n")
      .map((line) => JSON.parse(line) as [string, number]);
    expect(groups.map(([key]) => key)).toEqual(sorted);
    for (const [key, sum] of groups) expect(Math.abs(sum - keys.get(key)!)).toBeLessThan(1e-3);
  });

  it("are the same on four workers, one after the other, as CSV, and the largest of them alone", async () => {
    await using four = await openLocal(directory, { workers: 4 });
    const result = (await four.run(SUMS, ["lines"])) as JobResult<[string, number][]>;
    const lines: string[] = [];
    for await (const group of result) lines.push(`${JSON.stringify(group)}\n`);
    expect(lines.join("") === expected).toBe(true);
    await four.run(SUMS, ["lines"], { out: "sums.csv" });
    const rows = result.value!.map(
      ([key, sum]) => `${key.includes('"') ? `"${key.replaceAll('"', '""')}"` : key},${sum}\n`,
    );
    expect((await contentOf(four, "sums.csv")) === `key,value\n${rows.join("")}`).toBe(true);
    const largest = result.value!.toSorted(([, a], [, b]) => b - a).slice(0, 7);
    expect((await four.run(LARGEST, ["lines"])).value).toEqual(largest);
  });

  it.skipIf(!HAS_PROC).each([
    ["the first split is done", 0],
    ["half of the splits are done", 0.5],
    ["all splits are done, and groups are reduced", 1],
  ])("are the same where all executor processes are killed when %s", async (_when, share) => {
    const others = new Set(executorsOf(process.pid));
    await using two = await openLocal(directory, { workers: 2 });
    let killed = 0;
    const content = await sums(two, (event) => {
      if (event.kind !== "progress" || event.done === 0 || event.done < share * event.tasks || killed > 0)
        return;
      for (const pid of executorsOf(process.pid)) if (!others.has(pid)) killed += kill(pid);
    });
    expect(killed).toBeGreaterThan(0);
    expect(content === expected).toBe(true);
  });

  it.skipIf(process.platform !== "linux")(
    "take hardly more memory where they are four times as many",
    async () => {
      const few = await peakBytes(directory, 160_000);
      const many = await peakBytes(directory, 640_000);
      // What holds all of them at once has each several times: as text, as a key, and in what it yields.
      expect(many.peak - few.peak).toBeLessThan(2 * (many.bytes - few.bytes));
    },
  );

  it("are read from a file where they are more than a value may be", async () => {
    await using pfs = await openLocal(directory, { workers: 2 });
    const names = Array.from({ length: 24_000 }, (_, index) => `line ${index}`);
    await pfs.put(Buffer.from(names.join("\n")), { name: "names" });
    const result = (await pfs.run(LONG, ["names"], { splitBytes: 32 * 1024 })) as JobResult<
      [string, string][]
    >;
    expect(result.value).toBeUndefined();
    expect(result.file!.name).toBeUndefined();
    expect(result.file!.length).toBeGreaterThan(RESULT_BYTES_MAX);
    const seen: string[] = [];
    for await (const [key, value] of result) if (value === key.repeat(300)) seen.push(key);
    expect(seen).toEqual(names.toSorted());
  });

  it("are the same on nodes, of which one is killed when all splits are done", async () => {
    await using pfs = await connect(network.clientToken);
    const victim = network.nodes[0]!.process;
    const content = await sums(pfs, (event) => {
      if (event.kind === "progress" && event.done === event.tasks) victim.kill("SIGKILL");
    });
    expect(await signalThatEnded(victim)).toBe("SIGKILL");
    expect(content === expected).toBe(true);
  });
});
