/** A hub, and clients of it that remember files in one cache, as processes of one user do. */
import { readFile, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { startHub } from "../../../nodes/hub/hub.ts";
import type { Hub } from "../../../nodes/hub/hub.ts";
import { FILE_SETTLED_MS } from "../../../runtime/limits.ts";
import type { ClientMemoryOptions } from "../../../sdk/memory/client-memory.ts";
import type { PacketFS } from "../../../sdk/packetfs.ts";
import { connect } from "../../../sdk/remote.ts";
import { collect, temporaryDirectory } from "../../runtime/store/store-fixture.ts";

const MIB = 1024 * 1024;

export interface World extends AsyncDisposable {
  readonly directory: string;
  readonly hub: Hub;
  readonly cache: string;
  readonly file: string;
  /** Another connection, as of another process. */
  client(cache?: ClientMemoryOptions): Promise<PacketFS>;
}

export async function world(): Promise<World> {
  const stack = new AsyncDisposableStack();
  const { path: directory } = stack.use(await temporaryDirectory());
  const hub = await startHub({
    store: join(directory, "hub"),
    listen: { host: "127.0.0.1", port: 0 },
    workers: 0,
  });
  stack.defer(() => hub.close());
  const cache = join(directory, "cache");
  return {
    directory,
    hub,
    cache,
    file: join(directory, "file"),
    client: async (options) =>
      stack.use(await connect(hub.clientToken, options === undefined ? {} : { cache: options })),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** As if the file had been written long ago, to be believed to be what it was. */
export async function settle(path: string): Promise<void> {
  await utimes(path, 1000, 1000);
  const { ctimeMs } = await stat(path);
  // Nobody can set the time at which a file was changed: it has to go by.
  while (Date.now() - ctimeMs < FILE_SETTLED_MS + 500)
    await new Promise((resolve) => setTimeout(resolve, 100));
}

/** Writes a version of the file that differs from the one before in a few bytes. */
export async function edit(path: string, version: number): Promise<Buffer> {
  const bytes = await readFile(path);
  for (let at = 1000 * version; at < bytes.byteLength; at += MIB) bytes.write(`version ${version}`, at);
  await writeFile(path, bytes);
  return bytes;
}

export async function contentOf(pfs: PacketFS, name: string): Promise<Buffer> {
  return await collect(pfs.get(name));
}
