/** What every Catalog must do, wherever its names are kept. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { NAME_VERSIONS_MAX } from "../../runtime/limits.ts";
import type { Catalog, GcRoots } from "../../runtime/contracts/catalog.ts";

export interface CatalogHarness<Names extends Catalog = Catalog> {
  /** Empty. */
  readonly catalog: Names;
  /** Stores a file for names to point to, and protects it until the harness is closed. */
  put(bytes: Uint8Array): Promise<{ readonly root: Ref; readonly length: number }>;
  close(): Promise<void>;
}

/** Resolves with the root that the name is bound to, in hexadecimal digits. */
async function bindText(harness: CatalogHarness, name: string, text: string): Promise<string> {
  const { root, length } = await harness.put(Buffer.from(text));
  await harness.catalog.bind({ name, root, length });
  return refToHex(root);
}

export function catalogSuite(name: string, open: () => Promise<CatalogHarness>): void {
  describe(`${name} as a catalog`, () => {
    let harness: CatalogHarness;
    let catalog: Catalog;
    beforeAll(async () => {
      harness = await open();
      ({ catalog } = harness);
    });
    afterAll(() => harness.close());

    const put = (text: string): Promise<{ readonly root: Ref; readonly length: number }> =>
      harness.put(Buffer.from(text));
    const bind = (bound: string, text: string): Promise<string> => bindText(harness, bound, text);
    const listed = async (prefix?: string, after?: string): Promise<string[]> => {
      const names: string[] = [];
      for await (const record of catalog.list(prefix, after)) names.push(record.name);
      return names;
    };

    it("knows no name before it is bound", async () => {
      expect(await catalog.resolve("nobody")).toBeUndefined();
      expect(await catalog.history("nobody")).toEqual([]);
      expect(await catalog.remove("nobody")).toBe(false);
      expect(await listed()).toEqual([]);
    });

    it("finds nothing under what cannot be a name, and says so to who binds it", async () => {
      const { root, length } = await put("refused");
      const hex = refToHex(root);
      const wrong = ["", "../a", "a\nb", "\ud800", "x".repeat(1025), hex, hex.toUpperCase()];
      for (const wrongName of wrong) {
        await expect(catalog.bind({ name: wrongName, root, length })).rejects.toMatchObject({
          code: "PFS_NAME_INVALID",
        });
      }
      for (const wrongName of wrong) {
        expect(await catalog.resolve(wrongName)).toBeUndefined();
        expect(await catalog.history(wrongName)).toEqual([]);
        expect(await catalog.remove(wrongName)).toBe(false);
      }
    });

    it("binds a name only to what is there", async () => {
      const root = sha256(Buffer.from("nowhere"));
      await expect(catalog.bind({ name: "nowhere", root, length: 7 })).rejects.toMatchObject({
        code: "PFS_CHUNK_MISSING",
        data: { ref: refToHex(root) },
      });
      expect(await catalog.resolve("nowhere")).toBeUndefined();
    });

    it("keeps the latest versions of a name", async () => {
      const roots: string[] = [];
      for (let version = 1; version <= NAME_VERSIONS_MAX + 2; version++)
        roots.push(await bind("versions", `v${version}`));
      const history = await catalog.history("versions");
      const kept = Array.from({ length: NAME_VERSIONS_MAX }, (_, index) => NAME_VERSIONS_MAX + 2 - index);
      expect(history.map(({ version }) => version)).toEqual(kept);
      expect(history.map(({ root }) => refToHex(root))).toEqual(kept.map((version) => roots[version - 1]));
      expect(await catalog.resolve("versions")).toEqual(history[0]);
      for (const { storedAt } of history) expect(storedAt).toBeGreaterThan(Date.UTC(2020));
    });

    it("starts again with version 1 after a name was removed", async () => {
      await bind("removed", "before");
      await bind("removed", "after");
      expect(await catalog.remove("removed")).toBe(true);
      expect(await catalog.resolve("removed")).toBeUndefined();
      expect(await catalog.history("removed")).toEqual([]);
      expect(await catalog.remove("removed")).toBe(false);
      const root = await bind("removed", "again");
      const history = await catalog.history("removed");
      expect(history.map((record) => [record.version, refToHex(record.root)])).toEqual([[1, root]]);
    });

    it("changes a name only from the version that was expected", async () => {
      const { root, length } = await put("expected");
      const binding = { name: "expected", root, length };
      const changed = (expected: number, version: number): object => ({
        code: "PFS_NAME_CHANGED",
        data: { name: "expected", expected, version },
      });
      await expect(catalog.bind(binding, { expected: 1 })).rejects.toMatchObject(changed(1, 0));
      await expect(catalog.remove("expected", { expected: 1 })).rejects.toMatchObject(changed(1, 0));
      expect(await catalog.bind(binding, { expected: 0 })).toMatchObject({ version: 1 });
      await expect(catalog.bind(binding, { expected: 0 })).rejects.toMatchObject(changed(0, 1));
      // Of two that saw the same version one is told that the other was faster.
      const both = await Promise.allSettled([
        catalog.bind(binding, { expected: 1 }),
        catalog.bind(binding, { expected: 1 }),
      ]);
      expect(both.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
      await expect(catalog.remove("expected", { expected: 1 })).rejects.toMatchObject(changed(1, 2));
      expect((await catalog.history("expected")).map(({ version }) => version)).toEqual([2, 1]);
      expect(await catalog.remove("expected", { expected: 2 })).toBe(true);
      expect(await catalog.bind(binding, { expected: 0 })).toMatchObject({ version: 1 });
    });

    it("lists names in the order of their bytes, from a prefix and after a name", async () => {
      const { root, length } = await put("listed");
      const many = Array.from({ length: 600 }, (_, index) => `l/m/${String(index).padStart(4, "0")}`);
      const names = ["Z", "a", "a/b", "a/c", "ab", "é", "\u{1F600}", "\uFFFD", "a/é"].map(
        (end) => `l/${end}`,
      );
      await Promise.all([...names, ...many].map((each) => catalog.bind({ name: each, root, length })));
      await catalog.remove("l/ab");
      const byBytes = [...names, ...many]
        .filter((each) => each !== "l/ab")
        .toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(await listed("l/")).toEqual(byBytes);
      expect(await listed("l/a")).toEqual(["l/a", "l/a/b", "l/a/c", "l/a/é"]);
      expect(await listed("l/a/", "l/a/b")).toEqual(["l/a/c", "l/a/é"]);
      expect(await listed("l/m/")).toEqual(many);
      expect(await listed("l/m/", "l/m/0597")).toEqual(many.slice(598));
      expect(await listed("l/nothing")).toEqual([]);
      expect(await listed("l/\u{1F600}")).toEqual(["l/\u{1F600}"]);
    });

    it("finds roots by their first digits, each once", async () => {
      const first = await bind("digits", "digits 1");
      const second = await bind("digits", "digits 2");
      await bind("digits/again", "digits 1");
      const found = async (digits: string, limit = 10): Promise<string[]> =>
        (await catalog.findRoots(digits, limit)).map(({ root }) => refToHex(root));
      expect(await found(first.slice(0, 12))).toEqual([first]);
      expect(await found(second)).toEqual([second]);
      expect(await found("", 3)).toHaveLength(3);
      const all = await found("", 1000);
      expect(all).toEqual(all.toSorted());
      expect(all.filter((root) => root.startsWith(first[0]!))).toEqual(await found(first[0]!, 1000));
      await catalog.remove("digits");
      expect(await found(second)).toEqual([]);
      expect(await found(first)).toEqual([first]);
    });
  });
}

/** What a catalog does for gc, beside the chunks that its names keep. */
export function gcRootsSuite(name: string, open: () => Promise<CatalogHarness<Catalog & GcRoots>>): void {
  it(`${name} says all roots that are kept: every version of every name, and none that was removed`, async () => {
    const harness = await open();
    try {
      const first = await bindText(harness, "roots", "root 1");
      const second = await bindText(harness, "roots", "root 2");
      await bindText(harness, "gone", "root of what is removed");
      await harness.catalog.remove("gone");
      const roots: string[] = [];
      for await (const page of harness.catalog.roots()) roots.push(...page.map(({ root }) => refToHex(root)));
      expect(roots).toEqual([first, second]);
    } finally {
      await harness.close();
    }
  });
}
