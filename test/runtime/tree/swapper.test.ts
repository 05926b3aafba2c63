/**
 * Somebody who may write to a directory exchanges what is in it for symbolic links, as fast as it goes, while a stored directory is
 * written there: nothing is written, made, removed or touched where the links lead.
 */
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { lstatSync, mkdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { PacketfsError } from "../../../packets/errors.ts";
import { TreeFilter } from "../../../runtime/tree/filter.ts";
import { OpenDirectory } from "../../../runtime/tree/open-directory.ts";
import { storeTree } from "../../../runtime/tree/store-tree.ts";
import { StoredTree } from "../../../runtime/tree/stored-tree.ts";
import { viewOf } from "../../../runtime/tree/tree-view.ts";
import { planWriting } from "../../../runtime/tree/write-plan.ts";
import { writeTree } from "../../../runtime/tree/write-tree.ts";
import { ShelfSink } from "./shelf-sink.ts";
import { describeDirectory, make } from "./tree-place.ts";
import type { Made } from "./tree-place.ts";

const ROUNDS = Number(process.env["PACKETFS_TEST_SWAPS"] ?? 150);

/** Exchanges the directory `d` for a link and back, and a file in it; says how often it has at its end. */
const SWAPPER = `
  const fs = require("node:fs");
  const [to, outside] = process.argv.slice(1);
  const attempt = (work) => { try { work(); return 1; } catch { return 0; } };
  let swaps = 0;
  const swap = () => {
    for (let count = 0; count < 50; count++) {
      swaps += attempt(() => {
        fs.renameSync(to + "/d", to + "/hidden");
        fs.symlinkSync(outside + "/d", to + "/d");
      });
      attempt(() => fs.unlinkSync(to + "/d"));
      attempt(() => fs.renameSync(to + "/hidden", to + "/d"));
      attempt(() => { fs.unlinkSync(to + "/d/f3"); fs.symlinkSync(outside + "/d/f3", to + "/d/f3"); });
    }
    setImmediate(swap);
  };
  process.on("message", () => process.send(swaps, () => process.exit()));
  process.send("ready");
  swap();
`;

let place: string;
let swapper: ChildProcess | undefined;
beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), "pfs-swap-"));
});
afterAll(async () => {
  swapper?.kill("SIGKILL");
  await rm(place, { recursive: true, force: true });
});

function contents(version: number): Record<string, Made> {
  const files = Array.from({ length: 12 }, (_, index): [string, Made] => [
    `d/f${index}`,
    { bytes: "x".repeat(version + index), mtime: 1_000 + version },
  ]);
  return {
    ...Object.fromEntries(files),
    "d/sub/g": { bytes: `g${version}` },
    "d/large": { bytes: Buffer.alloc(300_000, version + 1) },
  };
}

test.runIf(process.platform === "linux")("writes nothing outside", async () => {
  const [to, outside] = [join(place, "to"), join(place, "outside")];
  const sink = new ShelfSink();
  const filter = new TreeFilter();
  const trees: StoredTree[] = [];
  for (const version of [0, 1]) {
    const from = join(place, `from ${version}`);
    make(from, contents(version));
    trees.push(await StoredTree.open(sink, (await storeTree(async () => sink, from, { filter })).root));
  }
  const theirs = Array.from({ length: 12 }, (_, index): [string, Made] => [
    `d/f${index}`,
    { bytes: "theirs", mode: 0o600 },
  ]);
  make(outside, { ...Object.fromEntries(theirs), "d/more/x": { bytes: "theirs" } });
  const before = describeDirectory(outside);
  mkdirSync(to);
  make(to, contents(0));
  swapper = spawn(process.execPath, ["-e", SWAPPER, to, outside], {
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  await once(swapper, "message");
  const { signal } = new AbortController();
  const ends = new Map<string, number>();
  // Both have to happen: it is kept from writing, and it writes.
  const happened = (): boolean => ends.has("done") && ends.size > 1;
  for (let round = 0; round < ROUNDS || !happened(); round++) {
    const tree = trees[round % 2]!;
    const options = {
      filter,
      isSync: true,
      deletes: round % 3 === 0,
      keepsPrivileges: true,
      hasSafeLinks: false,
      signal,
    };
    let end = "done";
    try {
      using top = OpenDirectory.at(to);
      const plan = await planWriting(viewOf(tree, 0, filter), top, options, undefined);
      await writeTree(tree, to, plan, options);
    } catch (error) {
      // Whatever is met there is told by a code.
      if (!(error instanceof PacketfsError)) throw error;
      end = error.code;
    }
    ends.set(end, (ends.get(end) ?? 0) + 1);
    if (round % 10 === 0) expect(describeDirectory(outside)).toEqual(before);
  }
  swapper.send("stop");
  const [swaps] = (await once(swapper, "message")) as [number];
  expect(swaps).toBeGreaterThan(100);
  expect(describeDirectory(outside)).toEqual(before);
  expect(lstatSync(join(outside, "d")).isDirectory()).toBe(true);
  expect(readFileSync(join(outside, "d", "f3"), "utf8")).toBe("theirs");
});
