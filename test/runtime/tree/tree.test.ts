/** Directories that are stored and written out again. */
import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import { hasCode } from "../../../packets/errors.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { calledStreams } from "../../../runtime/stream/leaves.ts";
import { reachable } from "../../../runtime/stream/walk.ts";
import { ContentComparison, differences } from "../../../runtime/tree/compare-trees.ts";
import { TreeFilter } from "../../../runtime/tree/filter.ts";
import type { TreeRule } from "../../../runtime/tree/filter.ts";
import { OpenDirectory } from "../../../runtime/tree/open-directory.ts";
import { storeTree } from "../../../runtime/tree/store-tree.ts";
import type { StoredTreeResult, StoreTreeOptions } from "../../../runtime/tree/store-tree.ts";
import { StoredTree } from "../../../runtime/tree/stored-tree.ts";
import { readTreeIndex, rememberTree } from "../../../runtime/tree/tree-index.ts";
import { viewOf } from "../../../runtime/tree/tree-view.ts";
import { Step, checkNames, planWriting } from "../../../runtime/tree/write-plan.ts";
import type { WritePlan, WriteTreeOptions } from "../../../runtime/tree/write-plan.ts";
import { writeTree } from "../../../runtime/tree/write-tree.ts";
import { Random, seededBytes } from "../../packets/seed.ts";
import { ShelfSink } from "./shelf-sink.ts";
import { AWKWARD, describeDirectory, make } from "./tree-place.ts";
import type { Made } from "./tree-place.ts";

const { signal } = new AbortController();
const everything = new TreeFilter();
let place: string;
let count = 0;

beforeAll(async () => {
  place = await mkdtemp(join(tmpdir(), "pfs-tree-"));
});
afterAll(async () => {
  await rm(place, { recursive: true, force: true });
});

/** A path where nothing is yet. */
const fresh = (): string => join(place, `place ${++count}`);

function madeOf(entries: Readonly<Record<string, Made>>): string {
  const directory = fresh();
  make(directory, entries);
  return directory;
}

async function store(
  sink: ShelfSink,
  directory: string,
  options: Partial<StoreTreeOptions> = {},
): Promise<StoredTreeResult> {
  return await storeTree(async () => sink, directory, { filter: everything, ...options });
}

const PLAIN: WriteTreeOptions = {
  filter: everything,
  isSync: false,
  deletes: false,
  keepsPrivileges: false,
  hasSafeLinks: false,
  signal,
};

async function write(
  sink: ShelfSink,
  root: Uint8Array,
  directory: string,
  how: Partial<WriteTreeOptions> = {},
): Promise<WritePlan> {
  const options = { ...PLAIN, ...how };
  const tree = await StoredTree.open(sink, root);
  const top = existsSync(directory) ? OpenDirectory.at(directory) : undefined;
  let plan: WritePlan;
  try {
    plan = await planWriting(viewOf(tree, 0, options.filter), top, options, undefined);
  } finally {
    top?.close();
  }
  await writeTree(tree, directory, plan, options);
  return plan;
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  return await work.then(
    () => "no error",
    (error: unknown) =>
      hasCode(error, (error as { code: string }).code) ? (error as { code: string }).code : String(error),
  );
}

const SAMPLE: Readonly<Record<string, Made>> = {
  "a.txt": { bytes: "hello", mtime: 1_600_000_000.123456 },
  "empty file": { bytes: "", mtime: 3 },
  "before 1970": { bytes: "x", mtime: -1.5 },
  secret: { bytes: "s", mode: 0o600 },
  program: { bytes: "#!/bin/sh\n", mode: 0o755 },
  // Root alone reads what its owner may not read.
  ...(process.getuid?.() === 0 ? { "nobody's": { bytes: "n", mode: 0o000 } } : {}),
  "sub/deep/er/file": { bytes: seededBytes("deep", 100_000) },
  "sub/large": { bytes: seededBytes("large", 700_000) },
  "sub/same": { link: "a.txt" },
  "sub/up": { target: "../a.txt" },
  "sub/nowhere": { target: "/does/not/exist \xff" },
  "sub-2": { bytes: "sorts between" },
  locked: { mode: 0o555 },
  "an empty directory": {},
};

