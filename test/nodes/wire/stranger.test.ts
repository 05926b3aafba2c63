/** Those who are not let in, and how they learn why. */
import { connect } from "node:net";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Dealer } from "zeromq";
import { MessageType } from "../../../packets/envelope.ts";
import { REFUSAL_REPORTS_PER_SECOND } from "../../../nodes/limits.ts";
import { parseAddress } from "../../../nodes/wire/trust/address.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import { describeWireEvent } from "../../../nodes/wire/zeromq/server.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { Link } from "../../../nodes/wire/link.ts";
import { formatToken, parseToken } from "../../../nodes/wire/trust/token.ts";
import { until } from "../../suites/until.ts";
import { list, openNetwork } from "./network.ts";
import type { Network } from "./network.ts";
import { RawPeer, rawPeer } from "./raw-peer.ts";

let network: Network;
let honest: Link;

beforeAll(async () => {
  network = await openNetwork({
    onLink: (link) => link.onRequest((_, reply) => reply({ type: MessageType.OK })),
  });
  honest = await network.dial();
});

afterAll(async () => {
  await honest.request({ type: MessageType.WANT });
  await network.close();
});

test("a stranger with a key of its own is refused, and reported", async () => {
  const stranger = Identity.create();
  const refused = { code: "PFS_PEER_REFUSED", data: { reason: "unknown-key", address: network.address } };
  await expect(network.dial({ identity: stranger, unlisted: true })).rejects.toMatchObject(refused);
  const curveKey = Buffer.from(stranger.curveKey).toString("hex");
  expect(network.events).toContainEqual({
    kind: "turned-away",
    reason: "unknown-key",
    curveKey,
    id: "",
    address: "127.0.0.1",
    refusals: 1,
  });
});

test("many strangers make a few reports", async () => {
  const before = network.events.length;
  const begun = performance.now();
  const dials = Array.from({ length: 200 }, () => network.dial({ unlisted: true }).catch(() => undefined));
  await Promise.all(dials);
  const reports = network.events.slice(before).filter((event) => event.kind === "turned-away");
  const seconds = (performance.now() - begun) / 1000;
  expect(reports.length).toBeLessThanOrEqual(REFUSAL_REPORTS_PER_SECOND * (seconds + 1));
  expect(reports.length).toBeGreaterThan(0);
});

test("a server with another CURVE key than the token's is not spoken with", async () => {
  const identity = Identity.create();
  const server = { curveKey: Identity.create().curveKey, signingKey: network.hub.signingKey };
  const refused = { code: "PFS_PEER_REFUSED", data: { reason: "wrong-server" } };
  await expect(network.dial({ identity, server })).rejects.toMatchObject(refused);
});

test("a server with another signing key than the token's is not believed", async () => {
  const server = { curveKey: network.hub.curveKey, signingKey: Identity.create().signingKey };
  // The server refuses first: the HELLO was signed for somebody else.
  const refused = { code: "PFS_PEER_REFUSED", data: { reason: "bad-signature" } };
  await expect(network.dial({ server })).rejects.toMatchObject(refused);
});

test("a token of another hub is refused by this one", async () => {
  const secret = Identity.create().exportSecret();
  const { curveKey, signingKey } = network.hub;
  const token = parseToken(
    formatToken({ kind: "client", curveKey, signingKey, secret, address: network.address }),
    "client",
  );
  const identity = Identity.fromSecret(token.secret);
  const options = { address: token.address, server: token, identity, role: "client", label: "" } as const;
  await expect(dial(options)).rejects.toMatchObject({ code: "PFS_PEER_REFUSED" });
  list(network.allowList, identity, "client");
  const link = await dial(options);
  expect(link.peer).toMatchObject({
    id: network.hub.id,
    role: "hub",
    label: "hub",
    address: network.address,
  });
  await link.close();
});

test("nobody there, nobody known, and no address", async () => {
  const dialed = { server: network.hub, identity: Identity.create(), role: "client", label: "" } as const;
  const nobody = dial({ ...dialed, address: "127.0.0.1:1", timeoutMs: 400 });
  await expect(nobody).rejects.toMatchObject({
    code: "PFS_PEER_UNREACHABLE",
    message: expect.stringContaining("127.0.0.1:1"),
  });
  await expect(dial({ ...dialed, address: "no.such.host.invalid:1" })).rejects.toMatchObject({
    code: "PFS_PEER_UNREACHABLE",
  });
  await expect(dial({ ...dialed, address: "nonsense" })).rejects.toMatchObject({
    code: "PFS_ADDRESS_INVALID",
  });
  const controller = new AbortController();
  const aborted = dial({ ...dialed, address: "127.0.0.1:1", signal: controller.signal });
  const reason = new Error("the dialer's own reason");
  controller.abort(reason);
  await expect(aborted).rejects.toBe(reason);
});

test.each(["node", "hub"] as const)("a client cannot become a %s", async (role) => {
  const identity = Identity.create();
  list(network.allowList, identity, "client");
  const refused = { code: "PFS_PEER_REFUSED", data: { reason: "wrong-role" } };
  await expect(network.dial({ identity, role })).rejects.toMatchObject(refused);
  const joining = Identity.create();
  await expect(network.dial({ identity, role: "node", joining })).rejects.toMatchObject(refused);
  expect(network.allowList.byId(joining.id)).toBeUndefined();
});

