/** A machine with GPUs: when it looks for them, what it lends then, and what it takes away with a file. */
import { rm } from "node:fs/promises";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { Executor } from "../../runtime/contracts/executor.ts";
import type { Engine } from "../../runtime/contracts/kernels.ts";
import { ACCELERATORS_MAX } from "../../runtime/limits.ts";
import { ExecutorList } from "../../runtime/job/candidates.ts";
import { partName } from "../../runtime/job/results.ts";
import { Machine } from "../../runtime/machine.ts";
import { guestEdition } from "../../runtime/sandbox/edition.ts";
import { ingest } from "../../runtime/stream/ingest.ts";
import { makeTemporaryDirectory } from "../../runtime/temporary-directory.ts";
import { unlessAborted } from "../../runtime/unless-aborted.ts";
import { programCode } from "../program-code.ts";
import { until } from "../suites/until.ts";
import { HeldAccelerator, INFO } from "./engine/kernels.ts";
import { inOnePiece } from "./store/store-fixture.ts";

let directory: string;
let machine: Machine;
let looks: number;
/** What looking for GPUs waits for. */
let found: Promise<void>;
let gpus: HeldAccelerator[];

beforeEach(async () => {
  gpus = [new HeldAccelerator(), new HeldAccelerator({ ...INFO, engineClass: "other-00" })];
  looks = 0;
  found = Promise.resolve();
  directory = await makeTemporaryDirectory("machine");
  machine = await Machine.open({
    directory,
    id: "local",
    label: "local",
    workers: 2,
    findAccelerators: async (_machine, signal) => {
      looks++;
      await unlessAborted(found, signal);
      return { accelerators: gpus, unused: [{ label: "a third", reason: "it computes wrong results" }] };
    },
  });
});
afterEach(async () => {
  await machine.close();
  await rm(directory, { recursive: true });
});

const ids = (executors: readonly Executor[]): string[] => executors.map(({ id }) => id);

/** Runs a program over a line. */
async function run(
  executors: ExecutorList,
  source: string,
  { engine, signal }: { readonly engine?: Engine; readonly signal?: AbortSignal } = {},
): Promise<void> {
  await using jobs = machine.openJobs(executors);
  await using writer = await machine.store.openWriter();
  const { root } = await ingest(writer, inOnePiece(programCode(source)));
  const input = await ingest(writer, inOnePiece(Buffer.from("one\n")));
  const request = { name: "program", code: root, args: "null", inputs: [{ name: "line", ...input }], engine };
  const { value } = await jobs.run(request, { signal });
  expect(Buffer.from(value!).toString()).toBe("1");
}

const COUNT = `export default { input: { kind: "lines" }, map: () => 1, combine: (a, b) => a + b };`;
const KERNEL = `$packetfs.kernel({
  name: "none", kind: "wgsl", hasCpu: true, result: "exact", operations: "n",
  source: "fn main(@builtin(global_invocation_id) id: vec3u) { output[0] = data[0]; }",
  inputs: [{ name: "data", type: "u32", shape: ["n"] }], outputs: [{ name: "output", type: "u32", shape: [1] }],
  workgroup: { size: [64, 1, 1], count: ["n / 64", "1", "1"] },
}, { isSingle: true, cpu: ({ data }) => data });
${COUNT}`;

it("looks for GPUs when a program has kernels that may run on one, and for no other", async () => {
  const executors = new ExecutorList();
  await run(executors, COUNT);
  await run(executors, KERNEL, { engine: "cpu" });
  expect([looks, ids(executors.list())]).toEqual([0, ["local", "local-code"]]);
  await run(executors, KERNEL);
  await run(executors, KERNEL);
  expect([looks, ids(executors.list())]).toEqual([1, ["local", "local-code", "local-gpu0", "local-gpu1"]]);
});

it("does not keep a job that is cancelled waiting for a driver", async () => {
  found = new Promise(() => {});
  const cancel = new AbortController();
  const ended = run(new ExecutorList(), KERNEL, { signal: cancel.signal });
  await until(() => looks === 1);
  cancel.abort(new Error("nobody waits"));
  await expect(ended).rejects.toThrow("nobody waits");
});

it("lends an executor for each, of an edition that names its class", async () => {
  await machine.findAccelerators();
  const [, , first, second] = machine.executors;
  expect(first).toMatchObject({
    capacity: { kernel: 2 },
    accelerator: INFO,
    edition: `${guestEdition()}-${INFO.engineClass}`,
  });
  expect(second!.edition).toBe(`${guestEdition()}-other-00`);
  expect(machine.unusedAccelerators).toEqual([{ label: "a third", reason: "it computes wrong results" }]);
});

it("lends a GPU that runs no calls any more to no job, and tells whoever watches", async () => {
  const executors = new ExecutorList();
  await using _jobs = machine.openJobs(executors);
  await machine.findAccelerators();
  const told: unknown[] = [];
  machine.events.on("withdrawn", (gpu) => told.push(gpu));
  const gone = { label: INFO.label, reason: "no process of it starts any more" };
  gpus[0]!.go(gone.reason);
  await until(() => told.length > 0);
  expect(told).toEqual([gone]);
  expect(ids(executors.list())).toEqual(["local", "local-code", "local-gpu1"]);
  expect(ids(machine.executors)).toEqual(["local", "local-code", "local-gpu1"]);
  expect(machine.unusedAccelerators.at(-1)).toEqual(gone);
});

it("frees what executors of GPUs keep for a file, also of GPUs that are not there any more", async () => {
  const names = [0, ACCELERATORS_MAX - 1].map((index) => partName("file", `local-gpu${index}`));
  await using writer = await machine.store.openWriter();
  const { root, length } = await ingest(writer, inOnePiece(Buffer.from("a part")));
  for (const name of names) await writer.bind({ name, root, length });
  await machine.removeParts("file");
  for (const name of names) expect(await machine.store.catalog.resolve(name)).toBeUndefined();
});