describe("a directory", () => {
  test("comes out as it went in, under one root wherever it is", async () => {
    const sink = new ShelfSink();
    const from = madeOf(SAMPLE);
    const first = await store(sink, from);
    const to = fresh();
    await write(sink, first.root, to);
    expect(describeDirectory(to)).toEqual(describeDirectory(from));
    const again = await store(new ShelfSink(), to);
    expect(refToHex(again.root)).toBe(refToHex(first.root));
    expect(again.length).toBe(first.length);
  });

  test("has any name that a file can have", async () => {
    const sink = new ShelfSink();
    expect(AWKWARD.length).toBeGreaterThan(160);
    const entries = Object.fromEntries(
      AWKWARD.map((name, index): [string, Made] => [name, { bytes: `${index}` }]),
    );
    const inside = Object.fromEntries(AWKWARD.map((name): [string, Made] => [`in/${name}`, {}]));
    const links = Object.fromEntries(
      AWKWARD.slice(0, 100).map((name): [string, Made] => [`links/${name}`, { target: `../${name}` }]),
    );
    const from = madeOf({ ...entries, ...inside, ...links });
    const { root } = await store(sink, from);
    const to = fresh();
    await write(sink, root, to);
    expect(describeDirectory(to)).toEqual(describeDirectory(from));
    const tree = await StoredTree.open(sink, root);
    for (const name of AWKWARD) expect(tree.find(`in/${name}`)).toBeDefined();
  });

  test("may be deeper than a path can be long", async () => {
    const sink = new ShelfSink();
    const deep = Array.from({ length: 60 }, () => "d".repeat(60)).join("/");
    const from = madeOf({ [`${deep}/file`]: { bytes: "deep" } });
    const { root } = await store(sink, from);
    const to = fresh();
    await write(sink, root, to);
    expect(readFileSync(join(to, deep, "file"), "utf8")).toBe("deep");
    // 4,096 bytes are what a manifest takes.
    const tooDeep = `${deep}/${deep}`;
    const out = madeOf({ [deep]: {} });
    expect(tooDeep.length).toBeGreaterThan(4096);
    expect(await codeOf(store(sink, out))).toBe("no error");
  });

  test("shares its large files with what they are alone, and its chunks with versions of it", async () => {
    const sink = new ShelfSink();
    const bytes = seededBytes("large", 700_000);
    const alone = await ingest(
      sink,
      (async function* () {
        yield bytes;
      })(),
    );
    const entries = Object.fromEntries(
      Array.from({ length: 300 }, (_, index): [string, Made] => [
        `small ${index}`,
        { bytes: seededBytes(`${index}`, 9_000) },
      ]),
    );
    const from = madeOf({ ...entries, large: { bytes } });
    const first = await store(sink, from);
    const tree = await StoredTree.open(sink, first.root);
    const index = tree.find("large")!;
    const called = await calledStreams(
      sink,
      first.root,
      [{ at: tree.manifest.at[index]!, length: 700_000 }],
      signal,
    );
    expect(refToHex(called[0]!)).toBe(refToHex(alone.root));
    // Some hundred small files are some ten chunks.
    expect(first.chunks).toBeLessThan(90);
    writeFileSync(join(from, "small 150"), "something else");
    const second = await store(sink, from);
    expect(second.newBytes).toBeLessThan(first.newBytes / 4);
  });

  test("keeps holes as holes, and stores them as nothing", async () => {
    const sink = new ShelfSink();
    const from = madeOf({ tail: { bytes: "beginning" }, small: { bytes: "" } });
    truncateSync(join(from, "tail"), 50_000_000);
    truncateSync(join(from, "small"), 200_000);
    writeFileSync(
      join(from, "middle"),
      Buffer.concat([Buffer.from("a"), Buffer.alloc(9_000_000), Buffer.from("z")]),
    );
    const { root, newBytes } = await store(sink, from);
    expect(newBytes).toBeLessThan(800_000);
    const to = fresh();
    await write(sink, root, to);
    expect(describeDirectory(to)).toEqual(describeDirectory(from));
    for (const name of ["tail", "middle"])
      expect(statSync(join(to, name)).blocks * 512).toBeLessThan(1_000_000);
  });

  test("needs nothing that gc would not find", async () => {
    const sink = new ShelfSink();
    const { root } = await store(sink, madeOf(SAMPLE));
    const kept = new ShelfSink();
    for await (const refs of reachable(sink, root))
      for (let at = 0; at < refs.length; at += 32) kept.shelf.put(sink.shelf.get(refs.subarray(at, at + 32)));
    const to = fresh();
    await write(kept, root, to);
    expect(describeDirectory(to)).toHaveLength(Object.keys(SAMPLE).length + 4);
  });

  test("is told from a file", async () => {
    const sink = new ShelfSink();
    const { root } = await ingest(
      sink,
      (async function* () {
        yield Buffer.from("no directory");
      })(),
    );
    expect(await codeOf(StoredTree.open(sink, root))).toBe("PFS_NOT_A_TREE");
    expect(await codeOf(store(sink, join(madeOf(SAMPLE), "a.txt")))).toBe("PFS_FILE_FAILED");
    expect(await codeOf(store(sink, join(place, "nothing")))).toBe("PFS_FILE_FAILED");
  });
});

