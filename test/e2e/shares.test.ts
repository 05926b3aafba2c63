/** What a client has a hub compute is that client's own affair: others' small requests do not wait for it. */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { threadTimes, usesCpu } from "../suites/cpu-time.ts";
import { startHub } from "./daemon.ts";
import { HAS_PROC } from "./processes.ts";

const HEAVY_REQUESTS = 100;
const SAMPLES = 200;
/** What the hub may compute, for whomever, while a small request is under way: some turns of its event loop. */
const HUB_MS = 50;

const clients: ChildProcess[] = [];
afterAll(() => clients.forEach((client) => client.kill("SIGKILL")));

/** Reads a small file again and again: milliseconds that the hub's event loop computed meanwhile, in ascending order. */
async function measure(pfs: PacketFS, hub: number): Promise<number[]> {
  const samples: number[] = [];
  const used = (): number => threadTimes(hub).get(String(hub))!;
  for (let sample = 0; sample < SAMPLES; sample++) {
    const before = used();
    for await (const bytes of pfs.get("small")) expect(bytes.byteLength).toBe(1000);
    samples.push(used() - before);
  }
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
  expect(at(beside, 0.5)).toBeGreaterThan(at(calm, 0.5));
  expect(at(beside, 0.99)).toBeLessThan(at(calm, 0.99) + HUB_MS);
});
