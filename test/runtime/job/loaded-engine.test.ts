/** Programs that are loaded and whose results depend on the engine: all their packets run on one class of it. */
import { expect, test } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { Op } from "../../../packets/layout.ts";
import { decodePacket, packetCount } from "../../../packets/packet.ts";
import { EXECUTORS_WAIT_MS } from "../../../runtime/limits.ts";
import { FLOAT_KERNEL, INFO } from "../engine/kernels.ts";
import { emptyFrame } from "../../suites/exec-packets.ts";
import type { Script } from "./scripted-executor.ts";
import { ScriptedWorld, settle } from "./scripted-world.ts";

const GPU_EDITION = `test-${INFO.engineClass}`;
const FAST = { ...INFO, calibration: { uploadGBps: 10, downloadGBps: 10, launchMs: 0.1, gops: 10_000 } };
const FLOATS = { kernels: [FLOAT_KERNEL] };
const MUCH = 1_000_000;

/** What a packet is found to call. */
function estimate(n: number): string {
  return JSON.stringify([{ kernel: 0, dimensions: { n }, scalars: {}, inputs: ["range"] }]);
}

/** Answers say where they were made. */
function answering(name: string, said = estimate(MUCH), asked: string[] = []): Script {
  return {
    taken: ({ entry, lane, packet }) => {
      asked.push(entry);
      lane.answer(packet, entry === "estimate" ? said : name);
    },
  };
}

/** What the answers say; of faults their numbers. */
function said(answers: Uint8Array): (string | number)[] {
  return Array.from({ length: packetCount(answers) }, (_, index) => {
    const { op, from, ref, length } = decodePacket(answers, index);
    return op === Op.FAULT ? from : new TextDecoder().decode(ref.subarray(0, length));
  });
}

test("it is the class on which what the first packet calls is done first, which is asked once", async () => {
  const world = new ScriptedWorld();
  const [onCpu, onGpu]: [string[], string[]] = [[], []];
  world.add("cpu", answering("cpu", undefined, onCpu), 4);
  world.add("gpu", answering("gpu", undefined, onGpu), 1, GPU_EDITION, FAST);
  await using program = await world.jobs.load(world.program(FLOATS));
  expect(program.loadable?.edition).toBeUndefined();
  const calls = [program.exec(emptyFrame(3)), program.exec(emptyFrame(2), new AbortController().signal)];
  expect((await Promise.all(calls)).map(said)).toEqual([
    ["gpu", "gpu", "gpu"],
    ["gpu", "gpu"],
  ]);
  expect(said(await program.exec(emptyFrame(1)))).toEqual(["gpu"]);
  expect(program.loadable?.edition).toBe(GPU_EDITION);
  expect([...onCpu, ...onGpu].filter((entry) => entry === "estimate")).toHaveLength(1);
  expect(onCpu.filter((entry) => entry === "map")).toEqual([]);
});

test("it is CPUs where they have little to do, or the packet says nothing that can be", async () => {
  for (const nothing of [estimate(1), "", "[1]", estimate(2 ** 52)]) {
    const world = new ScriptedWorld();
    world.add("cpu", answering("cpu", nothing), 1);
    world.add("gpu", answering("gpu", nothing), 4, GPU_EDITION, FAST);
    await using program = await world.jobs.load(world.program(FLOATS));
    expect(said(await program.exec(emptyFrame(2)))).toEqual(["cpu", "cpu"]);
  }
});

test("it is the one there is, or that is asked for, at once; and where there is none, loading says so", async () => {
  const world = new ScriptedWorld();
  const asked: string[] = [];
  world.add("cpu", answering("cpu", undefined, asked), 4);
  await expect(world.jobs.load({ ...world.program(FLOATS), engine: "gpu" })).rejects.toMatchObject({
    code: "PFS_NO_EXECUTOR",
    data: { reason: "no engine" },
  });
  await using first = await world.jobs.load(world.program(FLOATS));
  expect(first.loadable?.edition).toBe("test");
  world.add("gpu", answering("gpu", undefined, asked), 4, GPU_EDITION, FAST);
  expect(said(await first.exec(emptyFrame(1)))).toEqual(["cpu"]);
  for (const engine of ["cpu", "gpu"] as const) {
    await using program = await world.jobs.load({ ...world.program(FLOATS), engine });
    expect(said(await program.exec(emptyFrame(1)))).toEqual([engine]);
  }
  expect(asked).not.toContain("estimate");
});

test("when it is lost, nothing runs elsewhere; loaded again, the program runs on another", async () => {
  const world = new ScriptedWorld();
  let isLost = false;
  world.add("cpu", answering("cpu"), 1);
  world.add(
    "gpu",
    {
      taken: ({ entry, lane, packet }) => {
        if (entry === "estimate") return lane.answer(packet, estimate(MUCH));
        if (isLost) return lane.fault(packet, FaultCode.engineLost, "gone");
        lane.answer(packet, "gpu");
      },
    },
    2,
    GPU_EDITION,
    FAST,
  );
  await using program = await world.jobs.load(world.program(FLOATS));
  expect(said(await program.exec(emptyFrame(2)))).toEqual(["gpu", "gpu"]);
  isLost = true;
  expect(said(await program.exec(emptyFrame(2)))).toEqual([FaultCode.engineLost, FaultCode.engineLost]);
  await using again = await world.jobs.load(world.program(FLOATS));
  expect(said(await again.exec(emptyFrame(2)))).toEqual(["cpu", "cpu"]);
});

test("when no machine lends it any more, calls wait for one, and then say so", async () => {
  const world = new ScriptedWorld();
  world.add("cpu", answering("cpu"), 1);
  const gpu = world.add("gpu", answering("gpu"), 2, GPU_EDITION, FAST);
  await using program = await world.jobs.load(world.program(FLOATS));
  expect(said(await program.exec(emptyFrame(1)))).toEqual(["gpu"]);
  world.executors.remove(gpu);
  const call = program.exec(emptyFrame(1));
  await settle();
  const back = world.add("back", answering("gpu"), 2, GPU_EDITION, FAST);
  expect(said(await call)).toEqual(["gpu"]);
  world.executors.remove(back);
  const late = program.exec(emptyFrame(1));
  const failed = expect(late).rejects.toMatchObject({ code: "PFS_NO_EXECUTOR" });
  await world.pass(EXECUTORS_WAIT_MS + 1_000);
  await failed;
});

test("a program that is closed while its first packet is asked leaves nothing behind", async () => {
  const world = new ScriptedWorld();
  const cpu = world.add("cpu", {}, 1);
  const gpu = world.add("gpu", {}, 1, GPU_EDITION, FAST);
  const program = await world.jobs.load(world.program(FLOATS));
  const call = expect(program.exec(emptyFrame(1))).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  await settle();
  expect([...cpu.lanes, ...gpu.lanes].map(({ entry }) => entry)).toEqual(["estimate"]);
  await program.close();
  await call;
  await settle();
  expect([...cpu.lanes, ...gpu.lanes].map(({ isClosed }) => isClosed)).toEqual([true]);
  expect(world.writers).toBe(0);
});
