/** What keeps a port guarded: the authenticator, the admissions, and what happens when a peer attacks the port itself. */
import { connect } from "node:net";
import { expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { Admissions, connectionOf, routingIdOf } from "../../../nodes/wire/zeromq/admissions.ts";
import type { Admission } from "../../../nodes/wire/zeromq/admissions.ts";
import { parseAddress } from "../../../nodes/wire/trust/address.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import { createContext, createDealer, createRouter } from "../../../nodes/wire/zeromq/sockets.ts";
import { until } from "../../suites/until.ts";
import { list, openNetwork } from "./network.ts";
import { RawPeer, chooseRoutingId } from "./raw-peer.ts";

/** Whether anybody listens there. */
async function isOpen(address: string): Promise<boolean> {
  const { host, port } = parseAddress(address);
  const socket = connect(port, host);
  const answer = await new Promise<boolean>((resolve) => {
    socket.on("connect", () => resolve(true));
    socket.on("error", () => resolve(false));
  });
  socket.destroy();
  return answer;
}

class BreakableAllowList extends AllowList {
  isBroken = false;

  override byCurveKey(curveKey: Uint8Array): ReturnType<AllowList["byCurveKey"]> {
    if (this.isBroken) throw new Error("a defect");
    return super.byCurveKey(curveKey);
  }
}

test("when the authenticator ends, the port closes and its sessions end", async () => {
  const allowList = new BreakableAllowList();
  const network = await openNetwork({ allowList });
  const link = await network.dial();
  expect(await isOpen(network.address)).toBe(true);
  allowList.isBroken = true;
  const late = network.dial({ identity: Identity.create(), timeoutMs: 1_000 });
  await expect(late).rejects.toMatchObject({ code: /PFS_PEER_(UNREACHABLE|REFUSED)/ });
  expect(await network.server.closed).toMatchObject({ code: "PFS_AUTHENTICATOR_LOST" });
  expect(await link.closed).toMatchObject({ code: "PFS_NODE_LOST" });
  await until(async () => !(await isOpen(network.address)));
  await network.close();
});

test("a socket without an authenticator lets nobody in, not even its own key", async () => {
  const context = createContext();
  const identity = Identity.create();
  const router = createRouter({ context, identity, disconnected: new Uint8Array(8), ipv6: false });
  router.bindSync("tcp://127.0.0.1:*");
  router.receiveTimeout = 400;
  const dealer = createDealer({ context, identity, serverKey: identity.curveKey, ipv6: false });
  dealer.linger = 0;
  dealer.sendTimeout = 300;
  dealer.connect(router.lastEndpoint!);
  await expect(dealer.send("hello")).rejects.toMatchObject({ code: "EAGAIN" });
  await expect(router.receive()).rejects.toMatchObject({ code: "EAGAIN" });
  dealer.close();
  router.close();
});

test("a port opens although its process has no time to look whether it is guarded", async () => {
  const opening = openNetwork();
  const standsStill = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));
  setTimeout(() => Atomics.wait(standsStill, 0, 0, 6_000), 1);
  await (await opening).close();
});

test("a port that is taken says so", async () => {
  const network = await openNetwork();
  const { port } = parseAddress(network.address);
  const second = openNetwork({ identity: Identity.create() });
  const taken = (await second).server;
  await expect(taken.bind("127.0.0.1", port)).rejects.toMatchObject({
    code: "PFS_PORT_UNAVAILABLE",
    data: { address: network.address, system: "EADDRINUSE" },
  });
  await network.close();
  await (await second).close();
});

test("a peer that names itself is refused and told so", async () => {
  const network = await openNetwork();
  const identity = Identity.create();
  list(network.allowList, identity, "client");
  const socket = createDealer({
    context: createContext(),
    identity,
    serverKey: network.hub.curveKey,
    ipv6: false,
  });
  socket.routingId = "me";
  socket.connect(`tcp://${network.address}`);
  expect(await new RawPeer(socket).hearError()).toMatchObject({ data: { reason: "chosen-routing-id" } });
  const { id } = identity;
  await until(() => network.events.some((event) => event.kind === "refused" && event.id === id));
  await (await network.dial()).close();
  socket.close();
  await network.close();
});

test("a peer that takes a routing id which the port may assign is thrown out and kept out", async () => {
  const network = await openNetwork({
    onLink: (link) => link.onRequest((_, reply) => reply({ type: MessageType.OK })),
  });
  const honest = await network.dial();
  const identity = Identity.create();
  list(network.allowList, identity, "client");
  const context = createContext();
  const squatter = createDealer({ context, identity, serverKey: network.hub.curveKey, ipv6: false });
  squatter.linger = 0;
  chooseRoutingId(squatter, routingIdOf(12_345));
  squatter.connect(`tcp://${network.address}`);
  await until(() => network.events.some((event) => event.kind === "cut"));
  const reason = "a forged routing id";
  expect(network.events.find((event) => event.kind === "cut")).toMatchObject({ id: identity.id, reason });
  await expect(network.dial({ identity })).rejects.toMatchObject({ data: { reason: "unknown-key" } });
  squatter.close();
  // Nobody else has noticed.
  await honest.request({ type: MessageType.OK });
  await (await network.dial()).request({ type: MessageType.OK });
  await network.close();
});

test("the admissions know assigned routing ids from chosen ones", () => {
  const admission: Admission = { curveKey: new Uint8Array(32), entry: undefined, address: "" };
  const admissions = new Admissions();
  const come = (routingId: Uint8Array, isExpected = true): string => {
    admissions.begin({ address: "" });
    if (isExpected) admissions.expect(admission);
    const { kind } = admissions.appeared(routingId);
    expect(admissions.candidate === undefined).toBe(isExpected);
    admissions.end();
    return kind;
  };
  expect(come(routingIdOf(0xffff_fffe))).toBe("admitted");
  expect(come(routingIdOf(0xffff_ffff))).toBe("admitted");
  expect(come(routingIdOf(0))).toBe("admitted");
  expect(come(routingIdOf(0))).toBe("forged");
  expect(come(routingIdOf(2))).toBe("forged");
  expect(come(Buffer.from("name"))).toBe("named");
  expect(come(Uint8Array.of(0, 0, 0, 0, 1, 0))).toBe("named");
  expect(come(routingIdOf(1), false)).toBe("unexpected");
  expect(come(routingIdOf(2))).toBe("admitted");
  for (const connection of [0, 1, 0x8000_0000, 0xffff_ffff]) {
    expect(connectionOf(routingIdOf(connection))).toBe(connection);
  }
});
