/** What PacketFS writes for itself is for its user alone, whatever the user lets others read of new files. */
import { mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { startHub } from "../../nodes/hub/hub.ts";
import { openLocal } from "../../sdk/index.ts";

/** What others may do with it or anything below it, but for names of what is not theirs to look into anyway. */
function openToOthers(folder: string): string[] {
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => join(folder, name));
  return [folder, ...paths].filter((path) => (statSync(path).mode & 0o077) !== 0);
}

it.runIf(process.platform !== "win32")(
  "a store, its index and the keys of a hub are closed to others",
  async () => {
    const above = mkdtempSync(join(tmpdir(), "packetfs-private-"));
    const umask = process.umask(0);
    try {
      const directory = join(above, "state", "store");
      {
        await using pfs = await openLocal(directory);
        await pfs.put(Buffer.from("a file"), { name: "file" });
        expect(openToOthers(join(above, "state"))).toEqual([]);
      }
      expect(openToOthers(directory)).toEqual([]);
      rmSync(join(directory, "index.sqlite"), { force: true });
      await using _hub = await startHub({
        store: directory,
        listen: { host: "127.0.0.1", port: 0 },
        workers: 0,
      });
      expect(openToOthers(directory)).toEqual([]);
    } finally {
      process.umask(umask);
      rmSync(above, { recursive: true, force: true });
    }
  },
);
