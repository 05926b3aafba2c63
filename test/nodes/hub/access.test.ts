/** Who may come in is what the hub's disk says: tokens that people made and revoked beside it, and machines that joined by them. */
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Access, readNodes } from "../../../nodes/hub/access.ts";
import { HubTokens } from "../../../nodes/hub/tokens.ts";
import type { TokenTerms } from "../../../nodes/hub/tokens.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { parseToken } from "../../../nodes/wire/trust/token.ts";
import { until } from "../../suites/until.ts";

const directories: string[] = [];
afterAll(async () => {
  for (const directory of directories) await rm(directory, { recursive: true, force: true });
});

interface Hub {
  readonly directory: string;
  readonly tokens: HubTokens;
  readonly access: Access;
  readonly said: string[];
  /** Who was put out, in order. */
  readonly out: string[];
}

async function open(directory?: string): Promise<Hub> {
  const place = directory ?? (await mkdtemp(join(tmpdir(), "pfs-access-")));
  if (directory === undefined) directories.push(place);
  const tokens = new HubTokens(place);
  await tokens.start();
  const said: string[] = [];
  const access = await Access.open({
    directory: place,
    label: "office",
    tokens,
    onEvent: (text) => said.push(text),
  });
  const out: string[] = [];
  access.allowList.onRemoval(({ label }) => out.push(label));
  return { directory: place, tokens, access, said, out };
}

/** Makes a token; the identity of whoever has it. */
async function add(hub: Hub, terms: TokenTerms): Promise<Identity> {
  const token = await hub.tokens.add(terms);
  const kind = terms.role === "node" ? "join" : "client";
  return Identity.fromSecret(parseToken(`${token}@hub:1`, kind).secret);
}

/** A machine that joins by a token. */
async function joinBy(hub: Hub, joinToken: Identity, label: string): Promise<Identity> {
  const machine = Identity.create();
  const { signingKey, curveKey } = machine;
  hub.access.allowList.add({ signingKey, curveKey, role: "node", label, joinedBy: joinToken.id });
  await hub.access.save();
  return machine;
}

test("a token that is made beside a running hub is let in, in its role, until it is revoked", async () => {
  const hub = await open();
  const { access, tokens } = hub;
  const alice = await add(hub, { name: "alice", role: "reader" });
  const bob = await add(hub, { name: "bob", role: "submitter", quota: { jobs: 2 } });
  await access.look();
  expect(access.allowList.byCurveKey(alice.curveKey)).toMatchObject({ role: "reader", label: "alice" });
  expect(access.allowList.byId(bob.id)).toMatchObject({ role: "submitter", quota: { jobs: 2 } });
  expect(await tokens.revoke("alice")).toBe(true);
  expect(await tokens.revoke("alice")).toBe(false);
  await access.look();
  expect(hub.out).toEqual(["alice"]);
  expect(access.allowList.byCurveKey(alice.curveKey)).toBeUndefined();
  expect(access.allowList.byId(bob.id)).toBeDefined();
  expect(hub.said).toEqual(["the token alice is out: it was revoked"]);
  access.close();
});

test("a change is noticed although nobody asks: at once where the system tells, soon where it does not", async () => {
  const hub = await open();
  const alice = await add(hub, { name: "alice", role: "client" });
  await until(() => hub.access.allowList.byId(alice.id) !== undefined);
  await hub.tokens.revoke("alice");
  await until(() => hub.access.allowList.byId(alice.id) === undefined);
  hub.access.close();
  const blind = new HubTokens(hub.directory);
  blind.watch = () => () => {};
  const access = await Access.open({
    directory: hub.directory,
    label: "office",
    tokens: blind,
    onEvent: () => {},
  });
  const bob = await add(hub, { name: "bob", role: "client" });
  await until(() => access.allowList.byId(bob.id) !== undefined);
  await hub.tokens.revoke("bob");
  await until(() => access.allowList.byId(bob.id) === undefined);
  access.close();
});

test("changes right after each other are all noticed", async () => {
  const hub = await open();
  for (let round = 0; round < 20; round++) {
    const name = `key-${round}`;
    const key = await add(hub, { name, role: "client" });
    await hub.access.look();
    expect([round, hub.access.allowList.byId(key.id)?.label]).toEqual([round, name]);
    await hub.tokens.revoke(name);
    await hub.access.look();
    expect([round, hub.access.allowList.byId(key.id)]).toEqual([round, undefined]);
  }
  hub.access.close();
});

test("machines go with the token that they joined by, and stay with another", async () => {
  const hub = await open();
  const [attic, cellar] = [
    await add(hub, { name: "attic", role: "node" }),
    await add(hub, { name: "cellar", role: "node" }),
  ];
  await hub.access.look();
  const [first, second] = [await joinBy(hub, attic, "a"), await joinBy(hub, cellar, "b")];
  expect((await readNodes(hub.directory)).map(({ label }) => label)).toEqual(["a", "b"]);
  await hub.tokens.revoke("attic");
  await hub.access.look();
  expect(new Set(hub.out)).toEqual(new Set(["attic", "a"]));
  expect((await readNodes(hub.directory)).map(({ id }) => id)).toEqual([second.id]);
  hub.access.close();
  // A hub that was stopped meanwhile learns it when it starts.
  await hub.tokens.revoke("cellar");
  const again = await open(hub.directory);
  expect(again.access.allowList.byId(first.id)).toBeUndefined();
  expect(again.access.allowList.byId(second.id)).toBeUndefined();
  again.access.close();
});