describe("storing again", () => {
  /** As a put does it. */
  async function storeKnown(
    sink: ShelfSink,
    directory: string,
    readAt = Date.now(),
  ): Promise<StoredTreeResult> {
    const indexes = join(place, "indexes");
    const known = await readTreeIndex(indexes, "a".repeat(32));
    const tree = known === undefined ? undefined : await StoredTree.open(sink, known.root);
    const stored = await store(sink, directory, {
      earlier: tree && {
        tree,
        isSure: true,
        isUnchanged: (index, entry, mark) =>
          tree.manifest.entries[index]!.mtime === entry.mtime && known!.isUnchanged(index, mark),
      },
    });
    await rememberTree(indexes, "a".repeat(32), { ...stored, readAt });
    return stored;
  }

  test("reads only what changed, and gives the root that reading everything gives", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      rmSync(join(place, "indexes"), { recursive: true, force: true });
      const random = new Random(seed);
      const sink = new ShelfSink();
      const entries: Record<string, Made> = {};
      for (let index = 0; index < 200; index++) {
        const size = random.below(20) === 0 ? 300_000 + random.below(300_000) : random.below(20_000);
        entries[`d${random.below(9)}/f${index}`] = { bytes: seededBytes(`${seed} ${index}`, size) };
      }
      const from = madeOf(entries);
      // As if it had been read a minute later: what is younger than its clock's step is not believed.
      const later = Date.now() + 60_000;
      expect((await storeKnown(sink, from, later)).readFiles).toBe(200);
      for (let round = 0; round < 4; round++) {
        const paths = Object.keys(entries);
        const changed = Array.from({ length: random.below(4) }, () => random.pick(paths));
        for (const path of new Set(changed)) {
          const kind = random.below(4);
          if (kind === 0) rmSync(join(from, path), { force: true });
          else if (kind === 1)
            writeFileSync(join(from, path), seededBytes(`${round} ${path}`, random.below(400_000)));
          else if (kind === 2) appendFileSync(join(from, path), "more");
          else writeFileSync(join(from, `${path}.new`), "new");
        }
        const { root, readFiles } = await storeKnown(sink, from, later);
        expect(readFiles).toBeLessThanOrEqual(changed.length);
        expect(refToHex(root), `seed ${seed}`).toBe(refToHex((await store(new ShelfSink(), from)).root));
      }
    }
  });

  test("reads what is younger than a step of the clock, and everything where the index is lost or damaged", async () => {
    rmSync(join(place, "indexes"), { recursive: true, force: true });
    const sink = new ShelfSink();
    const from = madeOf({ a: { bytes: "1" }, b: { bytes: "2" } });
    await storeKnown(sink, from, statSync(join(from, "a")).ctimeMs);
    expect((await storeKnown(sink, from, Date.now() + 60_000)).readFiles).toBe(2);
    expect((await storeKnown(sink, from, Date.now() + 60_000)).readFiles).toBe(0);
    const [file = ""] = readdirSync(join(place, "indexes"));
    const path = join(place, "indexes", file);
    const bytes = readFileSync(path);
    for (const at of [0, 9, 20, 60, bytes.length - 1]) {
      const damaged = Buffer.from(bytes);
      damaged[at]! ^= 1;
      writeFileSync(path, damaged);
      expect(await readTreeIndex(join(place, "indexes"), "a".repeat(32))).toBeUndefined();
    }
    // Same length and time, but another file.
    writeFileSync(path, bytes);
    renameSync(join(from, "a"), join(from, "c"));
    writeFileSync(join(from, "a"), "9");
    const { mtime } = statSync(join(from, "c"));
    utimesSync(join(from, "a"), mtime, mtime);
    const { root } = await storeKnown(sink, from);
    expect(refToHex(root)).toBe(refToHex((await store(new ShelfSink(), from)).root));
  });

  test("reads what chunks are gone of", async () => {
    rmSync(join(place, "indexes"), { recursive: true, force: true });
    const sink = new ShelfSink();
    const from = madeOf({ a: { bytes: seededBytes("a", 200_000) }, b: { bytes: seededBytes("b", 500_000) } });
    const first = await storeKnown(sink, from, Date.now() + 60_000);
    for await (const refs of reachable(sink, first.root))
      for (let at = 0; at < refs.length; at += 32) sink.lost.add(refToHex(refs.subarray(at, at + 32)));
    const second = await storeKnown(sink, from);
    expect(refToHex(second.root)).toBe(refToHex(first.root));
    expect(second.readFiles).toBeGreaterThan(0);
  });

  test("tells a file that changes each time it is read, and takes one that is still again", async () => {
    const from = madeOf({ log: { bytes: "0" }, large: { bytes: Buffer.alloc(9_000_000, "large") } });
    class Meddler extends ShelfSink {
      meddle = (): void => undefined;
      override async write(...chunks: Parameters<ShelfSink["write"]>): ReturnType<ShelfSink["write"]> {
        this.meddle();
        return await super.write(...chunks);
      }
    }
    const sink = new Meddler();
    let times = 0;
    const write = (): void => appendFileSync(join(from, "large"), "x");
    sink.meddle = () => (times++ < 1 ? write() : undefined);
    await store(sink, from);
    sink.meddle = write;
    expect(await codeOf(store(sink, from))).toBe("PFS_INPUT_CHANGED");
  });
});

