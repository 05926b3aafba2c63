/** Which engine computes a job's kernels, as whoever runs it asks and is told: on CPUs everywhere, and where there is a GPU on that. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { refFromHex } from "../../packets/digest.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { decodePacket, encodePacket } from "../../packets/packet.ts";
import { KERNEL_HISTORY_FILE } from "../../runtime/kernel-history.ts";
import { guestEdition } from "../../runtime/sandbox/edition.ts";
import { openLocal } from "../../sdk/index.ts";
import type { JobResult, RunOptions } from "../../sdk/index.ts";
import { noGpu } from "../suites/gpu.ts";

const ROWS = 4096;
/** Integers, which each engine computes alike: what differs is where that is done, and what is said of it. */
const words = Uint32Array.from({ length: ROWS * 4 }, (_, index) => index * 40_503 + 1);
const factors = Uint32Array.of(3);

function program(result: string): { readonly source: string } {
  return {
    source: `import { defineKernel, defineProgram, matrix, u32 } from "packetfs";
const scale = defineKernel({
  name: "scale",
  kind: "wgsl",
  inputs: { words: u32(["n", 1]), factors: u32([1]) },
  output: u32(["n"]),
  result: ${result},
  operations: "n",
  workgroup: { size: [64], count: ["n / 64"] },
  source: \`fn main(@builtin(global_invocation_id) id: vec3u) {
    if (id.x < dims.n) { output[id.x] = words[id.x] * factors[0]; }
  }\`,
  cpu: ({ words, factors }) => words.map((word) => Math.imul(word, factors[0]!) >>> 0),
});
export default defineProgram({
  input: matrix({ type: "u32", columns: 1 }),
  map: (rows, { files }) => scale({ words: rows, factors: files["factors"]! }).reduce((sum, word) => sum + word, 0),
  combine: (a: number, b: number) => a + b,
});`,
  };
}

const FLOAT = program("{ relL2: 1e-6, abs: 0 }");
const EXACT = program('"exact"');
const SUM = words.reduce((sum, word) => sum + (Math.imul(word, 3) >>> 0), 0);

const environment = process.env["PACKETFS_GPU_SOFTWARE"];
let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pfs-engines-"));
  await using pfs = await openLocal(join(directory, "store"));
  await pfs.put(new Uint8Array(words.buffer), { name: "words" });
  await pfs.put(new Uint8Array(factors.buffer), { name: "factors" });
});
afterAll(async () => {
  withSoftware(environment);
  await rm(directory, { recursive: true, force: true });
});

/** Whether a CPU that imitates a GPU is one. */
function withSoftware(value: string | undefined): void {
  if (value === undefined) delete process.env["PACKETFS_GPU_SOFTWARE"];
  else process.env["PACKETFS_GPU_SOFTWARE"] = value;
}

async function run(source: { readonly source: string }, engine?: RunOptions["engine"]): Promise<JobResult> {
  await using pfs = await openLocal(join(directory, "store"), { workers: 1 });
  const options = { files: { factors: "factors" }, splitBytes: ROWS * 4 };
  return await pfs.run(source, ["words"], { ...options, ...(engine === undefined ? {} : { engine }) });
}

/** How many sizes of calls are remembered of a class. */
async function measuredOn(engineClass: string): Promise<number> {
  const text = await readFile(join(directory, "store", KERNEL_HISTORY_FILE), "utf8");
  const { averages } = JSON.parse(text) as { averages: { kernel: string; engineClass: string }[] };
  return averages.filter((each) => each.kernel !== "" && each.engineClass === engineClass).length;
}

describe("where there is no GPU", () => {
  test("CPUs compute all kernels, and say so", async () => {
    withSoftware(undefined);
    for (const source of [FLOAT, EXACT]) {
      for (const engine of [undefined, "auto", "cpu"] as const) {
        const { value, statistics } = await run(source, engine);
        expect([value, statistics.edition]).toEqual([SUM, guestEdition()]);
        const report = { kernel: "scale", engine: "cpu", engineClass: "cpu", calls: 4 };
        expect(statistics.kernels).toMatchObject([report]);
      }
    }
  });

  test("a program that is loaded has other files too, and CPUs compute what its packets call", async () => {
    withSoftware(undefined);
    await using pfs = await openLocal(join(directory, "store"), { workers: 1 });
    const { root, length } = await pfs.stat("words");
    const packet = { op: Op.EXEC, flags: Flag.STREAM, lane: 1, length, ref: refFromHex(root)! };
    for (const engine of ["auto", "cpu"] as const) {
      await using loaded = await pfs.load(FLOAT, { files: { factors: "factors" }, engine });
      const answer = decodePacket(await loaded.exec(encodePacket(packet)));
      expect(answer.op).toBe(Op.RETURN);
      const text = new TextDecoder().decode(answer.ref.subarray(0, answer.length));
      expect(JSON.parse(text)).toBe(SUM);
    }
    const refused = await pfs.load(FLOAT, { engine: "gpu" }).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "PFS_NO_EXECUTOR" });
    const missing = await pfs.load(FLOAT, { files: { factors: "nothing" } }).catch((error: unknown) => error);
    expect(missing).toMatchObject({ code: "PFS_NOT_FOUND" });
  });

  test("asking for one is an error that says where to look", async () => {
    withSoftware(undefined);
    const refused = await run(FLOAT, "gpu").catch((error: unknown) => error);
    expect(refused).toMatchObject({
      code: "PFS_NO_EXECUTOR",
      message: expect.stringContaining('there is no GPU; "pfs doctor" says why') as unknown,
    });
  });
});

