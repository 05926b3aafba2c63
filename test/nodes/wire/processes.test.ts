/** Links between processes: what is noticed when one is killed, stopped, started again or attacked. */
import { fork } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { PEER_LOST_MS, PING_INTERVAL_MS, UNDELIVERED_BYTES_PER_KEY_MAX } from "../../../nodes/limits.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { parseAddress } from "../../../nodes/wire/trust/address.ts";
import { dial, Redialer } from "../../../nodes/wire/zeromq/dial.ts";
import { routingIdOf } from "../../../nodes/wire/zeromq/admissions.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { createContext, createDealer } from "../../../nodes/wire/zeromq/sockets.ts";
import { until } from "../../suites/until.ts";
import { list, openNetwork } from "./network.ts";
import { CLIENT_SECRET, HUB_SECRET } from "./peer-process.ts";
import { chooseRoutingId } from "./raw-peer.ts";

const { OK, WANT, EXEC, FILE_REQUEST } = MessageType;
const hub = Identity.fromSecret(HUB_SECRET);
const client = Identity.fromSecret(CLIENT_SECRET);
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

/** Starts a process and resolves with the first thing that it says. */
async function start(mode: string, ...words: string[]): Promise<{ child: ChildProcess; said: string }> {
  const script = fileURLToPath(new URL("./peer-process.ts", import.meta.url));
  const child = fork(script, [mode, ...words], { execArgv: [] });
  children.push(child);
  const [said] = (await once(child, "message")) as [string];
  return { child, said };
}

async function connect(address: string): Promise<Link> {
  return await dial({ address, server: hub, identity: client, role: "client", label: "test" });
}

test("a process that is killed in the middle of a bulk channel cuts it, and nothing half of it comes", async () => {
  const { child, said: address } = await start("serve", "0");
  const link = await connect(address);
  const channel = await link.bulk!.channel();
  let received = 0;
  channel.onMessage(async (message) => {
    const body = await message.take();
    expect(body.byteLength).toBe(1024 * 1024);
    received++;
  });
  await until(() => received > 3);
  child.kill("SIGKILL");
  const { code } = await channel.closed;
  // Whichever of its two connections is noticed first.
  expect(["PFS_BULK_CUT", "PFS_NODE_LOST"]).toContain(code);
  expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST" });
});

test("bytes between processes arrive whole and in order", async () => {
  const { said: address } = await start("serve", "0");
  const link = await connect(address);
  const chunks = new Uint8Array(1024 * 1024).fill(5);
  const replies = await Promise.all(
    Array.from({ length: 32 }, () => link.request({ type: WANT, priority: 2, chunks })),
  );
  expect(replies.every(({ meta }) => meta === chunks.byteLength)).toBe(true);
  let part = 0;
  for await (const { type, chunks: bytes } of link.stream({ type: FILE_REQUEST })) {
    if (type === OK) continue;
    expect(bytes.byteLength).toBe(1024 * 1024);
    expect([bytes[0], bytes[777_777], bytes.at(-1)]).toEqual([part, part, part]);
    part++;
  }
  expect(part).toBe(64);
  await link.close();
});

test("a server killed in mid-request is a lost node by the end of its connection, not by its silence", async () => {
  const { child, said: address } = await start("serve", "0");
  const link = await connect(address);
  const asked = link.request({ type: EXEC });
  await once(child, "message");
  child.kill("SIGKILL");
  await expect(asked).rejects.toMatchObject({
    code: "PFS_NODE_LOST",
    data: { reason: expect.stringContaining("connection") },
  });
});

test("a client killed in mid-request is noticed by the server, and its request withdrawn", async () => {
  const network = await openNetwork({ identity: hub });
  list(network.allowList, client, "client");
  const started = start("ask", network.address);
  started.catch(() => undefined);
  await until(() => network.links.length > 0);
  const withdrawn = new Promise<void>((resolve) => {
    network.links[0]!.onRequest((_, reply) => {
      reply.signal.addEventListener("abort", () => resolve());
      children[0]!.kill("SIGKILL");
    });
  });
  await withdrawn;
  expect(await network.links[0]!.closed).toMatchObject({ code: "PFS_NODE_LOST" });
  await network.close();
});

