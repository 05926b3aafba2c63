/** Manifests of directories: one spelling for each directory, and nothing else is one. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { PacketfsError } from "../../packets/errors.ts";
import {
  TREE_DEPTH_MAX,
  TREE_NAME_BYTES_MAX,
  TREE_PATH_BYTES_MAX,
  TREE_RUN_FILE_BYTES_MAX,
} from "../../packets/limits.ts";
import {
  TREE_HEADER_BYTES,
  TreeType,
  decodeTree,
  encodeTree,
  treeExtent,
  treePath,
} from "../../packets/tree.ts";
import type { TreeEntry } from "../../packets/tree.ts";
import { Random } from "./seed.ts";

const PLAIN = { mode: 0, mtime: 0, length: 0, target: "", link: 0, owner: 0 };

function directory(depth: number, name: string, more: Partial<TreeEntry> = {}): TreeEntry {
  return { ...PLAIN, type: TreeType.DIRECTORY, depth, name, mode: 0o755, ...more };
}

function file(depth: number, name: string, length: number, more: Partial<TreeEntry> = {}): TreeEntry {
  return { ...PLAIN, type: TreeType.FILE, depth, name, mode: 0o644, length, ...more };
}

const ROOT = directory(0, "");

function reasonOf(entries: readonly TreeEntry[]): string {
  return reasonOfBytes(() => encodeTree(entries));
}

function reasonOfBytes(decode: () => unknown): string {
  try {
    decode();
  } catch (error) {
    if (error instanceof PacketfsError && error.code === "PFS_TREE_INVALID")
      return String(error.data["reason"]);
    throw error;
  }
  return "valid";
}

/** Some of everything. */
const SAMPLE: readonly TreeEntry[] = [
  directory(0, "", { mtime: 1_700_000_000_123_456 }),
  directory(1, "a", { mtime: 1_700_000_000_123_456 }),
  file(2, "b.txt", 300, { mtime: -1 }),
  file(2, "large", TREE_RUN_FILE_BYTES_MAX + 1),
  { ...PLAIN, type: TreeType.LINK, depth: 2, name: "same", link: 2 },
  // "-" comes before "/" among bytes, and behind what is in the directory here.
  file(1, "a-b", TREE_RUN_FILE_BYTES_MAX),
  { ...PLAIN, type: TreeType.SYMLINK, depth: 1, name: "points \xff", target: "../\xfe", mtime: 5 },
];

describe("a manifest", () => {
  test("says of each entry what was said to it, its path, its directory, and where its bytes are", () => {
    const bytes = encodeTree(SAMPLE);
    const tree = decodeTree(bytes);
    expect(tree.entries).toEqual(SAMPLE);
    expect([...tree.parents]).toEqual([-1, 0, 1, 1, 1, 0, 0]);
    expect(SAMPLE.map((_, index) => treePath(tree, index))).toEqual([
      "",
      "a",
      "a/b.txt",
      "a/large",
      "a/same",
      "a-b",
      "points \xff",
    ]);
    const runBytes = 300 + TREE_RUN_FILE_BYTES_MAX;
    expect(tree).toMatchObject({
      bytes: bytes.length,
      runBytes,
      contentBytes: runBytes + TREE_RUN_FILE_BYTES_MAX + 1,
    });
    const { at } = tree;
    expect([at[2], at[5], at[3]]).toEqual([bytes.length, bytes.length + 300, bytes.length + runBytes]);
    expect(treeExtent(bytes.subarray(0, TREE_HEADER_BYTES))).toEqual({
      bytes: bytes.length,
      contentBytes: tree.contentBytes,
    });
  });

  test("names owners where they are kept", () => {
    const owners = [
      { user: 0, group: 0, userName: "root", groupName: "root" },
      { user: 1000, group: 4_000_000_000, userName: "", groupName: "b\xc3\xa4r" },
    ];
    const entries = [ROOT, file(1, "a", 1, { owner: 1 }), file(1, "b", 1)];
    expect(decodeTree(encodeTree(entries, owners))).toMatchObject({ entries, owners });
    expect(reasonOfBytes(() => encodeTree(entries, [...owners, { ...owners[0]!, user: 7 }]))).toBe(
      "an owner of nothing",
    );
    expect(reasonOfBytes(() => encodeTree(entries, [owners[0]!, owners[0]!]))).toBe(
      "an owner is named twice",
    );
    const wrong = [directory(0, "", { owner: 1 }), file(1, "a", 1)];
    expect(reasonOfBytes(() => encodeTree(wrong, owners))).toBe("owners out of order");
  });

  test("takes paths as long and deep as they may be, and no longer", () => {
    const deep = (depth: number, name = "d"): TreeEntry[] =>
      Array.from({ length: depth }, (_, above) => directory(above + 1, name));
    expect(reasonOf([ROOT, ...deep(TREE_DEPTH_MAX)])).toBe("valid");
    expect(reasonOf([ROOT, ...deep(TREE_DEPTH_MAX + 1)])).toMatch("a path of more than 512 names");
    const long = "x".repeat(TREE_NAME_BYTES_MAX);
    const levels = TREE_PATH_BYTES_MAX / (TREE_NAME_BYTES_MAX + 1);
    expect(reasonOf([ROOT, ...deep(levels, long)])).toBe("valid");
    expect(reasonOf([ROOT, ...deep(levels, long), file(levels + 1, "x", 0)])).toMatch(
      "a path of more than 4096 bytes",
    );
    expect(reasonOf([ROOT, file(1, `${long}x`, 0)])).toMatch("a name of more than 255 bytes");
  });

  test.each<[string, TreeEntry[]]>([
    ["it has no entry", []],
    ["the first entry is no directory", [file(0, "", 1)]],
    ["paths out of order", [ROOT, file(1, "b", 0), file(1, "a", 0)]],
    ["paths out of order", [ROOT, file(1, "a", 0), file(1, "a", 0)]],
    ["paths out of order", [ROOT, ROOT]],
    ["paths out of order", [ROOT, file(1, "a-", 0), directory(1, "a"), file(2, "b", 0)]],
    ["a path below what is no directory", [ROOT, file(1, "a", 0), file(2, "b", 0)]],
    [
      "a path below what is no directory",
      [ROOT, { ...PLAIN, type: TreeType.SYMLINK, depth: 1, name: "a", target: "/" }, file(2, "b", 0)],
    ],
    ["a path in a directory that is not there", [ROOT, file(1, "a/b", 0)]],
    ['the name ".."', [ROOT, file(1, "..", 0)]],
    ['the name ".."', [ROOT, directory(1, "a"), file(2, "..", 0)]],
    ['the name ".."', [ROOT, file(1, "../etc", 0)]],
    ['the name "."', [ROOT, file(1, ".", 0)]],
    ["an empty name", [ROOT, file(1, "/etc/passwd", 0)]],
    ["a name with a slash or a zero byte", [ROOT, file(1, "a\0b", 0)]],
    ["a mode of more than twelve bits", [ROOT, file(1, "a", 0, { mode: 0o10000 })]],
    ["a time that is none", [ROOT, file(1, "a", 0, { mtime: 9_000_000_001_000_000 })]],
    ["a target that is none", [ROOT, { ...PLAIN, type: TreeType.SYMLINK, depth: 1, name: "a" }]],
    [
      "a target that is none",
      [ROOT, { ...PLAIN, type: TreeType.SYMLINK, depth: 1, name: "a", target: "\0" }],
    ],
    [
      "a hard link to what is no file before it",
      [ROOT, { ...PLAIN, type: TreeType.LINK, depth: 1, name: "a", link: 1 }],
    ],
    [
      "a hard link to what is no file before it",
      [ROOT, { ...PLAIN, type: TreeType.LINK, depth: 1, name: "a", link: 0 }],
    ],
    [
      "files of more than 2^53 - 1 bytes",
      [ROOT, file(1, "a", Number.MAX_SAFE_INTEGER - 10_000), file(1, "b", 300_000)],
    ],
  ])("is refused: %s", (reason, entries) => {
    expect(reasonOf(entries)).toMatch(reason);
  });
});

