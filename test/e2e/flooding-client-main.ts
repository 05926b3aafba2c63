/**
 * Sends the hub of a client token a message of so many bytes, in small parts, as nobody's honest client does. argv: token,
 * bytes.
 */
import { parseToken } from "../../nodes/wire/trust/token.ts";
import { Identity } from "../../nodes/wire/trust/keys.ts";
import { createContext, createDealer } from "../../nodes/wire/zeromq/sockets.ts";

const PART_BYTES = 256 * 1024;
const [token = "", bytes = ""] = process.argv.slice(2);

const { address, curveKey, secret } = parseToken(token, "client");
const dealer = createDealer({
  context: createContext(),
  identity: Identity.fromSecret(secret),
  serverKey: curveKey,
  ipv6: false,
});
dealer.sendTimeout = -1;
dealer.connect(`tcp://${address}`);
const part = new Uint8Array(PART_BYTES);
await dealer.send(Array.from({ length: Number(bytes) / PART_BYTES }, () => part));
console.log("sent");
// Whoever leaves takes along what is not sent yet.
for (;;) await dealer.receive();
