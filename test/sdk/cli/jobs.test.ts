/** pfs jobs: the newest first and not all of them, and what went wrong with one in its author's words. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { makePlace } from "./run-pfs.ts";
import type { Place } from "./run-pfs.ts";

const OLDER = 30;
/** The one of these that had kernels, and what computed them. */
const WITH_KERNELS = 28;
const KERNELS = [
  {
    kernel: "search",
    engine: "gpu",
    engineClass: "nvidia-0123456789ab",
    label: "NVIDIA H200",
    calls: 32,
    measuredMs: 1234.5,
    predictedMs: 1000,
    reason: "it should take 1s, and 44s on CPUs, as calculated",
  },
  {
    kernel: "count",
    engine: "cpu",
    engineClass: "cpu",
    calls: 1,
    measuredMs: 12,
    reason: "there is no GPU here",
  },
];

let place: Place;
beforeAll(async () => {
  place = await makePlace();
  await place.json(["put", "text.txt"]);
  // As they are remembered beside the store.
  const lines = Array.from({ length: OLDER }, (_, index) =>
    JSON.stringify({
      job: `0000${String(index).padStart(4, "0")}`,
      program: "count.ts",
      state: "done",
      startedAt: 1_790_000_000_000 + index,
      milliseconds: 12_345,
      done: 3,
      tasks: 3,
      ...(index === WITH_KERNELS ? { kernels: KERNELS } : {}),
    }),
  );
  await writeFile(join(place.cwd, "store", "jobs.jsonl"), lines.map((line) => `${line}\n`).join(""));
  await writeFile(
    join(place.cwd, "fails.ts"),
    `import { defineProgram, lines } from "packetfs";
     const fail = (line: string): number => {
       throw new TypeError("it is too much");
     };
     export default defineProgram({ input: lines(), map: (line) => fail(line), combine: (a) => a });`,
  );
  expect((await place.run(["run", "fails.ts", "text.txt", "--no-check"])).status).toBe(6);
});

describe("jobs", () => {
  it("are listed newest first, and the others when they are asked for", async () => {
    const { out, err, status } = await place.run(["jobs"]);
    const rows = out
      .trimEnd()
      .split("\n")
      .map((line) => line.split("\t"));
    expect([rows.length, status]).toEqual([20, 0]);
    expect(rows[0]!.slice(1, 4)).toEqual(["fails.ts", "failed", "0/8"]);
    const startedAt = new Date(1_790_000_000_000 + OLDER - 1).toISOString();
    expect(rows[1]).toEqual(["00000029", "count.ts", "done", "3/3", "12345", startedAt, "-", ""]);
    expect(rows[2]!.slice(-2)).toEqual(["gpu+cpu", ""]);
    expect(err).toBe("11 older jobs not shown; --all lists them too\n");
    expect((await place.run(["jobs", "--limit", "2"])).out.match(/\n/g)).toHaveLength(2);
    expect(await place.json(["jobs", "--limit", "5"])).toHaveLength(5);
    expect(await place.json(["jobs", "--all"])).toHaveLength(OLDER + 1);
    const quiet = await place.run(["jobs", "--limit", "0"]);
    expect(quiet).toMatchObject({ out: "", err: "", status: 0 });
  });

  it("that failed remember the lines of their author's files", async () => {
    const [failed] = await place.json(["jobs", "--limit", "1"]);
    const { message } = failed!["error"] as { readonly message: string };
    expect(message).toMatch(
      /TypeError: it is too much .*\n +at fail \(fails\.ts:3:\d+\)\n +at .*fails\.ts:5:\d+/,
    );
    expect(message).not.toContain("program.js");
    const asked = await place.json(["jobs", "00000003", String(failed!["job"])]);
    expect(asked).toMatchObject([{ job: "00000003" }, { error: { message } }]);
  });

  it("say what computed their kernels, how long that took and was expected to take, and why", async () => {
    const [listed] = await place.json(["jobs", `000000${WITH_KERNELS}`]);
    expect(listed).toMatchObject({ kernels: KERNELS });
  });

  it("that nobody remembers are not found", async () => {
    const { err, status } = await place.run(["jobs", "nope"]);
    expect([err, status]).toEqual([
      'pfs: no job nope is remembered; "pfs jobs --all" lists those that are\n',
      3,
    ]);
  });
});
