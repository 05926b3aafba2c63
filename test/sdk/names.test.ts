/** What a text stands for, on a directory and at a hub: a root exactly its bytes, a name its latest version, NAME@3 its third. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import { connect } from "../../sdk/remote.ts";
import type { PacketFS } from "../../sdk/packetfs.ts";
import { joinNode, startHub } from "../e2e/daemon.ts";
import { temporaryDirectory } from "./cli/run-pfs.ts";

const PROGRAM = `import { bytes, defineProgram } from "packetfs";
  export default defineProgram({ input: bytes(1), map: (b) => b[0], combine: (a, b) => a * 1000 + b });`;

describe.each<[string, () => Promise<PacketFS>]>([
  ["a directory", async () => openLocal(join(await temporaryDirectory(), "store"))],
  [
    "a hub",
    async () => {
      const hub = await startHub();
      await joinNode(hub.joinToken, "worker");
      return connect(hub.clientToken);
    },
  ],
])("the names of %s", (_where, open) => {
  let pfs: PacketFS;
  const text = async (file: string): Promise<string> => {
    const parts: Uint8Array[] = [];
    for await (const part of pfs.get(file)) parts.push(part);
    return Buffer.concat(parts).toString();
  };
  const put = async (content: string, name?: string): Promise<string> =>
    (await pfs.put(Buffer.from(content), name === undefined ? {} : { name })).root;

  beforeAll(async () => {
    pfs = await open();
  });
  afterAll(() => pfs.close());

  it("cannot take a root away from its bytes", async () => {
    const one = await put("one", "foo");
    for (const name of [one, one.toUpperCase()]) {
      await expect(put("two", name)).rejects.toMatchObject({ code: "PFS_NAME_INVALID" });
      const run = pfs.run({ source: PROGRAM }, ["foo"], { out: name });
      await expect(run).rejects.toMatchObject({ code: "PFS_NAME_INVALID" });
    }
    expect([await text("foo"), await text(one), await text(one.toUpperCase())]).toEqual([
      "one",
      "one",
      "one",
    ]);
    expect(await pfs.stat(one)).toMatchObject({ root: one, length: 3, version: 0 });
  });

  it("have versions that can be listed and read, until they are removed", async () => {
    const roots = [await put("v1", "kept"), await put("v2", "kept"), await put("v3", "kept")];
    expect((await pfs.history("kept")).map(({ version, root }) => [version, root])).toEqual([
      [3, roots[2]],
      [2, roots[1]],
      [1, roots[0]],
    ]);
    expect([await text("kept"), await text("kept@3"), await text("kept@1")]).toEqual(["v3", "v3", "v1"]);
    expect(await pfs.stat("kept@2")).toMatchObject({ name: "kept", version: 2, root: roots[1] });
    expect((await pfs.run({ source: PROGRAM }, ["kept@1"])).value).toBe(118_049);
    for (const file of ["kept@0", "kept@4", "never@1", "@1"]) {
      await expect(pfs.stat(file)).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
    }
    await expect(pfs.history("never")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
    await pfs.remove("kept");
    await expect(pfs.stat("kept@1")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
    await put("again", "kept");
    // A name of its own comes before a version of another.
    await put("named so", "kept@1");
    expect(await text("kept@1")).toBe("named so");
    await pfs.remove("kept@1");
    expect(await text("kept@1")).toBe("again");
    await expect(pfs.stat("kept@2")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  });
});