test("a machine that was revoked does not come back, though its token is good", async () => {
  const hub = await open();
  const joinToken = await add(hub, { name: "machines", role: "node" });
  await hub.access.look();
  const machine = await joinBy(hub, joinToken, "attic");
  await hub.tokens.revokeMachine(machine.id);
  await hub.access.look();
  expect(hub.out).toEqual(["attic"]);
  const comesBack = (at: Hub): unknown =>
    at.access.allowList.add({
      signingKey: machine.signingKey,
      curveKey: machine.curveKey,
      role: "node",
      label: "attic",
    });
  expect(() => comesBack(hub)).toThrow("revoked");
  hub.access.close();
  const again = await open(hub.directory);
  expect(() => comesBack(again)).toThrow("revoked");
  expect(again.access.allowList.byId(joinToken.id)).toBeDefined();
  again.access.close();
});

test("a token that has expired is out, whether the hub ran or not", async () => {
  const hub = await open();
  const soon = Date.now() + 300;
  const alice = await add(hub, { name: "alice", role: "client", expiresAt: soon });
  const bob = await add(hub, { name: "bob", role: "client", expiresAt: Date.now() + 3_600_000 });
  await hub.access.look();
  expect(hub.access.allowList.byId(alice.id)).toMatchObject({ expiresAt: soon });
  while (Date.now() < soon) await new Promise((resolve) => setTimeout(resolve, soon - Date.now()));
  await hub.access.look();
  expect(hub.out).toEqual(["alice"]);
  await hub.access.look();
  expect(hub.said).toEqual(["the token alice is out: it has expired"]);
  hub.access.close();
  const again = await open(hub.directory);
  expect(again.access.allowList.byId(alice.id)).toBeUndefined();
  expect(again.access.allowList.byId(bob.id)).toBeDefined();
  again.access.close();
});

test("nothing keeps an old key alive: tokens whose secrets were removed are out, and so is who came by them", async () => {
  const hub = await open();
  const before = await hub.tokens.printed("hub:7400");
  const client = Identity.fromSecret(parseToken(before.clientToken, "client").secret);
  const joinToken = Identity.fromSecret(parseToken(before.joinToken, "join").secret);
  const machine = await joinBy(hub, joinToken, "attic");
  for (const { id } of [client, joinToken, machine]) expect(hub.access.allowList.byId(id)).toBeDefined();
  // An allow list as the first edition wrote it, with all keys that there ever were.
  hub.access.close();
  const all = JSON.stringify(hub.access.allowList);
  await writeFile(join(hub.directory, "allow-list.json"), all);
  for (const name of ["client.identity", "invite.identity"]) await rm(join(hub.directory, name));
  const again = await open(hub.directory);
  for (const { id } of [client, joinToken, machine]) expect(again.access.allowList.byId(id)).toBeUndefined();
  const after = await again.tokens.printed("hub:7400");
  expect(after.clientToken).not.toBe(before.clientToken);
  expect(after.joinToken).not.toBe(before.joinToken);
  again.access.close();
});

test("labels are unique, and stay with their machines", async () => {
  const hub = await open();
  const joinToken = await add(hub, { name: "machines", role: "node" });
  await hub.access.look();
  const labelOf = (at: Hub, { id }: Identity): string | undefined => at.access.allowList.byId(id)?.label;
  const machines = [];
  for (const label of ["attic", "attic", "attic", "office"])
    machines.push(await joinBy(hub, joinToken, label));
  const labels = ["attic", "attic-2", "attic-3", "office-2"];
  expect(machines.map((machine) => labelOf(hub, machine))).toEqual(labels);
  hub.access.close();
  const again = await open(hub.directory);
  expect(machines.map((machine) => labelOf(again, machine))).toEqual(labels);
  // Who comes back with the label that it asked for keeps the one that it has.
  const { signingKey, curveKey } = machines[1]!;
  again.access.allowList.add({ signingKey, curveKey, role: "node", label: "attic", joinedBy: joinToken.id });
  expect(labelOf(again, machines[1]!)).toBe("attic-2");
  const long = "x".repeat(128);
  const [one, two] = [await joinBy(again, joinToken, long), await joinBy(again, joinToken, long)];
  expect([labelOf(again, one)?.length, labelOf(again, two)]).toEqual([128, `${"x".repeat(126)}-2`]);
  again.access.close();
});

