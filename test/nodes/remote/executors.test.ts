/** Executors behind a link do what every executor must, over links in memory and over sockets. */
import * as v from "valibot";
import { expect, test } from "vitest";
import { LaneNews } from "../../../nodes/messages.ts";
import { decodeMeta, encodeMeta } from "../../../nodes/wire/session/meta.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { encodePacket } from "../../../packets/packet.ts";
import type { KernelUse } from "../../../runtime/contracts/kernels.ts";
import { KERNELS_MAX, KERNEL_USES_MAX } from "../../../runtime/limits.ts";
import { KernelUses } from "../../../runtime/program/kernel/uses.ts";
import { until } from "../../suites/until.ts";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import { ChunkService } from "../../../nodes/serve/chunk-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { RemoteExecutors } from "../../../nodes/remote/remote-executor.ts";
import type { ExecutorOffer, Link } from "../../../nodes/wire/link.ts";
import type { Executor, LaneListener } from "../../../runtime/contracts/executor.ts";
import { Collector } from "../../suites/collector.ts";
import { describeExecutor } from "../../suites/executor.ts";
import type { ExecutorHarness } from "../../suites/executor.ts";
import { LocalHarness } from "../../runtime/executor/local-harness.ts";
import { memoryPair } from "../wire/memory-pair.ts";
import { openNetwork } from "../wire/network.ts";

/** The hub's end, and the node's. */
type Connect = (executors: ExecutorOffer[]) => Promise<{ hub: Link; node: Link; close: () => Promise<void> }>;

async function behind(connect: Connect): Promise<ExecutorHarness> {
  const local = await LocalHarness.open();
  const { id: name, capacity, edition } = local.executor;
  const { hub, node, close } = await connect([{ name, capacity, edition }]);
  const { store } = local;
  const hasAnywhere = (refs: Uint8Array): Promise<Uint8Array> => store.has(refs);
  serve(node, [
    new ChunkService({ store, source: store, hasAnywhere }),
    new LaneService(node, { executors: [local.executor] }),
  ]);
  const lanes = new RemoteExecutors(hub);
  serve(hub, [lanes]);
  return {
    executor: lanes.executors[0]!,
    putFile: (bytes) => local.putFile(bytes),
    putChunk: (bytes) => local.putChunk(bytes),
    putProgram: (source, options) => local.putProgram(source, options),
    readChunk: (ref) => local.readChunk(ref),
    readStream: (root) => local.readStream(root),
    readName: (called) => local.readName(called),
    close: async () => {
      await close();
      await local.close();
    },
  };
}

describeExecutor("a node's executor, in memory", () =>
  behind(async (executors) => {
    const { near: hub, far: node } = memoryPair({ near: { role: "hub" }, far: { role: "node", executors } });
    return { hub, node, close: async () => void (await Promise.all([hub.close(), node.close()])) };
  }),
);

describeExecutor("a node's executor, over sockets", () =>
  behind(async (executors) => {
    const network = await openNetwork();
    const node = await network.dial({ role: "node", executors });
    return { hub: await network.accepted(node), node, close: () => network.close() };
  }),
);

test("a node is told whose program it loads", async () => {
  const { near, far } = memoryPair({
    near: { role: "hub" },
    far: { role: "node", executors: [{ name: "some", capacity: { js: 1 }, edition: "one" }] },
  });
  const tenants: unknown[] = [];
  const executor = {
    id: "some",
    load: async (_program, _listener, _signal, tenant) => {
      tenants.push(tenant);
      return { close: async () => undefined };
    },
  } as Partial<Executor> as Executor;
  serve(far, [new LaneService(far, { executors: [executor] })]);
  const [remote] = new RemoteExecutors(near).executors;
  const tenant = "0123456789abcdef".repeat(2);
  for (const whose of [tenant, undefined]) {
    await remote!.load(new Uint8Array(32), new Collector(), new AbortController().signal, whose);
  }
  expect(tenants).toEqual([tenant, far.peer.id]);
  await near.close();
});

test("what calls of kernels took comes before the answers of the packets that made them, and nonsense does not", async () => {
  const { near, far } = memoryPair({
    near: { role: "hub" },
    far: { role: "node", executors: [{ name: "some", capacity: { kernel: 1 }, edition: "one" }] },
  });
  let listener: LaneListener | undefined;
  const executor = {
    id: "some",
    load: async (_program, heard) => {
      listener = heard;
      return { exec: () => {}, keep: async () => new Uint8Array(32), close: async () => undefined };
    },
  } as Partial<Executor> as Executor;
  serve(far, [new LaneService(far, { executors: [executor] })]);
  const lanes = new RemoteExecutors(near);
  serve(near, [lanes]);
  const told: unknown[] = [];
  const collector = new Collector();
  const hub: LaneListener = {
    returned: () => void told.push("returned"),
    logged: () => {},
    noted: () => {},
    measured: (uses) => void told.push(...uses),
    lost: (error) => collector.lost(error),
  };
  await lanes.executors[0]!.load(new Uint8Array(32), hub, new AbortController().signal);
  const use: KernelUse = {
    kernel: 3,
    engine: "gpu",
    engineClass: "nvidia-0123456789ab",
    bucket: 2 ** 40,
    calls: 2,
    milliseconds: 7.5,
    predictedMs: 7,
    reason: "a CPU would take 2s",
  };
  listener!.measured!([use, { ...use, engine: "cpu", engineClass: "cpu", predictedMs: undefined }]);
  listener!.returned(encodePacket({ op: Op.RETURN, flags: Flag.INLINE, lane: 1 }));
  await until(() => told.length === 3);
  expect(told).toEqual([
    use,
    { ...use, engine: "cpu", engineClass: "cpu", predictedMs: undefined },
    "returned",
  ]);
  for (const bad of [
    { kernel: 64 },
    { engine: "tpu" },
    { engineClass: "NVIDIA" },
    { calls: -1 },
    { milliseconds: Number.NaN },
    { predictedMs: Number.POSITIVE_INFINITY },
    { reason: "x".repeat(257) },
  ]) {
    const said = parseNews({ kind: "measured", lane: 1, uses: [{ ...use, ...bad }] });
    expect(said, JSON.stringify(bad)).toBe(false);
  }
  expect(parseNews({ kind: "measured", lane: 1, uses: [use] })).toBe(true);
  await near.close();
});

test("a program whose kernels' calls are of all sizes, for long reasons, does not cost its node the link", async () => {
  const uses = new KernelUses();
  for (let kernel = 0; kernel < KERNELS_MAX; kernel++) {
    for (let bucket = 1; bucket <= 2 ** 40; bucket *= 2) {
      const decision = {
        engineClass: "nvidia-0123456789abcdef0123",
        predictedMs: 0.1,
        reason: "…".repeat(9999),
      };
      uses.add({ kernel, engine: "gpu", decision, bucket, milliseconds: 0.3 });
    }
  }
  const fullest: LaneNews = { kind: "measured", lane: 65_535, uses: uses.take() };
  expect(fullest.uses).toHaveLength(KERNEL_USES_MAX);
  expect(v.parse(LaneNews, decodeMeta(encodeMeta(fullest)))).toEqual(fullest);
  expect(uses.take()).toEqual([]);
});

/** Whether a hub takes a node's word for it. */
function parseNews(news: unknown): boolean {
  return v.safeParse(LaneNews, news).success;
}
