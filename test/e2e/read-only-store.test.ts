/** A store on a file system that is read-only can be read and run over, and whatever writes says that it cannot. */
import { writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makePlace, TEXT } from "../sdk/cli/run-pfs.ts";
import { runSync } from "../suites/run-sync.ts";

const PROGRAM =
  'import { defineProgram, lines } from "packetfs";\n' +
  "export default defineProgram({ input: lines(), map: () => 1, combine: (a, b) => a + b });";
const READ_ONLY = [
  "unshare",
  "--mount",
  "sh",
  "-ec",
  'mount --bind store store; mount -o remount,bind,ro store; exec "$@"',
  "sh",
];
const canMount =
  runSync("unshare", [
    "--mount",
    "sh",
    "-ec",
    `cd "${tmpdir()}"; mount --bind . .; mount -o remount,bind,ro "${tmpdir()}"`,
  ]).status === 0;

it.runIf(canMount)(
  "a store on a read-only file system can be read, and says so where it cannot",
  async () => {
    const { cwd, run, json } = await makePlace();
    const store = join(cwd, "store");
    await writeFile(join(cwd, "count.js"), PROGRAM);
    await json(["put", "text.txt"]);
    const through = { through: READ_ONLY, environment: { PACKETFS_STORE: store } };
    for (const words of [
      ["put", "count.js"],
      ["rm", "text.txt"],
      ["gc"],
      ["up", "--listen", "127.0.0.1:0"],
    ]) {
      const { status, out } = await run([...words, "--json"], through);
      expect({ words, status, ...(JSON.parse(out) as object) }).toMatchObject({
        words,
        status: 1,
        error: {
          code: "PFS_STORE_READ_ONLY",
          message: `the store ${store} can only be read: its file system is read-only`,
        },
      });
    }
    expect(await run(["cat", "text.txt"], through)).toMatchObject({ status: 0, out: TEXT });
    expect(await run(["run", "count.js", "text.txt"], through)).toMatchObject({ status: 0, out: "20000\n" });
    expect(await run(["run", "count.js", "text.txt", "--out", "n"], through)).toMatchObject({ status: 1 });
  },
);
