/** All the lanes of a machine, each with a packet: what they cost, beside as many bare instances of one compiled program. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { AllLanes } from "../all-lanes.ts";
import type { Bench, Row } from "../harness.ts";

const MAIN = fileURLToPath(new URL("../all-lanes.ts", import.meta.url));
/** How many different programs there are: one of packet code is 32 bytes, each other has an executor process of its own. */
const PROGRAMS = { code: [1, 1000], js: [1, 8], wasm: [1] } as const;
const KINDS = { code: "packet code", js: "JavaScript", wasm: "WebAssembly" } as const;
type Kind = keyof typeof KINDS;

export async function* laneRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const { lanes, rounds } = sizes;
  const run = async (kind: Kind | "instances", programs: number): Promise<AllLanes> => {
    const words = [
      "--no-warnings",
      MAIN,
      kind,
      join(directory, "lanes-store"),
      String(lanes),
      String(programs),
    ];
    const { stdout } = await promisify(execFile)(process.execPath, words);
    return JSON.parse(stdout) as AllLanes;
  };
  const row = (kind: Kind, figure: keyof AllLanes, programs: number, figureMax: number): Row => ({
    question: `${lanes} lanes of ${programs === 1 ? "one program" : `${programs} programs`} of ${KINDS[kind]}, each run once`,
    unit: figure === "cpuSeconds" ? "CPU s" : "MiB more",
    ours: { name: "local", measure: async () => (await run(kind, programs))[figure] },
    rivals: [
      {
        name: "as many instances of one compiled program, each called once",
        measure: async () => (await run("instances", 1))[figure],
      },
    ],
    rounds,
    goal: { figureMax },
  });
  for (const kind of ["code", "js", "wasm"] as const) {
    for (const programs of PROGRAMS[kind]) {
      yield row(kind, "cpuSeconds", programs, 2);
      yield row(kind, "mebibytes", programs, 250);
    }
  }
}
