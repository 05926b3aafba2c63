/** A client that comes back after its connection broke still reads what its jobs left, when the time for coming back is over. */
import * as v from "valibot";
import { expect, test, vi } from "vitest";
import { JobInfos } from "../../../nodes/messages.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { LastingLink } from "../../../nodes/remote/lasting-link.ts";
import { FollowedJobs } from "../../../nodes/serve/followed-jobs.ts";
import { HeldResults } from "../../../nodes/serve/held-results.ts";
import { JobService, jobsJson } from "../../../nodes/serve/job-service.ts";
import { serve } from "../../../nodes/serve/service.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { findFile } from "../../../runtime/find-file.ts";
import { MESSAGE_CHUNK_BYTES_MAX } from "../../../packets/limits.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { JobInfo } from "../../../runtime/contracts/jobs.ts";
import type { KernelReport } from "../../../runtime/contracts/kernels.ts";
import {
  ENGINE_CLASS_CHARACTERS_MAX,
  ENGINE_LABEL_CHARACTERS_MAX,
  ENGINE_REASON_CHARACTERS_MAX,
  JOBS_MAX,
  JOBS_REMEMBERED,
  KERNEL_REPORTS_MAX,
} from "../../../runtime/limits.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import { programCode } from "../../program-code.ts";
import { execStream } from "../../suites/exec-packets.ts";
import { put } from "../../runtime/store/store-fixture.ts";
import { openHub, unlimited } from "../open-hub.ts";
import { memoryPair } from "../wire/memory-pair.ts";

const { machine, jobs, services } = await openHub();

const SHOUT = `export default { input: { kind: "lines" }, yields: "bytes", map: (line) => line.toUpperCase() + "\\n" }`;

test("a result without a name, over another session", async () => {
  const { store, source } = machine;
  const lines = "a line that is not the only one\n".repeat(3000);
  await put(store, "lines", Buffer.from(lines));
  const { root: code } = await put(store, "shout.js", programCode(SHOUT));
  const timers = new Set<() => void>();
  const failures: unknown[] = [];
  const held = new HeldResults({
    release: (job) => jobs.release(job),
    onFailure: (error) => failures.push(error),
    setTimer: (run) => {
      timers.add(run);
      return () => timers.delete(run);
    },
  });
  const followed = new FollowedJobs();
  const identity = Identity.create();
  const over: Promise<void>[] = [];
  let cut = (): void => {};
  const open = (): Link => {
    const usage = unlimited(identity.id);
    const pair = memoryPair({ near: { role: "client", id: identity.id } });
    ({ cut } = pair);
    const service = new JobService({
      jobs,
      followed,
      held,
      usage,
      grants: { issue: () => ({ nodes: [], others: 0, packetMs: 0 }), withdraw: () => {} },
      resolve: (name) => store.catalog.resolve(name),
      find: (file) => findFile({ source, catalog: store.catalog }, file),
    });
    const { promise, resolve } = Promise.withResolvers<void>();
    over.push(promise);
    const others = services.forClient(() => [], usage).filter((one) => !(one instanceof JobService));
    const last = { handlers: new Map(), [Symbol.asyncDispose]: async () => resolve() };
    serve(pair.far, [...others, service, last]);
    return pair.near;
  };
  const client = new HubClient(
    new LastingLink(open(), { dial: async () => open(), reconnectMs: 30_000 }),
    identity,
  );
  const { file } = await client.run({ program: "shout", code, files: ["lines"] });
  cut();
  await over[0];
  expect(timers.size).toBe(1);
  await client.jobs();
  for (const run of timers) run();
  await store.gc();
  const content: Uint8Array[] = [];
  for await (const piece of execute(client.data, Buffer.from(file!.root, "hex"), { end: file!.length }))
    content.push(piece.slice());
  expect(Buffer.concat(content).toString()).toBe(lines.toUpperCase());
  // Nobody comes back from this.
  await client.close();
  await over[1];
  expect(timers.size).toBe(0);
  await store.gc();
  expect(await store.has(Buffer.from(file!.root, "hex"))).toEqual(Uint8Array.of(0));
  expect(failures).toEqual([]);
});

test("what runs for one key is another tenant's than what runs for another, jobs and loaded programs alike", async () => {
  const { store } = machine;
  await put(store, "tenants", Buffer.from("a line\n"));
  const { root: code } = await put(store, "shout.js", programCode(SHOUT));
  const load = vi.spyOn(machine.executor!, "load");
  const tenants: unknown[] = [];
  const ids: string[] = [];
  for (let client = 0; client < 2; client++) {
    const identity = Identity.create();
    ids.push(identity.id);
    const { near, far } = memoryPair({ near: { role: "client", id: identity.id } });
    serve(
      far,
      services.forClient(() => [], unlimited(identity.id)),
    );
    const hub = new HubClient(LastingLink.over(near), identity);
    await hub.run({ program: "shout", code, files: ["tenants"] });
    const program = await hub.load({ program: "shout", code });
    await program.exec(encodeFrame([execStream(0, new Uint8Array(32), 0, 0)]));
    tenants.push(new Set(load.mock.calls.splice(0).map(([, , , tenant]) => tenant)));
    await hub.close();
  }
  load.mockRestore();
  expect(tenants).toEqual(ids.map((id) => new Set([id])));
});

test("jobs with the most to say of their kernels fit into one message, the newest with all of it", () => {
  const reports = Array.from({ length: KERNEL_REPORTS_MAX }, (): KernelReport => {
    const engineClass = "c".repeat(ENGINE_CLASS_CHARACTERS_MAX);
    const reason = "…".repeat(ENGINE_REASON_CHARACTERS_MAX);
    const label = "…".repeat(ENGINE_LABEL_CHARACTERS_MAX);
    return { kernel: "k".repeat(64), engine: "gpu", engineClass, label, calls: 1, measuredMs: 1.5, reason };
  });
  const infos = Array.from({ length: JOBS_MAX + JOBS_REMEMBERED }, (_, index): JobInfo => {
    const times = { startedAt: index, milliseconds: 1, done: 1, tasks: 1 };
    return { job: String(index), program: "many.ts", state: "done", ...times, kernels: reports };
  });
  const json = jobsJson(infos);
  expect(Buffer.byteLength(json)).toBeLessThan(MESSAGE_CHUNK_BYTES_MAX);
  const told = v.parse(JobInfos, JSON.parse(json));
  expect(told).toHaveLength(infos.length);
  expect(told[0]).toEqual(infos[0]);
  expect(told.at(-1)!.kernels).toBeUndefined();
  expect(jobsJson([])).toBe("[]");
});
