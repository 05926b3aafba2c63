/**
 * npm run bench [-- --json] [--full]: the first marks, each a ratio against a floor or rival in the same run, with its
 * spread. --full takes the sizes that the published numbers are about; without it everything is an eighth of that.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { benchDirectory, writeRandom, writeText } from "./corpus.ts";
import { runRow } from "./harness.ts";
import type { Row, RowResult } from "./harness.ts";
import { fileRows } from "./rows/files.ts";
import { packetRows } from "./rows/packets.ts";
import { startRow } from "./rows/start.ts";
import { wordCountRow } from "./rows/word-count.ts";
import { formatTable } from "./table.ts";

const { values } = parseArgs({
  options: { json: { type: "boolean" }, full: { type: "boolean" }, rounds: { type: "string" } },
});
const scale = values.full === true ? 1 : 8;
const rounds = Number(values.rounds ?? 3);
const randomBytes = 1024 ** 3 / scale;
const textBytes = (512 * 1024 ** 2) / scale;

const directory = mkdtempSync(join(benchDirectory(4 * randomBytes), "pfs-bench-"));
const stores = join(directory, "stores");
mkdirSync(stores);
const results: RowResult[] = [];

async function measure(row: Row): Promise<void> {
  process.stderr.write(`${row.question} …\n`);
  results.push(await runRow(row));
}

try {
  const random = join(directory, "random");
  writeRandom(random, randomBytes);
  for (const row of fileRows(directory, random, rounds)) await measure(row);
  rmSync(random);
  const text = join(directory, "text");
  writeText(text, textBytes);
  await measure(await wordCountRow(join(stores, "text"), text, rounds));
  rmSync(text);
  const { rows, stop } = await packetRows(join(stores, "packets"), rounds);
  try {
    for (const row of rows) await measure(row);
  } finally {
    await stop();
  }
  const { row, stop: stopSpares } = startRow(rounds);
  try {
    await measure(row);
  } finally {
    await stopSpares();
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

const machine = {
  node: process.version,
  cpu: cpus()[0]?.model ?? "unknown",
  cores: cpus().length,
  memoryGiB: Math.round(totalmem() / 1024 ** 3),
  directory: benchDirectory(0),
};
if (values.json === true) console.log(JSON.stringify({ schema: 1, machine, results }));
else console.log(`${formatTable(results)}\n\n${JSON.stringify(machine)}`);
