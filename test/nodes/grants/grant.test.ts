/** Grants that are forged, another's, too old, used up or taken back let nobody do anything; what one allows is counted. */
import { expect, test } from "vitest";
import { emptyFrame, exec, ZERO_REF } from "../../suites/exec-packets.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { invalidGrant, signGrant } from "../../../nodes/grants/grant.ts";
import type { Grant, GrantTerms } from "../../../nodes/grants/grant.ts";
import { Grants } from "../../../nodes/grants/grants.ts";
import { GRANTS_PER_CLIENT_MAX, GRANT_MS, GRANT_SKEW_MS } from "../../../nodes/limits.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";

const hub = Identity.create();
const stranger = Identity.create();
const node = Identity.create().id;
const client = Identity.create().id;
const BEGAN = 1_000_000;
const NOW = 2_000_000;
const program = new Uint8Array(32).fill(7);

const terms: GrantTerms = {
  client,
  node,
  executor: "node",
  job: "abc",
  program,
  isInline: false,
  unanswered: 10,
  packets: 25,
  inputBytes: 1000,
  cpuMs: 500,
  issuedAt: NOW,
  expiresAt: NOW + GRANT_MS,
};
const bearer = { client, executor: "node", program, isInline: false, now: NOW + 1 };

const reasonOf = (grant: Grant, change: object = {}): string | null =>
  invalidGrant(grant, { hub: hub.signingKey, node, since: BEGAN, ...bearer, ...change });

test("the hub's grant lets its client do at its node what it is for, and nothing else", () => {
  const grant = signGrant(terms, hub);
  expect(reasonOf(grant)).toBe(null);
  expect(reasonOf(grant, { client: stranger.id })).toBe("it is for another client");
  expect(reasonOf(grant, { node: stranger.id })).toBe("it is for another node");
  expect(reasonOf(grant, { executor: "node-code" })).toBe("it is for another executor");
  expect(reasonOf(grant, { program: new Uint8Array(32) })).toBe("it is for another program");
  expect(reasonOf(grant, { isInline: true })).toBe("it is for another program");
  expect(reasonOf(grant, { now: NOW + GRANT_MS })).toBe("it has expired");
  expect(reasonOf(grant, { now: NOW - GRANT_SKEW_MS - 1 })).toBe("the clocks of hub and node disagree");
  expect(reasonOf(grant, { since: NOW + 1 })).toBe("it is older than this node");
});

test("a grant that was changed, or that somebody else signed, is not the hub's", () => {
  const grant = signGrant(terms, hub);
  const changes: Record<keyof Grant, unknown> = {
    id: "0".repeat(32),
    client: stranger.id,
    node: stranger.id,
    executor: "other",
    job: "abd",
    program: new Uint8Array(32),
    isInline: true,
    unanswered: 11,
    packets: 26,
    inputBytes: 1001,
    cpuMs: 501,
    issuedAt: NOW - 1,
    expiresAt: NOW + GRANT_MS + 1,
    signature: new Uint8Array(64),
  };
  for (const [field, value] of Object.entries(changes))
    expect([field, reasonOf({ ...grant, [field]: value })]).toEqual([field, "the hub has not signed it"]);
  for (let bit = 0; bit < 512; bit++) {
    const signature = grant.signature.slice();
    signature[bit >> 3]! ^= 1 << (bit & 7);
    expect(reasonOf({ ...grant, signature })).toBe("the hub has not signed it");
  }
  expect(reasonOf(signGrant(terms, stranger))).toBe("the hub has not signed it");
  // What moves between two fields that stand side by side is not the same text.
  expect(reasonOf({ ...grant, executor: "nodea", job: "bc" })).toBe("the hub has not signed it");
});

test("a grant that is shown again is as used as it is", () => {
  const grants = new Grants(hub.signingKey, node, BEGAN);
  const grant = signGrant(terms, hub);
  const account = grants.admit(grant, bearer);
  account.take(emptyFrame(10));
  account.answered(10);
  account.take(emptyFrame(10));
  account.answered(10);
  const again = grants.admit({ ...grant }, { ...bearer, now: NOW + 10 });
  expect(again.room).toBe(5);
  expect(() => again.take(emptyFrame(6))).toThrow("25 packets");
  again.take(emptyFrame(5));
  // And when all its lanes are long over.
  expect(grants.admit(grant, { ...bearer, now: NOW + GRANT_MS - 1 }).room).toBe(0);
});

test("each ceiling holds by itself, and what is refused is not counted", () => {
  const admit = (): ReturnType<Grants["admit"]> =>
    new Grants(hub.signingKey, node, BEGAN).admit(signGrant(terms, hub), bearer);
  const refused = (of: string, max: number): object => ({
    code: "PFS_GRANT_EXCEEDED",
    data: { of, max },
  });
  const reading = (bytes: number): Uint8Array => encodeFrame([exec(0, ZERO_REF, 0, bytes)]);
  const unanswered = admit();
  unanswered.take(emptyFrame(9));
  expect(() => unanswered.take(emptyFrame(2))).toThrow(expect.objectContaining(refused("unanswered", 10)));
  unanswered.take(emptyFrame(1));
  expect(unanswered.room).toBe(0);
  const input = admit();
  input.take(reading(600));
  expect(() => input.take(reading(401))).toThrow(expect.objectContaining(refused("inputBytes", 1000)));
  input.take(reading(400));
  expect(input.isWaning).toBe(true);
  const cpu = admit();
  cpu.spend(500);
  expect(() => cpu.spend(0.5)).toThrow(expect.objectContaining(refused("cpuMs", 500)));
});

test("what the hub withdraws ends, and cannot be shown afterwards, nor what it granted for the same before", () => {
  const grants = new Grants(hub.signingKey, node, BEGAN);
  const shown = signGrant(terms, hub);
  const kept = signGrant(terms, hub);
  const other = signGrant({ ...terms, job: "other" }, hub);
  const ended: string[] = [];
  grants.admit(shown, bearer).onEnd(({ code }) => ended.push(`shown ${code}`));
  grants.admit(other, bearer).onEnd(({ code }) => ended.push(`other ${code}`));
  grants.withdraw("abc", NOW + 5);
  expect(ended).toEqual(["shown PFS_GRANT_ENDED"]);
  for (const grant of [shown, kept])
    for (const now of [NOW + 6, NOW + GRANT_MS - 1])
      expect(() => grants.admit(grant, { ...bearer, now })).toThrow("the hub has withdrawn it");
  // It is remembered for as long as there can be such a grant, however far the clocks are apart, and no longer.
  expect(() => grants.admit(shown, { ...bearer, now: NOW + GRANT_MS })).toThrow("it has expired");
  grants.look(NOW + 5 + GRANT_MS + GRANT_SKEW_MS);
  expect(ended).toEqual(["shown PFS_GRANT_ENDED", "other PFS_GRANT_ENDED"]);
  expect(grants.size).toBe(0);
});

test("one client's grants take no more than their part of a node's memory", () => {
  const grants = new Grants(hub.signingKey, node, BEGAN);
  for (let index = 0; index < GRANTS_PER_CLIENT_MAX; index++) grants.admit(signGrant(terms, hub), bearer);
  expect(() => grants.admit(signGrant(terms, hub), bearer)).toThrow(
    expect.objectContaining({ code: "PFS_PEER_QUOTA" }),
  );
  const others = { ...bearer, client: stranger.id };
  grants.admit(signGrant({ ...terms, client: stranger.id }, hub), others);
  expect(grants.size).toBe(GRANTS_PER_CLIENT_MAX + 1);
  grants.look(NOW + GRANT_MS);
  expect(grants.size).toBe(0);
});
