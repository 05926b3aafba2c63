/** pfs token, and how tokens are given: between real processes, a hub that runs all the while. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { networkInterfaces } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseToken } from "../../../nodes/wire/trust/token.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import { Daemon, joinNode, startHub } from "../../e2e/daemon.ts";
import type { HubDaemon } from "../../e2e/daemon.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { OneProcess } from "./one-process.ts";
import { pfs, temporaryDirectory, TEXT } from "./run-pfs.ts";
import type { Finished } from "./run-pfs.ts";
import { outputSync, runSync } from "../../suites/run-sync.ts";

const COUNT = `import { defineProgram, lines } from "packetfs";
  export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });`;

let cwd: string;
let store: string;
let hub: HubDaemon;
let node: Daemon;
let commands: OneProcess;
beforeAll(async () => {
  cwd = await temporaryDirectory();
  store = join(cwd, "hub");
  await writeFile(join(cwd, "text.txt"), TEXT);
  await writeFile(join(cwd, "count.ts"), COUNT);
  commands = await OneProcess.start(cwd);
  hub = await startHub({ store });
  node = await joinNode(hub.joinToken, "attic");
  expect((await as(hub.clientToken, "put", "text.txt", "--name", "text")).status).toBe(0);
});
afterAll(async () => {
  await commands[Symbol.asyncDispose]();
  await node.end("SIGTERM");
  await hub.end("SIGTERM");
});

/** A command that uses a hub by a token. */
function as(token: string, ...words: string[]): Promise<Finished> {
  return pfs(words, { cwd, environment: { PACKETFS_AT: token } });
}

