/** Lines that break and ports that are busy: whoever has a right to come in comes in, and nobody else notices. */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { PENDING_CONNECTIONS_MAX } from "../../../nodes/limits.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import { readBeginning } from "../../../nodes/wire/zeromq/zmtp.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { parseAddress } from "../../../nodes/wire/trust/address.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { until } from "../../suites/until.ts";
import { list, openNetwork } from "./network.ts";
import { CLIENT_SECRET, HUB_SECRET } from "./peer-process.ts";
import { openRelay } from "./relay.ts";

const { OK, WANT } = MessageType;
const hub = Identity.fromSecret(HUB_SECRET);
const client = Identity.fromSecret(CLIENT_SECRET);
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

/** Starts a server in a process of its own, and resolves with its address. */
async function serve(mode: string, argument: string): Promise<string> {
  const script = fileURLToPath(new URL("./peer-process.ts", import.meta.url));
  const child = fork(script, [mode, argument], { execArgv: [] });
  children.push(child);
  const [address] = (await once(child, "message")) as [string];
  return address;
}

const dialed = { server: hub, identity: client, role: "client", label: "test" } as const;

test("a line that is cut in its handshake ten times: in at the eleventh, and nobody else notices", async () => {
  const address = await serve("serve", "0");
  const honest = await dial({ ...dialed, address });
  const whole = await openRelay(address);
  await (await dial({ ...dialed, address: whole.address })).close();
  const beginning = readBeginning(whole.said[0]!);
  await whole[Symbol.asyncDispose]();
  if (beginning.kind !== "initiated") throw new Error("its handshake is not what it should be");
  // Before and in its greeting, its HELLO and its INITIATE, and after it, when its key was let in already.
  const { initiateAt, initiateEnd } = beginning;
  const cuts = [0, 11, 64, 200, initiateAt, initiateEnd - 1, ...Array.from({ length: 4 }, () => initiateEnd)];
  await using relay = await openRelay(address, (connection) => cuts[connection]);
  let link: Link | undefined;
  const late = dial({ ...dialed, address: relay.address }).then((came) => (link = came));
  late.catch(() => undefined);
  let honestAnswers = 0;
  while (link === undefined && relay.said.length <= cuts.length) {
    await honest.request({ type: WANT });
    honestAnswers++;
    // Others with the same key, from the same address.
    await (await dial({ ...dialed, address })).close();
  }
  await late;
  expect(relay.said).toHaveLength(cuts.length + 1);
  expect(honestAnswers).toBeGreaterThan(1);
  expect((await link!.request({ type: WANT, meta: "in" })).meta).toBe("in");
  await honest.request({ type: WANT });
  await Promise.all([link!.close(), honest.close()]);
});

test("a port that computes turn after turn does not lock its clients out, nor lose their sessions", async () => {
  const address = await serve("serve-busy", "700");
  const links: Link[] = [];
  const begun = performance.now();
  // Long enough for sessions to be lost, if the port's own delays were the clients'.
  while (performance.now() - begun < 12_000) {
    const link = await dial({ ...dialed, address, timeoutMs: 30_000 });
    expect((await link.request({ type: WANT, meta: 1 })).meta).toBe(1);
    links.push(link);
  }
  for (const link of links) expect((await link.request({ type: WANT, meta: 2 })).meta).toBe(2);
});

test("a crowd that stalls in its handshake keeps nobody out, and is gone after a while", async () => {
  const network = await openNetwork({
    identity: hub,
    onLink: (link) => link.onRequest((_, reply) => reply({ type: OK })),
  });
  list(network.allowList, client, "client");
  const whole = await openRelay(network.address);
  const honest = await dial({ ...dialed, address: whole.address });
  const beginning = whole.said[0]!;
  // Replayed, an INITIATE is worth nothing; what comes before it is the best that a stranger can say.
  const { initiateAt } = readBeginning(beginning) as { initiateAt: number };
  const { host, port } = parseAddress(network.address);
  const crowd: Socket[] = [];
  let gone = 0;
  for (let index = 0; index < PENDING_CONNECTIONS_MAX + 300; index++) {
    const socket = connect(port, host);
    socket.on("error", () => undefined);
    socket.on("close", () => gone++);
    socket.resume();
    socket.write(beginning.subarray(0, index % 2 === 0 ? initiateAt : beginning.byteLength));
    crowd.push(socket);
  }
  await until(() => crowd.every((socket) => !socket.connecting));
  for (let times = 0; times < 5; times++) {
    await (await network.dial({ identity: client })).close();
    await honest.request({ type: WANT });
  }
  await until(() => gone === crowd.length);
  await honest.request({ type: WANT });
  expect(network.events.some((event) => event.kind === "turned-away" && event.reason === "late")).toBe(true);
  await honest.close();
  await whole[Symbol.asyncDispose]();
  await network.close();
});

test("a line that is cut several times within one dial is not taken for another hub's", async () => {
  const address = await serve("serve", "0");
  const cuts = [0, 11, 64, 200];
  await using flaky = await openRelay(address, (connection) => cuts[connection]);
  const link = await dial({ ...dialed, address: flaky.address });
  expect(flaky.said).toHaveLength(cuts.length + 1);
  await link.close();
  await using broken = await openRelay(address, () => 200);
  await expect(dial({ ...dialed, address: broken.address, timeoutMs: 2_000 })).rejects.toMatchObject({
    code: "PFS_PEER_UNREACHABLE",
    message: expect.stringMatching(/was cut \d+ times/),
  });
});

test("another hub, or something else than a hub, is told apart from a broken line at the first connection", async () => {
  await using relay = await openRelay(await serve("serve", "0"));
  const wrong = { code: "PFS_PEER_REFUSED", data: { reason: "wrong-server" } };
  const other = { ...dialed, server: Identity.create() };
  await expect(dial({ ...other, address: relay.address })).rejects.toMatchObject(wrong);
  expect(relay.said).toHaveLength(1);
  let connections = 0;
  const page = createServer((socket) => {
    connections++;
    socket.on("error", () => undefined);
    socket.on("data", () => socket.end(`HTTP/1.1 400 Bad Request\r\nServer: ${"x".repeat(64)}\r\n\r\n`));
  });
  page.listen(0, "127.0.0.1");
  await once(page, "listening");
  const address = `127.0.0.1:${(page.address() as AddressInfo).port}`;
  await expect(dial({ ...dialed, address })).rejects.toMatchObject(wrong);
  expect(connections).toBe(1);
  page.close();
});

test("a dial does not count the time in which its own process was busy", async () => {
  const address = await serve("serve", "0");
  const timeoutMs = 500;
  const dialing = dial({ ...dialed, address, timeoutMs });
  // The name is looked up, and then nothing that comes is heard for a while.
  for (let times = 0; times < 3; times++) {
    await new Promise((resolve) => setImmediate(resolve));
    standStill(3 * timeoutMs);
  }
  await (await dialing).close();
});

function standStill(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until) continue;
}
