import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startHub } from "../../nodes/hub/hub.ts";
import { joinHub } from "../../nodes/node.ts";
import { connect, openLocal } from "../../sdk/index.ts";
import { describePacketFS } from "../suites/packetfs.ts";
import type { PacketFSHarness } from "../suites/packetfs.ts";

async function temporary(): Promise<{ readonly directory: string; readonly remove: () => Promise<void> }> {
  const directory = await mkdtemp(join(tmpdir(), "pfs-face-"));
  return { directory, remove: () => rm(directory, { recursive: true, force: true }) };
}

describePacketFS("a directory", async () => {
  const { directory, remove } = await temporary();
  const pfs = await openLocal(join(directory, "store"), { workers: 2 });
  return { pfs, close: () => pfs.close().then(remove) };
});

async function network(workers: number, nodes: number): Promise<PacketFSHarness> {
  const { directory, remove } = await temporary();
  const listen = { host: "127.0.0.1", port: 0 };
  const hub = await startHub({ store: join(directory, "hub"), listen, workers, label: "hub" });
  const joined: AsyncDisposable[] = [];
  for (let index = 0; index < nodes; index++) {
    const store = join(directory, `node-${index}`);
    joined.push(await joinHub({ store, token: hub.joinToken, label: `node-${index}`, workers: 1 }));
  }
  const pfs = await connect(hub.clientToken);
  const close = async (): Promise<void> => {
    await pfs.close();
    for (const node of joined) await node[Symbol.asyncDispose]();
    await hub.close();
    await remove();
  };
  return { pfs, close };
}

describePacketFS("a hub that works itself", () => network(2, 0));
describePacketFS("a hub with two nodes", () => network(0, 2));
