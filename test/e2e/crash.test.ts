/** Hubs that die and disks that are full: what was acknowledged is there, what is there is sound, and errors have codes. */
import { execFile } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { connect, openLocal, PacketfsError } from "../../sdk/index.ts";
import type { PacketFS } from "../../sdk/index.ts";
import { makePlace, PFS, pfs, temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { startHub } from "./daemon.ts";
import { bytesOf, noise, sha256 } from "./inputs.ts";
import { runSync } from "../suites/run-sync.ts";

const MIB = 1024 * 1024;
/** A shell whose files can have 8 or 16 MiB, depending on what it takes for a block; more is refused as on a full disk. */
const LITTLE_ROOM = ["/bin/sh", "-c", 'ulimit -f 16384; exec "$@"', "sh"];

/** The bytes in pieces of 256 KiB. */
async function* inPieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += MIB / 4) yield bytes.subarray(at, at + MIB / 4);
}

/** The error of a promise that must not be kept. */
async function failureOf(promise: Promise<unknown>): Promise<PacketfsError> {
  const error = await promise.then(
    () => new Error("it did not fail"),
    (reason: unknown) => reason,
  );
  if (!(error instanceof PacketfsError)) throw error;
  return error;
}

/** Everything that a store knows by name is these, byte for byte, and the store is sound. */
async function expectFiles(store: PacketFS, files: ReadonlyMap<string, Buffer>): Promise<void> {
  const names: string[] = [];
  for await (const { name } of store.list()) names.push(name);
  expect(names).toEqual([...files.keys()].toSorted((a, b) => (a < b ? -1 : 1)));
  for (const [name, bytes] of files) {
    expect([name, sha256(await bytesOf(store, name))]).toEqual([name, sha256(bytes)]);
  }
  expect(await store.verify()).toMatchObject({ damaged: [], incomplete: [] });
}

describe("a hub that is killed in the middle of a put", () => {
  it("keeps what it acknowledged, and takes the rest again", async () => {
    const store = join(await temporaryDirectory(), "hub");
    let hub = await startHub({ store });
    const { clientToken, address } = hub;
    const kept = new Map<string, Buffer>();
    const large = noise(24 * MIB, 41);
    {
      await using client = await connect(clientToken);
      const putSmall = async (index: number): Promise<void> => {
        const bytes = noise(10_000 + index, 100 + index);
        const name = `small-${String(index).padStart(4, "0")}`;
        await client.put(bytes, { name });
        kept.set(name, bytes);
      };
      await putSmall(0);
      // More of them one after the other beside the large one, as long as somebody answers.
      const small = (async () => {
        for (let index = 1; ; index++) await putSmall(index);
      })();
      const put = client.put(inPieces(large), {
        name: "large.bin",
        onProgress: (taken) => {
          if (taken > 10 * MIB) hub.process.kill("SIGKILL");
        },
      });
      const failures = await Promise.all([failureOf(put), failureOf(small)]);
      for (const { code } of failures) expect(code).toMatch(/^PFS_(LINK_CLOSED|NODE_LOST|PEER_UNREACHABLE)$/);
      expect((await hub.ended).signal).toBe("SIGKILL");
    }
    // A small file may have been kept just before the hub could say so.
    const { status } = await pfs(["verify", "--store", store]);
    expect(status).toBe(0);

    hub = await startHub({ store, address });
    await using client = await connect(clientToken);
    for await (const { name, root } of client.list({ prefix: "small-" })) {
      if (kept.has(name)) continue;
      const index = Number(name.slice("small-".length));
      expect(index).toBe(kept.size);
      kept.set(name, noise(10_000 + index, 100 + index));
      expect(root).toMatch(/^[0-9a-f]{64}$/);
    }
    await expectFiles(client, kept);
    await client.put(large, { name: "large.bin" });
    await expectFiles(client, kept.set("large.bin", large));
  });
});

/** A shell in which the directory is a disk of 24 MiB. */
const smallDisk = (directory: string): string[] => {
  const mount = `mount -t tmpfs -o size=24m tmpfs ${directory}`;
  return ["unshare", "--mount", "sh", "-ec", `${mount}; exec "$@"`, "sh"];
};
const canMount =
  runSync("unshare", ["--mount", "sh", "-ec", `mount -t tmpfs tmpfs "${tmpdir()}"`]).status === 0;

describe.runIf(canMount)("a disk that is full", () => {
  it("is named, with what makes room", async () => {
    const { cwd, run } = await makePlace();
    const store = join(cwd, "store");
    await mkdir(store);
    await writeFile(join(cwd, "large.bin"), noise(40 * MIB, 54));
    const { status, err } = await run(["put", "large.bin"], {
      through: smallDisk(store),
      environment: { PACKETFS_STORE: store },
    });
    expect({ status, err }).toEqual({
      status: 1,
      err: `pfs: the disk of the store ${store} is full; "pfs gc" makes room, and more after a "pfs rm"\n`,
    });
    const hub = await startHub({
      store,
      wrapper: smallDisk(store),
      environment: { PACKETFS_LABEL: "attic" },
    });
    await using client = await connect(hub.clientToken);
    expect(await failureOf(client.put({ path: join(cwd, "large.bin") }))).toMatchObject({
      code: "PFS_STORE_FULL",
      message: 'the disk of "attic" is full',
    });
    expect(await hub.end("SIGTERM")).toEqual({ status: 0, signal: null });
  });
});

describe.runIf(process.platform !== "win32")("a disk that is full", () => {
  const before = noise(2 * MIB, 51);
  const large = noise(30 * MIB, 52);

  it("fails a put, and the store is as it was", async () => {
    const { cwd, json, run } = await makePlace();
    await writeFile(join(cwd, "before.bin"), before);
    await writeFile(join(cwd, "large.bin"), large);
    await json(["put", "before.bin"]);
    const [command, ...words] = [...LITTLE_ROOM, process.execPath, PFS, "put", "large.bin", "--json"];
    const { status, out, err } = await new Promise<{ status: unknown; out: string; err: string }>(
      (resolve) => {
        const options = { cwd, env: { ...process.env, PACKETFS_STORE: join(cwd, "store") } };
        execFile(command!, words, options, (error, stdout, stderr) => {
          resolve({ status: error?.code ?? 0, out: stdout, err: stderr });
        });
      },
    );
    expect({ status, err }).toEqual({ status: 1, err: "" });
    expect(JSON.parse(out)).toMatchObject({
      error: { code: expect.stringMatching(/^PFS_STORE_(FULL|IO)$/) },
    });
    await using store = await openLocal(join(cwd, "store"));
    await expectFiles(store, new Map([["before.bin", before]]));
    expect((await run(["put", "large.bin"])).status).toBe(0);
    await expectFiles(store, new Map(Object.entries({ "before.bin": before, "large.bin": large })));
  });

  it("fails a put to a hub, which goes on serving", async () => {
    const hub = await startHub({ wrapper: LITTLE_ROOM });
    await using client = await connect(hub.clientToken);
    await client.put(before, { name: "before.bin" });
    const { code, message } = await failureOf(client.put(inPieces(large), { name: "large.bin" }));
    expect({ code, message }).toMatchObject({ code: expect.stringMatching(/^PFS_STORE_(FULL|IO)$/) });
    const small = noise(100_000, 53);
    await client.put(small, { name: "small.bin" });
    await expectFiles(client, new Map(Object.entries({ "before.bin": before, "small.bin": small })));
    expect(await hub.end("SIGTERM")).toEqual({ status: 0, signal: null });
  });
});