describe("writing", () => {
  test("joins what is there, goes on where it was interrupted, and replaces only what differs", async () => {
    const sink = new ShelfSink();
    const from = madeOf(SAMPLE);
    const { root } = await store(sink, from);
    const to = madeOf({
      mine: { bytes: "stays" },
      "sub/mine": { bytes: "stays" },
      "a.txt": { bytes: "other" },
    });
    await write(sink, root, to);
    expect(readFileSync(join(to, "mine"), "utf8") + readFileSync(join(to, "sub/mine"), "utf8")).toBe(
      "staysstays",
    );
    expect(readFileSync(join(to, "a.txt"), "utf8")).toBe("hello");
    const inode = statSync(join(to, "sub/large")).ino;
    // As after a kill in the middle: some are missing, one is half.
    rmSync(join(to, "program"));
    truncateSync(join(to, "sub/deep/er/file"), 5);
    const plan = await write(sink, root, to);
    expect(plan.steps.filter((step) => step >= Step.CREATE)).toHaveLength(2);
    expect(statSync(join(to, "sub/large")).ino).toBe(inode);
    rmSync(join(to, "mine"));
    rmSync(join(to, "sub/mine"));
    await write(sink, root, to, { isSync: true });
    expect(describeDirectory(to)).toEqual(describeDirectory(from));
  });

  test("makes equal, and removes only when it is told to", async () => {
    const sink = new ShelfSink();
    const { root } = await store(sink, madeOf(SAMPLE));
    const expected = fresh();
    await write(sink, root, expected);
    const to = madeOf({
      "a.txt": { target: "/etc/passwd" },
      sub: { bytes: "a file" },
      "program/inside": { bytes: "a directory" },
      "extra/deep/file": { bytes: "goes" },
      "kept.o": { bytes: "stays" },
    });
    expect(await codeOf(write(sink, root, to))).toBe("PFS_TARGET_BLOCKED");
    expect(await codeOf(write(sink, root, to, { isSync: true }))).toBe("PFS_TARGET_BLOCKED");
    const filter = new TreeFilter([{ kind: "exclude", pattern: "*.o" }]);
    await write(sink, root, to, { isSync: true, deletes: true, filter });
    expect(readFileSync(join(to, "kept.o"), "utf8")).toBe("stays");
    await write(sink, root, to, { isSync: true, deletes: true });
    expect(describeDirectory(to)).toEqual(describeDirectory(expected));
  });

  test("drops setuid bits unless asked, and leaves out links that lead out when asked", async () => {
    const sink = new ShelfSink();
    const from = madeOf({
      suid: { bytes: "x" },
      "d/in": { target: "../suid" },
      "d/out": { target: "../../suid" },
      absolute: { target: "/etc" },
    });
    chmodSync(join(from, "suid"), 0o6755);
    const { root } = await store(sink, from);
    const [dropped, kept] = [fresh(), fresh()];
    await write(sink, root, dropped, { hasSafeLinks: true });
    await write(sink, root, kept, { keepsPrivileges: true });
    expect(statSync(join(dropped, "suid")).mode & 0o7777).toBe(0o755);
    expect(statSync(join(kept, "suid")).mode & 0o7777).toBe(0o6755);
    expect(readdirSync(join(dropped, "d"))).toEqual(["in"]);
    expect(readdirSync(dropped)).toEqual(["d", "suid"]);
    expect(readdirSync(kept)).toContain("absolute");
  });

  test("touches no file that has another name outside, and follows no link that is in its way", async () => {
    const sink = new ShelfSink();
    const { root } = await store(
      sink,
      madeOf({ "d/file": { bytes: "12345", mtime: 5 }, "d/other": { bytes: "x" } }),
    );
    const outside = madeOf({ victim: { bytes: "54321", mode: 0o600 }, "dir/x": { bytes: "x" } });
    const to = madeOf({ d: {} });
    make(to, { "d/file": { link: "../" + outside.slice(outside.lastIndexOf("/") + 1) + "/victim" } });
    const before = describeDirectory(outside);
    await write(sink, root, to, { isSync: true });
    expect(describeDirectory(outside)).toEqual(before);
    rmSync(join(to, "d"), { recursive: true });
    symlinkSync(join(outside, "dir"), join(to, "d"));
    expect(await codeOf(write(sink, root, to))).toBe("PFS_TARGET_BLOCKED");
    await write(sink, root, to, { isSync: true, deletes: true });
    expect(lstatSync(join(to, "d")).isDirectory()).toBe(true);
    expect(describeDirectory(outside)).toEqual(before);
    mkdirSync(join(outside, "more"));
  });

  test("refuses names that a system has not, or takes for one another, before anything is written", async () => {
    const sink = new ShelfSink();
    const viewed = async (names: readonly string[]): Promise<ReturnType<typeof viewOf>> => {
      const { root } = await store(
        sink,
        madeOf(Object.fromEntries(names.map((name): [string, Made] => [name, { bytes: "" }]))),
      );
      return viewOf(await StoredTree.open(sink, root), 0, everything);
    };
    const reasonOf = async (platform: NodeJS.Platform, ...names: string[]): Promise<string> => {
      try {
        checkNames(await viewed(names), platform);
      } catch (error) {
        return hasCode(error, "PFS_TARGET_BLOCKED") ? String(error.data["reason"]) : String(error);
      }
      return "fine";
    };
    expect(await reasonOf("linux", "Case", "case", "con", "a:", "\xff")).toBe("fine");
    expect(await reasonOf("darwin", "a/Case", "b/case", "a/other")).toBe("fine");
    expect(await reasonOf("darwin", "a/Case", "a/case")).toMatch('takes it for "Case"');
    expect(await reasonOf("darwin", "e\xcc\x81", "\xc3\xa9")).toMatch("takes it for");
    expect(await reasonOf("darwin", "\xff")).toMatch("no UTF-8");
    for (const name of ["con", "NUL.txt", "COM1", "a.", "a ", "a:b", "a\\b", "a\tb"])
      expect(await reasonOf("win32", name)).not.toBe("fine");
  });
});

