/**
 * npm run bench [-- --full] [--rounds N] [--only SECTION,…] [--json | --markdown]: every mark as a ratio against a floor or rival
 * in the same run, with its spread. --full takes the sizes that the published numbers are about; without it what takes long
 * is an eighth of that. --smallest only shows that every row still works, and its figures mean nothing. README.md beside
 * this says more.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { benchDirectory } from "./corpus.ts";
import { runRow } from "./harness.ts";
import type { RowResult } from "./harness.ts";
import { SECTIONS } from "./sections.ts";
import { EIGHTH, FULL, SMALLEST } from "./sizes.ts";
import { formatMarkdown, formatTable } from "./table.ts";

const { values } = parseArgs({
  options: {
    json: { type: "boolean" },
    markdown: { type: "boolean" },
    full: { type: "boolean" },
    smallest: { type: "boolean" },
    rounds: { type: "string" },
    only: { type: "string" },
  },
});
const chosen = values.smallest === true ? SMALLEST : values.full === true ? FULL : EIGHTH;
const sizes = { ...chosen, rounds: Number(values.rounds ?? chosen.rounds) };
const names = values.only?.split(",") ?? Object.keys(SECTIONS);
for (const name of names) {
  if (SECTIONS[name] !== undefined) continue;
  throw new Error(`there is no section "${name}": there are ${Object.keys(SECTIONS).join(", ")}`);
}

const loadBefore = loadavg()[0];
const results: RowResult[] = [];
const directory = mkdtempSync(join(benchDirectory(4 * sizes.randomBytes), "pfs-bench-"));
try {
  for (const name of names) {
    for await (const row of SECTIONS[name]!({ directory, sizes })) {
      process.stderr.write(`${name}: ${row.question} …\n`);
      results.push(await runRow(name, row));
    }
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
  /** What else ran when it began: with more than 0, rates and times are not what the machine can do. */
  loadBefore,
};
if (values.json === true) console.log(JSON.stringify({ schema: 2, machine, results }));
else {
  const table = values.markdown === true ? formatMarkdown(results) : formatTable(results);
  console.log(`${table}\n\n${JSON.stringify(machine)}`);
}
