/**
 * A process with a port, and sockets of ZeroMQ beside it, that sends a file's bytes when it is told to, over one or the other.
 * It takes the file's path and a hub's and a client's secret, as digits.
 */
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { Dealer } from "zeromq";
import type { BulkChannel } from "../../nodes/wire/bulk/dialing.ts";
import { AllowList } from "../../nodes/wire/trust/allow-list.ts";
import { Identity, z85Encode } from "../../nodes/wire/trust/keys.ts";
import { WireServer } from "../../nodes/wire/zeromq/server.ts";

/** What it is told, and what it says. */
export type ToSender =
  | { readonly kind: "bulk"; readonly bodyBytes: number }
  | {
      readonly kind: "zeromq";
      readonly endpoint: string;
      readonly isCurve: boolean;
      readonly frameBytes: number;
    };
export interface Sent {
  readonly cpuSeconds: number;
}

const [path = "", hubSecret = "", clientSecret = ""] = process.argv.slice(2);
const hub = Identity.fromSecret(Buffer.from(hubSecret, "hex"));
const client = Identity.fromSecret(Buffer.from(clientSecret, "hex"));
const bytes = statSync(path).size;

/** Resolves when the last of it has left. */
async function sendBulk(channel: BulkChannel, bodyBytes: number): Promise<void> {
  let last: Promise<void> | undefined;
  for (let at = 0; at < bytes; at += bodyBytes) {
    const body = {
      files: [path],
      file: Uint32Array.of(0),
      offset: Float64Array.of(at),
      bytes: Uint32Array.of(Math.min(bodyBytes, bytes - at)),
    };
    last = channel.send({ type: 1, body, isVerified: true });
    await channel.room();
  }
  await last;
}

/** The same bytes again and again, for it is about the way and not about reading files. */
async function sendZeromq({ endpoint, isCurve, frameBytes }: ToSender & { kind: "zeromq" }): Promise<void> {
  const memory = Buffer.alloc(frameBytes);
  const file = openSync(path, "r");
  readSync(file, memory);
  closeSync(file);
  const keys = {
    curveServerKey: z85Encode(hub.curveKey),
    curvePublicKey: z85Encode(client.curveKey),
    curveSecretKey: client.curveSecretZ85(),
  };
  const socket = new Dealer(isCurve ? keys : {});
  socket.connect(endpoint);
  for (let at = 0; at < bytes; at += frameBytes) await socket.send(memory);
  // It goes when the last of it was taken.
  await socket.receive();
  socket.close();
}

let channel: BulkChannel | undefined;
const allowList = new AllowList();
const { signingKey, curveKey } = client;
allowList.add({ signingKey, curveKey, role: "client", label: "receiver" });
const server = new WireServer({
  identity: hub,
  allowList,
  role: "hub",
  label: "sender",
  bulk: { allowsClear: true, onChannel: (opened) => (channel = opened) },
  onLink: () => undefined,
});
await server.bind("127.0.0.1", 0);
process.on("message", (message: ToSender) => {
  const before = process.cpuUsage();
  const sent = message.kind === "bulk" ? sendBulk(channel!, message.bodyBytes) : sendZeromq(message);
  void sent.then(() => {
    const { user, system } = process.cpuUsage(before);
    process.send!({ cpuSeconds: (user + system) / 1e6 } satisfies Sent);
  });
});
process.on("disconnect", () => void server.close());
process.send!(server.address);
