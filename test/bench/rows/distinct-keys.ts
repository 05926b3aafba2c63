/** Records counted by key, by a sandboxed program over a stored file, against a Map in one thread: in CPU time, of all processes. */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { openLocal } from "packetfs";
import { cpuSeconds } from "../cpu-time.ts";
import type { Bench, Row } from "../harness.ts";
import { COUNT_LINES } from "../../count-lines.ts";

const WORKERS = 2;
/** One for each number of keys, among which records are spread evenly. */
export async function* distinctKeysRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const store = join(directory, "keys-store");
  for (const keys of sizes.keys) {
    const records = Math.max(sizes.records, keys);
    yield {
      question: `${records} records counted by ${keys} keys, 2 workers, to a file`,
      unit: "records/CPU s",
      ours: { name: "sandboxed, from the store", measure: () => countStored(store, records, keys) },
      rivals: [{ name: "a Map in one thread", measure: async () => countPlain(store, records, keys) }],
      rounds: sizes.rounds,
      goal: { ratio: 0.5 },
    };
  }
}

async function countStored(store: string, records: number, keys: number): Promise<number> {
  const text = writeRecords(store, records, keys);
  const stored = await openLocal(store);
  await stored.put({ path: text }, { name: "records" });
  await stored.close();
  const before = cpuSeconds();
  const pfs = await openLocal(store, { workers: WORKERS });
  const { file } = await pfs.run(COUNT_LINES, ["records"], { out: "counts" });
  await pfs.close();
  const took = cpuSeconds() - before;
  rmSync(text);
  if (file!.length === 0) throw new Error("nothing was counted");
  return records / took;
}

function countPlain(store: string, records: number, keys: number): number {
  const path = writeRecords(store, records, keys);
  const before = cpuSeconds();
  const bytes = readFileSync(path);
  const counts = new Map<string, number>();
  for (let start = 0; start < bytes.byteLength;) {
    const step = bytes.indexOf("\n", start + 4 * 1024 * 1024) + 1;
    const end = step === 0 ? bytes.byteLength : step;
    const text = bytes.toString("utf8", start, end);
    for (let at = 0; at < text.length;) {
      const found = text.indexOf("\n", at);
      const key = text.slice(at, found);
      counts.set(key, (counts.get(key) ?? 0) + 1);
      at = found + 1;
    }
    start = end;
  }
  let written = 0;
  for (const key of [...counts.keys()].sort())
    written += `[${JSON.stringify(key)},${counts.get(key)}]\n`.length;
  const took = cpuSeconds() - before;
  rmSync(path);
  if (written === 0) throw new Error("nothing was counted");
  return records / took;
}

/** The same each time. */
function writeRecords(store: string, records: number, keys: number): string {
  const path = `${store}-records`;
  const file = openSync(path, "w");
  let state = 12345;
  let text = "";
  for (let record = 0; record < records; record++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const key = Math.floor((state / 2 ** 32) * keys);
    text += `user-${((key * 7919) % 99999989).toString(36)}\n`;
    if (text.length < 1024 * 1024 && record < records - 1) continue;
    writeSync(file, text);
    text = "";
  }
  closeSync(file);
  return path;
}
