/** What is measured, by the names that `--only` takes. */
import type { Section } from "./harness.ts";
import { bulkRows } from "./rows/bulk.ts";
import { distinctKeysRows } from "./rows/distinct-keys.ts";
import { fileRows } from "./rows/files.ts";
import { laneRows } from "./rows/lanes.ts";
import { longRunRows } from "./rows/long-runs.ts";
import { packetCodeRows } from "./rows/packet-code.ts";
import { packetRows } from "./rows/packets.ts";
import { raceRows } from "./rows/race.ts";
import { smallJobRows } from "./rows/small-jobs.ts";
import { startRows } from "./rows/start.ts";
import { growthRows, wordCountRows } from "./rows/word-count.ts";

/** In the order in which they are measured. */
export const SECTIONS: Readonly<Record<string, Section>> = {
  files: fileRows,
  bulk: bulkRows,
  "word-count": wordCountRows,
  growth: growthRows,
  race: raceRows,
  "distinct-keys": distinctKeysRows,
  "packet-code": packetCodeRows,
  packets: packetRows,
  "long-runs": longRunRows,
  lanes: laneRows,
  "small-jobs": smallJobRows,
  start: startRows,
};
