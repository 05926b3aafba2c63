/** One lying node among honest ones, each a process: jobs have their right answers, and the liar is found out and barred. */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { connect } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { pfs } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { HubDaemon } from "./daemon.ts";
import { bytesOf } from "./inputs.ts";

const LIAR = fileURLToPath(new URL("./lying-node-main.ts", import.meta.url));
const LINES = 40_000;
/** The number of lines, in a form that does not fit into an answer. */
const COUNT = `export default { input: { kind: "lines" }, yields: "value", map: () => ({ name: "a count of lines that is long", lines: 1 }),
  combine: (a, b) => ({ name: a.name, lines: a.lines + b.lines }) }`;
const COPY = `export default { input: { kind: "lines" }, yields: "bytes", map: (line, { write }) => write(line + "\\n") }`;
const JOBS_MAX = 30;

const text = Buffer.from(Array.from({ length: LINES }, (_, line) => `line ${line}\n`).join(""));
const liars = new Set<ChildProcess>();
let hub: HubDaemon;
let network: PacketFS;

beforeAll(async () => {
  hub = await startHub();
  await joinNode(hub.joinToken, "honest");
  network = await connect(hub.clientToken);
  await network.put(text, { name: "lines" });
});
afterAll(async () => {
  await network.close();
  for (const liar of liars) liar.kill("SIGKILL");
});

async function joinLiar(lie: string): Promise<ChildProcess> {
  const liar = fork(LIAR, [hub.joinToken, `liar that ${lie}`, lie]);
  liars.add(liar);
  await once(liar, "message");
  return liar;
}

async function barredOf(lie: string): Promise<readonly { readonly reason: string }[]> {
  return (await network.nodes()).find(({ label }) => label === `liar that ${lie}`)!.barred;
}

async function runJob(number: number): Promise<void> {
  if (number % 2 === 0) {
    const { value } = await network.run({ source: COUNT }, ["lines"], { splitBytes: 8192 });
    expect(value).toMatchObject({ lines: LINES });
    return;
  }
  await network.run({ source: COPY }, ["lines"], { splitBytes: 8192, out: "copy" });
  expect((await bytesOf(network, "copy")).equals(text)).toBe(true);
}

describe("a node that", () => {
  it.each([
    ["refuses", "it could not load programs that others loaded"],
    ["faults", "it failed packets that others ran"],
    ["unknown-faults", "it failed packets that others ran"],
    ["nowhere", "results that it gave were nowhere"],
    ["garbage", "it sent what is no answer"],
  ])("%s costs no job, is barred with its reason, and can be let in again", async (lie, reason) => {
    const liar = await joinLiar(lie);
    for (let number = 0; number < 4; number++) await runJob(number);
    for (let number = 0; number < JOBS_MAX && (await barredOf(lie)).length === 0; number++)
      await runJob(number);
    expect(await barredOf(lie)).toEqual([{ kind: "js", reason }]);
    await hub.says(new RegExp(`liar that ${lie} gets no more packets: ${reason}`));
    const shown = await pfs(["nodes", "--at", hub.clientToken]);
    expect(shown.err).toContain(`liar that ${lie} gets no more packets: ${reason}`);
    const row = shown.out.split("\n").find((line) => line.includes(`liar that ${lie}`));
    expect(row).toContain("barred");
    // Barred is barred: it is given nothing.
    const { statistics } = await network.run({ source: COUNT }, ["lines"], { splitBytes: 8192 });
    expect(statistics).toMatchObject({ retries: 0, notes: [] });

    const allowed = await pfs(["nodes", "--allow", `liar that ${lie}`, "--at", hub.clientToken]);
    expect(allowed).toMatchObject({ status: 0 });
    expect(allowed.err).not.toContain("gets no more packets");
    expect(await barredOf(lie)).toEqual([]);
    liar.kill("SIGKILL");
    await hub.says(new RegExp(`liar that ${lie} is gone`));
  });

  it("is not there cannot be let in", async () => {
    expect(await pfs(["nodes", "--allow", "nobody", "--at", hub.clientToken])).toMatchObject({ status: 3 });
    await expect(network.allow("nobody")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  });
});
