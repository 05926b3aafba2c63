/** Who has no right token, or speaks another language, gets nowhere; the hub says so, and goes on serving. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { formatToken, parseToken, TokenKind } from "../../nodes/wire/trust/token.ts";
import type { Token } from "../../nodes/wire/trust/token.ts";
import { pfs, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import type { Finished } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";
import type { HubDaemon } from "./daemon.ts";

let directory: string;
let hub: HubDaemon;
let other: HubDaemon;
beforeAll(async () => {
  directory = await temporaryDirectory();
  [hub, other] = await Promise.all([startHub(), startHub()]);
});

const ls = (token: string): Promise<Finished> => pfs(["ls", "--at", token], { cwd: directory });

/** What the hub says of those who call; it says other things when they happen. */
const NOTES = /"event":"note".*/g;

/** The one line that a command said before it failed. */
function sentenceOf({ out, err }: Finished): string {
  expect(out).toBe("");
  // Whom a machine is about to join is said before that.
  expect(err).toMatch(/^(joining [^\n]+\n)?pfs: [^\n]+\n$/);
  return err.slice(err.indexOf("pfs: ")).trimEnd();
}

/** A token that looks right, as somebody may make who knows how: that of the hub with some of its parts changed. */
function forged(token: string, kind: TokenKind, changes: Partial<Token>): string {
  return formatToken({ ...parseToken(token, kind), ...changes });
}

describe("a token", () => {
  it("with one character changed is refused before anybody is called", async () => {
    const { clientToken } = hub;
    const before = hub.said.match(NOTES);
    // The kind, the first of the bytes, one in the middle, the last.
    for (const at of [
      5,
      clientToken.indexOf(".", 5) + 1,
      Math.floor(clientToken.length / 2),
      clientToken.length - 1,
    ]) {
      const changed =
        clientToken.slice(0, at) + (clientToken[at] === "A" ? "B" : "A") + clientToken.slice(at + 1);
      const finished = await ls(changed);
      expect([at, finished.status]).toEqual([at, 2]);
      expect(sentenceOf(finished)).toMatch(/token/);
    }
    expect(hub.said.match(NOTES)).toEqual(before);
  });

  it("to join does not let anybody use the hub", async () => {
    const finished = await ls(hub.joinToken);
    expect(finished.status).toBe(2);
    expect(sentenceOf(finished)).toMatch(/join token.*client token|client token.*join token/);
  });

  it("to use the hub does not let anybody join it", async () => {
    const words = ["join", hub.clientToken, "--workers", "1", "--store", join(directory, "node")];
    const finished = await pfs(words, { cwd: directory });
    expect(finished.status).toBe(2);
    expect(sentenceOf(finished)).toMatch(/join token.*client token|client token.*join token/);
  });
});

describe.concurrent("a forged token", () => {
  const { client, join: toJoin } = TokenKind;

  it("of another hub, for this hub's address, finds no ear", async () => {
    const finished = await ls(forged(other.clientToken, client, { address: hub.address }));
    expect(finished.status).toBe(5);
    expect(sentenceOf(finished)).toContain(hub.address);
  });

  it("with the hub's keys and a secret of one's own is refused, and the hub says so", async () => {
    const finished = await ls(forged(hub.clientToken, client, { secret: randomBytes(32) }));
    expect(finished.status).toBe(5);
    expect(sentenceOf(finished)).toMatch(/refused|does not let this token in/);
    await hub.says(/refused/);
  });

  it("that makes a client token of a join token is refused", async () => {
    const finished = await ls(formatToken({ ...parseToken(hub.joinToken, toJoin), kind: client }));
    expect(finished.status).toBe(5);
    expect(sentenceOf(finished)).toMatch(/refused|does not let this token in/);
  });

  it("that makes a join token of a client token is refused", async () => {
    const token = formatToken({ ...parseToken(hub.clientToken, client), kind: toJoin });
    const words = ["join", token, "--workers", "1", "--store", join(directory, "client-as-node")];
    const finished = await pfs(words, { cwd: directory });
    expect(finished.status).toBe(5);
    expect(sentenceOf(finished)).toMatch(/refused|does not let this token in/);
  });

  it("of a hub that signs with another key is not believed by the client", async () => {
    const { signingKey } = parseToken(other.clientToken, client);
    const finished = await ls(forged(hub.clientToken, client, { signingKey }));
    expect(finished.status).not.toBe(0);
    sentenceOf(finished);
  });

  it("of a hub that is not there ends as unreachable", async () => {
    const finished = await ls(forged(hub.clientToken, client, { address: "127.0.0.1:1" }));
    expect(finished.status).toBe(5);
    expect(sentenceOf(finished)).toMatch(/127\.0\.0\.1:1 cannot be reached: .*"pfs up".*@HOST:PORT/);
  });
});

describe("noise at the port", () => {
  /** A greeting of ZMTP 3.1 that asks for no encryption. */
  const plainGreeting = Buffer.alloc(64);
  plainGreeting.set([0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 3, 1]);
  plainGreeting.write("NULL", 12);

  it.each([
    ["nothing", Buffer.alloc(0)],
    ["a request of the web", Buffer.from("GET / HTTP/1.1\r\nHost: hub\r\n\r\n")],
    ["a greeting without encryption", plainGreeting],
    ["a megabyte of chance", randomBytes(1024 * 1024)],
  ])("does not stop the hub: %s", async (_name, bytes) => {
    const [host, port] = hub.address.split(":");
    const sockets = Array.from({ length: 8 }, () => connect(Number(port), host));
    // They connect in any order, and the hub may end those that have spoken before the others have connected.
    for (const socket of sockets) socket.on("error", () => undefined);
    await Promise.all(sockets.map((socket) => once(socket, "connect")));
    for (const socket of sockets) socket.write(bytes);
    const served = await ls(hub.clientToken);
    for (const socket of sockets) socket.destroy();
    expect(served).toMatchObject({ status: 0, out: "", err: "" });
  });

  it("leaves a hub that still serves and ends as it should", async () => {
    expect(await ls(hub.clientToken)).toMatchObject({ status: 0 });
    expect(hub.lines.filter((line) => "error" in line)).toEqual([]);
    expect(await hub.end("SIGTERM")).toEqual(await other.end("SIGTERM"));
  });
});
