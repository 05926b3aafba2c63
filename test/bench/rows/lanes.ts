/** All the lanes of a machine, each with a packet: what they cost, beside as many bare instances of one compiled program. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { AllLanes } from "../all-lanes.ts";
import type { Bench, Row } from "../harness.ts";

const MAIN = fileURLToPath(new URL("../all-lanes.ts", import.meta.url));
const PROGRAMS = [1, 1000];

export async function* laneRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const { lanes, rounds } = sizes;
  const run = async (kind: "lanes" | "instances", programs: number): Promise<AllLanes> => {
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
  const row = (figure: keyof AllLanes, programs: number, figureMax: number): Row => ({
    question: `${lanes} lanes of ${programs === 1 ? "one program" : `${programs} programs`} of packet code, each run once`,
    unit: figure === "cpuSeconds" ? "CPU s" : "MiB more",
    ours: { name: "local", measure: async () => (await run("lanes", programs))[figure] },
    rivals: [
      {
        name: "as many instances of one compiled program, each called once",
        measure: async () => (await run("instances", 1))[figure],
      },
    ],
    rounds,
    goal: { figureMax },
  });
  for (const programs of PROGRAMS) {
    yield row("cpuSeconds", programs, 2);
    yield row("mebibytes", programs, 250);
  }
}