test("a join token joins, and does nothing else", async () => {
  const joinToken = Identity.create();
  list(network.allowList, joinToken, "invite");
  const refused = { code: "PFS_PEER_REFUSED", data: { reason: "wrong-role" } };
  for (const role of ["client", "node", "hub", "invite"] as const) {
    await expect(network.dial({ identity: joinToken, role })).rejects.toMatchObject(refused);
  }
  const joining = Identity.create();
  for (const role of ["client", "hub"] as const) {
    await expect(network.dial({ identity: joinToken, role, joining })).rejects.toMatchObject(refused);
  }
});

test("a machine that was revoked is told so whatever token it comes by, and people are told which it is, once", async () => {
  const joinToken = Identity.create();
  list(network.allowList, joinToken, "invite");
  const joining = Identity.create();
  const link = await network.dial({ identity: joinToken, role: "node", joining, label: "attic" });
  const before = network.events.length;
  network.allowList.revoke(joining.id);
  const message = "this machine was revoked at the hub";
  expect(await link.closed).toMatchObject({ cause: { code: "PFS_PEER_REFUSED", message } });
  for (let times = 0; times < 3; times++) {
    const again = network.dial({ identity: joinToken, role: "node", joining, label: "attic" });
    await expect(again).rejects.toMatchObject({
      code: "PFS_PEER_REFUSED",
      message: expect.stringContaining(message),
      data: { reason: "revoked" },
    });
  }
  const refusals = network.events.slice(before).filter(({ kind }) => kind === "refused");
  expect(refusals).toMatchObject([{ id: joining.id, label: "attic", reason: message }]);
  expect(describeWireEvent(refusals[0]!)).toMatch(
    /^refused attic \([0-9a-f]{8}\) at 127\.0\.0\.1: this machine was revoked/,
  );
});

test("one identity cannot use the connection of another", async () => {
  const [own, other] = [Identity.create(), Identity.create()];
  list(network.allowList, own, "client");
  list(network.allowList, other, "client");
  // Let in as itself, it says hello as the other, rightly signed.
  const impostor = rawPeer({ ...network, socket: () => network.socket(own) }, other);
  await expect(impostor).rejects.toMatchObject({
    code: "PFS_PEER_REFUSED",
    data: { reason: "unknown-identity" },
  });
});

test("a signed HELLO that was recorded is of no use on another connection", async () => {
  const identity = Identity.create();
  const first = await rawPeer(network, identity);
  const before = network.events.length;
  const second = new RawPeer(network.socket(identity));
  await second.send(first.said[0]!);
  await second.hear();
  await second.send(first.said[1]!);
  expect(await second.hearError()).toMatchObject({ code: "PFS_HELLO_REPLAYED" });
  const third = new RawPeer(network.socket(identity));
  for (let times = 0; times < 100; times++) await third.send(first.said[1]!);
  expect(await third.hearError()).toMatchObject({ code: "PFS_HELLO_REPLAYED" });
  const event = { kind: "replayed", id: identity.id, address: "127.0.0.1" };
  expect(network.events.slice(before).filter(({ kind }) => kind === "replayed")).toEqual([event, event]);
  // The session that it was recorded from is not harmed.
  await first.say({ type: MessageType.WANT }, { request: 1 });
  expect(await first.hear()).toMatchObject({ type: MessageType.OK });
});

test("a connection that begins with something else than HELLO is told to leave", async () => {
  const identity = Identity.create();
  list(network.allowList, identity, "client");
  const peer = new RawPeer(network.socket(identity));
  await peer.send([new Uint8Array(1)]);
  expect(await peer.hearError()).toMatchObject({
    code: "PFS_PEER_REFUSED",
    data: { reason: "malformed-hello" },
  });
});

test("connections without encryption, or with a password, are not let in", async () => {
  for (const options of [{}, { plainUsername: "admin", plainPassword: "admin" }]) {
    const dealer = new Dealer({
      linger: 0,
      receiveTimeout: 300,
      immediate: true,
      sendTimeout: 300,
      ...options,
    });
    dealer.connect(`tcp://${network.address}`);
    await expect(dealer.send("let me in")).rejects.toMatchObject({ code: "EAGAIN" });
    dealer.close();
  }
  await honest.request({ type: MessageType.WANT });
});

test("garbage over plain TCP does no harm", async () => {
  const { host, port } = parseAddress(network.address);
  const before = process.memoryUsage.rss();
  const greeting = Buffer.alloc(64);
  greeting[0] = 0xff;
  greeting[9] = 0x7f;
  greeting[10] = 3;
  greeting.write("CURVE", 12);
  const kinds: Buffer[] = [
    Buffer.alloc(100_000, 0xff),
    Buffer.alloc(100_000),
    Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    Buffer.concat([greeting, Buffer.alloc(100_000, 0x55)]),
    Buffer.concat([greeting, Buffer.from([6, 255, 255, 255, 255, 255, 255, 255, 255]), Buffer.alloc(50_000)]),
    Buffer.concat([greeting, Buffer.from([4, 200]), Buffer.from("\x05HELLO"), Buffer.alloc(194)]),
    greeting.subarray(0, 11),
    Buffer.alloc(0),
  ];
  const sockets: Socket[] = [];
  for (let index = 0; index < 400; index++) {
    const socket = connect(port, host);
    socket.on("error", () => undefined);
    socket.write(kinds[index % kinds.length]!);
    if (index % 3 === 0) socket.end();
    sockets.push(socket);
  }
  await until(() => sockets.every((socket) => !socket.connecting));
  await honest.request({ type: MessageType.WANT });
  const another = await network.dial();
  await another.close();
  for (const socket of sockets) socket.destroy();
  expect(process.memoryUsage.rss() - before).toBeLessThan(64 * 1024 * 1024);
});
