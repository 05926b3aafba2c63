/** All the lanes of a machine at once, and what it says of them. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Op } from "../../packets/layout.ts";
import { LANES_MAX } from "../../packets/limits.ts";
import { atOf, encodeFrame, opAt, packetCount, refOf } from "../../packets/packet.ts";
import { refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import type { Executor, Lane, LaneListener } from "../../runtime/contracts/executor.ts";
import { encodeManifest } from "../../runtime/program/manifest.ts";
import { Machine } from "../../runtime/machine.ts";
import { match } from "../../sdk/code/builders.ts";
import { Collector } from "../suites/collector.ts";
import { execStream } from "../suites/exec-packets.ts";
import { programCode } from "../program-code.ts";
import { put, temporaryDirectory } from "./store/store-fixture.ts";

const TEXT = "abc aab\nabd\n";
const PROGRAMS = 1000;
const never = new AbortController().signal;

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let machine: Machine;
let root: Ref;
beforeAll(async () => {
  directory = await temporaryDirectory();
  machine = await Machine.open({ directory: directory.path, id: "local", label: "local", workers: 1 });
  ({ root } = await put(machine.store, "text", Buffer.from(TEXT)));
});
afterAll(async () => {
  await machine.close();
  await directory[Symbol.asyncDispose]();
});

function executorOf(kind: "code" | "js"): Executor {
  return machine.executors.find(({ capacity }) => capacity[kind] !== undefined)!;
}

async function manifestOf(name: string, source: string): Promise<Ref> {
  const { root: code } = await put(machine.store, `${name}.js`, programCode(source));
  const description = await machine.inspect(code);
  const fields = { version: 1, kind: "js", name, code: refToHex(code), entry: "map", args: "null" } as const;
  const bytes = encodeManifest({ ...fields, description });
  await using writer = await machine.store.openWriter();
  return (await writer.write(Uint8Array.from(bytes), Uint32Array.of(bytes.byteLength))).refs;
}

/** Memory that is in use, without garbage. */
function heldBytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

/** Three letters from "aaa" on. */
function wordOf(index: number): string {
  return String.fromCharCode(...[676, 26, 1].map((each) => 97 + (Math.floor(index / each) % 26)));
}

test("65,535 lanes of 1,000 programs each run a packet, in little memory, and there is no other", async () => {
  const executor = executorOf("code");
  const programs = Array.from({ length: PROGRAMS }, (_, index) => ({
    inline: match(wordOf(index)).packetCode,
  }));
  const counts = programs.map((_, index) => TEXT.split(wordOf(index)).length - 1);
  const [before, cpu] = [heldBytes(), process.cpuUsage()];
  const { promise: all, resolve, reject } = Promise.withResolvers<void>();
  const found = new Float64Array(LANES_MAX).fill(-1);
  let answered = 0;
  const listener: LaneListener = {
    returned: (frame) => {
      for (let index = 0; index < packetCount(frame); index++) {
        if (opAt(frame, index) !== Op.RETURN) return reject(new Error("a packet failed"));
        found[atOf(frame, index)] = refOf(frame, index)[0]!;
        if (++answered === LANES_MAX) resolve();
      }
    },
    logged: () => undefined,
    noted: () => undefined,
    lost: reject,
  };
  const lanes: Lane[] = [];
  for (let index = 0; index < LANES_MAX; index++)
    lanes.push(await executor.load(programs[index % PROGRAMS]!, listener, never));
  const full = executor.load(programs[0]!, listener, never);
  await expect(full).rejects.toMatchObject({ code: "PFS_LANES_FULL" });
  for (const [at, lane] of lanes.entries()) lane.exec(encodeFrame([execStream(at, root, 0, TEXT.length)]));
  await all;
  const { user, system } = process.cpuUsage(cpu);
  // The state of a count begins with it.
  expect(Array.from(found)).toEqual(Array.from(found, (_, index) => counts[index % PROGRAMS]));
  expect(heldBytes() - before).toBeLessThan(100 * 1024 * 1024);
  // 1.4 s on the machine that this was written on.
  expect((user + system) / 1e6).toBeLessThan(6);
  const { open, use, lanes: busiest } = machine.lanes.info(3);
  expect([open, use.packets, use.faults, use.inputBytes, busiest.length]).toEqual([
    LANES_MAX,
    LANES_MAX,
    0,
    LANES_MAX * TEXT.length,
    3,
  ]);
  expect(busiest[0]!.program).toMatch(/^bytes\(\)\.filter\(at\(0, "[a-z]{3}"\)\)\.count\(\)$/);
  // A grant's CPU time counts what lanes say that they took.
  expect(lanes.reduce((sum, { cpuMs = 0 }) => sum + cpuMs, 0)).toBeCloseTo(use.cpuMs);
  expect(use.cpuMs).toBeGreaterThan(0);
  await lanes[7]!.close();
  const other = await executor.load(programs[0]!, listener, never);
  expect(machine.lanes.info(0).open).toBe(LANES_MAX);
  await Promise.all([...lanes, other].map((lane) => lane.close()));
  expect(machine.lanes.info(0).open).toBe(0);
});