test("a damaged token file lets nobody in and keeps nobody out", async () => {
  const hub = await open();
  const alice = await add(hub, { name: "alice", role: "client" });
  for (const [name, text] of [
    ["half.json", '{"version":1,"ro'],
    ["king.json", '{"version":1,"role":"king"}'],
    [".alice.json.0123.new", "{}"],
  ] as const) {
    await writeFile(join(hub.directory, "tokens", name), text);
  }
  await hub.access.look();
  await hub.access.look();
  expect(hub.access.allowList.byId(alice.id)).toBeDefined();
  expect(hub.said.toSorted()).toEqual([
    expect.stringContaining("half.json is damaged"),
    expect.stringContaining("king.json is damaged"),
  ]);
  hub.access.close();
});

test("what cannot be read leaves everything as it is, and people are told once of each time", async () => {
  const hub = await open();
  const identity = join(hub.directory, "hub.identity");
  const unreadable: unknown = expect.stringContaining("tokens cannot be read");
  const alice = await add(hub, { name: "alice", role: "client" });
  await hub.access.look();
  // As a disk that is away, or a process without descriptors, would show itself.
  await rename(identity, `${identity}.away`);
  await hub.tokens.revoke("alice");
  await hub.access.look();
  await hub.access.look();
  expect(hub.access.allowList.byId(alice.id)).toBeDefined();
  expect(hub.said).toEqual([unreadable]);
  await rename(`${identity}.away`, identity);
  await hub.access.look();
  expect(hub.said).toEqual([unreadable, "the token alice is out: it was revoked"]);
  await rename(identity, `${identity}.away`);
  await hub.tokens.revokeMachine("0".repeat(32));
  await hub.access.look();
  expect(hub.said).toEqual([unreadable, "the token alice is out: it was revoked", unreadable]);
  hub.access.close();
});

test("what cannot be written is said to be so, and written later", async () => {
  const hub = await open();
  const file = join(hub.directory, "allow-list.json");
  const joinToken = await add(hub, { name: "machines", role: "node" });
  await hub.access.look();
  await rm(file);
  await mkdir(file);
  const machine = Identity.create();
  const { signingKey, curveKey } = machine;
  hub.access.allowList.add({ signingKey, curveKey, role: "node", label: "attic", joinedBy: joinToken.id });
  await add(hub, { name: "alice", role: "client" });
  await hub.access.look();
  await hub.access.look();
  expect(hub.said).toEqual([expect.stringMatching(/^nodes that joined cannot be written down: E[A-Z]+: /)]);
  await rm(file, { recursive: true });
  await hub.access.look();
  expect((await readNodes(hub.directory)).map(({ id }) => id)).toEqual([machine.id]);
  expect(hub.said).toHaveLength(1);
  hub.access.close();
});

test("names are taken once, and are no paths", async () => {
  const hub = await open();
  await add(hub, { name: "alice", role: "client" });
  for (const name of ["alice", "client", "join"]) {
    await expect(add(hub, { name, role: "reader" })).rejects.toMatchObject({
      code: "PFS_TOKEN_INVALID",
      data: { reason: "taken" },
    });
  }
  for (const name of ["", ".", "../alice", "a/b", "-x", "a b", "ä", "a\n", "x".repeat(65)]) {
    await expect(add(hub, { name, role: "reader" })).rejects.toMatchObject({
      code: "PFS_TOKEN_INVALID",
      data: { reason: "name" },
    });
    expect(await hub.tokens.revoke(name)).toBe(false);
  }
  expect(await readdir(join(hub.directory, "tokens"))).toEqual(["alice.json"]);
  hub.access.close();
});

test("a token may have a name that every object has", async () => {
  const hub = await open();
  for (const name of ["constructor", "toString", "hasOwnProperty"]) {
    expect(await hub.tokens.revoke(name)).toBe(false);
    const { id } = await add(hub, { name, role: "client" });
    await hub.access.look();
    expect(hub.access.allowList.byId(id)?.label).toBe(name);
    expect(await hub.tokens.revoke(name)).toBe(true);
    await hub.access.look();
    expect(hub.access.allowList.byId(id)).toBeUndefined();
  }
  hub.access.close();
});

test("secrets are their owner's: a token's is on no disk, files are 0600 and the directory 0700", async () => {
  const hub = await open();
  const token = await hub.tokens.add({ name: "alice", role: "client" });
  const directory = join(hub.directory, "tokens");
  expect((await stat(directory)).mode & 0o777).toBe(0o700);
  expect((await stat(join(directory, "alice.json"))).mode & 0o777).toBe(0o600);
  const secret = Buffer.from(parseToken(`${token}@hub:1`, "client").secret);
  const file = await readFile(join(directory, "alice.json"), "utf8");
  expect(file).not.toContain(secret.toString("hex"));
  expect(file).not.toContain(secret.toString("base64url"));
  hub.access.close();
});

test("a directory without a hub is said to be none", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pfs-access-"));
  directories.push(directory);
  const tokens = new HubTokens(directory);
  await expect(tokens.read()).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  await expect(tokens.add({ name: "alice", role: "client" })).rejects.toMatchObject({
    code: "PFS_NOT_FOUND",
  });
  expect(await readdir(directory)).toEqual([]);
});
