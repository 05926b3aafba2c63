/** One side of a link in a process of its own, for tests that kill or stop it. Talks with its parent over IPC. */
import { randomBytes } from "node:crypto";
import { MessageType } from "../../../packets/envelope.ts";
import { Admissions, connectionOf } from "../../../nodes/wire/zeromq/admissions.ts";
import { Authenticator } from "../../../nodes/wire/zeromq/authenticator.ts";
import { ClientHandshake } from "../../../nodes/wire/handshake/client-handshake.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";
import type { BulkChannel } from "../../../nodes/wire/bulk/dialing.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import {
  randomizeRoutingIds,
  createContext,
  createDealer,
  createRouter,
} from "../../../nodes/wire/zeromq/sockets.ts";
import { WireServer } from "../../../nodes/wire/zeromq/server.ts";

const { OK, WANT, FILE_REQUEST, FILE_DATA } = MessageType;
/** Fixed, so that both processes know all keys. */
export const HUB_SECRET: Uint8Array = new Uint8Array(32).fill(1);
export const CLIENT_SECRET: Uint8Array = new Uint8Array(32).fill(2);

/** What a bomb sends: more than a machine should take in one message. */
const BOMB_BYTES: number = 4 * 1024 * 1024 * 1024;
const BOMB_PARTS = 4096;

/** Serves, and with `turnMs` computes all the time, so that its event loop never turns faster. */
async function serve(port: number, turnMs = 0): Promise<void> {
  const allowList = new AllowList();
  const { signingKey, curveKey } = Identity.fromSecret(CLIENT_SECRET);
  allowList.add({ signingKey, curveKey, role: "client", label: "client" });
  const server = new WireServer({
    identity: Identity.fromSecret(HUB_SECRET),
    allowList,
    role: "hub",
    label: "hub",
    bulk: { allowsClear: false, onChannel: (channel) => void pour(channel) },
    onLink: (link) =>
      link.onRequest(async ({ type, meta, chunks }, reply) => {
        if (type === WANT) return reply({ type: OK, meta: meta ?? chunks.byteLength });
        if (type !== FILE_REQUEST) return void process.send?.("asked");
        for (let part = 0; part < 64; part++) {
          reply({ type: FILE_DATA, priority: 2, chunks: new Uint8Array(1024 * 1024).fill(part) }, false);
          await reply.room();
        }
        reply({ type: OK });
      }),
  });
  await server.bind("127.0.0.1", port);
  process.send?.(server.address);
  if (turnMs > 0) setInterval(() => computeFor(turnMs), 1);
}

/** Sends without end. */
async function pour(channel: BulkChannel): Promise<void> {
  while (channel.ended === undefined) {
    await channel.room();
    channel.send({ type: 1, body: new Uint8Array(1024 * 1024) }).catch(() => undefined);
  }
}

function computeFor(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

async function ask(address: string): Promise<void> {
  const identity = Identity.fromSecret(CLIENT_SECRET);
  const link = await dial({
    address,
    server: Identity.fromSecret(HUB_SECRET),
    identity,
    role: "client",
    label: "child",
  });
  await link.request({ type: WANT }).catch(() => undefined);
  process.send?.("answered");
}

/** Says hello as it must, and then a message of very many parts, over each of its connections. The parts are the same bytes, so it costs this side nothing. */
async function bomb(address: string): Promise<void> {
  const identity = Identity.fromSecret(CLIENT_SECRET);
  const hub = Identity.fromSecret(HUB_SECRET);
  const socket = createDealer({ context: createContext(), identity, serverKey: hub.curveKey, ipv6: false });
  // It is cut off in the middle, and then kept out for longer than others would wait.
  socket.sendTimeout = -1;
  socket.connect(`tcp://${address}`);
  const self = { label: "bomb", features: [], executors: [] };
  const handshake = new ClientHandshake({
    address,
    server: hub,
    identity,
    role: "client",
    self,
    random: () => randomBytes(32),
  });
  await socket.send(handshake.hello());
  for (;;) {
    const step = handshake.receive(await socket.receive());
    if (step.kind === "failed") throw step.error;
    if (step.kind === "welcomed") break;
    await socket.send(step.parts);
  }
  process.send?.("in");
  const part = new Uint8Array(BOMB_BYTES / BOMB_PARTS);
  await socket.send(Array.from({ length: BOMB_PARTS }, () => part));
  for (;;) await socket.receive();
}

const kept: unknown[] = [];

/** The first routing id that a ROUTER of a fresh process assigns. */
async function firstRoutingId(): Promise<void> {
  const context = createContext();
  const identity = Identity.fromSecret(HUB_SECRET);
  const allowList = new AllowList();
  const authenticator = Authenticator.start({
    context,
    allowList,
    admissions: new Admissions(),
    connections: () => ({ ofKey: 0, all: 0 }),
    pauseOf: () => 0,
    onRefusal: () => undefined,
  });
  authenticator.admitOnly(identity.curveKey);
  const disconnected = Buffer.from("disconnected");
  const router = randomizeRoutingIds(context, () =>
    createRouter({ context, identity, disconnected, ipv6: false }),
  );
  router.bindSync("tcp://127.0.0.1:*");
  const dealer = createDealer({ context, identity, serverKey: identity.curveKey, ipv6: false });
  dealer.connect(router.lastEndpoint!);
  // A socket that nothing refers to is closed when garbage is collected, and then nobody would ever connect.
  kept.push(authenticator, dealer);
  for (;;) {
    const [routingId, first] = await router.receive();
    if (first!.byteLength > 0) continue;
    process.send?.(String(connectionOf(routingId!)));
    process.exit();
  }
}

const [mode, argument = "", more = ""] = process.argv.slice(2);
if (mode === "serve") await serve(Number(argument));
if (mode === "serve-busy") await serve(0, Number(argument));
if (mode === "bomb") await Promise.all(Array.from({ length: Number(more || 1) }, () => bomb(argument)));
if (mode === "ask") await ask(argument);
if (mode === "first-routing-id") await firstRoutingId();
