/** A process that receives a root into a file until it is killed. argv: what it needs, as JSON. */
import { open } from "node:fs/promises";
import { refFromHex } from "../../../packets/digest.ts";
import { PacketfsError } from "../../../packets/errors.ts";
import { ReceivedFile } from "../../../nodes/transfer/received-file.ts";
import { TransferChannel } from "../../../nodes/transfer/transfer-channel.ts";
import { Identity, keysFromJson } from "../../../nodes/wire/trust/keys.ts";
import type { KeysJson } from "../../../nodes/wire/trust/keys.ts";
import { dial } from "../../../nodes/wire/zeromq/dial.ts";

export interface Receiving {
  readonly address: string;
  readonly server: KeysJson;
  /** The secret of the identity that the server lists, and the root, as hexadecimal digits. */
  readonly secret: string;
  readonly root: string;
  readonly path: string;
}

const { address, server, secret, root, path } = JSON.parse(process.argv[2]!) as Receiving;
const link = await dial({
  address,
  server: keysFromJson(server),
  identity: Identity.fromSecret(Buffer.from(secret, "hex")),
  role: "client",
  label: "receiver",
  bulk: {},
});
const handle = await open(path, "r+");
const ref = refFromHex(root)!;
const file = await ReceivedFile.open({ root: ref, handle, path, journal: `${path}.journal` });
const client = new TransferChannel(await link.bulk!.channel(), {
  isDialer: true,
  open: () => Promise.reject(new PacketfsError("PFS_NOT_FOUND", "nothing is sent from here")),
});
await client.receive({ root: ref, store: file });
await file.close();
await handle.close();
await link.close();
