/** A store whose directory is deleted underneath whoever writes to it acknowledges nothing any more. */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { connect, openLocal } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";
import { noise } from "./inputs.ts";

const BYTES = 300_000;

async function expectNothingAcknowledged(pfs: PacketFS, directory: string, says: RegExp): Promise<void> {
  await pfs.put(noise(BYTES, 1), { name: "before" });
  await rm(directory, { recursive: true });
  for (const seed of [2, 3]) {
    const put = pfs.put(noise(BYTES, seed), { name: "after" });
    await expect(put).rejects.toMatchObject({ code: expect.stringMatching(says) });
  }
}

it("a directory's", async () => {
  const directory = join(await temporaryDirectory(), "store");
  await using pfs = await openLocal(directory);
  await expectNothingAcknowledged(pfs, directory, /^PFS_STORE_/);
});

it("a hub's", async () => {
  const store = join(await temporaryDirectory(), "hub");
  const hub = await startHub({ store });
  await using pfs = await connect(hub.clientToken);
  // The tokens were there too: whoever has none that stands on the hub's disk is out.
  await expectNothingAcknowledged(pfs, store, /^PFS_(STORE_.*|NODE_LOST|PEER_REFUSED)$/);
});
