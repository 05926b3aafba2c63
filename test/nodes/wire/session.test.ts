/** What becomes of sessions: joining, removal, expiry, and coming back. */
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { setTimeout } from "node:timers/promises";
import { test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import type { PacketfsError } from "../../../packets/errors.ts";
import { parseAddress } from "../../../nodes/wire/trust/address.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { Redialer } from "../../../nodes/wire/zeromq/dial.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import type { AllowListEntry } from "../../../nodes/wire/trust/allow-list.ts";
import { WireServer } from "../../../nodes/wire/zeromq/server.ts";
import { until } from "../../suites/until.ts";
import { list, openNetwork } from "./network.ts";
import { rawPeer } from "./raw-peer.ts";

const { OK, WANT } = MessageType;

test.concurrent("both sides know who the other is", async ({ expect }) => {
  const network = await openNetwork({ features: ["swarm"] });
  const identity = Identity.create();
  const executors = [{ name: "cpu", capacity: { js: 4 }, edition: "v8-1-icu-2" }];
  const near = await network.dial({
    identity,
    role: "node",
    label: "küche",
    listen: "10.0.0.1:7000",
    features: ["gpu", "zstd"],
    executors,
  });
  const far = await network.accepted(near);
  const { id, signingKey, curveKey } = identity;
  expect({ ...far.peer, signingKey: hex(far.peer.signingKey), curveKey: hex(far.peer.curveKey) }).toEqual({
    id,
    signingKey: hex(signingKey),
    curveKey: hex(curveKey),
    role: "node",
    label: "küche",
    address: "10.0.0.1:7000",
    features: ["gpu", "zstd"],
    executors,
    version: 1,
  });
  expect(near.peer).toMatchObject({ id: network.hub.id, role: "hub", label: "hub", features: ["swarm"] });
  expect(network.server.links).toEqual([far]);
  await network.close();
});

function hex(key: Uint8Array): string {
  return Buffer.from(key).toString("hex");
}

test.concurrent("a machine joins by a token, and from then on comes back as itself", async ({ expect }) => {
  const joined: [AllowListEntry, AllowListEntry][] = [];
  const network = await openNetwork({ onJoin: (entry, joinToken) => void joined.push([entry, joinToken]) });
  const [joinToken, joining] = [Identity.create(), Identity.create()];
  list(network.allowList, joinToken, "invite");
  const options = {
    identity: joinToken,
    role: "node",
    joining,
    label: "attic",
    listen: "attic:7000",
  } as const;
  const far = await network.accepted(await network.dial(options));
  expect(far.peer).toMatchObject({ id: joining.id, role: "node", label: "attic" });
  expect(joined).toHaveLength(1);
  expect(joined[0]![0]).toMatchObject({
    id: joining.id,
    role: "node",
    label: "attic",
    address: "attic:7000",
  });
  expect(joined[0]![1].id).toBe(joinToken.id);
  expect(network.events).toContainEqual({
    kind: "joined",
    id: joining.id,
    label: "attic",
    address: "127.0.0.1",
  });
  // A token may be of use once; the session and the machine stay.
  network.allowList.remove(joinToken.id);
  await expect(network.dial({ ...options, unlisted: true })).rejects.toMatchObject({
    code: "PFS_PEER_REFUSED",
  });
  const restored = AllowList.fromJSON(JSON.parse(JSON.stringify(network.allowList)));
  const second = await openNetwork({ identity: network.hub, allowList: restored });
  const again = await second.dial({ identity: joining, role: "node" });
  expect((await second.accepted(again)).peer.id).toBe(joining.id);
  await second.close();
  await network.close();
});

test.concurrent("a machine that its owner declines is not on the allow list", async ({ expect }) => {
  const network = await openNetwork({
    onJoin: async () => {
      await setTimeout(10);
      throw new Error("this token was used already");
    },
  });
  const [joinToken, joining] = [Identity.create(), Identity.create()];
  list(network.allowList, joinToken, "invite");
  await expect(network.dial({ identity: joinToken, role: "node", joining })).rejects.toMatchObject({
    code: "PFS_PEER_REFUSED",
    data: { reason: "declined" },
    message: expect.stringContaining("used already"),
  });
  expect(network.allowList.byId(joining.id)).toBeUndefined();
  await network.close();
});

test.concurrent("who is removed from the allow list is out at once", async ({ expect }) => {
  const network = await openNetwork();
  const identity = Identity.create();
  const [first, second, other] = [
    await network.dial({ identity }),
    await network.dial({ identity }),
    await network.dial(),
  ];
  expect(network.allowList.remove(identity.id)).toBe(true);
  for (const link of [first, second]) {
    expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST", data: { reason: "PFS_PEER_REFUSED" } });
  }
  const again = network.dial({ identity, unlisted: true });
  await expect(again).rejects.toMatchObject({ data: { reason: "unknown-key" } });
  (await network.accepted(other)).onRequest((_, reply) => reply({ type: OK }));
  await other.request({ type: WANT });
  await network.close();
});

test.concurrent("a peer whose session expired is told so, and not waited for", async ({ expect }) => {
  const network = await openNetwork();
  const peer = await rawPeer(network, Identity.create());
  const link = network.links.at(-1)!;
  // It says nothing, as if it had stood still.
  expect(await link.closed).toMatchObject({
    code: "PFS_NODE_LOST",
    message: expect.stringContaining("silent"),
  });
  await peer.say({ type: WANT }, { request: 1 });
  expect(await peer.hearError()).toMatchObject({ code: "PFS_SESSION_UNKNOWN" });
  await network.close();
});

test.concurrent("a link whose session the server forgot ends at once", async ({ expect }) => {
  const network = await openNetwork();
  const near = await network.dial();
  const far = await network.accepted(near);
  await far.close();
  expect(await near.closed).toMatchObject({ code: "PFS_NODE_LOST", data: { reason: "PFS_LINK_CLOSED" } });
  await network.close();
});

test.concurrent("a redialer comes back when the server does, and says hello anew", async ({ expect }) => {
  const [hub, identity] = [Identity.create(), Identity.create()];
  const allowList = new AllowList();
  list(allowList, identity, "node");
  const start = async (port: number): Promise<WireServer> => {
    const onLink = (link: Link): void => link.onRequest((_, reply) => reply({ type: OK }));
    const server = new WireServer({ identity: hub, allowList, role: "hub", label: "hub", onLink });
    await server.bind("127.0.0.1", port);
    return server;
  };
  const first = await start(0);
  const links: Link[] = [];
  const failures: PacketfsError[] = [];
  const redialer = new Redialer({
    address: first.address,
    server: hub,
    identity,
    role: "node",
    label: "node",
    timeoutMs: 2_000,
    onLink: (link) => links.push(link),
    onFailure: (error) => failures.push(error),
  });
  await until(() => links.length === 1);
  await redialer.link!.request({ type: WANT });
  first.kill();
  expect(await links[0]!.closed).toMatchObject({ code: "PFS_NODE_LOST" });
  await until(() => failures.length >= 2);
  expect(failures[0]).toMatchObject({ code: "PFS_NODE_LOST" });
  expect(failures[1]).toMatchObject({ code: "PFS_PEER_UNREACHABLE" });
  const second = await start(parseAddress(first.address).port);
  await until(() => links.length === 2);
  await links[1]!.request({ type: WANT });
  await redialer.close();
  expect(redialer.link).toBeUndefined();
  await second.close();
});

test.concurrent("a redialer that lends others says so in a session of its own", async ({ expect }) => {
  const network = await openNetwork({});
  const identity = Identity.create();
  list(network.allowList, identity, "node");
  const [cpu, gpu] = ["cpu", "gpu"].map((name) => ({ name, capacity: { js: 1 }, edition: "v8-1-icu-2" }));
  const links: Link[] = [];
  const redialer = new Redialer({
    address: network.address,
    server: network.hub,
    identity,
    role: "node",
    label: "node",
    executors: [cpu!, gpu!],
    onLink: (link) => links.push(link),
  });
  await until(() => links.length === 1 && network.links.length === 1);
  expect(network.links[0]!.peer.executors).toEqual([cpu, gpu]);
  redialer.lend([cpu!]);
  await until(() => links.length === 2 && network.links.length === 2);
  expect(network.links[1]!.peer.executors).toEqual([cpu]);
  await redialer.close();
  await network.close();
});

test.concurrent("what a redialer lends when it has just been told is not lost in its dial", async ({
  expect,
}) => {
  const network = await openNetwork({});
  const identity = Identity.create();
  list(network.allowList, identity, "node");
  const [cpu, gpu] = ["cpu", "gpu"].map((name) => ({ name, capacity: { js: 1 }, edition: "v8-1-icu-2" }));
  const redialer = new Redialer({
    address: network.address,
    server: network.hub,
    identity,
    role: "node",
    label: "node",
    executors: [cpu!],
    onLink: () => undefined,
  });
  // There is no session yet that it could end.
  redialer.lend([cpu!, gpu!]);
  await until(() => network.links.at(-1)?.peer.executors.length === 2);
  expect(network.links.at(-1)!.peer.executors).toEqual([cpu, gpu]);
  await redialer.close();
  await network.close();
});

test.concurrent("a redialer that is closed while it dials ends in order", async ({ expect }) => {
  const connections: Socket[] = [];
  const silent = createServer((socket) => connections.push(socket)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const redialer = new Redialer({
    address: `127.0.0.1:${port}`,
    server: Identity.create(),
    identity: Identity.create(),
    role: "node",
    label: "node",
    onLink: () => expect.unreachable(),
    onFailure: () => expect.unreachable(),
  });
  await once(silent, "connection");
  await redialer.close();
  for (const socket of connections) socket.destroy();
  silent.close();
});

test.concurrent("many sessions share a port fairly and end with it", async ({ expect }) => {
  const network = await openNetwork({ onLink: (link) => link.onRequest((_, reply) => reply({ type: OK })) });
  const identity = Identity.create();
  list(network.allowList, identity, "client");
  const links = await Promise.all(Array.from({ length: 40 }, () => network.dial({ identity })));
  await Promise.all(links.map((link) => link.request({ type: WANT, chunks: new Uint8Array(100_000) })));
  expect(network.server.links).toHaveLength(40);
  await network.server.close();
  for (const link of links) expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST" });
  await network.close();
});
