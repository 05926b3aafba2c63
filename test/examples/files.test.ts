/** The examples of moving files do what they say, as people start them. */
import { execFile } from "node:child_process";
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterEach, beforeEach, expect, test } from "vitest";
import { startNetwork } from "../../sdk/cli/demo/network.ts";
import { openLocal } from "../../sdk/local.ts";
import type { PacketFS } from "../../sdk/packetfs.ts";
import { connect } from "../../sdk/remote.ts";
import { randomBytes } from "../runtime/store/store-fixture.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/files/", import.meta.url));
const PFS = fileURLToPath(new URL("../../sdk/bin/pfs.mjs", import.meta.url));

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pfs-examples-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const run = (name: string, ...words: string[]): Promise<{ stdout: string }> =>
  promisify(execFile)(process.execPath, [join(EXAMPLES, name), ...words], { env: environment() });

/** Nothing is kept in the folders of whoever runs the tests, and "pfs" is that of the checkout. */
function environment(): NodeJS.ProcessEnv {
  const bin = join(directory, "bin");
  if (!existsSync(bin)) {
    mkdirSync(bin);
    const words = [process.execPath, PFS].map((word) => `'${word}'`).join(" ");
    writeFileSync(join(bin, "pfs"), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
  }
  return {
    ...process.env,
    PATH: `${bin}:${process.env["PATH"]}`,
    PACKETFS_STORE: join(directory, "backups"),
    XDG_CACHE_HOME: join(directory, "cache"),
  };
}

async function bytesOf(pfs: PacketFS, file: string): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of pfs.get(file)) pieces.push(piece);
  return Buffer.concat(pieces);
}

test("are short, and say how to run them", () => {
  const readme = readFileSync(join(EXAMPLES, "README.md"), "utf8");
  for (const name of readdirSync(EXAMPLES).filter((file) => file !== "README.md")) {
    const text = readFileSync(join(EXAMPLES, name), "utf8");
    expect({ name, short: text.split("\n").length <= 80 }).toEqual({ name, short: true });
    expect(text.slice(0, 1000)).toContain(name);
    expect(readme).toContain(name);
  }
});

test("a store is replicated to another data centre, and then kept equal to it", async () => {
  const [from, mirror] = [join(directory, "from"), join(directory, "mirror")];
  const network = await startNetwork({ nodes: 0, workers: 0 });
  try {
    const site = join(directory, "site");
    mkdirSync(join(site, "docs"), { recursive: true });
    writeFileSync(join(site, "index.html"), "<h1>one</h1>");
    writeFileSync(join(site, "docs/large.bin"), randomBytes("large", 900_000));
    {
      await using pfs = await openLocal(from);
      await pfs.put(Buffer.from("first"), { name: "notes/today" });
      await pfs.put(Buffer.from("second"), { name: "notes/today" });
      await pfs.put(Buffer.from("first"), { name: "notes/today" });
      await pfs.put(randomBytes("disk", 600_000), { name: "disk.img" });
      await pfs.putTree(site, { name: "site" });
    }
    const first = await run("replicate.ts", from, network.clientToken, mirror);
    expect(first.stdout).toContain("5 versions copied");
    expect((await run("replicate.ts", from, network.clientToken, mirror)).stdout).toBe("0 versions copied\n");
    const edited = randomBytes("disk", 600_000);
    edited.fill(7, 300_000, 300_100);
    {
      await using pfs = await openLocal(from);
      await pfs.put(edited, { name: "disk.img" });
    }
    const { stdout } = await run("replicate.ts", from, network.clientToken, mirror);
    expect(stdout).toContain("1 versions copied");
    const [, newBytes] = /disk\.img@2: (\d+) of 600000/.exec(stdout)!;
    expect(Number(newBytes)).toBeLessThan(600_000);
    await using source = await openLocal(from);
    await using target = await connect(network.clientToken);
    for await (const { name, root } of source.list()) {
      expect([name, (await target.stat(name)).root]).toEqual([name, root]);
      const [before, now] = await Promise.all([source.history(name), target.history(name)]);
      expect(now.map((each) => each.root)).toEqual(before.map((each) => each.root));
    }
    expect(await bytesOf(target, "disk.img")).toEqual(Buffer.from(edited));
    expect((await bytesOf(target, "site/index.html")).toString()).toBe("<h1>one</h1>");
  } finally {
    await network.stop();
  }
});

