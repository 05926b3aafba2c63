import { describe, expect, test } from "vitest";
import { Flag, Op } from "../../../packets/layout.ts";
import { decodePacket } from "../../../packets/packet.ts";
import { JOB_TASKS_MAX, SPLIT_BYTES_MAX, SPLIT_BYTES_MIN } from "../../../runtime/limits.ts";
import { parseQuoteCount, quotedSplits, selectSplits, splitsToScan } from "../../../runtime/job/splits.ts";
import { encodeSplits, planSplits } from "../../../runtime/job/splits.ts";
import type { JobInput } from "../../../runtime/contracts/jobs.ts";
import type { SplitOptions, Splits } from "../../../runtime/job/splits.ts";

const LINES: SplitOptions = { reader: { kind: "lines" }, slots: 2 };

function inputOf(length: number, fill = 1): JobInput {
  return { name: `${fill}`, root: new Uint8Array(32).fill(fill), length };
}

/** Each input is covered by its splits, in order and without gaps. */
function expectCovered(splits: Splits, inputs: readonly JobInput[]): void {
  const ends = inputs.map(() => 0);
  for (let task = 0; task < splits.count; task++) {
    const input = splits.input[task]!;
    expect(splits.from[task]).toBe(ends[input]);
    expect(splits.length[task]).toBeGreaterThan(0);
    ends[input]! += splits.length[task]!;
  }
  expect(ends).toEqual(inputs.map(({ length }) => length));
}

describe("the size of splits", () => {
  test("no splits without bytes", () => {
    expect(planSplits([], LINES).count).toBe(0);
    expect(planSplits([inputOf(0), inputOf(0)], LINES)).toMatchObject({ count: 0, bytes: 0 });
  });

  test("several a slot, and neither tiny nor huge", () => {
    for (const length of [1, 1000, 100_000, 3_000_000, 50_000_000, 5_000_000_000]) {
      for (const slots of [1, 4, 64]) {
        const inputs = [inputOf(length)];
        const splits = planSplits(inputs, { ...LINES, slots });
        expectCovered(splits, inputs);
        const largest = splits.length.reduce((a, b) => Math.max(a, b), 0);
        expect(largest).toBeLessThanOrEqual(SPLIT_BYTES_MAX);
        if (splits.count > 1) expect(largest).toBeGreaterThanOrEqual(SPLIT_BYTES_MIN);
        if (largest > SPLIT_BYTES_MIN && largest < SPLIT_BYTES_MAX) {
          expect(splits.count / slots).toBeGreaterThanOrEqual(4);
          expect(splits.count / slots).toBeLessThanOrEqual(8);
        }
      }
    }
  });

  test("many inputs: each is split on its own, empty ones are not", () => {
    const inputs = [inputOf(200_000), inputOf(0), inputOf(1), inputOf(70_000)];
    const splits = planSplits(inputs, { ...LINES, splitBytes: 65_536 });
    expectCovered(splits, inputs);
    expect([...splits.input]).toEqual([0, 0, 0, 0, 2, 3, 3]);
  });

  test("records of fixed size straddle no split", () => {
    const reader = {
      kind: "columns",
      fields: [
        { name: "a", type: "u64" },
        { name: "b", type: "u8" },
      ],
    } as const;
    for (const splitBytes of [undefined, 1, 100, 70_000]) {
      const options = { reader, slots: 4, ...(splitBytes === undefined ? {} : { splitBytes }) };
      const splits = planSplits([inputOf(9 * 100_000)], options);
      expect(splits.from.every((from) => from % 9 === 0)).toBe(true);
    }
    const sized = planSplits([inputOf(1_000_000)], { reader: { kind: "bytes", size: 1000 }, slots: 4 });
    expect(sized.from.every((from) => from % 1000 === 0)).toBe(true);
  });

  test("petabytes make as many tasks as a job may have, and no more", () => {
    const splits = planSplits([inputOf(2 ** 50), inputOf(1)], LINES);
    expect(splits.count).toBeLessThanOrEqual(JOB_TASKS_MAX);
    expect(splits.count).toBeGreaterThan(JOB_TASKS_MAX / 2);
  });

  test("a size that makes too many tasks is refused before anything is allocated", () => {
    expect(() => planSplits([inputOf(2 ** 53 - 1)], { ...LINES, splitBytes: 1 })).toThrow(
      expect.objectContaining({
        code: "PFS_JOB_OVER_LIMIT",
        data: { tasks: 2 ** 53 - 1, max: JOB_TASKS_MAX },
      }),
    );
  });

  test("as packets", () => {
    const inputs = [inputOf(10, 1), inputOf(5, 2)];
    const splits = planSplits(inputs, { ...LINES, splitBytes: 8 });
    const frame = encodeSplits(splits, inputs, Uint8Array.of(0, 1, 0));
    expect([0, 1, 2].map((task) => decodePacket(frame, task))).toMatchObject([
      { op: Op.EXEC, flags: Flag.STREAM, at: 0, from: 0, length: 8, ref: inputs[0]!.root },
      { op: Op.EXEC, flags: Flag.STREAM | Flag.QUOTED, at: 1, from: 8, length: 2, ref: inputs[0]!.root },
      { op: Op.EXEC, flags: Flag.STREAM, at: 2, from: 0, length: 5, ref: inputs[1]!.root },
    ]);
  });
});

describe("quoted splits", () => {
  /** The state at each split by counting all quotes before it in its file. */
  function quotedByReading(splits: Splits, texts: readonly string[]): number[] {
    return Array.from({ length: splits.count }, (_, task) => {
      const before = texts[splits.input[task]!]!.slice(0, splits.from[task]);
      return before.split('"').length % 2 === 0 ? 1 : 0;
    });
  }

  test("parities add up within a file and begin anew with the next", () => {
    const texts = ['a,"b\n"",c"\n"d\ne"\n', "", '"""x""\n",y\n', 'q"', "plain\ntext\n"];
    for (let splitBytes = 1; splitBytes < 10; splitBytes++) {
      const inputs = texts.map((text) => inputOf(text.length));
      const splits = planSplits(inputs, { ...LINES, splitBytes });
      const scanned = splitsToScan(splits);
      const selected = selectSplits(splits, scanned);
      const counts = Float64Array.from({ length: selected.count }, (_, index) => {
        const from = selected.from[index]!;
        const part = texts[selected.input[index]!]!.slice(from, from + selected.length[index]!);
        return part.split('"').length - 1;
      });
      expect([...quotedSplits(splits, scanned, counts)]).toEqual(quotedByReading(splits, texts));
    }
  });

  test("one split a file needs no scan", () => {
    expect(splitsToScan(planSplits([inputOf(5), inputOf(6)], LINES))).toHaveLength(0);
  });

  test("a scan that yields no number is a defect", () => {
    expect(parseQuoteCount("12")).toBe(12);
    for (const text of ["", "-1", "1.5", "1e3", "99999999999999999", "NaN"]) {
      expect(() => parseQuoteCount(text)).toThrow(expect.objectContaining({ code: "PFS_INTERNAL" }));
    }
  });
});
