/**
 * Keeps a second data centre equal to a first one: names, versions and directories. Run it from cron; what is there is not sent again.
 *
 *   node examples/files/replicate.ts FROM TO MIRROR
 *
 * FROM and TO are client tokens of two hubs, or directories of stores. MIRROR is a directory here: it holds the latest version of each
 * name, so that of the next one only what changed comes from the first data centre, and only that goes to the second.
 */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { connect, hasCode, openLocal } from "packetfs";
import type { FileInfo, PacketFS } from "packetfs";

const [from, to, mirror] = process.argv.slice(2);
if (from === undefined || to === undefined || mirror === undefined)
  throw new Error("usage: replicate.ts FROM TO MIRROR");

const open = (place: string): Promise<PacketFS> =>
  place.startsWith("pfs1.")
    ? connect(place, { cache: { directory: join(mirror, "cache") } })
    : openLocal(place);

await mkdir(mirror, { recursive: true });
await using source = await open(from);
await using target = await open(to);
let copied = 0;
for await (const { name } of source.list()) {
  const versions = (await source.history(name)).toReversed();
  const there = await versionsOf(target, name);
  const isThere = new Set(there.map(({ root }) => root));
  for (const [index, version] of versions.entries()) {
    // The latest has to be the latest there, too.
    const isLatest = index === versions.length - 1;
    if (isLatest ? there[0]?.root === version.root : isThere.has(version.root)) continue;
    await copy(version);
    copied++;
  }
}
console.log(`${copied} versions copied`);

async function versionsOf(pfs: PacketFS, name: string): Promise<FileInfo[]> {
  try {
    return await pfs.history(name);
  } catch (error) {
    if (hasCode(error, "PFS_NOT_FOUND")) return [];
    throw error;
  }
}

async function copy({ name, root, version }: FileInfo): Promise<void> {
  const path = join(mirror!, encodeURIComponent(name));
  const [kind] = await source.kinds([root]);
  if (kind === "tree") {
    const tree = await source.openTree(`${name}@${version}`);
    await tree.write(path, { sync: true, deletes: true, keepsPrivileges: true });
  } else await source.getFile(root, path);
  const stored =
    kind === "tree" ? await target.putTree(path, { name }) : await target.put({ path }, { name });
  if (stored.root !== root) throw new Error(`${name}@${version} arrived as something else`);
  console.log(`${name}@${version}: ${stored.newBytes} of ${stored.length} bytes were new there`);
}
