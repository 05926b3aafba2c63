/** A key has as much as its quota lets it, over all its sessions, and neither more nor, for what others have, less. */
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { JOBS_PER_KEY_MAX } from "../../../nodes/limits.ts";
import { JOBS_MAX } from "../../../runtime/limits.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { Usage, Usages } from "../../../nodes/serve/usage.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import type { Quota } from "../../../nodes/wire/trust/allow-list.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Role } from "../../../nodes/wire/link.ts";
import type { Ref } from "../../../packets/digest.ts";
import type { JobEvent } from "../../../runtime/contracts/events.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { programCode } from "../../program-code.ts";
import { until } from "../../suites/until.ts";
import { inPieces, randomBytes } from "../../runtime/store/store-fixture.ts";
import { HubServices } from "../../../nodes/hub/hub-services.ts";
import { openHub } from "../open-hub.ts";
import { memoryPair } from "../wire/memory-pair.ts";

const { jobs, services } = await openHub();

function usageOf(quota: Quota, role: Role = "client"): Usage {
  return new Usage({ id: Identity.create().id, role, quota: () => quota });
}

/** A session of the key. */
function client(usage: Usage, role: Role = "client"): HubClient {
  const { near, far } = memoryPair({ near: { role, id: usage.id } });
  serve(
    far,
    services.forClient(() => [], usage),
  );
  return new HubClient(near, Identity.create());
}

async function put(hub: HubClient, bytes: Uint8Array, name?: string): Promise<Uint8Array> {
  await using writer = await hub.data.openWriter();
  const { root, length } = await ingest(writer, inPieces(bytes, 4096));
  if (name !== undefined) await writer.bind({ name, root, length });
  return root;
}

const quotaError = (of: string): unknown =>
  expect.objectContaining({ code: "PFS_PEER_QUOTA", data: expect.objectContaining({ of }) });

test("bytes that are new count, over all sessions of the key, and no others'", async () => {
  const [limited, other] = [usageOf({ storedBytes: 1_000_000 }), usageOf({})];
  const [first, second, free] = [client(limited), client(limited), client(other)];
  const bytes = randomBytes("1", 600_000);
  await put(first, bytes, "first");
  const used = limited.used("storedBytes");
  expect(used).toBeGreaterThanOrEqual(600_000);
  // What is there already costs nothing.
  await put(second, bytes, "second");
  expect(limited.used("storedBytes")).toBe(used);
  await expect(put(second, randomBytes("2", 600_000))).rejects.toEqual(quotaError("storedBytes"));
  expect(limited.used("storedBytes")).toBeLessThanOrEqual(1_000_000);
  await put(free, randomBytes("3", 2_000_000));
  expect(await put(first, randomBytes("4", 50_000), "small")).toBeDefined();
});

test("a key without a quota leaves some of a hub's jobs to others", () => {
  const [usual, generous] = [usageOf({}), usageOf({ jobs: JOBS_MAX })];
  usual.reserve("jobs", JOBS_PER_KEY_MAX);
  expect(() => usual.reserve("jobs", 1)).toThrow(`may have ${JOBS_PER_KEY_MAX} jobs running`);
  generous.reserve("jobs", JOBS_MAX);
});

const ENDLESS = `export default { input: { kind: "lines" }, yields: "value", limits: { timeMs: 600000 }, map: () => { for (;;); }, combine: (a, b) => a }`;
const COUNT = `export default { input: { kind: "lines" }, yields: "value", map: () => 1, combine: (a, b) => a + b }`;

test("jobs count while they run, those of other keys do not, and a submitter ends only its own", async () => {
  const [submitter, other] = [usageOf({ jobs: 1 }, "submitter"), usageOf({})];
  const [sam, again, olga] = [client(submitter, "submitter"), client(submitter, "submitter"), client(other)];
  await put(olga, Buffer.from("a\nb\n"), "lines");
  const code = await put(olga, programCode(ENDLESS));
  const counting = await put(olga, programCode(COUNT));
  const started: string[] = [];
  const run = (hub: HubClient, which: Uint8Array): Promise<unknown> => {
    const onEvent = (event: JobEvent): void => void (event.kind === "started" && started.push(event.job));
    return hub.run({ program: "p", code: which, files: ["lines"], onEvent });
  };
  const running = run(sam, code);
  running.catch(() => undefined);
  await until(() => started.length === 1);
  await expect(run(again, counting)).rejects.toEqual(quotaError("jobs"));
  const others = run(olga, code);
  others.catch(() => undefined);
  await until(() => started.length === 2);
  const [own, theirs] = started;
  await expect(sam.cancel(theirs!)).rejects.toMatchObject({ code: "PFS_NOT_ALLOWED" });
  // From another session of the same key.
  await again.cancel(own!);
  await expect(running).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  await olga.cancel(theirs!);
  await expect(others).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  expect(submitter.used("jobs")).toBe(0);
  await expect(run(again, counting)).resolves.toMatchObject({ value: 2 });
  expect([submitter.used("jobs"), submitter.used("packets")]).toEqual([0, 0]);
});

