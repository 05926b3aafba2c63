/** What is put at a node is named there and at the hub: neither keeps what the other gave up. Real processes. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { HubTokens } from "../../nodes/hub/tokens.ts";
import { connect, openLocal } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { joinNode, startHub } from "./daemon.ts";
import { bytesOf } from "./inputs.ts";

const LABEL = "keeper";

async function namesAt(store: string): Promise<Record<string, string>> {
  await using local = await openLocal(store);
  const names: Record<string, string> = {};
  for await (const { name } of local.list()) names[name] = (await bytesOf(local, name)).toString();
  return names;
}

async function put(pfs: PacketFS, name: string, text: string): Promise<void> {
  await pfs.put(Buffer.from(text), { name });
}

it("a name that is removed is removed at a node that has a version of it, and nothing else", async () => {
  const store = join(await temporaryDirectory(), LABEL);
  {
    await using owner = await openLocal(store);
    await put(owner, "own", "what the machine had before");
  }
  const hub = await startHub();
  const node = await joinNode(hub.joinToken, LABEL, { store });
  await using near = await connect(hub.clientToken, { node: LABEL });
  await using client = await connect(hub.clientToken);
  for (const name of ["older", "latest", "kept"]) await put(near, name, `${name} at the node`);
  for (const name of ["older", "own"]) await put(client, name, `${name} at the hub`);
  for (const name of ["older", "latest", "own"]) await client.remove(name);
  expect(await node.end("SIGTERM")).toMatchObject({ status: 0 });
  expect(await namesAt(store)).toEqual({ kept: "kept at the node", own: "what the machine had before" });
});

it("a put at a node that the hub does not let in any more leaves the node what it had", async () => {
  const stores = {
    hub: join(await temporaryDirectory(), "hub"),
    node: join(await temporaryDirectory(), LABEL),
  };
  const hub = await startHub({ store: stores.hub });
  const tokens = new HubTokens(stores.hub);
  const node = await joinNode(await tokens.add({ name: "brief", role: "node" }), LABEL, {
    store: stores.node,
  });
  const near = await connect(hub.clientToken, { node: LABEL, reconnectMs: 500 });
  await put(near, "file", "first");
  await tokens.revoke("brief");
  await hub.says(/is gone/);
  for (const name of ["file", "other"]) {
    await expect(put(near, name, "second")).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });
  }
  await near.close();
  expect(await node.end("SIGTERM")).toMatchObject({ status: 0 });
  expect(await namesAt(stores.node)).toEqual({ file: "first" });
});
