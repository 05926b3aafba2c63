/** Small jobs by the thousand, many of which fail or are cancelled: when they have ended, nothing of them stays. */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { expect, it } from "vitest";
import { CACHE_WRITER_IDLE_MS } from "../../nodes/limits.ts";
import { PROCESS_KEPT_MS } from "../../runtime/limits.ts";
import { JOBS_REMEMBERED } from "../../runtime/limits.ts";
import { connect, errorToJson, PacketfsError } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import { bytesOf, numbers } from "./inputs.ts";
import { INSPECTED } from "./inspector.ts";
import { descriptorKinds, expectBack, expectNoneMore, holdingsOf } from "./holdings.ts";
import type { Descriptors, Holdings } from "./holdings.ts";
import { HAS_PROC } from "../suites/processes.ts";

const JOBS = Number(process.env["PACKETFS_TEST_JOBS"] ?? 10);
const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 20_261_126);
/**
 * Before the base is taken: of each end of jobs one, and more than the jobs that a hub remembers, where it is to be compared
 * closely.
 */
const WARM_UP_JOBS: number = Math.max(10, Math.ceil(JOBS / 2));
const LONG_JOBS = 4 * JOBS_REMEMBERED;
const AT_ONCE = 2;

const LINES = 200;
const SOURCE = `import { defineProgram, lines } from "packetfs";
  export default defineProgram({
    input: lines(),
    limits: { timeMs: 60_000 },
    map: (line, { args: { job, ends } }) => {
      if (ends === "thrown") throw new Error("job " + job + " has enough");
      if (ends === "cancelled") for (;;);
      return Number(line) * job;
    },
    combine: (a: number, b: number) => a + b,
  });`;
const FAULTY = `import { defineProgram, jsonLines } from "packetfs";
  export default defineProgram({ input: jsonLines(), map: (value) => 1, combine: (a: number, b: number) => a + b });`;

/** What comes of jobs, and how many of each in ten. */
const ENDS = [...Array.from({ length: 8 }, () => "done" as const), ...(["failed", "cancelled"] as const)];

class SmallJobs {
  readonly #clients: readonly PacketFS[];
  readonly #next = numbers(SEED);
  readonly counts: Record<string, number> = {};
  #job = 0;

  constructor(clients: readonly PacketFS[]) {
    this.#clients = clients;
  }

  async run(jobs: number): Promise<void> {
    const last = this.#job + jobs;
    const oneAfterTheOther = async (client: PacketFS): Promise<void> => {
      while (this.#job < last) await this.#one(client, ++this.#job);
    };
    await Promise.all(this.#clients.map(oneAfterTheOther));
  }

  async #one(client: PacketFS, job: number): Promise<void> {
    const end = ENDS[job % ENDS.length]!;
    const draw = this.#next();
    const what =
      end === "failed" ? await this.#fail(client, job, draw) : await this.#end(client, job, end, draw);
    this.counts[what] = (this.counts[what] ?? 0) + 1;
  }

  async #end(client: PacketFS, job: number, end: "done" | "cancelled", draw: number): Promise<string> {
    const given = new AbortController();
    const byName = draw % 2 === 0;
    const running = client.run({ source: SOURCE }, ["numbers"], {
      args: { job, ends: end },
      // Every fifth has several packets and what merges them.
      ...(job % 5 === 0 ? { splitBytes: 200 } : {}),
      signal: given.signal,
      onEvent: (event) => {
        if (end !== "cancelled" || event.kind !== "started") return;
        if (byName) void client.cancel(event.job);
        else given.abort();
      },
    });
    if (end === "done") {
      const { value } = await running;
      expect([job, value]).toEqual([job, (LINES * (LINES + 1) * job) / 2]);
      return end;
    }
    const error = await failureOf(running);
    if (!byName) expect(error).toBe(given.signal.reason);
    else expect(codeOf(error)).toBe("PFS_CANCELLED");
    return byName ? "cancelled by its id" : "given up by its client";
  }

  async #fail(client: PacketFS, job: number, draw: number): Promise<string> {
    const kinds = [
      "PFS_PROGRAM_THREW",
      "PFS_RECORD_INVALID",
      "PFS_NOT_FOUND",
      "PFS_PROGRAM_INVALID",
    ] as const;
    const code = kinds[draw % kinds.length]!;
    const running = {
      PFS_PROGRAM_THREW: () => client.run({ source: SOURCE }, ["numbers"], { args: { job, ends: "thrown" } }),
      PFS_RECORD_INVALID: () => client.run({ source: FAULTY }, ["text"]),
      PFS_NOT_FOUND: () => client.run({ source: SOURCE }, ["nothing"]),
      PFS_PROGRAM_INVALID: () => client.run({ source: `throw new Error("job");` }, ["numbers"]),
    }[code]();
    expect([job, codeOf(await failureOf(running))]).toEqual([job, code]);
    return code;
  }
}

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return await promise.then(
    (value) => new Error("it did not fail", { cause: value }),
    (error: unknown) => error,
  );
}

function codeOf(error: unknown): string {
  return error instanceof PacketfsError ? error.code : JSON.stringify(errorToJson(error));
}

it.skipIf(!HAS_PROC)(
  `${JOBS} of them leave a hub, a node and a client as they were`,
  async () => {
    const place = await temporaryDirectory();
    const [hubStore, nodeStore, temporary] = [join(place, "hub"), join(place, "node"), join(place, "tmp")];
    mkdirSync(temporary);
    const wrapper = [...INSPECTED, `TMPDIR=${temporary}`];
    const hub = await startHub({ store: hubStore, wrapper });
    const node = await joinNode(hub.joinToken, "node", { store: nodeStore, workers: AT_ONCE, wrapper });
    const clients = await Promise.all(Array.from({ length: AT_ONCE }, () => connect(hub.clientToken)));
    const [client] = clients as [PacketFS];
    const text = Array.from({ length: LINES }, (_, index) => `${index + 1}\n`).join("");
    await client.put(Buffer.from(text), { name: "numbers" });
    await client.put(Buffer.from("no JSON\n"), { name: "text" });
    const jobs = new SmallJobs(clients);

    const look = async (): Promise<{ hub: Holdings; node: Holdings; client: Descriptors }> => {
      // What a node keeps for the jobs of the last seconds is free then.
      await sleep(Math.max(CACHE_WRITER_IDLE_MS, PROCESS_KEPT_MS) + 1_000);
      await client.gc();
      expect((await bytesOf(client, "numbers")).toString()).toBe(text);
      const [ofHub, ofNode] = [await holdingsOf(hub, hubStore), await holdingsOf(node, nodeStore)];
      return { hub: ofHub, node: ofNode, client: descriptorKinds(process.pid) };
    };
    await jobs.run(WARM_UP_JOBS);
    const base = await look();
    const report = (when: string, held: object): void => console.log(when, JSON.stringify(held));
    report("base", base);
    await jobs.run(JOBS);
    const after = await look();
    report("after", after);
    report("counts", jobs.counts);
    const hasRunForLong = JOBS >= LONG_JOBS;
    expectBack("the hub", after.hub, base.hub, { hasRunForLong });
    expectBack("the node", after.node, base.node, { hasRunForLong });
    expectNoneMore("the clients", after.client, base.client);
    expect(readdirSync(temporary)).toEqual([]);
    expect((await client.jobs()).filter(({ state }) => state === "running")).toEqual([]);
    for (const one of clients) await one.close();
    expect(await node.end("SIGTERM")).toEqual({ status: 0, signal: null });
    expect(await hub.end("SIGTERM")).toEqual({ status: 0, signal: null });
  },
  60_000 + JOBS * 20_000,
);
