/** Runs one program eight times at once, closes, and has nothing left that keeps it alive. */
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openLocal } from "../../../sdk/index.ts";

const source = `
  import { defineProgram, lines } from "packetfs";
  export default defineProgram({ input: lines(), map: (line) => line.length, combine: (a, b) => a + b });`;
const directory = mkdtempSync(join(tmpdir(), "packetfs-concurrent-"));
const pfs = await openLocal(join(directory, "store"));
await pfs.put(Buffer.from("one\ntwo\nthree\n"), { name: "f" });
const jobs = await Promise.all(Array.from({ length: 8 }, () => pfs.run({ source }, ["f"])));
await pfs.close();
await rm(directory, { recursive: true });
console.log(jobs.map(({ value }) => value).join(" "));