test("a job of more packets than its key may have unanswered is refused, and leaves nothing behind", async () => {
  const usage = usageOf({ packets: 3 });
  const hub = client(usage);
  await put(hub, Buffer.from("line\n".repeat(2000)), "many lines");
  const code = await put(hub, programCode(COUNT));
  const run = (splitBytes: number): Promise<unknown> =>
    hub.run({ program: "p", code, files: ["many lines"], splitBytes });
  await expect(run(1000)).rejects.toEqual(quotaError("packets"));
  expect([usage.used("jobs"), usage.used("packets"), usage.running.size]).toEqual([0, 0, 0]);
  // Nobody cancelled it.
  const ended = (await jobs.list()).map(({ state, error }) => [state, error?.code]);
  expect(ended).toContainEqual(["failed", "PFS_PEER_QUOTA"]);
  await expect(run(5000)).resolves.toMatchObject({ value: 2000 });
});

const directories: string[] = [];
afterAll(async () => {
  for (const directory of directories) await rm(directory, { recursive: true, force: true });
});

test("what gc has freed does not count any more, also when it was stored by an earlier process", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pfs-usage-"));
  directories.push(directory);
  const file = join(directory, "usage.json");
  const allowList = new AllowList();
  const { signingKey, curveKey, id } = Identity.create();
  const quota = { storedBytes: 1_000_000 };
  allowList.add({ signingKey, curveKey, role: "client", label: "x", quota });
  const network = await openHub();
  /** What the key stores with one process, and what counts then. */
  const withHub = async (work: (hub: HubClient) => Promise<void>): Promise<number> => {
    const usages = await Usages.open(file, allowList);
    const hub = new HubServices({ label: "hub", ...network, usages, onFailure: () => expect.unreachable() });
    const { near, far } = memoryPair({ near: { role: "client", id } });
    serve(
      far,
      hub.forClient(() => [], usages.of(id)),
    );
    const connected = new HubClient(near, Identity.create());
    await work(connected);
    const used = usages.of(id).used("storedBytes");
    await usages.close();
    return used;
  };
  const bytes = randomBytes("freed", 600_000);
  expect(await withHub(async (hub) => void (await put(hub, bytes, "freed")))).toBeGreaterThan(600_000);
  const afterGc = await withHub(async (hub) => {
    await put(hub, randomBytes("kept", 50_000), "kept");
    await expect(put(hub, randomBytes("more", 600_000))).rejects.toEqual(quotaError("storedBytes"));
    await hub.data.catalog.remove("freed");
    await hub.gc();
    // The same bytes are new again, and count once.
    await put(hub, bytes, "again");
  });
  expect(afterGc).toBeGreaterThan(650_000);
  expect(afterGc).toBeLessThan(700_000);
  const empty = await withHub(async (hub) => {
    for (const name of ["kept", "again"]) await hub.data.catalog.remove(name);
    await hub.gc();
  });
  expect(empty).toBe(0);
});

test("what a key stored is known to the next process, and forgotten with the key", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pfs-usage-"));
  directories.push(directory);
  const file = join(directory, "usage.json");
  const allowList = new AllowList();
  const [limited, free] = [Identity.create(), Identity.create()];
  const add = ({ signingKey, curveKey }: Identity, quota?: Quota): void =>
    void allowList.add({ signingKey, curveKey, role: "client", label: "x", quota });
  add(limited, { storedBytes: 100 });
  add(free);
  const first = await Usages.open(file, allowList);
  first.of(limited.id).reserve("storedBytes", 70);
  first.of(free.id).reserve("storedBytes", 1e9);
  await first.close();
  const second = await Usages.open(file, allowList);
  expect(second.of(limited.id)).toBe(second.of(limited.id));
  expect(second.of(limited.id).used("storedBytes")).toBe(70);
  expect(() => second.of(limited.id).reserve("storedBytes", 31)).toThrow("70");
  // More may be allowed while it runs.
  add(limited, { storedBytes: 200 });
  second.of(limited.id).reserve("storedBytes", 31);
  allowList.remove(limited.id);
  add(limited, { storedBytes: 200 });
  expect(second.of(limited.id).used("storedBytes")).toBe(0);
  await second.close();
  await writeFile(file, "{");
  await expect(Usages.open(file, allowList)).rejects.toMatchObject({ code: "PFS_ALLOW_LIST_INVALID" });
});

