import { expect, test } from "vitest";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { Roster } from "../../../nodes/wire/trust/allow-list.ts";
import type { RosterEntry } from "../../../nodes/wire/trust/allow-list.ts";

function entryOf({ signingKey, curveKey }: Identity, label = "x"): Omit<RosterEntry, "id"> {
  return { signingKey, curveKey, role: "node", label };
}

test("is looked up by id and by CURVE key, and survives JSON", () => {
  const roster = new Roster();
  const [a, b] = [Identity.create(), Identity.create()];
  expect(roster.add({ ...entryOf(a), address: "a:1" }).id).toBe(a.id);
  roster.add({ ...entryOf(b), role: "client" });
  expect(roster.byId(a.id)).toMatchObject({ label: "x", role: "node", address: "a:1" });
  expect(roster.byCurveKey(b.curveKey)).toMatchObject({ id: b.id, role: "client" });
  expect(roster.byCurveKey(new Uint8Array(32))).toBeUndefined();
  const restored = Roster.fromJSON(JSON.parse(JSON.stringify(roster)));
  expect(restored.entries().map(({ id }) => id)).toEqual([a.id, b.id]);
  expect(JSON.stringify(restored)).toBe(JSON.stringify(roster));
});

test("an entry is replaced by one with the same id, its old CURVE key with it", () => {
  const roster = new Roster();
  const [a, b] = [Identity.create(), Identity.create()];
  roster.add(entryOf(a));
  roster.add({ ...entryOf(a, "new"), curveKey: b.curveKey });
  expect(roster.byCurveKey(a.curveKey)).toBeUndefined();
  expect(roster.byCurveKey(b.curveKey)).toMatchObject({ id: a.id, label: "new" });
  // Nobody may get another's connections.
  expect(() => roster.add(entryOf(b))).toThrow(expect.objectContaining({ code: "PFS_ROSTER_INVALID" }));
  expect(roster.entries()).toHaveLength(1);
});

test("says who was removed", () => {
  const roster = new Roster();
  const identity = Identity.create();
  roster.add(entryOf(identity));
  const removed: string[] = [];
  const stop = roster.onRemoval(({ id }) => removed.push(id));
  expect(roster.remove(identity.id)).toBe(true);
  expect(roster.remove(identity.id)).toBe(false);
  stop();
  roster.add(entryOf(identity));
  roster.remove(identity.id);
  expect(removed).toEqual([identity.id]);
  expect(roster.byCurveKey(identity.curveKey)).toBeUndefined();
});

test("what it holds is its own", () => {
  const roster = new Roster();
  const identity = Identity.create();
  const curveKey = Uint8Array.from(identity.curveKey);
  roster.add({ ...entryOf(identity), curveKey });
  curveKey.fill(0);
  expect(roster.byCurveKey(identity.curveKey)).toBeDefined();
});

test("refuses what is no roster", () => {
  const [good] = JSON.parse(JSON.stringify(rosterOf(Identity.create()))) as Record<string, unknown>[];
  const bad = [
    null,
    {},
    [1],
    [{ ...good, role: "king" }],
    [{ ...good, curveKey: "ab" }],
    [{ ...good, label: 1 }],
  ];
  for (const json of bad) {
    expect(() => Roster.fromJSON(json)).toThrow(expect.objectContaining({ code: "PFS_ROSTER_INVALID" }));
  }
});

function rosterOf(identity: Identity): Roster {
  const roster = new Roster();
  roster.add(entryOf(identity));
  return roster;
}
