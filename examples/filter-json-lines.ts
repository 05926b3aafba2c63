/**
 * Keeps the events of a JSON Lines file that are grave enough, and of each only what is asked for: a new file.
 *
 *   pfs put events.jsonl
 *   pfs run examples/filter-json-lines.ts events.jsonl --out errors.jsonl \
 *     --args '{"least":"error","keep":["time","message"]}'
 */
import { defineProgram, jsonLines } from "packetfs";

const LEVELS = ["debug", "info", "warning", "error", "fatal"];

interface Args {
  readonly least: string;
  readonly keep: readonly string[];
}

type LogEvent = Readonly<Record<string, unknown>>;

export default defineProgram({
  input: jsonLines<LogEvent>(),
  yields: "bytes",
  init: ({ least, keep }: Args) => {
    if (!LEVELS.includes(least)) throw new Error(`"least" is one of ${LEVELS.join(", ")}`);
    return { levels: new Set<unknown>(LEVELS.slice(LEVELS.indexOf(least))), keep };
  },
  map: (event, { state, write }) => {
    if (!state.levels.has(event["level"])) return;
    const kept = Object.fromEntries(state.keep.map((name) => [name, event[name]]));
    write(`${JSON.stringify(kept)}\n`);
  },
});
