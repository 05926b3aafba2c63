/** Directories here and in a store, changed at random on both sides: sync makes the one it is told to like the other. */
import { mkdirSync, rmSync, writeFileSync, symlinkSync, utimesSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { openLocal } from "../../sdk/local.ts";
import { Random } from "../packets/seed.ts";
import { describeDirectory } from "../runtime/tree/tree-place.ts";

const ROUNDS = 12;
let seconds = 1_000;

/** Changes a few paths: files of some sizes, directories and links that take each other's places. */
function change(random: Random, directory: string): void {
  for (let count = random.below(6); count > 0; count--) {
    const path = join(
      directory,
      ...Array.from({ length: 1 + random.below(2) }, () => random.pick(["a", "b", "c", "d-e", "f"])),
    );
    try {
      const kind = random.below(5);
      if (kind < 3) rmSync(path, { recursive: true, force: true });
      if (kind === 0) continue;
      if (kind === 1) mkdirSync(path, { recursive: true });
      else if (kind === 2) symlinkSync(random.pick(["a", "../b", "/nowhere"]), path);
      else {
        writeFileSync(
          path,
          Buffer.alloc(random.below(4) === 0 ? 300_000 : random.below(2_000), random.word()),
        );
        // No two of one length have one time: sync believes those.
        utimesSync(path, ++seconds, seconds);
      }
    } catch {
      // A file is where a directory would have to be, or the other way: that one stays as it is.
    }
  }
}

test("what is synchronised is equal, whatever both were", async () => {
  const place = await mkdtemp(join(tmpdir(), "pfs-sync-"));
  try {
    await using pfs = await openLocal(join(place, "store"));
    for (let seed = 1; seed <= 2; seed++) {
      const random = new Random(seed);
      const [left, right] = [join(place, `left ${seed}`), join(place, `right ${seed}`)];
      mkdirSync(left);
      mkdirSync(right);
      for (let round = 0; round < ROUNDS; round++) {
        change(random, left);
        change(random, right);
        const [from, to] = random.below(2) === 0 ? [left, right] : [right, left];
        const before = describeDirectory(to);
        const { root } = await pfs.syncTree(from, `tree ${seed}`, { deletes: true });
        // What is stored is what putting the directory gives, whatever was there before.
        expect((await pfs.putTree(from, { checksum: true })).root, `seed ${seed}, round ${round}`).toBe(root);
        const tree = await pfs.openTree(`tree ${seed}`);
        const dry = await tree.write(to, { sync: true, deletes: true, dryRun: true });
        expect(describeDirectory(to)).toEqual(before);
        const done = await tree.write(to, { sync: true, deletes: true });
        expect(done.changes).toEqual(dry.changes);
        expect(describeDirectory(to), `seed ${seed}, round ${round}`).toEqual(describeDirectory(from));
        expect((await tree.write(to, { sync: true, deletes: true })).changes).toEqual([]);
      }
    }
  } finally {
    await rm(place, { recursive: true, force: true });
  }
});
