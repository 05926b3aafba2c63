/** The handshake without sockets: what each side believes, and what it does not. */
import { expect, test } from "vitest";
import { MessageType } from "../../../packets/envelope.ts";
import { ClientHandshake } from "../../../nodes/wire/handshake/client-handshake.ts";
import type { ClientStep } from "../../../nodes/wire/handshake/client-handshake.ts";
import { fromParts, outFrame, toParts } from "../../../nodes/wire/session/message.ts";
import type { SignedHello, Welcome } from "../../../nodes/wire/handshake/messages.ts";
import { ownerOf, signWelcome } from "../../../nodes/wire/handshake/messages.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import type { ExecutorOffer, OutMessage } from "../../../nodes/wire/link.ts";
import { receiveHello } from "../../../nodes/wire/handshake/server-handshake.ts";
import type { PendingConnection, ServerStep } from "../../../nodes/wire/handshake/server-handshake.ts";
import { AllowList } from "../../../nodes/wire/trust/allow-list.ts";
import { Random } from "../../packets/seed.ts";
import { list } from "./network.ts";

const random = new Random(1);
const nonce = (): Uint8Array => random.fill(new Uint8Array(32));
const hub = Identity.create();
const client = Identity.create();
const allowList = new AllowList();
list(allowList, client, "client");
const options = { server: hub, allowList, random: nonce };

const GPU: ExecutorOffer = {
  name: "gpu0",
  capacity: { kernel: 2 },
  edition: "e1-nvidia",
  accelerator: {
    label: "NVIDIA H200",
    engineClass: "nvidia-0a1b",
    isSoftware: false,
    memoryBytes: 2 ** 37,
    calibration: { uploadGBps: 9, downloadGBps: 7, launchMs: 0.038, gops: 4600 },
  },
};

function dialing(
  server: { curveKey: Uint8Array; signingKey: Uint8Array },
  identity = client,
  executors: readonly ExecutorOffer[] = [{ name: "cpu", capacity: { js: 4 }, edition: "e1" }],
): ClientHandshake {
  const self = {
    label: "me",
    features: ["a", "b"],
    executors,
    address: "me:1",
  };
  return new ClientHandshake({ address: "hub:1", server, identity, role: "client", self, random: nonce });
}

function connectionOf(identity: Identity): PendingConnection {
  const { curveKey } = identity;
  return {
    admission: { curveKey, entry: allowList.byId(identity.id), address: "10.0.0.1" },
    challenge: undefined,
  };
}

function partsOf(message: OutMessage): Uint8Array[] {
  return toParts(outFrame(message), 0, 0);
}

function metaOf(parts: readonly Uint8Array[]): unknown {
  const received = fromParts(parts);
  return received.kind === "message" ? received.message.meta : undefined;
}

/** Goes as far as the signed HELLO. */
function signedHello(handshake: ClientHandshake, connection: PendingConnection): SignedHello {
  const challenged = receiveHello(connection, handshake.hello(), options);
  if (challenged.kind !== "challenged") throw new Error(challenged.kind);
  const step = handshake.receive(partsOf(challenged.answer));
  if (step.kind !== "say") throw new Error(step.kind);
  return metaOf(step.parts) as SignedHello;
}

function decide(connection: PendingConnection, hello: unknown): ServerStep {
  return receiveHello(connection, partsOf({ type: MessageType.HELLO, meta: hello }), options);
}

function reasonOf(step: ServerStep): unknown {
  return step.kind === "refused" ? step.error.data["reason"] : step.kind;
}

test("a HELLO that is signed as it must be is accepted, once", () => {
  const connection = connectionOf(client);
  const hello = signedHello(dialing(hub), connection);
  const step = decide(connection, hello);
  expect(step).toMatchObject({ kind: "accepted", version: 1, entry: { id: client.id } });
  expect(reasonOf(decide(connection, hello))).toBe("replayed-hello");
  expect(reasonOf(decide(connectionOf(client), hello))).toBe("replayed-hello");
});

