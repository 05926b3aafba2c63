import { setTimeout as pause } from "node:timers/promises";
import { expect, it } from "vitest";
import type { Executor } from "../../runtime/contracts/executor.ts";
import type { Accelerator, FoundAccelerators } from "../../runtime/contracts/kernels.ts";
import { GpuExecutors } from "../../runtime/gpu-executors.ts";
import type { GpuExecutorsOptions } from "../../runtime/gpu-executors.ts";
import { HeldAccelerator } from "./engine/kernels.ts";

type Opened = Executor & AsyncDisposable;

interface Watched {
  readonly gpus: GpuExecutors;
  /** What happened, in order. */
  readonly events: string[];
}

function watched(options: Pick<GpuExecutorsOptions, "find">): Watched {
  const events: string[] = [];
  const open = (accelerator: Accelerator, index: number): Opened => {
    const dispose = async (): Promise<void> => void events.push(`closed ${index}`);
    const id = `gpu${index}`;
    return { id, accelerator: accelerator.info, [Symbol.asyncDispose]: dispose } as Partial<Opened> as Opened;
  };
  const opened = (executors: readonly Executor[]): void => void events.push(`opened ${executors.length}`);
  const withdrawn = ({ id }: Executor): void => void events.push(`withdrawn ${id}`);
  return { gpus: new GpuExecutors({ ...options, open, opened, withdrawn }), events };
}

it("looks once, however often it is asked, and has an executor for each GPU then", async () => {
  let looks = 0;
  const all = [new HeldAccelerator(), new HeldAccelerator()];
  const unused = [{ label: "llvmpipe", reason: "it is no GPU" }];
  const { gpus, events } = watched({
    find: async () => {
      looks++;
      return { accelerators: all, unused };
    },
  });
  expect([gpus.executors, gpus.accelerators, gpus.unused]).toEqual([[], [], []]);
  await Promise.all([gpus.find(), gpus.find()]);
  await gpus.find();
  expect(looks).toBe(1);
  expect(gpus.executors.map(({ id }) => id)).toEqual(["gpu0", "gpu1"]);
  expect(gpus.unused).toEqual(unused);
  await gpus.close();
  expect(events).toEqual(["opened 2", "closed 0", "closed 1"]);
  expect(all.map(({ isClosed }) => isClosed)).toEqual([true, true]);
});

it("withdraws the executor of a GPU that runs no calls any more, and says why", async () => {
  const [first, second] = [new HeldAccelerator(), new HeldAccelerator()];
  const { gpus, events } = watched({ find: async () => ({ accelerators: [first, second], unused: [] }) });
  await gpus.find();
  first.go("no process of it starts any more");
  await first.gone;
  await pause(0);
  expect(gpus.executors.map(({ id }) => id)).toEqual(["gpu1"]);
  expect(gpus.accelerators).toHaveLength(1);
  expect(gpus.unused).toEqual([{ label: first.info.label, reason: "no process of it starts any more" }]);
  await gpus.close();
  expect(events).toEqual(["opened 2", "withdrawn gpu0", "closed 0", "closed 1"]);
  expect([first.isClosed, second.isClosed]).toEqual([true, true]);
  // Whoever is closed has nothing to withdraw.
  second.go("no process of it starts any more");
  await pause(0);
  expect(events).toHaveLength(4);
});

it("does without GPUs where looking for them fails", async () => {
  const failing = watched({ find: () => Promise.reject(new Error("a library of it is broken")) });
  await failing.gpus.find();
  expect(failing.gpus.unused).toEqual([{ label: "GPU", reason: "a library of it is broken" }]);
  expect(failing.gpus.executors).toEqual([]);
});

it("leaves nothing behind when it is closed while it looks", async () => {
  const gpu = new HeldAccelerator();
  const { promise, resolve } = Promise.withResolvers<FoundAccelerators>();
  const told: boolean[] = [];
  const { gpus, events } = watched({
    find: async (signal) => {
      signal.addEventListener("abort", () => told.push(true));
      return await promise;
    },
  });
  const found = gpus.find();
  const closed = gpus.close();
  expect(told).toEqual([true]);
  // It had found one at that very moment.
  resolve({ accelerators: [gpu], unused: [] });
  await Promise.all([found, closed]);
  expect([gpu.isClosed, events]).toEqual([true, []]);
});