/** `pfs token …` beside the hub, which must succeed. */
async function token(...words: string[]): Promise<Record<string, unknown>[]> {
  const { status, out, err } = await pfs(["token", ...words, "--store", store, "--json"], { cwd });
  expect({ words, status, err }).toEqual({ words, status: 0, err: "" });
  return out
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function add(role: string, name: string, ...more: string[]): Promise<string> {
  const [made] = await token("add", "--role", role, "--name", name, ...more);
  return String(made!["token"]);
}

/** A session by a client's token. */
async function session(text: string): Promise<Link> {
  const { address, curveKey, signingKey, secret } = parseToken(text, "client");
  const server = { curveKey, signingKey };
  return await dial({
    address,
    server,
    identity: Identity.fromSecret(secret),
    role: "client",
    label: "test",
  });
}

describe("a role", () => {
  const refused = {
    status: 1,
    out: "",
    err: expect.stringMatching(/^pfs: a \w+ may not [a-z ]+; SECURITY.md says what each role may\n$/),
  };

  it("of a reader lets it read, at the hub and at nodes, and nothing else", async () => {
    const reader = await add("reader", "rita");
    expect((await as(reader, "cat", "text")).out).toBe(TEXT);
    expect((await as(reader, "cat", "text", "--node", "attic")).out).toBe(TEXT);
    for (const words of [["ls"], ["stat", "text"], ["nodes"], ["jobs"]]) {
      expect((await commands.run([...words, "--at", reader])).status).toBe(0);
    }
    const forbidden = [
      ["put", "text.txt", "--name", "mine"],
      ["put", "text.txt", "--name", "mine", "--node", "attic"],
      ["rm", "text"],
      ["run", "count.ts", "text"],
      ["cancel", "0123456789abcdef"],
      ["gc"],
      ["verify"],
    ];
    for (const words of forbidden)
      expect([words, await commands.run([...words, "--at", reader])]).toEqual([words, refused]);
    expect((await as(hub.clientToken, "ls")).out.split("\n")).toHaveLength(2);
  });

  it("of a submitter lets it read and run programs, and nothing else", async () => {
    const submitter = await add("submitter", "sam");
    expect((await as(submitter, "cat", "text")).out).toBe(TEXT);
    expect(await as(submitter, "run", "count.ts", "text")).toMatchObject({ status: 0, out: "20000\n" });
    const forbidden = [
      ["put", "text.txt", "--name", "mine"],
      ["put", "text.txt", "--name", "mine", "--node", "attic"],
      ["rm", "text"],
      ["gc"],
      ["verify"],
    ];
    for (const words of forbidden)
      expect([words, await commands.run([...words, "--at", submitter])]).toEqual([words, refused]);
  });

  it("of a node lets a machine join, and that is listed under its token", async () => {
    const joinToken = await add("node", "cellar-token");
    const cellar = await joinNode(joinToken, "cellar");
    const listed = await token("ls");
    expect(listed).toMatchObject([
      { name: "client", role: "client" },
      { name: "join", role: "node" },
      { name: "attic", role: "machine", token: "join" },
      { name: "cellar-token", role: "node" },
      { name: "cellar", role: "machine", token: "cellar-token" },
      { name: "rita", role: "reader" },
      { name: "sam", role: "submitter" },
    ]);
    expect(await as(joinToken, "ls")).toMatchObject({ status: 2 });
    await cellar.end("SIGTERM");
  });
});

describe("revoking", () => {
  it("a client ends its sessions, at the hub and at nodes, and nobody else's", async () => {
    const [mallory, other] = [await add("client", "mallory"), await add("client", "olga")];
    const [first, second, kept] = [await session(mallory), await session(mallory), await session(other)];
    expect(await as(mallory, "cat", "text", "--node", "attic")).toMatchObject({ status: 0 });
    await token("revoke", "mallory");
    for (const link of [first, second]) {
      expect(await link.closed).toMatchObject({
        code: "PFS_NODE_LOST",
        data: { reason: "PFS_PEER_REFUSED" },
      });
    }
    expect(await as(mallory, "ls")).toMatchObject({ status: 5, out: "" });
    expect(await as(other, "ls")).toMatchObject({ status: 0 });
    await kept.close();
    await hub.says(/mallory is out: it was revoked/);
    await hub.says(/refused mallory at \S+: its token was revoked or has expired/);
    expect(await pfs(["token", "revoke", "mallory", "--store", store], { cwd })).toMatchObject({ status: 3 });
  });

  it("a node's token ends the session of the machine that joined by it", async () => {
    const joinToken = await add("node", "shed-token");
    const shed = await joinNode(joinToken, "shed");
    expect(await token("revoke", "shed-token")).toMatchObject([
      { revoked: "shed-token", machines: ["shed"] },
    ]);
    await shed.says(/revoked/);
    await hub.says(/shed is gone/);
    await shed.says(/does not let this token in/);
    expect((await as(hub.clientToken, "nodes")).out).not.toContain("shed");
    await shed.end("SIGTERM");
  });

  it("a machine alone keeps it out, though its token is good", async () => {
    const joinToken = await add("node", "barn-token");
    const barn = await joinNode(joinToken, "barn");
    await token("revoke", "barn");
    await hub.says(/barn is out: it was revoked/);
    await barn.says(/was revoked/);
    const stable = await joinNode(joinToken, "stable");
    const nodes = (await as(hub.clientToken, "nodes")).out;
    expect(nodes).toContain("stable");
    expect(nodes).not.toContain("barn");
    await Promise.all([barn.end("SIGTERM"), stable.end("SIGTERM")]);
  });

  it("a name that a token and a machine have says so, and each goes by its id", async () => {
    const joinToken = await add("node", "loft-token");
    const loft = await joinNode(joinToken, "loft");
    await add("reader", "loft");
    const unclear = await pfs(["token", "revoke", "loft", "--store", store], { cwd });
    expect(unclear).toMatchObject({
      status: 2,
      err: expect.stringMatching(
        /loft may be the token loft \(a reader\) with the id [0-9a-f]{12} or machine loft/,
      ),
    });
    const listed = await token("ls");
    const idOf = (role: string): string =>
      String(listed.find((each) => each["name"] === "loft" && each["role"] === role)!["id"]);
    const first = await pfs(["token", "revoke", idOf("reader").slice(0, 8), "--store", store], { cwd });
    expect(first).toMatchObject({ status: 0, err: "the token loft (a reader) is revoked\n" });
    expect((await as(hub.clientToken, "nodes")).out).toContain("loft");
    const second = await pfs(["token", "revoke", idOf("machine"), "--store", store], { cwd });
    expect(second.err).toMatch(/^machine loft is revoked; it has the token loft-token still/);
    await hub.says(/machine loft is out: it was revoked/);
    await loft.says(/this machine was revoked at the hub; dialing again/);
    await hub.says(/refused loft \([0-9a-f]{8}\) at 127\.0\.0\.1: this machine was revoked/);
    await loft.end("SIGTERM");
  });

  it("is what expiry does by itself", async () => {
    const brief = await token("add", "--role", "client", "--name", "brief", "--expires", "8s");
    const { expiresAt, token: text } = brief[0] as { expiresAt: number; token: string };
    let link: Link | undefined;
    while (link === undefined) link = await session(text).catch(() => undefined);
    expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST" });
    expect(Date.now()).toBeGreaterThanOrEqual(expiresAt);
    await hub.says(/the token brief is out: it has expired/);
  });
});

it("a token whose terms mean nothing is not made", async () => {
  await add("reader", "una");
  const wrong = [
    [
      ["--role", "node", "--name", "mole", "--max-jobs", "3"],
      /--max-jobs is for clients and submitters: a node/,
    ],
    [["--role", "reader", "--name", "mole", "--max-bytes", "3"], /--max-bytes is for clients and submitters/],
    [["--role", "client", "--name", "mole", "--max-jobs", "0"], /--max-jobs takes a whole number from 1 on/],
    [
      ["--role", "client", "--name", "mole", "--max-packets", "0"],
      /--max-packets takes a whole number from 1/,
    ],
    [["--role", "reader", "--name", "mole", "vole"], /^pfs: vole and --name mole are two names; give each/],
    [["--role", "reader", "--name", "UNA"], /there is a token called "UNA" already/],
    [["--role", "reader", "--name", "Client"], /there is a token called "Client" already/],
    [["--role", "reader", "--name", "0123456789abcdef".repeat(2)], /looks like an id/],
  ] as const;
  for (const [words, says] of wrong) {
    const made = await commands.run(["token", "add", ...words, "--store", store]);
    expect([words, made]).toEqual([
      words,
      expect.objectContaining({ status: 2, out: "", err: expect.stringMatching(says) }),
    ]);
  }
  expect(await pfs(["token", "ls", "una", "--store", store], { cwd })).toMatchObject({ status: 2, out: "" });
});

it("a quota holds at the hub and at each node, and is its key's alone", async () => {
  const limited = await add("client", "limited", "--max-bytes", "200kB", "--max-jobs", "2");
  const big = await randomFile("big.bin", 300_000);
  const refused = {
    status: 1,
    out: "",
    err: expect.stringMatching(/^pfs: this token may store 200 kB on this machine: .* with pfs gc\n$/),
  };
  expect(await as(limited, "put", big, "--name", "big")).toMatchObject(refused);
  expect(await as(limited, "put", big, "--name", "big", "--node", "attic")).toMatchObject(refused);
  expect(await as(hub.clientToken, "put", big, "--name", "big")).toMatchObject({ status: 0 });
  // What is there already costs nothing.
  expect(await as(limited, "put", big, "--name", "the same")).toMatchObject({ status: 0 });
  const [listed] = (await token("ls")).filter(({ name }) => name === "limited");
  expect(listed).toMatchObject({ role: "client", quota: { storedBytes: 200_000, jobs: 2 } });
});

/** A file of bytes that no other has, in the directory of the commands. */
async function randomFile(name: string, length: number): Promise<string> {
  await writeFile(join(cwd, name), randomBytes(length));
  return name;
}

describe("a token is given", () => {
  it("in a file, a variable or by stdin, where no list of processes shows it", async () => {
    await writeFile(join(cwd, "client.token"), `${hub.clientToken}\n`);
    const ways = [
      pfs(["ls", "--token-file", "client.token"], { cwd }),
      pfs(["ls", "--token-file", "-"], { cwd, input: `${hub.clientToken}\n` }),
      pfs(["ls", "--at", "-"], { cwd, input: hub.clientToken }),
      pfs(["ls"], { cwd, environment: { PACKETFS_TOKEN_FILE: "client.token" } }),
      // What was typed goes before what a variable says.
      pfs(["ls", "--token-file", "client.token"], { cwd, environment: { PACKETFS_AT: "nonsense" } }),
      pfs(["ls", "--at", hub.clientToken], { cwd, environment: { PACKETFS_TOKEN_FILE: "not-there" } }),
    ];
    for (const way of await Promise.all(ways))
      expect(way).toMatchObject({ status: 0, err: "", out: expect.stringMatching(/^text\t/m) });
    const wrong = [
      [["ls", "--token-file", "not-there"], 3, /no such file/],
      [["ls", "--token-file", "client.token", "--at", "x"], 2, /both give a token/],
      [["put", "-", "--name", "x", "--at", "-"], 2, /stdin cannot be both/],
      [["ls", "--at", "-"], 2, /is empty/],
      [["join", "--store", "x"], 2, /a join token is missing/],
    ] as const;
    for (const [words, status, says] of wrong) {
      expect([words, await commands.run(words)]).toEqual([
        words,
        expect.objectContaining({ status, err: expect.stringMatching(says) }),
      ]);
    }
  });

  it.skipIf(process.platform === "win32")("by a pipe that has a name", async () => {
    const pipe = join(cwd, "pipe");
    outputSync("mkfifo", [pipe]);
    const [listed] = await Promise.all([
      pfs(["ls", "--token-file", "pipe"], { cwd }),
      writeFile(pipe, `${hub.clientToken}\n`),
    ]);
    expect(listed).toMatchObject({ status: 0, err: "" });
  });

  it("as a terminal shows it, in several lines", async () => {
    const shown = `${hub.clientToken.match(/.{1,66}/g)!.join("\n              ")}\n`;
    await writeFile(join(cwd, "shown.token"), shown);
    for (const words of [
      ["--token-file", "shown.token"],
      ["--at", shown],
    ])
      expect(await pfs(["ls", ...words], { cwd })).toMatchObject({ status: 0, err: "" });
  });

  it("beside a store only by a variable, which what was typed goes before", async () => {
    const environment = { PACKETFS_AT: hub.clientToken };
    expect(await pfs(["put", "text.txt", "--name", "victim"], { cwd, environment })).toMatchObject({
      status: 0,
    });
    const own = ["--store", "own"];
    expect(await pfs(["put", "text.txt", "--name", "victim", ...own], { cwd, environment })).toMatchObject({
      status: 0,
    });
    expect(await pfs(["rm", "victim", ...own], { cwd, environment })).toMatchObject({ status: 0 });
    expect((await pfs(["ls", ...own], { cwd, environment })).out).toBe("");
    expect((await as(hub.clientToken, "ls", "victim")).out).toMatch(/^victim\t/);
    expect((await pfs(["doctor", ...own], { cwd, environment })).out).toMatch(/ own \(--store\)$/m);
    await writeFile(join(cwd, "client.token"), hub.clientToken);
    for (const where of [
      ["--at", hub.clientToken],
      ["--token-file", "client.token"],
    ]) {
      expect(await pfs(["rm", "victim", ...own, ...where], { cwd })).toMatchObject({
        status: 2,
        err: `pfs: --store and ${where[0]} say two places; leave one out\n`,
      });
    }
    const node = { ...environment, PACKETFS_NODE: "attic" };
    expect(await pfs(["put", "text.txt", ...own], { cwd, environment: node })).toMatchObject({ status: 0 });
    // Two variables say it for different commands.
    const both = { ...environment, PACKETFS_STORE: "own" };
    expect(await pfs(["rm", "victim"], { cwd, environment: both })).toMatchObject({ status: 0 });
  });

  it("to no command that has no use for it", async () => {
    const wrong = [
      ["up", "--at"],
      ["up", "--token-file"],
      ["join", "--at"],
      ["join", "--node"],
      ["token", "ls", "--at"],
      ["demo", "--at"],
    ];
    for (const words of wrong) {
      const [command = "", option = ""] = [words[0], words.at(-1)];
      expect(await commands.run([...words, "x", "--store", "x"])).toMatchObject({
        status: 2,
        err: `pfs: ${command} has no use for ${option}; "pfs help ${command}" says what it takes\n`,
      });
      expect((await commands.run(["help", command])).out).not.toContain(`\n  ${option} `);
    }
  });

  it("to a machine that joins in the same ways", async () => {
    await writeFile(join(cwd, "join.token"), hub.joinToken);
    const nodes = [
      new Daemon([
        "join",
        "--token-file",
        join(cwd, "join.token"),
        "--label",
        "by-file",
        "--store",
        join(cwd, "by-file"),
        "--workers",
        "0",
      ]),
      new Daemon(
        ["join", "--label", "by-variable", "--store", join(cwd, "by-variable"), "--workers", "0"],
        ["env", `PACKETFS_JOIN=${hub.joinToken}`],
      ),
    ];
    for (const each of nodes) await each.line(({ event }) => event === "joined");
    await Promise.all(nodes.map((each) => each.end("SIGTERM")));
  });
});

it("machines that ask for the same label get different ones, and each can be spoken with", async () => {
  const twins = [await joinNode(hub.joinToken, "twin"), await joinNode(hub.joinToken, "twin")];
  await twins[1]!.says(/the hub calls this node twin-2/);
  for (const label of ["twin", "twin-2"]) {
    const put = await as(hub.clientToken, "put", "text.txt", "--name", `at ${label}`, "--node", label);
    expect([label, put.status]).toEqual([label, 0]);
  }
  await Promise.all(twins.map((twin) => twin.end("SIGTERM")));
});

describe("an address", () => {
  it("that nobody can dial is not told: a port on all addresses is told under one of them", async () => {
    const open = new Daemon([
      "join",
      hub.joinToken,
      "--label",
      "open",
      "--listen",
      "0.0.0.0:0",
      "--workers",
      "0",
      "--store",
      join(cwd, "open"),
    ]);
    await open.line(({ event }) => event === "joined");
    const told = (await as(hub.clientToken, "nodes", "--json")).out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { label: string; address: string })
      .find(({ label }) => label === "open");
    expect(told!.address).toMatch(/^\d+\.\d+\.\d+\.\d+:\d+$/);
    expect(told!.address).not.toMatch(/^0\.0\.0\.0/);
    expect((await as(hub.clientToken, "cat", "text", "--node", "open")).out).toBe(TEXT);
    await open.end("SIGTERM");
  });

  it("is what --advertise says: a name, IPv4 or IPv6, but none that nobody can dial", async () => {
    for (const address of ["hub.example.org:7400", "192.0.2.7:7400", "[2001:db8::7]:7400"]) {
      const told = await startAdvertising(address);
      expect(parseToken(String(told["clientToken"]), "client").address).toBe(address);
      expect(parseToken(String(told["joinToken"]), "join").address).toBe(address);
    }
    for (const address of ["0.0.0.0:7400", "[::]:7400", "[::ffff:0.0.0.0]:7400", "0:7400", "nowhere"]) {
      const refused = await commands.run(["up", "--advertise", address, "--store", "unused"]);
      expect([address, refused.status, refused.err]).toEqual([
        address,
        2,
        expect.stringContaining("--advertise takes HOST:PORT"),
      ]);
    }
  });

  it.runIf(
    Object.values(networkInterfaces())
      .flat()
      .some((each) => each?.address === "::1"),
  )("may be of IPv6", async () => {
    const other = await startHub({ address: "[::1]:0" });
    expect(parseToken(other.clientToken, "client").address).toMatch(/^\[::1\]:\d+$/);
    expect(await as(other.clientToken, "put", "text.txt", "--name", "six")).toMatchObject({ status: 0 });
    const far = new Daemon([
      "join",
      other.joinToken,
      "--label",
      "far",
      "--listen",
      "[::1]:0",
      "--workers",
      "0",
      "--store",
      join(cwd, "far"),
    ]);
    await far.line(({ event }) => event === "joined");
    expect((await as(other.clientToken, "cat", "six", "--node", "far")).out).toBe(TEXT);
    await far.end("SIGTERM");
    await other.end("SIGTERM");
  });

  // A process with an /etc/hosts of its own: names of several addresses are the system's business.
  it.runIf(ownsMounts())("may be a name that leads to several, of which only one answers", async () => {
    const hosts = join(cwd, "hosts");
    await writeFile(hosts, "127.0.0.1 localhost\n::1 manifold\n127.0.0.2 manifold\n127.0.0.1 manifold\n");
    const wrapper = ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', hosts];
    const port = hub.address.split(":")[1];
    const client = new Daemon(["stat", "text", "--at", `${hub.clientToken}@manifold:${port}`], wrapper);
    expect(await client.ended).toMatchObject({ status: 0 });
  });

  it("is not who a hub is: where it moved, its tokens are good", async () => {
    const directory = join(cwd, "moving");
    const before = await startHub({ store: directory });
    await as(before.clientToken, "put", "text.txt", "--name", "moved");
    await before.end("SIGTERM");
    const after = await startHub({ store: directory });
    const moved = await as(`${before.clientToken}@${after.address}`, "cat", "moved");
    expect(moved).toMatchObject({ status: 0, out: TEXT });
    const wanderer = await joinNode(`${before.joinToken}@${after.address}`, "wanderer");
    await wanderer.end("SIGTERM");
    // Who has the address of another hub does not take it for this one.
    expect(await as(`${before.clientToken}@${hub.address}`, "ls")).toMatchObject({ status: 5, out: "" });
    expect(await as(`${before.clientToken}@nowhere`, "ls")).toMatchObject({ status: 2, out: "" });
    await after.end("SIGTERM");
  });
});

/** Whether this process may give others mounts of their own. */
function ownsMounts(): boolean {
  return runSync("unshare", ["-m", "mount", "--bind", "/etc/hosts", "/etc/hosts"]).status === 0;
}

async function startAdvertising(address: string): Promise<Record<string, unknown>> {
  const words = ["up", "--listen", "127.0.0.1:0", "--advertise", address, "--workers", "0"];
  const daemon = new Daemon([...words, "--store", join(await temporaryDirectory(), "hub")]);
  const said = await daemon.line(({ event }) => event === "listening");
  await daemon.end("SIGTERM");
  return said;
}