test("every field of a HELLO is under its signature", () => {
  const changes: Partial<Record<keyof SignedHello, unknown>> = {
    versions: [1, 2],
    features: ["a", "b", "c"],
    executors: [{ name: "cpu", capacity: { js: 4 }, edition: "e2" }],
    label: "somebody",
    address: "other:1",
    nonce: nonce(),
    signature: new Uint8Array(64).fill(1),
  };
  for (const [field, value] of Object.entries(changes)) {
    const connection = connectionOf(client);
    const hello = signedHello(dialing(hub), connection);
    expect([field, reasonOf(decide(connection, { ...hello, [field]: value }))]).toEqual([
      field,
      "bad-signature",
    ]);
  }
  for (const other of [{ role: "node" }, { challenge: nonce() }, { signingKey: hub.signingKey }]) {
    const connection = connectionOf(client);
    const hello = signedHello(dialing(hub), connection);
    expect(decide(connection, { ...hello, ...other }).kind).toBe("refused");
  }
});

test("what a HELLO says of a GPU comes as it was said, and is under its signature", () => {
  const connection = connectionOf(client);
  const hello = signedHello(dialing(hub, client, [GPU]), connection);
  expect(decide(connection, hello)).toMatchObject({ kind: "accepted", hello: { executors: [GPU] } });
  const { accelerator } = GPU;
  const changes: ExecutorOffer[] = [
    { ...GPU, capacity: { kernel: 3 } },
    { ...GPU, capacity: { js: 2 } },
    { name: GPU.name, capacity: GPU.capacity, edition: GPU.edition },
    ...[
      { label: "NVIDIA H100" },
      { engineClass: "nvidia-0a1c" },
      { isSoftware: true },
      { memoryBytes: 2 ** 38 },
      { calibration: { ...accelerator!.calibration, gops: 46_000 } },
    ].map((change) => ({ ...GPU, accelerator: { ...accelerator!, ...change } })),
  ];
  for (const offer of changes) {
    const other = connectionOf(client);
    const signed = signedHello(dialing(hub, client, [GPU]), other);
    expect([offer, reasonOf(decide(other, { ...signed, executors: [offer] }))]).toEqual([
      offer,
      "bad-signature",
    ]);
  }
  const wrong = [
    { engineClass: "n/v" },
    { engineClass: "n".repeat(28) },
    { memoryBytes: -1 },
    { calibration: {} },
    // What by it a job takes for ever, or no time.
    { calibration: { ...accelerator!.calibration, gops: 0 } },
    { calibration: { ...accelerator!.calibration, uploadGBps: 5e-324 } },
    { calibration: { ...accelerator!.calibration, launchMs: Number.MAX_VALUE } },
  ];
  for (const change of wrong) {
    const executors = [{ ...GPU, accelerator: { ...accelerator!, ...change } }];
    const bad = { ...(metaOf(dialing(hub).hello()) as object), executors };
    expect(reasonOf(decide(connectionOf(client), bad))).toBe("malformed-hello");
  }
});

test("a HELLO that was signed for another server is of no use here", () => {
  const relay = Identity.create();
  const connection = connectionOf(client);
  // The relay has the client dial it, and passes everything on.
  const hello = signedHello(dialing(relay), connection);
  expect(reasonOf(decide(connection, hello))).toBe("bad-signature");
});

test("a HELLO in no version that is spoken here is refused with that reason", () => {
  const hello = metaOf(dialing(hub).hello()) as object;
  expect(reasonOf(decide(connectionOf(client), { ...hello, versions: [2, 3] }))).toBe("no-common-version");
});