test("the list of what a key stored is gone with the key, also where it is being looked through then", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pfs-usage-"));
  directories.push(directory);
  const allowList = new AllowList();
  const { signingKey, curveKey, id } = Identity.create();
  const quota = { storedBytes: 1_000_000 };
  allowList.add({ signingKey, curveKey, role: "client", label: "x", quota });
  const usages = await Usages.open(join(directory, "usage.json"), allowList);
  const list = join(directory, "usage", id);
  const stored = async (): Promise<void> =>
    await usages.of(id).record(new Uint8Array(32), Uint32Array.of(7), Uint8Array.of(1));
  const looked = Promise.withResolvers<void>();
  const sizes = Promise.withResolvers<void>();
  const store = {
    sizes: async (refs: Uint8Array): Promise<Float64Array> => {
      looked.resolve();
      await sizes.promise;
      return new Float64Array(refs.byteLength / 32).fill(7);
    },
  };
  await stored();
  const recount = (await usages.recounting(store))();
  await looked.promise;
  allowList.remove(id);
  // Time for whoever does not wait.
  for (let turn = 0; turn < 1000; turn++) await setImmediate();
  sizes.resolve();
  await recount;
  await until(() => !existsSync(list));
  // It is removed, and not removed and then written again.
  const late = await usages.recounting(store);
  await late();
  await setImmediate();
  expect(existsSync(list)).toBe(false);
  expect(existsSync(`${list}.new`)).toBe(false);
  await usages.close();
});

const SHOUT = `export default { input: { kind: "lines" }, yields: "bytes", map: (line) => line.toUpperCase() + "\\n" }`;

test("a submitter's results replace its own and nobody else's, after a restart too", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pfs-usage-"));
  directories.push(directory);
  const allowList = new AllowList();
  const sam = Identity.create();
  const { signingKey, curveKey, id } = sam;
  allowList.add({ signingKey, curveKey, role: "submitter", label: "sam" });
  const network = await openHub();
  const { catalog } = network.machine.store;
  const restarted = async (): Promise<{ submitter: HubClient; olga: HubClient }> => {
    const usages = await Usages.open(join(directory, "usage.json"), allowList);
    const hub = new HubServices({ label: "hub", ...network, usages, onFailure: () => expect.unreachable() });
    const connect = (role: Role, usage: Usage): HubClient => {
      const { near, far } = memoryPair({ near: { role, id: usage.id } });
      serve(
        far,
        hub.forClient(() => [], usage),
      );
      return new HubClient(near, Identity.create());
    };
    return { submitter: connect("submitter", usages.of(id)), olga: connect("client", usageOf({})) };
  };
  const { submitter, olga } = await restarted();
  const lines = Buffer.from("a line\n".repeat(1000));
  for (const name of ["lines", "theirs"]) await put(olga, lines, name);
  const code = await put(olga, programCode(SHOUT));
  const run = (hub: HubClient, out: string): Promise<unknown> =>
    hub.run({ program: "shout", code, files: ["lines"], out });
  const refused = { code: "PFS_NOT_ALLOWED", data: { name: "theirs" } };
  await expect(run(submitter, "theirs")).rejects.toMatchObject(refused);
  expect(await catalog.resolve("theirs")).toMatchObject({ version: 1, length: lines.byteLength });
  await run(submitter, "mine");
  await run(submitter, "mine");
  expect(await catalog.resolve("mine")).toMatchObject({ version: 2 });
  const later = await restarted();
  await run(later.submitter, "mine");
  expect(await catalog.resolve("mine")).toMatchObject({ version: 3 });
  // It is another's as soon as another has stored it.
  await put(olga, lines, "mine");
  await expect(run(later.submitter, "mine")).rejects.toMatchObject({ code: "PFS_NOT_ALLOWED" });
  await run(olga, "mine");
  expect(await catalog.resolve("mine")).toMatchObject({ version: 5 });
  // Neither is a name replaced that was taken while the job ran.
  const { root, length } = (await catalog.resolve("theirs"))!;
  const inputs = [{ name: "theirs", root, length }];
  const asked = { name: "shout", code: code as Ref, args: "{}", inputs, out: "theirs" };
  await expect(network.jobs.run({ ...asked, expected: 0 })).rejects.toMatchObject({
    code: "PFS_NAME_CHANGED",
  });
  await expect(network.jobs.run({ ...asked, expected: 1 })).resolves.toMatchObject({
    file: { name: "theirs" },
  });
});
