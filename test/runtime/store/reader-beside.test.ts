import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { Store } from "../../../runtime/store/store.ts";
import { REMOVED } from "../../suites/acknowledged.ts";
import { bytesOf } from "./put-content.ts";
import { failure, filesIn, get, temporaryDirectory } from "./store-fixture.ts";

const CHILD = fileURLToPath(new URL("./putting-child.ts", import.meta.url));

test("another process reads beside the one that writes, and after that was killed", async () => {
  await using directory = await temporaryDirectory();
  using child = spawn(process.execPath, [CHILD, directory.path, "0"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let output = "";
  child.stdout.setEncoding("utf8");
  child.stdout.on("data", (text: string) => (output += text));
  // What stands behind the last line end is the half of a line.
  const done = (): string[] =>
    output
      .split("\n")
      .slice(0, -1)
      .filter((line) => line.startsWith("done"));
  while (done().length <= 5) await once(child.stdout, "data");

  await using reader = await Store.open(directory.path, { readOnly: true });
  for (let round = 0; round < 20; round++) {
    for await (const { name, root, length } of reader.catalog.list()) {
      // The child replaces and frees its files all the time: what is read is right, or gone.
      const read = await get(reader, name).catch((error: unknown) => error as Error & { code?: string });
      if (read instanceof Error) expect(read.code ?? read.message).toMatch(/PFS_CHUNK_MISSING|^no /);
      else if ((await reader.catalog.resolve(name))?.root.join() === root.join())
        expect(read.byteLength).toBe(length);
    }
  }
  expect(await failure(Store.open(directory.path, { lockWaitMs: 10 }))).toMatchObject({
    code: "PFS_STORE_BUSY",
    data: { pid: child.pid },
  });
  child.kill("SIGKILL");
  await once(child, "close");

  const before = filesIn(directory.path);
  await using late = await Store.open(directory.path, { readOnly: true });
  expect(await late.verify()).toMatchObject({ damaged: [], incomplete: [] });
  const last = new Map(done().map((line) => [line.split(" ")[1]!, line.split(" ")[2]!]));
  for await (const { name, length } of late.catalog.list()) {
    const content = last.get(name);
    // A name whose removal was acknowledged may have been put again before the kill, and not been told.
    if (content === undefined || content === REMOVED || bytesOf(content).byteLength !== length) continue;
    expect(Buffer.compare(await get(late, name), bytesOf(content))).toBe(0);
  }
  expect(Object.keys(filesIn(directory.path))).toEqual(Object.keys(before));
});
