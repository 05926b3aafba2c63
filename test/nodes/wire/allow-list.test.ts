import { expect, test } from "vitest";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import type { AllowListEntry } from "../../../nodes/wire/trust/allow-list.ts";

function entryOf({ signingKey, curveKey }: Identity, label = "x"): Omit<AllowListEntry, "id"> {
  return { signingKey, curveKey, role: "node", label };
}

test("is looked up by id and by CURVE key, and survives JSON", () => {
  const allowList = new AllowList();
  const [a, b] = [Identity.create(), Identity.create()];
  expect(allowList.add({ ...entryOf(a), address: "a:1" }).id).toBe(a.id);
  allowList.add({ ...entryOf(b), role: "client" });
  expect(allowList.byId(a.id)).toMatchObject({ label: "x", role: "node", address: "a:1" });
  expect(allowList.byCurveKey(b.curveKey)).toMatchObject({ id: b.id, role: "client" });
  expect(allowList.byCurveKey(new Uint8Array(32))).toBeUndefined();
  const restored = AllowList.fromJSON(JSON.parse(JSON.stringify(allowList)));
  expect(restored.entries().map(({ id }) => id)).toEqual([a.id, b.id]);
  expect(JSON.stringify(restored)).toBe(JSON.stringify(allowList));
});

test("an entry is replaced by one with the same id, its old CURVE key with it", () => {
  const allowList = new AllowList();
  const [a, b] = [Identity.create(), Identity.create()];
  allowList.add(entryOf(a));
  allowList.add({ ...entryOf(a, "new"), curveKey: b.curveKey });
  expect(allowList.byCurveKey(a.curveKey)).toBeUndefined();
  expect(allowList.byCurveKey(b.curveKey)).toMatchObject({ id: a.id, label: "new" });
  // Nobody may get another's connections.
  expect(() => allowList.add(entryOf(b))).toThrow(
    expect.objectContaining({ code: "PFS_ALLOW_LIST_INVALID" }),
  );
  expect(allowList.entries()).toHaveLength(1);
});

test("says who was removed", () => {
  const allowList = new AllowList();
  const identity = Identity.create();
  allowList.add(entryOf(identity));
  const removed: string[] = [];
  const stop = allowList.onRemoval(({ id }) => removed.push(id));
  expect(allowList.remove(identity.id)).toBe(true);
  expect(allowList.remove(identity.id)).toBe(false);
  stop();
  allowList.add(entryOf(identity));
  allowList.remove(identity.id);
  expect(removed).toEqual([identity.id]);
  expect(allowList.byCurveKey(identity.curveKey)).toBeUndefined();
});

test("what it holds is its own", () => {
  const allowList = new AllowList();
  const identity = Identity.create();
  const curveKey = Uint8Array.from(identity.curveKey);
  allowList.add({ ...entryOf(identity), curveKey });
  curveKey.fill(0);
  expect(allowList.byCurveKey(identity.curveKey)).toBeDefined();
});

test("refuses what is no allow list", () => {
  const [good] = JSON.parse(JSON.stringify(allowListOf(Identity.create()))) as Record<string, unknown>[];
  const bad = [
    null,
    {},
    [1],
    [{ ...good, role: "king" }],
    [{ ...good, curveKey: "ab" }],
    [{ ...good, label: 1 }],
  ];
  for (const json of bad) {
    expect(() => AllowList.fromJSON(json)).toThrow(
      expect.objectContaining({ code: "PFS_ALLOW_LIST_INVALID" }),
    );
  }
});

function allowListOf(identity: Identity): AllowList {
  const allowList = new AllowList();
  allowList.add(entryOf(identity));
  return allowList;
}