test("filters take the first rule that fits, and what is below a directory that is left out is left out", async () => {
  const paths = [
    "a.o",
    "b.c",
    "build/x",
    "src/build/x",
    "src/a.o",
    "docs/a.md",
    "docs/deep/b.md",
    "tmp/x",
    "src/tmp",
    "x/y/z/end",
  ];
  const from = madeOf(Object.fromEntries(paths.map((path): [string, Made] => [path, { bytes: path }])));
  const sink = new ShelfSink();
  const taken = async (...rules: readonly (readonly [TreeRule["kind"], string])[]): Promise<string[]> => {
    const filter = new TreeFilter(rules.map(([kind, pattern]) => ({ kind, pattern })));
    const { root } = await store(sink, from, { filter });
    const tree = await StoredTree.open(sink, root);
    return tree.manifest.entries.flatMap(({ type }, index) => (type === 0 ? [tree.pathOf(index)] : []));
  };
  const without = (...gone: string[]): string[] => paths.filter((path) => !gone.includes(path)).toSorted();
  const sorted = async (...rules: readonly (readonly [TreeRule["kind"], string])[]): Promise<string[]> =>
    (await taken(...rules)).toSorted();
  expect(await sorted()).toEqual(without());
  expect(await sorted(["exclude", "*.o"])).toEqual(without("a.o", "src/a.o"));
  expect(await sorted(["exclude", "/*.o"])).toEqual(without("a.o"));
  expect(await sorted(["exclude", "build"])).toEqual(without("build/x", "src/build/x"));
  expect(await sorted(["exclude", "/build"])).toEqual(without("build/x"));
  expect(await sorted(["exclude", "tmp/"])).toEqual(without("tmp/x"));
  expect(await sorted(["exclude", "docs/*.md"])).toEqual(without("docs/a.md"));
  expect(await sorted(["exclude", "docs/**"])).toEqual(without("docs/a.md", "docs/deep/b.md"));
  expect(await sorted(["exclude", "**/deep/"])).toEqual(without("docs/deep/b.md"));
  expect(await sorted(["exclude", "x/**/end"])).toEqual(without("x/y/z/end"));
  expect(await sorted(["exclude", "[a-b].?"])).toEqual(without("a.o", "b.c", "src/a.o"));
  expect(await sorted(["exclude", "[!a].?"])).toEqual(without("b.c"));
  expect(await sorted(["include", "src/a.o"], ["exclude", "*.o"])).toEqual(without("a.o"));
  expect(await sorted(["exclude", "src"], ["include", "src/a.o"])).toEqual(
    without("src/build/x", "src/a.o", "src/tmp"),
  );
  for (const pattern of ["", "/", "a[", "a\\", "[z-a]"])
    expect(() => new TreeFilter([{ kind: "exclude", pattern }]), pattern).toThrow("is no pattern");
  const start = new TreeFilter([{ kind: "exclude", pattern: "a.c+(x)$^|{}" }]);
  expect([start.takes("a.c+(x)$^|{}", false), start.takes("abc", false)]).toEqual([false, true]);
});

