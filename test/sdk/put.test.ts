/** What put refuses, and what it leaves as it was. */
import { mkdir, writeFile } from "node:fs/promises";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import type { FileSource } from "../../sdk/packetfs.ts";
import { temporaryDirectory } from "./cli/run-pfs.ts";

it("gives no name to a mixture of what a file was and what it became", async () => {
  const directory = await temporaryDirectory();
  await mkdir(directory, { recursive: true });
  const path = join(directory, "file");
  const pfs = await openLocal(join(directory, "store"));
  await pfs.put(Buffer.from("what it had"), { name: "kept" });
  for (const name of ["kept", "new"]) {
    await writeFile(path, Buffer.alloc(24_000_000, "A"));
    let isOverwritten = false;
    const put = pfs.put(
      { path },
      {
        name,
        onProgress: (bytes) => {
          if (isOverwritten || bytes < 8_000_000) return;
          isOverwritten = true;
          writeFileSync(path, Buffer.alloc(24_000_000, "B"));
        },
      },
    );
    await expect(put).rejects.toMatchObject({ code: "PFS_INPUT_CHANGED", data: { path } });
  }
  expect(await pfs.history("kept")).toMatchObject([{ version: 1, length: 11 }]);
  await expect(pfs.stat("new")).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
  expect((await pfs.put({ path }, { name: "new" })).length).toBe(24_000_000);
  await pfs.close();
});

it("refuses what is no bytes by a code, as plain JavaScript may hand it over", async () => {
  await using pfs = await openLocal(join(await temporaryDirectory(), "store"));
  for (const source of [
    "text",
    7,
    null,
    undefined,
    {},
    { path: 7 },
    [new Uint8Array(1)],
    new ArrayBuffer(3),
    1n,
  ]) {
    await expect(pfs.put(source as unknown as FileSource)).rejects.toMatchObject({
      code: "PFS_INPUT_INVALID",
    });
  }
});
