/** pfs up and pfs join: a hub and a node as processes of their own, used through tokens, and ended by signals. */
import { existsSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { pfs, serve, temporaryDirectory, TEXT } from "./run-pfs.ts";
import type { Finished, Server } from "./run-pfs.ts";

let cwd: string;
let hub: Server;
let node: Server;

beforeAll(async () => {
  cwd = await temporaryDirectory();
  await writeFile(join(cwd, "text.txt"), TEXT);
  const anyPort = ["--listen", "127.0.0.1:0", "--workers", "1", "--json"];
  hub = await serve(["up", "--store", "hub", "--label", "office", ...anyPort], cwd);
  node = await serve(
    ["join", String(hub.said["joinToken"]), "--store", "node", "--label", "attic", ...anyPort],
    cwd,
  );
});
afterAll(async () => {
  await node.stop("SIGTERM");
  await hub.stop("SIGTERM");
});

/** A client's command. */
function run(...words: string[]): Promise<Finished> {
  return pfs(words, { cwd, environment: { PACKETFS_AT: String(hub.said["clientToken"]) } });
}

describe("a hub and its node", () => {
  it("say what others need to know, as JSON", () => {
    expect(hub.said).toMatchObject({
      schema: 1,
      event: "listening",
      address: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
      clientToken: expect.stringMatching(/^pfs1\.client\./),
      joinToken: expect.stringMatching(/^pfs1\.join\./),
    });
    expect(node.said).toMatchObject({ schema: 1, event: "joined", label: "attic", id: expect.any(String) });
  });

  it("store, list, compute and answer for each other", async () => {
    expect((await run("put", "text.txt", "--name", "at the hub")).status).toBe(0);
    expect((await run("put", "text.txt", "--name", "at the node", "--node", "attic")).status).toBe(0);
    const names = (await run("ls")).out.trimEnd().split("\n");
    expect(names.map((line) => line.split("\t")[0])).toEqual(["at the hub", "at the node"]);
    expect((await run("cat", "at the node")).out).toBe(TEXT);
    expect((await run("cat", "at the hub", "--node", "attic")).out).toBe(TEXT);

    // Which there are depends on the machine; this one is there everywhere.
    const walls = expect.arrayContaining(["empty environment"]) as unknown;
    const nodes = (await run("nodes", "--json")).out.trimEnd().split("\n");
    expect(nodes.map((line) => JSON.parse(line) as unknown)).toMatchObject([
      { schema: 1, label: "office", role: "hub", workers: 1, walls },
      { schema: 1, label: "attic", role: "node", workers: 1, walls },
    ]);

    const source = `import { defineProgram, lines } from "packetfs";
      export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });`;
    await writeFile(join(cwd, "count.ts"), source);
    const counted = await run("run", "count.ts", "at the hub", "at the node");
    expect([counted.out, counted.status]).toEqual([`${2 * 20_000}\n`, 0]);
    const [job] = (await run("jobs", "--json")).out.trimEnd().split("\n");
    expect(JSON.parse(job!)).toMatchObject({ schema: 1, program: "count.ts", state: "done" });
    const lanes = await run("lanes");
    expect(lanes.status).toBe(0);
    const totals = (label: string): RegExp =>
      new RegExp(
        `${label}: \\d+ lanes? of 65,535; \\d+ packets? \\(0 faults\\) took .* of CPU time since it was started`,
      );
    expect(lanes.err).toMatch(totals("office"));
    expect(lanes.err).toMatch(totals("attic"));
  });

  it("are what the doctor looks at, when they are what commands use", async () => {
    const told = await run("doctor");
    expect(told.out).toContain(
      `  address               ${String(hub.said["address"])} (PACKETFS_AT); the store of`,
    );
    expect(told.out).toMatch(/^ {2}machines +office, attic: 2 workers$/m);
    expect(told.out).not.toMatch(/^store$/m);
    expect(told.status).toBe(0);
    const { out, status } = await run("doctor", "--at", "pfs1.client.mistyped", "--json");
    const { ok, checks } = JSON.parse(out) as { ok: boolean; checks: { topic: string; state: string }[] };
    expect([status, ok]).toEqual([1, false]);
    expect(checks.filter(({ state }) => state === "failure")).toMatchObject([
      { topic: "hub", name: "connection", advice: expect.stringContaining("do without --at") },
    ]);
  });

  it("are told apart from those that are not there", async () => {
    expect(await run("cat", "at the hub", "--node", "cellar")).toMatchObject({ status: 3, out: "" });
    expect(await run("cancel", "no-such-job")).toMatchObject({ status: 3 });
    const wrongToken = await pfs(["ls", "--at", String(hub.said["joinToken"])], { cwd });
    expect(wrongToken.status).toBe(2);
    expect(wrongToken.err).toContain("a client token is needed");
    const noToken = await pfs(["join", "garbage", "--store", "other"], { cwd });
    expect(noToken.err).toMatch(/^pfs: this is no token/);
    expect(noToken.status).toBe(2);
  });

  it("keep their port and their store to themselves", async () => {
    const port = await pfs(["up", "--listen", String(hub.said["address"]), "--store", "second"], { cwd });
    expect(port.status).toBe(1);
    expect(port.err).toMatch(/^pfs: the port .* cannot be opened/);
    const elsewhere = await pfs(["up", "--listen", "192.0.2.1:7999", "--store", "second"], { cwd });
    expect(elsewhere).toMatchObject({ status: 1, err: expect.stringMatching(/192\.0\.2\.1:7999 cannot/) });
    expect(existsSync(join(cwd, "second"))).toBe(false);
    const store = await pfs(["put", "text.txt", "--store", "hub"], { cwd });
    expect(store.status).toBe(1);
    expect(store.err).toMatch(/^pfs: process \d+ writes to the store/);
  });

  it("say nothing of walls that nobody had the time to look at", async () => {
    const ended = await pfs(["up", "--store", "brief", "--listen", "127.0.0.1:0"], {
      cwd,
      whileRunning: (child) => child.stdout!.once("data", () => child.kill("SIGTERM")),
    });
    expect(ended).toMatchObject({ status: 0, err: expect.not.stringContaining("executor process") });
  });

  it("is told whom a machine joins, before anybody answers", async () => {
    const token = `${String(hub.said["joinToken"])}@127.0.0.1:1`;
    let said = "";
    const ended = await pfs(["join", token, "--store", "late"], {
      cwd,
      whileRunning: (child) =>
        child.stderr!.once("data", (data: Buffer) => {
          said = data.toString();
          child.kill("SIGTERM");
        }),
    });
    expect(ended).toMatchObject({ status: 143, out: "" });
    expect(said).toBe("joining the hub at 127.0.0.1:1; Ctrl-C ends it\n");
  });

  it("end with 0 when a signal asks them to: serving was the job", async () => {
    const joinToken = String(hub.said["joinToken"]);
    const guest = await serve(["join", joinToken, "--store", "guest", "--label", "guest", "--json"], cwd);
    expect(await guest.stop("SIGINT")).toBe(0);
  });
});