test("lanes of a program of JavaScript share what runs it, and are small too", async () => {
  const count = 8192;
  // Yields how long its input is, and how often its module was asked.
  const source = `let asked = 0;
    export default { input: { kind: "bytes" }, yields: "bytes",
      map: ({ length }, { write }) => write(Uint8Array.of(length, ++asked)) };`;
  const manifest = await manifestOf("counts", source);
  const before = machine.lanes.use;
  const answers = Array.from({ length: count }, () => new Collector());
  const [held, cpu] = [heldBytes(), process.cpuUsage()];
  const lanes: Lane[] = [];
  for (const listener of answers) lanes.push(await executorOf("js").load(manifest, listener, never));
  for (const [at, lane] of lanes.entries()) lane.exec(encodeFrame([execStream(at, root, 0, TEXT.length)]));
  for (const [at, each] of answers.entries()) {
    await each.answered(1);
    const { op, ref } = each.answer(at);
    expect([op, ref[0], ref[1]]).toEqual([Op.RETURN, TEXT.length, 1]);
  }
  const { user, system } = process.cpuUsage(cpu);
  // 2 KiB, and what a collector keeps; 30 µs of this process.
  expect((heldBytes() - held) / count).toBeLessThan(8192);
  expect((user + system) / count).toBeLessThan(600);
  const { open, use, lanes: infos } = machine.lanes.info(count);
  expect([open, use.packets - before.packets, use.faults]).toEqual([count, count, before.faults]);
  expect(infos.filter(({ state }) => state === "resting").length).toBeGreaterThan(count / 2);
  expect(infos.every(({ packets, inputBytes }) => packets === 1 && inputBytes === TEXT.length)).toBe(true);
  await Promise.all(lanes.map((lane) => lane.close()));
  expect(machine.lanes.info(0).open).toBe(0);
});

test("a lane says whose it is, how it is, and what its packets took, faults too", async () => {
  const source = `export default { input: { kind: "bytes" }, yields: "bytes", map: (bytes, { write }) => {
    if (bytes.length === 5) throw new Error("five");
    for (let turn = 0; turn < 3e6; turn++);
    write(bytes);
  } };`;
  const refs = await manifestOf("echo", source);
  const tenant = "0f".repeat(16);
  const before = machine.lanes.use;
  const answers = new Collector();
  const lane = await executorOf("js").load(refs, answers, never, tenant);
  const [loaded] = machine.lanes.info(10).lanes;
  expect(loaded).toMatchObject({ kind: "js", program: "echo", tenant, state: "idle", packets: 0, cpuMs: 0 });
  lane.exec(encodeFrame([2, 5, 7].map((length, at) => execStream(at, root, 0, length))));
  expect(machine.lanes.info(10).lanes[0]).toMatchObject({ state: "running", inFlight: 3 });
  await answers.answered(3);
  const [used] = machine.lanes.info(10).lanes;
  expect(used).toMatchObject({
    state: "idle",
    inFlight: 0,
    packets: 3,
    faults: 1,
    inputBytes: 14,
    outputBytes: 9,
  });
  expect(used!.cpuMs).toBeGreaterThan(1);
  await lane.close();
  const { packets, faults, cpuMs } = machine.lanes.use;
  expect(machine.lanes.info(10)).toMatchObject({ open: 0, lanes: [] });
  expect([packets - before.packets, faults - before.faults]).toEqual([3, 1]);
  expect(cpuMs).toBeGreaterThanOrEqual(before.cpuMs + used!.cpuMs);
});
