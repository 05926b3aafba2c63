/**
 * npm run bench [-- --json] [--full]: the first marks, each a ratio against a floor or rival in the same run, with its
 * spread. --full takes the sizes that the published numbers are about; without it everything is an eighth of that.
 * --smallest only shows that every row still works: it is over in seconds, and its figures mean nothing.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { benchDirectory, writeRandom, writeText } from "./corpus.ts";
import { runRow } from "./harness.ts";
import type { Row, RowResult } from "./harness.ts";
import { distinctKeysRows } from "./rows/distinct-keys.ts";
import { fileRows } from "./rows/files.ts";
import { packetRows } from "./rows/packets.ts";
import { EIGHTH, FULL, SMALLEST } from "./sizes.ts";
import { startRow } from "./rows/start.ts";
import { wordCountRow } from "./rows/word-count.ts";
import { formatTable } from "./table.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean" },
    full: { type: "boolean" },
    smallest: { type: "boolean" },
    rounds: { type: "string" },
  },
});
const chosen = values.smallest === true ? SMALLEST : values.full === true ? FULL : EIGHTH;
const sizes = { ...chosen, rounds: Number(values.rounds ?? chosen.rounds) };

const directory = mkdtempSync(join(benchDirectory(4 * sizes.randomBytes), "pfs-bench-"));
const stores = join(directory, "stores");
mkdirSync(stores);
const results: RowResult[] = [];

async function measure(row: Row): Promise<void> {
  process.stderr.write(`${row.question} …\n`);
  results.push(await runRow(row));
}

try {
  const random = join(directory, "random");
  writeRandom(random, sizes.randomBytes);
  for (const row of fileRows(directory, random, sizes.rounds)) await measure(row);
  rmSync(random);
  const text = join(directory, "text");
  writeText(text, sizes.textBytes);
  await measure(await wordCountRow(join(stores, "text"), text, sizes.rounds));
  await measure(await wordCountRow(join(stores, "text"), text, sizes.rounds, "WebAssembly"));
  rmSync(text);
  for (const row of distinctKeysRows(join(stores, "keys"), sizes)) await measure(row);
  const { rows, stop } = await packetRows(join(stores, "packets"), sizes);
  try {
    for (const row of rows) await measure(row);
  } finally {
    await stop();
  }
  const { row, stop: stopSpares } = startRow(sizes);
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
