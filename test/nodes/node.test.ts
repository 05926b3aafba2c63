/** A node that is told to end, whatever it is in the middle of. */
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { join } from "node:path";
import { expect, test } from "vitest";
import { startHub } from "../../nodes/hub/hub.ts";
import { joinHub } from "../../nodes/node.ts";
import { parseAddress } from "../../nodes/wire/trust/address.ts";
import { formatToken } from "../../nodes/wire/trust/token.ts";
import { Store } from "../../runtime/store/store.ts";
import { temporaryDirectory } from "../runtime/store/store-fixture.ts";

test.each(["close", "signal"])("a node ends in order while it dials a hub that is away (%s)", async (how) => {
  await using directory = await temporaryDirectory();
  const listen = { host: "127.0.0.1", port: 0 };
  const hub = await startHub({ store: join(directory.path, "hub"), listen, workers: 0, label: "hub" });
  const { port } = parseAddress(hub.address);
  const ending = new AbortController();
  const store = join(directory.path, "node");
  const { signal } = ending;
  const node = await joinHub({ store, token: hub.joinToken, label: "node", workers: 0, signal });
  await hub.close();
  // Whoever is there now takes connections and says nothing.
  const connections: Socket[] = [];
  const silent = createServer((socket) => connections.push(socket)).listen(port, listen.host);
  await once(silent, "connection");
  if (how === "close") await node.close();
  else ending.abort();
  await node.closed;
  await node.close();
  await (await Store.open(store)).close();
  for (const socket of connections) socket.destroy();
  silent.close();
});

test("a node that is told to end before its first dial has an answer ends for that reason", async () => {
  await using directory = await temporaryDirectory();
  const connections: Socket[] = [];
  const silent = createServer((socket) => connections.push(socket)).listen(0, "127.0.0.1");
  await once(silent, "listening");
  const { port } = silent.address() as AddressInfo;
  const token = formatToken({
    kind: "join",
    curveKey: new Uint8Array(32).fill(1),
    signingKey: new Uint8Array(32).fill(2),
    secret: new Uint8Array(32).fill(3),
    address: `127.0.0.1:${port}`,
  });
  const ending = new AbortController();
  const store = join(directory.path, "node");
  const joining = joinHub({ store, token, label: "node", workers: 0, signal: ending.signal });
  const ended = expect(joining).rejects.toThrow("enough");
  await once(silent, "connection");
  ending.abort(new Error("enough"));
  await ended;
  await (await Store.open(store)).close();
  for (const socket of connections) socket.destroy();
  silent.close();
});