test("what differs between two versions is told, and bytes decide where times do not", async () => {
  const sink = new ShelfSink();
  const from = madeOf({
    ...SAMPLE,
    same: { bytes: seededBytes("same", 5_000), mtime: 5 },
    touched: { bytes: "touched", mtime: 5 },
    "big touched": { bytes: seededBytes("big", 400_000), mtime: 5 },
    "quietly changed": { bytes: "12345", mtime: 5 },
  });
  const first = await StoredTree.open(sink, (await store(sink, from)).root);
  make(from, {
    touched: { bytes: "touched", mtime: 6 },
    "big touched": { bytes: seededBytes("big", 400_000), mtime: 6 },
    "quietly changed": { bytes: "54321", mtime: 5 },
    "a.txt": { bytes: "longer than it was" },
    added: { bytes: "new" },
    secret: { bytes: "s", mode: 0o644, mtime: 7 },
  });
  rmSync(join(from, "an empty directory"), { recursive: true });
  rmSync(join(from, "sub/up"));
  symlinkSync("elsewhere", join(from, "sub/up"));
  const second = await StoredTree.open(sink, (await store(sink, from)).root);
  const comparison = new ContentComparison(first, second, signal);
  const found: string[] = [];
  for await (const { change, path } of differences(
    first.manifest.entries,
    second.manifest.entries,
    comparison.isSame,
  ))
    found.push(`${change} ${path}`);
  expect(found).toEqual([
    "changed a.txt",
    "added added",
    "removed an empty directory",
    "time big touched",
    "changed quietly changed",
    "mode secret",
    "changed sub/same",
    "changed sub/up",
    "time touched",
  ]);
  const none = new ContentComparison(second, second, signal);
  for await (const { path } of differences(second.manifest.entries, second.manifest.entries, none.isSame))
    expect.fail(path);
});
