/**
 * A store whose bytes are hit, in the words that people type: it says what is wrong, frees and gives what it can, and gets
 * back from the network what the network has.
 */
import { readdir, readFile, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makePlace, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import { noise, sha256 } from "./inputs.ts";

/** Where a record's header has its ref. */
const REF_AT = 32;

/** Flips a bit of the body that stands behind this ref in the only segment of a store. */
async function damage(store: string, ref: string): Promise<void> {
  const [segment] = await readdir(join(store, "segments"));
  const path = join(store, "segments", segment!);
  const bytes = await readFile(path);
  // Streams name it too: its record is where a header does.
  let at = -1;
  do at = bytes.indexOf(Buffer.from(ref, "hex"), at + 1);
  while (at !== -1 && bytes.toString("latin1", at - REF_AT, at - REF_AT + 4) !== "PFSR");
  expect(at).toBeGreaterThan(0);
  bytes[at + 60]! ^= 1;
  await writeFile(path, bytes);
}

it("gc names the damaged file and frees the rest", async () => {
  const { cwd, run, json } = await makePlace();
  await writeFile(join(cwd, "broken.bin"), noise(200_000, 71));
  await writeFile(join(cwd, "whole.bin"), noise(200_000, 72));
  await json(["put", "text.txt"]);
  const [{ root }] = (await json(["put", "broken.bin"])) as [{ root: string }];
  await json(["put", "whole.bin"]);
  await json(["rm", "text.txt"]);
  await damage(join(cwd, "store"), root);
  for (let time = 0; time < 2; time++) {
    const gc = await run(["gc"]);
    expect([gc.status, gc.out]).toEqual([0, "incomplete file\tbroken.bin\n"]);
    expect(gc.err).toMatch(/1 file cannot be read whole.*\n.*freed/s);
  }
  expect((await run(["gc", "--json"])).out).toContain('"incomplete":["broken.bin"]');
  const verify = await run(["verify"]);
  expect([verify.status, verify.out]).toEqual([4, `damaged chunk\t${root}\nincomplete file\tbroken.bin\n`]);
  const got = await run(["get", "whole.bin", "-o", "-"]);
  expect(sha256(got.stdout)).toBe(sha256(noise(200_000, 72)));
});

it("verify mends what only the index knows any more, and says so", async () => {
  const { cwd, run, json } = await makePlace();
  const [{ root }] = (await json(["put", "text.txt"])) as [{ root: string }];
  const [segment] = await readdir(join(cwd, "store", "segments"));
  const path = join(cwd, "store", "segments", segment!);
  const bytes = await readFile(path);
  // In the header of its record, in front of the ref.
  bytes[bytes.indexOf(Buffer.from(root, "hex")) - 3]! ^= 1;
  await writeFile(path, bytes);
  const first = await run(["verify"]);
  expect([first.status, first.out]).toEqual([0, ""]);
  expect(first.err).toMatch(/1 damaged record of segments written anew\n.*all sound/);
  expect(await json(["verify"])).toMatchObject([{ sound: true, lostRecords: 0, mendedRecords: 0 }]);
});

it("whoever finds damage, storing the same file again makes it whole", async () => {
  const { cwd, run, json } = await makePlace();
  await writeFile(join(cwd, "broken.bin"), noise(1_000_000, 74));
  await json(["put", "broken.bin"]);
  const [, ...packets] = await json(["packets", "broken.bin"]);
  const refs = packets.flatMap(({ op, chunk }) => (op === "COPY" ? [String(chunk)] : []));
  for (const [index, finds] of [["get", "broken.bin", "-o", "-"], ["verify"]].entries()) {
    await damage(join(cwd, "store"), refs[index]!);
    expect((await run(finds)).status).toBe(4);
    const put = await run(["put", "broken.bin"]);
    expect([put.status, put.err]).toEqual([0, expect.stringContaining("a damaged chunk is whole again")]);
    expect((await run(["verify"])).status).toBe(0);
  }
  const got = await run(["get", "broken.bin", "-o", "-"]);
  expect(sha256(got.stdout)).toBe(sha256(noise(1_000_000, 74)));
});

it("a hub and its nodes repair each other's chunks while they are read, and by verify", async () => {
  const place = await makePlace();
  const file = noise(1_500_000, 73);
  await writeFile(join(place.cwd, "file.bin"), file);
  const store = join(await temporaryDirectory(), "hub");
  const hub = await startHub({ store });
  const at = (words: readonly string[]) => place.run([...words, "--at", hub.clientToken]);
  await place.json(["put", "file.bin", "--at", hub.clientToken]);
  const nodeStore = join(await temporaryDirectory(), "east");
  const node = await joinNode(hub.joinToken, "east", { store: nodeStore });
  // The node has all of it then, read through it.
  const through = await at(["get", "file.bin", "-o", "-", "--node", "east"]);
  expect(sha256(through.stdout)).toBe(sha256(file));

  const [, ...packets] = await place.json(["packets", "file.bin", "--at", hub.clientToken]);
  const refs = packets.flatMap(({ op, chunk }) => (op === "COPY" ? [String(chunk)] : []));
  await damage(store, refs[1]!);
  const got = await at(["get", "file.bin", "-o", "-"]);
  expect([got.status, sha256(got.stdout)]).toEqual([0, sha256(file)]);
  await hub.says(new RegExp(`the bytes of chunk ${refs[1]} are damaged`));
  await hub.says(/a damaged chunk is whole again/);

  await damage(store, refs[3]!);
  const verify = await at(["verify"]);
  expect([verify.status, verify.out]).toEqual([0, `repaired chunk\t${refs[3]}\t${hostname()}\n`]);
  expect(verify.err).toContain(`${hostname()}: 1 damaged chunk repaired; look whether its disk fails`);

  await damage(nodeStore, refs[4]!);
  // Its segment has them in an order of its own: one chunk or another was hit.
  const ofNode = {
    label: "east",
    damaged: [],
    repaired: [expect.stringMatching(/^[0-9a-f]{64}$/)],
    lostRecords: 0,
  };
  expect(JSON.parse((await at(["verify", "--json"])).out)).toMatchObject({ sound: true, stores: [ofNode] });

  await node.end("SIGTERM");
  await hub.says(/east is gone/);
  await damage(store, refs[5]!);
  for (let time = 0; time < 2; time++) {
    const lost = await at(["get", "file.bin", "-o", "-"]);
    expect(lost.status).toBe(4);
    expect(lost.err).toMatch(new RegExp(`chunk ${refs[5]} are damaged`));
  }
});
