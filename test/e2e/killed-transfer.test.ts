/** A hub that is killed in the middle of a put, and again when it has acknowledged it. Real processes. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { HubClient } from "../../nodes/remote/hub-client.ts";
import { Store } from "../../runtime/store/store.ts";
import { put, randomBytes, readAll } from "../runtime/store/store-fixture.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";

const MIB = 1024 * 1024;

it("a put goes on at the hub's next process with what the first one has, and survives the next kill", async () => {
  const directory = await temporaryDirectory();
  const store = join(directory, "hub");
  const bytes = randomBytes("killed", 48 * MIB);
  await using client = await Store.open(join(directory, "client"));
  const { root, length } = await put(client, "file", bytes);
  const first = await startHub({ store });
  const hub = await HubClient.connect(first.clientToken, { reconnectMs: 180_000 });
  let second: ReturnType<typeof startHub> | undefined;
  const sent = await hub.data.transfers.put({
    root,
    length,
    source: client,
    onProgress: ({ doneBytes }) => {
      if (doneBytes < 24 * MIB || second !== undefined) return;
      second = first.end("SIGKILL").then(() => startHub({ store, address: first.address }));
    },
  });
  const { plainBytes, runs } = sent.stats;
  expect(runs).toBe(2);
  // What was on its way came again, and no more.
  expect(plainBytes).toBeLessThan(bytes.byteLength + 3 * MIB);
  await hub.data.catalog.bind({ name: "file", root, length }, {}, sent);
  await (await second!).end("SIGKILL");
  await hub.close();
  await using there = await Store.open(store);
  expect((await there.catalog.resolve("file"))?.length).toBe(length);
  expect((await readAll(there, root)).equals(bytes)).toBe(true);
});