describe.skipIf(noGpu !== undefined)("where there is a GPU", () => {
  test("it computes what it is asked to, and its class is part of what the result is of", async () => {
    withSoftware("1");
    const { value, statistics } = await run(FLOAT, "gpu");
    expect(value).toBe(SUM);
    const [report] = statistics.kernels!;
    expect(report).toMatchObject({ kernel: "scale", engine: "gpu", calls: 4, reason: "it was asked for" });
    expect(statistics.edition).toBe(`${guestEdition()}-${report!.engineClass}`);
    await using pfs = await openLocal(join(directory, "store"));
    expect((await pfs.jobs())[0]!.kernels).toEqual(statistics.kernels);
    const onCpus = await run(FLOAT, "cpu");
    expect([onCpus.value, onCpus.statistics.edition]).toEqual([SUM, guestEdition()]);
  });

  test("little work stays on CPUs, and what was measured decides from then on", async () => {
    withSoftware("1");
    const calculated = await run(FLOAT);
    expect(calculated.value).toBe(SUM);
    const [first] = calculated.statistics.kernels!;
    expect([first!.engine, first!.reason]).toEqual([
      "cpu",
      expect.stringMatching(/^it should take .*, and .* on /),
    ]);
    expect(first!.predictedMs).toBeGreaterThan(0);
    // As if CPUs had turned out to take a second for a thousand operations.
    const slow = { kernel: "", engineClass: "cpu", bucket: 0, value: 1, calls: 16 };
    await writeFile(join(directory, "store", KERNEL_HISTORY_FILE), JSON.stringify({ averages: [slow] }));
    const { value, statistics } = await run(FLOAT);
    expect(value).toBe(SUM);
    expect(statistics.kernels).toMatchObject([{ engine: "gpu", calls: 4 }]);
    // What that took is remembered.
    expect(JSON.stringify(statistics.kernels)).toContain("predictedMs");
    // So does what a program calls that is loaded, and it is chosen as it is for jobs.
    const { engineClass } = statistics.kernels![0]!;
    const before = await measuredOn(engineClass);
    // A process of a GPU may be ended while it starts, by a machine that is short of memory: CPUs compute then.
    const without: unknown[] = [];
    while (without.length < 3) {
      await using pfs = await openLocal(join(directory, "store"), { workers: 1 });
      const { root, length } = await pfs.stat("words");
      const packet = { op: Op.EXEC, flags: Flag.STREAM, lane: 1, length, ref: refFromHex(root)! };
      await using loaded = await pfs.load(FLOAT, { files: { factors: "factors" } });
      const answer = decodePacket(await loaded.exec(encodePacket(packet)));
      expect(JSON.parse(new TextDecoder().decode(answer.ref.subarray(0, answer.length)))).toBe(SUM);
      const [node] = await pfs.nodes();
      if ((node?.accelerators ?? []).length > 0) break;
      without.push(node?.unusedAccelerators);
    }
    const kept = await readFile(join(directory, "store", KERNEL_HISTORY_FILE), "utf8");
    const why = `no GPU: ${JSON.stringify(without)}; measured of ${engineClass}: ${kept}`;
    expect(await measuredOn(engineClass), why).toBe(before + 1);
  });

  test("exact kernels are computed by either, as parts of one job, and by one class of GPU where that is asked for", async () => {
    withSoftware("1");
    const either = await run(EXACT);
    expect([either.value, either.statistics.edition]).toEqual([SUM, guestEdition()]);
    const { value, statistics } = await run(EXACT, "gpu");
    const [report] = statistics.kernels!;
    expect([value, statistics.edition]).toEqual([SUM, `${guestEdition()}-${report!.engineClass}`]);
    expect(report).toMatchObject({ engine: "gpu", calls: 4, reason: "it was asked for" });
  });
});