describe("bytes of anybody", () => {
  const bytes = encodeTree(SAMPLE, [{ user: 1, group: 2, userName: "a", groupName: "" }]);

  /** Refused, or the one spelling of what they say. */
  const check = (hostile: Uint8Array): string => {
    const reason = reasonOfBytes(() => {
      const { entries, owners } = decodeTree(hostile);
      expect(Buffer.from(encodeTree(entries, owners)).equals(hostile)).toBe(true);
    });
    return reason;
  };

  test("cut anywhere are refused", () => {
    for (let end = 0; end < bytes.length; end++) expect(check(bytes.slice(0, end))).not.toBe("valid");
    expect(check(Buffer.concat([bytes, Uint8Array.of(0)]))).not.toBe("valid");
  });

  test("with any bit changed are refused, or mean what they say in one spelling", () => {
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const hostile = bytes.slice();
      hostile[bit >> 3]! ^= 1 << (bit & 7);
      check(hostile);
    }
  });

  test("made up at random likewise", () => {
    const random = new Random(7);
    let valid = 0;
    for (let round = 0; round < 5_000; round++) {
      const hostile = bytes.slice();
      for (let count = 1 + random.below(4); count > 0; count--) {
        const at = TREE_HEADER_BYTES + random.below(hostile.length - TREE_HEADER_BYTES);
        hostile[at] = random.below(256);
      }
      if (check(hostile) === "valid") valid++;
    }
    expect(valid).toBeGreaterThan(0);
  });

  test("that claim to be many get no memory for what is not there", () => {
    const hostile = bytes.slice();
    new DataView(hostile.buffer).setBigUint64(16, 1_000_000n, true);
    expect(check(hostile)).toBe("it ends before its entries do");
    new DataView(hostile.buffer).setUint32(4, 4096, true);
    expect(check(hostile)).not.toBe("valid");
  });
});

test("any directory is read as it was written", () => {
  const name = fc
    .uint8Array({ minLength: 1, maxLength: 6 })
    .map((bytes) => Buffer.from(bytes).toString("latin1").replace(/[\0/]/g, "_"))
    .filter((text) => text !== "." && text !== "..");
  const names = fc.uniqueArray(name, { maxLength: 6 });
  const mtime = fc.integer({ min: -9e15, max: 9e15 });
  fc.assert(
    fc.property(fc.array(fc.tuple(names, mtime, fc.nat(600_000)), { maxLength: 12 }), (levels) => {
      const below = (depth: number): TreeEntry[] => {
        const level = levels[depth - 1];
        if (level === undefined) return [];
        const [these, mtime, length] = level;
        return these
          .toSorted((a, b) => (a < b ? -1 : 1))
          .flatMap((name, index) =>
            index === 0
              ? [directory(depth, name, { mtime }), ...below(depth + 1)]
              : [file(depth, name, length, { mtime })],
          );
      };
      const entries = [ROOT, ...below(1)];
      expect(decodeTree(encodeTree(entries)).entries).toEqual(entries);
    }),
  );
});
