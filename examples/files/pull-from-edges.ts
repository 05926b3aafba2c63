/**
 * Collects what edge nodes stored: cameras, shops, ships. Each edge has joined the hub and stores its files at itself, under names that
 * begin with its label (`pfs put day.csv --name shop-1/day.csv --node shop-1`); here all of them are fetched, from all edges at once,
 * and of those that are here already what changed.
 *
 *   node examples/files/pull-from-edges.ts TOKEN DIRECTORY
 *
 * An edge that is away is reported, and fetched from the next time; a file whose connection broke goes on where it was.
 */
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { connect, hasCode } from "packetfs";
import type { NodeInfo, PacketFS } from "packetfs";

const [token, directory] = process.argv.slice(2);
if (token === undefined || directory === undefined)
  throw new Error("usage: pull-from-edges.ts TOKEN DIRECTORY");

await using hub = await connect(token);
const edges = (await hub.nodes()).filter(({ role }) => role === "node");
const results = await Promise.allSettled(edges.map(pull));
for (const [index, result] of results.entries()) {
  const { label } = edges[index]!;
  if (result.status === "fulfilled") console.log(`${label}: ${result.value}`);
  else console.log(`${label}: ${String(result.reason)}`);
}
if (results.some(({ status }) => status === "rejected")) process.exitCode = 1;

async function pull(edge: NodeInfo): Promise<string> {
  await using data = await reach(edge);
  let files = 0;
  let bytes = 0;
  for await (const { name, length } of hub.list({ prefix: `${edge.label}/` })) {
    const path = join(directory!, ...name.split("/").map(encodeURIComponent));
    await mkdir(dirname(path), { recursive: true });
    await data.getFile(name, path);
    files++;
    bytes += length;
  }
  return `${files} files, ${bytes} bytes`;
}

/** The edge itself, or, where it has no port that others reach, the hub, which asks it. */
async function reach({ label, address }: NodeInfo): Promise<PacketFS> {
  if (address !== undefined) {
    try {
      return await connect(token!, { node: label, reconnectMs: 0 });
    } catch (error) {
      if (!hasCode(error, "PFS_PEER_UNREACHABLE")) throw error;
    }
  }
  return await connect(token!);
}
