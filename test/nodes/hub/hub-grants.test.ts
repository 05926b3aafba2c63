/** What a hub remembers of its grants: whom it has to tell that they are withdrawn, and nobody else. */
import { expect, test } from "vitest";
import { HubGrants } from "../../../nodes/hub/hub-grants.ts";
import type { Members } from "../../../nodes/hub/members.ts";
import { GRANT_MS, GRANT_SKEW_MS, GRANT_UNANSWERED_MAX } from "../../../nodes/limits.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Executor } from "../../../runtime/contracts/executor.ts";
import { ZERO_REF } from "../../suites/exec-packets.ts";

const PROGRAM = { kind: "js", source: ZERO_REF, edition: "edition", packetMs: 1000 } as const;

/** A hub's nodes by their labels, each with one executor; what they were told. */
function openMembers(): {
  readonly members: Members;
  readonly present: Set<string>;
  readonly told: string[];
} {
  const present = new Set<string>();
  const told: string[] = [];
  const executors = new Map<Executor, string>();
  const executorOf = (label: string): Executor => {
    const known = [...executors].find(([, each]) => each === label)?.[0];
    const executor = known ?? ({ id: label, edition: "edition", capacity: { js: 2 } } as unknown as Executor);
    executors.set(executor, label);
    return executor;
  };
  const links = new Map<string, object>();
  const linkOf = (label: string): object => {
    const { curveKey, signingKey } = Identity.create();
    const peer = { curveKey, signingKey, id: label, label, address: `${label}:1` };
    const link = links.get(label) ?? { peer, notify: () => void told.push(label) };
    links.set(label, link);
    return link;
  };
  const members = {
    executors: { list: () => [...present].map(executorOf) },
    lenderOf: (executor: Executor) => ({ link: linkOf(executors.get(executor)!), name: "node" }),
  };
  return { members: members as unknown as Members, present, told };
}

test("nodes whose grants have expired are forgotten, however long their program is loaded", () => {
  const { members, present, told } = openMembers();
  let now = 1_000_000;
  const grants = new HubGrants({ identity: Identity.create(), members, barsOf: () => [], now: () => now });
  const labelsFor = (job: string): string[] =>
    grants.issue({ client: "client", job, program: PROGRAM }).nodes.map(({ label }) => label);
  present.add("gone").add("stays");
  expect(labelsFor("job")).toEqual(["gone", "stays"]);
  present.delete("gone");
  now += GRANT_MS;
  expect(labelsFor("job")).toEqual(["stays"]);
  grants.withdraw("job");
  expect(told).toEqual(["gone", "stays"]);
  told.length = 0;

  present.add("gone");
  labelsFor("job");
  present.delete("gone");
  now += GRANT_MS + GRANT_SKEW_MS;
  labelsFor("job");
  grants.withdraw("job");
  expect(told).toEqual(["stays"]);
  grants.withdraw("job");
  expect(told).toEqual(["stays"]);
});

test("programs that have grants for an executor share what it takes, until they are withdrawn", () => {
  const { members, present } = openMembers();
  const grants = new HubGrants({ identity: Identity.create(), members, barsOf: () => [] });
  const unansweredFor = (job: string): number =>
    grants.issue({ client: "client", job, program: PROGRAM }).nodes[0]!.grant.unanswered;
  present.add("node");
  expect(unansweredFor("first")).toBe(GRANT_UNANSWERED_MAX);
  expect(unansweredFor("second")).toBe(GRANT_UNANSWERED_MAX / 2);
  grants.withdraw("first");
  expect(unansweredFor("second")).toBe(GRANT_UNANSWERED_MAX);
});
