/** Executors behind a link do what every executor must, over links in memory and over sockets. */
import { expect, test } from "vitest";
import { LaneService } from "../../../nodes/serve/lane-service.ts";
import { ChunkService } from "../../../nodes/serve/chunk-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { RemoteExecutors } from "../../../nodes/remote/remote-executor.ts";
import type { ExecutorOffer, Link } from "../../../nodes/wire/link.ts";
import type { Executor } from "../../../runtime/contracts/executor.ts";
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
    new LaneService(node, [local.executor]),
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
  serve(far, [new LaneService(far, [executor])]);
  const [remote] = new RemoteExecutors(near).executors;
  const tenant = "0123456789abcdef".repeat(2);
  for (const whose of [tenant, undefined]) {
    await remote!.load(new Uint8Array(32), new Collector(), new AbortController().signal, whose);
  }
  expect(tenants).toEqual([tenant, far.peer.id]);
  await near.close();
});