test("what is no HELLO is refused", () => {
  const bad = [
    null,
    {},
    { versions: [1] },
    { ...(metaOf(dialing(hub).hello()) as object), nonce: new Uint8Array(31) },
  ];
  for (const meta of bad) expect(reasonOf(decide(connectionOf(client), meta))).toBe("malformed-hello");
  const padded = { ...(metaOf(dialing(hub).hello()) as object), padding: "x".repeat(20_000) };
  expect(reasonOf(decide(connectionOf(client), padded))).toBe("malformed-hello");
  const other = partsOf({ type: MessageType.EXEC });
  expect(reasonOf(receiveHello(connectionOf(client), other, options))).toBe("malformed-hello");
});

test("a WELCOME is believed from the holder of the expected key, for this very HELLO", () => {
  const answer = (change: (hello: SignedHello) => Welcome): ClientStep => {
    const handshake = dialing(hub);
    const welcome = change(signedHello(handshake, connectionOf(client)));
    return handshake.receive(partsOf({ type: MessageType.WELCOME, meta: welcome }));
  };
  const plain = { version: 1, features: [], role: "hub", label: "hub", you: client.id } as const;
  expect(answer((hello) => signWelcome(plain, hello, hub))).toMatchObject({
    kind: "welcomed",
    peer: { id: hub.id, role: "hub", label: "hub" },
  });
  const wrongServer = {
    kind: "failed",
    error: { code: "PFS_PEER_REFUSED", data: { reason: "wrong-server" } },
  };
  expect(answer((hello) => signWelcome(plain, hello, Identity.create()))).toMatchObject(wrongServer);
  expect(answer((hello) => signWelcome(plain, { ...hello, nonce: nonce() }, hub))).toMatchObject(wrongServer);
  expect(answer((hello) => ({ ...signWelcome(plain, hello, hub), role: "node" }))).toMatchObject(wrongServer);
  expect(answer((hello) => signWelcome({ ...plain, you: hub.id }, hello, hub))).toMatchObject(wrongServer);
  expect(answer((hello) => signWelcome({ ...plain, version: 9 }, hello, hub))).toMatchObject(wrongServer);
});

test("a server that talks nonsense is left", () => {
  const nonsense = [
    { type: MessageType.WELCOME, meta: {} },
    { type: MessageType.CHALLENGE, meta: { challenge: new Uint8Array(3) } },
    { type: MessageType.OK },
  ];
  for (const message of nonsense) {
    const handshake = dialing(hub);
    handshake.hello();
    expect(handshake.receive(partsOf(message))).toMatchObject({
      kind: "failed",
      error: { code: "PFS_PEER_REFUSED" },
    });
  }
  expect(dialing(hub).receive([new Uint8Array(5)]).kind).toBe("failed");
});

test("a joiner proves its own keys too, and cannot borrow another's", () => {
  const [joinToken, joining, victim] = [Identity.create(), Identity.create(), Identity.create()];
  list(allowList, joinToken, "invite");
  const self = { label: "new", features: [], executors: [] };
  const call = (own: Identity): ClientHandshake =>
    new ClientHandshake({
      address: "h:1",
      server: hub,
      identity: joinToken,
      role: "node",
      self,
      joining: own,
      random: nonce,
    });
  const connection = connectionOf(joinToken);
  const hello = signedHello(call(joining), connection);
  expect(ownerOf(hello).id).toBe(joining.id);
  expect(decide(connection, hello).kind).toBe("accepted");
  for (const borrowed of [{ signingKey: victim.signingKey }, { curveKey: victim.curveKey }]) {
    const other = connectionOf(joinToken);
    const made = signedHello(call(joining), other);
    expect(reasonOf(decide(other, { ...made, joiner: { ...made.joiner, ...borrowed } }))).toBe(
      "bad-signature",
    );
  }
  // Nor can it take over an identity that the allow list has in another role, or its CURVE key.
  list(allowList, victim, "client");
  const again = connectionOf(joinToken);
  expect(reasonOf(decide(again, signedHello(call(victim), again)))).toBe("wrong-role");
});
