/** A hub and its nodes as processes: the same words with --at, bytes that go from node to node, and a hub that comes back. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { makePlace, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import type { Place } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { Daemon, HubDaemon } from "./daemon.ts";
import { noise, sha256 } from "./inputs.ts";

const INVERT = `import { bytes, defineProgram } from "packetfs";
  export default defineProgram({
    input: bytes(1000),
    yields: "bytes",
    map: (record, { write }) => write(record.map((byte) => 255 - byte)),
  });`;

const file = noise(3_000_000, 11);
const inverted = file.map((byte) => 255 - byte);

let store: string;
let hub: HubDaemon;
let nodes: Daemon[];
let place: Place;
/** `pfs words… --at TOKEN`, which must succeed: stdout as objects. */
const at = (words: readonly string[]): Promise<Record<string, unknown>[]> =>
  place.json([...words, "--at", hub.clientToken]);

async function labels(): Promise<unknown[]> {
  return (await at(["nodes"])).map(({ label }) => label);
}

beforeAll(async () => {
  place = await makePlace();
  store = join(await temporaryDirectory(), "hub");
  hub = await startHub({ store });
  nodes = [await joinNode(hub.joinToken, "quiet", { listens: false })];
  await writeFile(join(place.cwd, "file.bin"), file);
  await writeFile(join(place.cwd, "invert.ts"), INVERT);
});

describe("a hub", () => {
  it("gives out what a node made that only the hub can reach", async () => {
    await at(["put", "file.bin"]);
    const words = ["run", "invert.ts", "file.bin", "--out", "inverted.bin", "--split", "250KB"];
    expect(await at(words)).toMatchObject([
      { file: { name: "inverted.bin", length: file.length }, statistics: { byNode: { quiet: 12 } } },
    ]);
    const got = await place.run(["get", "inverted.bin", "-o", "-", "--at", hub.clientToken]);
    expect([got.status, sha256(got.stdout)]).toEqual([0, sha256(inverted)]);
  });

  it("brings bytes from one node to another", async () => {
    nodes.push(await joinNode(hub.joinToken, "east"), await joinNode(hub.joinToken, "west", { workers: 0 }));
    expect(await labels()).toEqual(expect.arrayContaining(["east", "quiet", "west"]));
    const east = noise(2_000_000, 12);
    await writeFile(join(place.cwd, "east.bin"), east);
    const [put] = await at(["put", "east.bin", "--node", "east"]);
    expect(put).toMatchObject({ name: "east.bin", length: east.length });
    for (const node of [["--node", "west"], ["--node", "east"], []]) {
      const [got] = await at(["get", "east.bin", "-o", "copy.bin", ...node]);
      expect(got).toMatchObject({ length: east.length });
      expect(sha256(await readFile(join(place.cwd, "copy.bin")))).toBe(sha256(east));
    }
    await at(["get", "inverted.bin", "-o", "copy.bin", "--node", "west", "--range", "999990-1000010"]);
    expect(await readFile(join(place.cwd, "copy.bin"))).toEqual(
      Buffer.from(inverted.subarray(999_990, 1_000_010)),
    );
  });

  it("says when a node cannot be spoken to, or is not there", async () => {
    const put = (node: string) => place.run(["put", "file.bin", "--node", node, "--at", hub.clientToken]);
    const quiet = await put("quiet");
    expect(quiet.status).not.toBe(0);
    expect(quiet.err).toMatch(/^pfs: node "quiet" does not listen; start it with "pfs join --listen .*\n$/);
    const unknown = await put("north");
    expect(unknown.status).toBe(3);
    expect(unknown.err).toMatch(/^pfs: .*north.*\n$/);
  });

  it("understands the same words as a directory", async () => {
    const { clientToken } = hub;
    const [stat] = await at(["stat", "file.bin"]);
    expect(await at(["ls", "file"])).toEqual([stat]);
    expect(stat).toMatchObject({ name: "file.bin", length: file.length, version: 1 });
    const cat = await place.run(["cat", "file.bin", "east.bin", "--at", clientToken]);
    expect(cat.stdout.subarray(0, file.length)).toEqual(file);
    expect(cat.stdout).toHaveLength(5_000_000);
    const [head, ...packets] = await at(["packets", String(stat!["root"])]);
    expect(head).toMatchObject({ root: stat!["root"], length: file.length });
    expect(packets.at(-1)).toMatchObject({ op: "HALT", length: file.length });
    const [job] = await at(["jobs"]);
    expect(job).toMatchObject({ program: "invert.ts", state: "done", done: 12, tasks: 12 });
    expect(await at(["rm", "inverted.bin"])).toMatchObject([{ removed: ["inverted.bin"] }]);
    // What is read by the one is kept or freed by the other, in all stores together.
    const [read] = await at(["verify"]);
    const [swept] = await at(["gc"]);
    expect(Number(swept!["keptChunks"]) + Number(swept!["freedChunks"])).toBe(read!["chunks"]);
    expect(swept!["freedChunks"]).toBeGreaterThan(0);
    expect(await at(["verify"])).toMatchObject([{ sound: true, chunks: swept!["keptChunks"] }]);
    expect((await at(["ls"])).map(({ name }) => name)).toEqual(["east.bin", "file.bin"]);
    expect((await place.run(["stat", "inverted.bin", "--at", clientToken])).status).toBe(3);
  });

  it("that ended and began again has its tokens, its names, and its nodes back", async () => {
    const { clientToken, joinToken, address } = hub;
    const before = await at(["ls"]);
    expect(await hub.end("SIGTERM")).toMatchObject({ signal: null });
    hub = await startHub({ store, address });
    expect([hub.clientToken, hub.joinToken]).toEqual([clientToken, joinToken]);
    expect(await at(["ls"])).toEqual(before);
    for (const label of ["quiet", "east", "west"]) await hub.says(new RegExp(`\\b${label} is here`));
    expect(await labels()).toEqual(expect.arrayContaining(["east", "quiet", "west"]));
    const got = await place.run(["get", "east.bin", "-o", "-", "--node", "west", "--at", clientToken]);
    expect(sha256(got.stdout)).toBe(sha256(noise(2_000_000, 12)));
    const [result] = await at(["run", "invert.ts", "east.bin", "--out", "again.bin", "--split", "250KB"]);
    expect(result).toMatchObject({
      file: { name: "again.bin", length: 2_000_000 },
      statistics: { tasks: 8 },
    });
  });
});