test("a server that stands still is lost after a while, and can be dialed again when it goes on", async () => {
  const { child, said: address } = await start("serve", "0");
  const link = await connect(address);
  const asked = link.request({ type: EXEC });
  await once(child, "message");
  child.kill("SIGSTOP");
  const stoppedAt = performance.now();
  await expect(asked).rejects.toMatchObject({
    code: "PFS_NODE_LOST",
    data: { reason: "it has been silent for too long" },
  });
  // Not before, by the clock that both go by; how long after is the machine's business.
  expect(performance.now() - stoppedAt).toBeGreaterThan(PEER_LOST_MS - 2 * PING_INTERVAL_MS);
  const late = dial({
    address,
    server: hub,
    identity: client,
    role: "client",
    label: "test",
    timeoutMs: 300,
  });
  await expect(late).rejects.toMatchObject({ code: "PFS_PEER_UNREACHABLE" });
  child.kill("SIGCONT");
  const again = await connect(address);
  expect((await again.request({ type: WANT, meta: "again" })).meta).toBe("again");
  await again.close();
});

test("a server that is killed and started again under the same address gets its nodes back", async () => {
  const { child, said: address } = await start("serve", "0");
  const links: Link[] = [];
  const options = { address, server: hub, identity: client, role: "client", label: "test" } as const;
  const redialer = new Redialer({ ...options, onLink: (link) => links.push(link) });
  await until(() => links.length === 1);
  child.kill("SIGKILL");
  await links[0]!.closed;
  expect((await start("serve", String(parseAddress(address).port))).said).toBe(address);
  await until(() => links.length === 2);
  expect((await links[1]!.request({ type: WANT, meta: 2 })).meta).toBe(2);
  await redialer.close();
});

test("a message of parts without end costs little memory, and its sender alone is cut off for a while", async () => {
  const network = await openNetwork({
    identity: hub,
    onLink: (link) => link.onRequest((_, reply) => reply({ type: OK })),
  });
  list(network.allowList, client, "client");
  const honest = await network.dial();
  const before = process.memoryUsage.rss();
  let peak = 0;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 10);
  await start("bomb", network.address);
  const isCut = (): boolean => network.events.some(({ kind }) => kind === "cut");
  while (!isCut()) await honest.request({ type: WANT });
  clearInterval(watch);
  const reason = "a message without end";
  expect(network.events.find(({ kind }) => kind === "cut")).toMatchObject({ id: client.id, reason });
  expect(peak - before).toBeLessThan(64 * 1024 * 1024);
  // It dials again by itself, and is told why not; another key at the same address is not kept out.
  await until(() =>
    network.events.some((event) => event.kind === "turned-away" && event.reason === "paused"),
  );
  await (await network.dial()).request({ type: WANT });
  await honest.request({ type: WANT });
  children[0]!.kill("SIGKILL");
  // The pause ends: the same key comes in again.
  await until(async () => (await connect(network.address).catch(() => undefined)) !== undefined);
  await network.close();
});

test("such messages over many connections of one key cost no more than its share, and end one after the other", async () => {
  const network = await openNetwork({
    identity: hub,
    onLink: (link) => link.onRequest((_, reply) => reply({ type: OK })),
  });
  list(network.allowList, client, "client");
  const honest = await network.dial();
  const before = process.memoryUsage.rss();
  let peak = 0;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 10);
  await start("bomb", network.address, "16");
  const cuts = (): number => network.events.filter(({ kind }) => kind === "cut").length;
  while (cuts() < 4) await honest.request({ type: WANT });
  clearInterval(watch);
  // What is given back stays the process's for a while, as its allocator has it: all that was sent is many times as much.
  expect(peak - before).toBeLessThan(4 * UNDELIVERED_BYTES_PER_KEY_MAX);
  await (await network.dial()).request({ type: WANT });
  await network.close();
});

test("a fresh process does not assign the routing id that libzmq would", async () => {
  const said = await Promise.all([start("first-routing-id"), start("first-routing-id")]);
  const ids = new Set(said.map(({ said: id }) => id));
  // What glibc's rand() begins with when nobody seeds it.
  expect(ids).not.toContain(String(0x6b8b4567));
  expect(ids.size).toBe(2);
});

test("peers that choose routing ids and others that do not, all at once, do not end a server", async () => {
  const { child, said: address } = await start("serve", "0");
  const context = createContext();
  const sockets = [0x6b8b4567, 0x6b8b4568, 0x6b8b4569, 1, 2].map((id) => {
    const socket = createDealer({ context, identity: client, serverKey: hub.curveKey, ipv6: false });
    socket.linger = 0;
    chooseRoutingId(socket, routingIdOf(id));
    socket.connect(`tcp://${address}`);
    return socket;
  });
  const dials = await Promise.allSettled(Array.from({ length: 10 }, () => connect(address)));
  for (const dialed of dials) if (dialed.status === "fulfilled") await dialed.value.close();
  for (const socket of sockets) socket.close();
  expect(child.exitCode).toBeNull();
  expect(child.signalCode).toBeNull();
});
