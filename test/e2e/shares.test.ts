/** What a client has a hub compute is that client's own affair: others' small requests do not wait for it. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { TURN_WORK_MS } from "../../runtime/limits.ts";
import { connect } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { threadTimes, threadWaits, usesCpu } from "../suites/cpu-time.ts";
import { startHub } from "./daemon.ts";
import { HAS_PROC } from "../suites/processes.ts";

const HEAVY_REQUESTS = 100;
const SAMPLES = 200;
/** What the hub may compute, for whomever, while a small request is under way: fifty turns of its event loop. */
const HUB_MS: number = 50 * TURN_WORK_MS;

const clients: ChildProcess[] = [];
afterAll(() => clients.forEach((client) => client.kill("SIGKILL")));

/** In ascending order, of each request. */
interface Measured {
  /** Milliseconds that the hub's event loop computed meanwhile, */
  readonly computed: number[];
  /** without those in which this process was ready to go on, and got no core of a machine that is busy with other things. */
  readonly inItsWay: number[];
}

/** Reads a small file again and again. */
async function measure(pfs: PacketFS, hub: number): Promise<Measured> {
  const computed: number[] = [];
  const inItsWay: number[] = [];
  const used = (): number => threadTimes(hub).get(String(hub))!;
  const waited = (): number => [...threadWaits(process.pid).values()].reduce((sum, each) => sum + each, 0);
  for (let sample = 0; sample < SAMPLES; sample++) {
    const before = { used: used(), waited: waited() };
    for await (const bytes of pfs.get("small")) expect(bytes.byteLength).toBe(1000);
    const milliseconds = used() - before.used;
    computed.push(milliseconds);
    inItsWay.push(milliseconds - (waited() - before.waited));
  }
  return { computed: ascending(computed), inItsWay: ascending(inItsWay) };
}

function ascending(samples: readonly number[]): number[] {
  return samples.toSorted((a, b) => a - b);
}

function at(samples: readonly number[], part: number): number {
  return samples[Math.floor(samples.length * part)]!;
}

it.skipIf(!HAS_PROC)("a hundred requests that compute for long hold up nobody else's", async () => {
  const hub = await startHub();
  await using pfs = await connect(hub.clientToken);
  await pfs.put(new Uint8Array(1000), { name: "small" });
  const script = fileURLToPath(new URL("./heavy-client-main.ts", import.meta.url));
  const client = spawn(process.execPath, [script, hub.clientToken, String(HEAVY_REQUESTS)], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  clients.push(client);
  await once(client.stdout, "data");
  const calm = await measure(pfs, hub.pid);
  client.stdin.write("go\n");
  await usesCpu(hub.pid, 2000);
  const beside = await measure(pfs, hub.pid);
  // It was served all the time, and so was the other one.
  expect(client.exitCode).toBeNull();
  expect(at(beside.computed, 0.5)).toBeGreaterThan(at(calm.computed, 0.5));
  // Without turns every request would wait for many of the others' half seconds. Nine of ten are looked at, since one that
  // meets a collection of the hub's garbage waits for that, however well the rest is shared.
  expect(at(beside.inItsWay, 0.9)).toBeLessThan(at(calm.inItsWay, 0.9) + HUB_MS);
});
