/** The one table that says which role may ask for what: nothing in it by accident, and less for whoever is trusted less. */
import { expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { describeAsked, mayAsk } from "../../../nodes/serve/permissions.ts";
import { Role } from "../../../nodes/wire/link.ts";

const { WANT, FILE_REQUEST, STORE, NAME, JOB, MEMBERS, MAINTENANCE, RETURN, LOG } = MessageType;
const { LOAD, EXEC, KEEP, CANCEL, GRANT } = MessageType;

const asked = (type: MessageType, op?: string): { type: MessageType; meta: unknown } => ({
  type,
  meta: op === undefined ? undefined : { op },
});
const READS = [
  { type: WANT, meta: {} },
  asked(FILE_REQUEST),
  ...["resolve", "history", "find-roots", "list"].map((op) => asked(NAME, op)),
  asked(JOB, "list"),
  asked(MEMBERS),
  asked(MEMBERS, "lanes"),
];
const RUNS = [
  { type: WANT, meta: { put: "p" } },
  asked(STORE),
  ...["flush", "end"].map((op) => asked(NAME, op)),
  ...["run", "load", "exec", "unload", "grant", "cancel"].map((op) => asked(JOB, op)),
];
/** At a node, which takes them under a grant alone. */
const SENDS = [...[LOAD, EXEC, CANCEL].map((type) => asked(type)), asked(GRANT, "renew")];
const CHANGES = [
  ...["set", "remove"].map((op) => asked(NAME, op)),
  ...["verify", "gc"].map((op) => asked(MAINTENANCE, op)),
];
const LENDS = [RETURN, LOG].map((type) => asked(type));
const ORDERS = [asked(KEEP), asked(GRANT, "withdraw")];

test("a reader reads, a submitter runs programs too, a client does what people do, and only a hub orders nodes about", () => {
  const allowed: Readonly<Record<Role, readonly (readonly { type: MessageType; meta: unknown }[])[]>> = {
    reader: [READS],
    submitter: [READS, RUNS, SENDS],
    client: [READS, RUNS, SENDS, CHANGES],
    node: [[asked(WANT), asked(FILE_REQUEST)], LENDS],
    hub: [ORDERS, SENDS.slice(0, 3), CHANGES],
    invite: [],
  };
  for (const role of ["reader", "submitter", "client", "invite"] as const) {
    for (const message of [READS, RUNS, SENDS, CHANGES, LENDS, ORDERS].flat()) {
      expect([role, message, mayAsk(role, message)]).toEqual([
        role,
        message,
        allowed[role].flat().includes(message),
      ]);
    }
  }
  for (const role of ["node", "hub"] as const) {
    for (const message of allowed[role].flat())
      expect([role, message, mayAsk(role, message)]).toEqual([role, message, true]);
  }
  for (const message of [...ORDERS, ...SENDS, ...CHANGES, asked(STORE), ...RUNS.slice(2)])
    expect(mayAsk("node", message)).toBe(false);
});

test("what is refused is said in the words of people", () => {
  const refused = [...RUNS, ...CHANGES].filter((message) => !mayAsk("reader", message));
  expect(refused.length).toBeGreaterThan(8);
  for (const message of refused) expect(describeAsked(message)).toMatch(/^[a-z ]+$/);
  expect(describeAsked({ type: WANT, meta: { put: "p" } })).toBe("store files or run programs");
  expect(describeAsked(asked(NAME, "remove"))).toBe("remove files");
  expect(describeAsked(asked(JOB, "run"))).toBe("run programs");
});

test("what has no name in the table is refused, whatever it claims to be", () => {
  for (const role of Object.values(Role)) {
    for (const meta of [
      undefined,
      null,
      1,
      "op",
      [],
      {},
      { op: 1 },
      { op: "own" },
      { op: "set", and: { op: "list" } },
    ]) {
      if (role !== "client" && role !== "hub")
        expect([role, meta, mayAsk(role, { type: NAME, meta })]).toEqual([role, meta, false]);
    }
    for (const type of [MessageType.HELLO, MessageType.WELCOME, MessageType.STORED]) {
      expect(mayAsk(role, { type, meta: undefined })).toBe(false);
    }
  }
  expect(mayAsk("reader", { type: WANT, meta: { put: undefined } })).toBe(false);
});
