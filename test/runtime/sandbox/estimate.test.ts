/** What an estimate packet says of a program: the calls of kernels that it would make, with nothing computed. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { KERNELS_MAX } from "../../../runtime/limits.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { bundleProgram } from "../../../sdk/programs/bundle.ts";
import { runFrame, startExecutor } from "./harness.ts";
import type { PacketResult } from "./harness.ts";

let executor: ExecutorProcess;
beforeAll(async () => {
  executor = await startExecutor();
});
afterAll(async () => {
  await executor.close();
});

let lane = 1000;

/** Runs a program of the rows of a matrix as an estimate. */
async function estimate(map: string, rows: number, more = ""): Promise<PacketResult> {
  const { code } = await bundleProgram({
    source: `import { defineKernel, defineProgram, f32, i32, matrix, u32 } from "packetfs";
      const scale = defineKernel({
        kind: "js",
        inputs: { rows: f32(["n", 4]), by: f32(["m"]), least: i32(), most: u32(), part: f32() },
        output: f32(["n"]),
        result: { relL2: 1e-6, abs: 1e-6 },
        source(rows, by, least, most, part) { return rows[this.thread.x][0] * by[0]; },
        cpu: () => { throw new Error("computed"); },
      });
      export default defineProgram({
        input: matrix({ type: "f32", columns: 4, rows: 10 }), ${more}
        map: (block, context) => { ${map} },
      });`,
  });
  const description = await executor.inspect(code);
  const number = ++lane;
  await executor.load(number, { name: "estimated", code, entry: "estimate", description, args: "null" });
  try {
    const [result] = await runFrame(executor, number, [{ bytes: Buffer.alloc(rows * 16) }]);
    return result!;
  } finally {
    executor.unload(number);
  }
}

const CALL = "scale({ rows: block, by: [1, 2], least: -3, most: 7, part: 0.5 })";

describe("an estimate", () => {
  test("has the first call of each record, with its dimensions, its whole numbers and where its inputs are", async () => {
    const { status, text } = await estimate(`return ${CALL}[0];`, 25);
    const call = (n: number): object => ({
      kernel: 0,
      dimensions: { m: 2, n },
      scalars: { least: 0, most: 7 },
      inputs: ["range", "call", "call", "call", "call"],
    });
    expect([status, JSON.parse(text)]).toEqual([0, [call(10), call(10), call(5)]]);
  });

  test("has nothing else of what the program did, and none where it calls nothing", async () => {
    for (const more of ['yields: "bytes",', 'yields: "groups",', ""]) {
      const before = more.includes("bytes")
        ? 'context.write("x");'
        : more === ""
          ? ""
          : 'context.emit("x", 1);';
      const called = await estimate(`${before} ${CALL}; console.log("not reached");`, 10, more);
      expect([called.status, JSON.parse(called.text)]).toMatchObject([0, [{ kernel: 0 }]]);
      expect(called.log).toBeUndefined();
      const silent = await estimate(before, 10, more);
      expect([silent.status, silent.text]).toEqual([0, "[]"]);
    }
  });

  test("goes on behind what a program catches, and is not longer than programs have kernels", async () => {
    const caught = await estimate(`try { ${CALL} } catch {} ${CALL};`, 10);
    expect(JSON.parse(caught.text)).toHaveLength(2);
    const many = await estimate(`for (let i = 0; i < 10; i++) { try { ${CALL} } catch {} }`, 1000);
    expect(many.status).toBe(0);
    expect(JSON.parse(many.text)).toHaveLength(KERNELS_MAX);
  });

  test("fails as the program fails", async () => {
    const threw = await estimate('throw new TypeError("mine");', 10);
    expect([threw.status, threw.text]).toEqual([FaultCode.threw, expect.stringContaining("mine")]);
  });
});