test.skipIf(process.platform === "win32")(
  "a directory is backed up each night, and old months go",
  async () => {
    const [shop, script] = [join(directory, "shop"), join(EXAMPLES, "nightly-backup.sh")];
    mkdirSync(shop);
    writeFileSync(join(shop, "orders.db"), randomBytes("orders", 200_000));
    const env = environment();
    const night = async (month: string): Promise<string> =>
      (await promisify(execFile)("sh", [script, shop, "shop", "2", month], { env })).stdout;
    const pfs = async (...words: string[]): Promise<string> =>
      (await promisify(execFile)(process.execPath, [PFS, ...words], { env })).stdout;
    expect(await night("2026-01")).not.toContain("changed since");
    writeFileSync(join(shop, "prices.csv"), "ring,10\n");
    const second = await night("2026-02");
    expect(second).toMatch(/changed since version 1:\n[^]*\+\s+prices\.csv/);
    rmSync(join(shop, "orders.db"));
    const third = await night("2026-03");
    expect(third).toMatch(/changed since version 2:\n[^]*-\s+orders\.db/);
    // Its latest ten versions are there, and of the months the latest two.
    expect((await pfs("ls", "--versions", "shop")).trim().split("\n")).toHaveLength(3);
    const names = (await pfs("ls"))
      .trim()
      .split("\n")
      .map((line) => line.split("\t")[0]);
    expect(names).toEqual(["shop/", "shop-2026-02/", "shop-2026-03/"]);
    await pfs("get", "shop@2", "-o", join(directory, "restored"));
    expect(readdirSync(join(directory, "restored")).toSorted()).toEqual(["orders.db", "prices.csv"]);
    const orders = readFileSync(join(directory, "restored/orders.db"));
    expect(orders).toEqual(Buffer.from(randomBytes("orders", 200_000)));
  },
);

test("files are pulled from five edge nodes at once, again only what changed, and one that is away is told of", async () => {
  const network = await startNetwork({ nodes: 5, workers: 0 });
  try {
    const target = join(directory, "collected");
    for (const { label } of network.nodes) {
      await using edge = await connect(network.clientToken, { node: label });
      await edge.put(Buffer.from(`log of ${label}`), { name: `${label}/today.log` });
      await edge.put(randomBytes(label, 400_000), { name: `${label}/images/1.raw` });
    }
    const { stdout } = await run("pull-from-edges.ts", network.clientToken, target);
    for (const { label } of network.nodes) {
      expect(stdout).toContain(`${label}: 2 files, `);
      expect(readFileSync(join(target, label, "today.log"), "utf8")).toBe(`log of ${label}`);
      expect(readFileSync(join(target, label, "images/1.raw"))).toEqual(
        Buffer.from(randomBytes(label, 400_000)),
      );
    }
    {
      await using edge = await connect(network.clientToken, { node: "node-3" });
      await edge.put(Buffer.from("a longer log"), { name: "node-3/today.log" });
    }
    await run("pull-from-edges.ts", network.clientToken, target);
    expect(readFileSync(join(target, "node-3/today.log"), "utf8")).toBe("a longer log");
  } finally {
    await network.stop();
  }
});

test("workers are at a simulation's output while it grows", async () => {
  const [output, program] = [join(directory, "energies.txt"), join(directory, "sum.ts")];
  writeFileSync(
    program,
    'import { defineProgram, lines } from "packetfs";\nexport default defineProgram({ input: lines(), map: (line) => Number(line), combine: (a: number, b: number) => a + b });\n',
  );
  writeFileSync(output, "");
  let sum = 0;
  let next = 0;
  const grow = (count: number): void => {
    const numbers = Array.from({ length: count }, () => next++);
    sum += numbers.reduce((a, b) => a + b, 0);
    appendFileSync(output, numbers.map((number) => `${number}\n`).join(""));
  };
  grow(1000);
  const store = join(directory, "store");
  const words = [join(EXAMPLES, "follow-output.ts"), store, output, program];
  const following = promisify(execFile)(process.execPath, words, { env: environment() });
  let said = "";
  following.child.stdout!.on("data", (piece: string) => (said += piece));
  // It has an answer of the first piece before the simulation is over.
  while (!said.includes("energies.txt/000000: 499500")) {
    if (following.child.exitCode !== null) throw new Error((await following).stderr);
    await sleep(20);
  }
  grow(2500);
  appendFileSync(output, "7");
  sum += 7;
  writeFileSync(`${output}.done`, "");
  const { stdout } = await following;
  const [, pieces, bytes, total] = /all (\d+) pieces, (\d+) bytes: (\d+)/.exec(stdout)!;
  expect(Number(pieces)).toBeGreaterThanOrEqual(2);
  expect(Number(bytes)).toBe(readFileSync(output).byteLength);
  expect(Number(total)).toBe(sum);
});
