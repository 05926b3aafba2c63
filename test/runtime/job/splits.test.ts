import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Flag, Op } from "../../../packets/layout.ts";
import { decodePacket } from "../../../packets/packet.ts";
import { CsvRows, SCAN_BYTES_MAX, decodeScan, encodeScan } from "../../../runtime/program/csv-rows.ts";
import {
  CODE_SPLIT_BYTES,
  GROUPS_SPLIT_BYTES_MIN,
  JOB_TASKS_MAX,
  SPLITS_MANY,
  SPLIT_BYTES_MAX,
  SPLIT_BYTES_MIN,
} from "../../../runtime/limits.ts";
import {
  SplitPackets,
  inputsToCut,
  planSplits as planning,
  scannedRows,
  selectSplits,
  splitsToScan,
} from "../../../runtime/job/splits.ts";
import type { JobInput } from "../../../runtime/contracts/jobs.ts";
import type { LeafBorders } from "../../../runtime/stream/leaves.ts";
import { Random } from "../../sim/random.ts";
import { finished } from "../../suites/finished.ts";
import type { SplitOptions, Splits } from "../../../runtime/job/splits.ts";

const planSplits = (...of: Parameters<typeof planning>): Splits => finished(planning(...of));
function encodeSplits(...of: ConstructorParameters<typeof SplitPackets>): Uint8Array {
  const packets = new SplitPackets(...of);
  const frame = new Uint8Array(packets.count * 64);
  packets.write(
    Uint32Array.from({ length: packets.count }, (_, task) => task),
    frame,
  );
  return frame;
}

const LINES: SplitOptions = { reader: { kind: "lines" }, yields: "value" };

function inputOf(length: number, fill = 1): JobInput {
  return { name: `${fill}`, root: new Uint8Array(32).fill(fill), length };
}

/** Leaves as long as a chunker makes them. */
function leavesOf(length: number, seed: number): LeafBorders {
  const random = new Random(seed);
  const at: number[] = [];
  for (let place = random.integer(16_384, 110_000); place < length; place += random.integer(16_384, 110_000))
    at.push(place);
  const rank = Uint32Array.from(at, () => random.integer(0, 2 ** 32 - 1));
  return { at: Float64Array.from(at), rank };
}

/** The leaves after `bytes` were inserted at `place`: the one there is another, and one more. */
function inserted({ at, rank }: LeafBorders, place: number, bytes: number, random: Random): LeafBorders {
  const index = at.findIndex((border) => border > place);
  const places = [...at].map((border) => (border > place ? border + bytes : border));
  const ranks = [...rank];
  ranks[index - 1] = random.integer(0, 2 ** 32 - 1);
  places.splice(index, 0, place + bytes / 2);
  ranks.splice(index, 0, random.integer(0, 2 ** 32 - 1));
  return { at: Float64Array.from(places), rank: Uint32Array.from(ranks) };
}

/** Each input is covered by its splits, in order and without gaps. */
function expectCovered(splits: Splits, inputs: readonly JobInput[]): void {
  const ends = inputs.map(() => 0);
  const wrong: number[] = [];
  for (let task = 0; task < splits.count; task++) {
    const input = splits.input[task]!;
    if (splits.from[task] !== ends[input] || !(splits.length[task]! > 0)) wrong.push(task);
    ends[input]! += splits.length[task]!;
  }
  expect(wrong).toEqual([]);
  expect(ends).toEqual(inputs.map(({ length }) => length));
}

describe("the size of splits", () => {
  test("no splits without bytes", () => {
    expect(planSplits([], LINES).count).toBe(0);
    expect(planSplits([inputOf(0), inputOf(0)], LINES)).toMatchObject({ count: 0, bytes: 0 });
  });

  test("follow from the length: about so many while that makes them neither tiny nor huge", () => {
    for (const yields of ["value", "groups", "bytes"] as const) {
      for (let length = 1; length < 2 ** 40; length = Math.ceil(length * 2.3)) {
        const inputs = [inputOf(length)];
        const splits = planSplits(inputs, { ...LINES, yields });
        expectCovered(splits, inputs);
        const largest = splits.length.reduce((a, b) => Math.max(a, b), 0);
        const least = yields === "groups" ? GROUPS_SPLIT_BYTES_MIN : SPLIT_BYTES_MIN;
        if (length > 3 * least) expect(largest).toBeGreaterThanOrEqual(least);
        if (length > 64 * least) expect(splits.count).toBeGreaterThan(yields === "groups" ? 8 : 10);
        if (length < SPLITS_MANY * SPLIT_BYTES_MAX) expect(splits.count).toBeLessThan(2 * SPLITS_MANY);
        expect(largest).toBeLessThanOrEqual(1.5 * SPLIT_BYTES_MAX);
      }
    }
  });

  test("of groups: larger ones instead of more of them, once there are enough for many workers", () => {
    for (let length = 2 ** 24; length < 2 ** 42; length = Math.ceil(length * 1.3)) {
      const { count, length: lengths } = planSplits([inputOf(length)], { ...LINES, yields: "groups" });
      const largest = lengths.reduce((a, b) => Math.max(a, b), 0);
      expect(count).toBeGreaterThanOrEqual(length <= 2 ** 27 ? 9 : 38);
      expect(largest).toBeLessThanOrEqual(length / 6);
      if (count > 82) expect(largest).toBeGreaterThanOrEqual(SPLIT_BYTES_MAX);
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
      const inputs = [inputOf(9 * 100_000)];
      const splits = planSplits(inputs, { reader, yields: "value", splitBytes }, [leavesOf(900_000, 5)]);
      expectCovered(splits, inputs);
      expect(splits.from.every((from) => from % 9 === 0)).toBe(true);
    }
    const reading = { reader: { kind: "bytes", size: 1000 }, yields: "value" } as const;
    const sized = planSplits([inputOf(1_000_000)], reading);
    expect(sized.from.every((from) => from % 1000 === 0)).toBe(true);
  });

  test("records longer than a split would be end where the file does", () => {
    for (const reader of [
      { kind: "block", size: 2 ** 24 },
      { kind: "matrix", type: "f32", columns: 256, rows: 16_384 },
      { kind: "bytes", size: 2 ** 24 },
    ] as const) {
      for (const length of [2 ** 24 - 1024, 2 ** 24, 2 ** 24 + 1024, 5 * 2 ** 24 + 2 ** 20]) {
        const inputs = [inputOf(length), inputOf(1024)];
        const splits = planSplits(inputs, { reader, yields: "value" });
        expectCovered(splits, inputs);
        expect(splits.from.every((from) => from % 2 ** 24 === 0)).toBe(true);
      }
    }
  });

  test("petabytes make as many tasks as a job may have, and no more", () => {
    const splits = planSplits([inputOf(2 ** 50), inputOf(1)], LINES);
    expect(splits.count).toBeLessThanOrEqual(JOB_TASKS_MAX);
    expect(splits.count).toBeGreaterThan(JOB_TASKS_MAX / 4);
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
    const frame = encodeSplits(splits, inputs, [undefined, { from: 7, length: 3, whole: true }]);
    expect([0, 1, 2].map((task) => decodePacket(frame, task))).toMatchObject([
      { op: Op.EXEC, flags: Flag.STREAM, at: 0, from: 0, length: 8, ref: inputs[0]!.root },
      { op: Op.EXEC, flags: Flag.STREAM | Flag.WHOLE, at: 1, from: 7, length: 3, ref: inputs[0]!.root },
      { op: Op.EXEC, flags: Flag.STREAM, at: 2, from: 0, length: 5, ref: inputs[1]!.root },
    ]);
  });
});

describe("the plan", () => {
  const shapes = fc.record({
    lengths: fc.array(fc.integer({ min: 0, max: 80_000_000 }), { minLength: 1, maxLength: 4 }),
    yields: fc.constantFrom("value" as const, "groups" as const, "bytes" as const),
    reader: fc.constantFrom<SplitOptions["reader"]>(
      { kind: "lines" },
      { kind: "blocks" },
      { kind: "csv", separator: ",", header: true },
      { kind: "bytes", size: 1000 },
    ),
    splitBytes: fc.option(fc.integer({ min: 50_000, max: 9_000_000 }), { nil: undefined }),
    seed: fc.integer({ min: 1, max: 1000 }),
  });

  test("is a function of lengths, leaves, reader and options: covers everything, within its sizes, always alike", () => {
    fc.assert(
      fc.property(shapes, ({ lengths, seed, ...options }) => {
        const inputs = lengths.map((length, index) => inputOf(length, index + 1));
        const borders = lengths.map((length, index) => leavesOf(length, seed + index));
        const splits = planSplits(inputs, options, borders);
        expectCovered(splits, inputs);
        expect(planSplits(inputs, options, borders)).toEqual(splits);
        // Only the borders that were asked for matter.
        const asked = inputsToCut(inputs, options);
        const some = borders.map((each, index) => (asked.includes(index) ? each : undefined));
        expect(planSplits(inputs, options, some)).toEqual(splits);
        if (options.splitBytes !== undefined) expect(asked).toEqual([]);
        // Neither names nor roots do.
        const renamed = inputs.map((input) => ({ ...input, name: "x", root: new Uint8Array(32) }));
        expect(planSplits(renamed, options, borders)).toEqual(splits);
      }),
      { numRuns: 300 },
    );
  });

  test("ends splits where leaves meet, so an insertion moves a border or two and not all", () => {
    const seeds = 100;
    for (const length of [3_000_000, 20_000_000, 300_000_000]) {
      for (const yields of ["value", "groups"] as const) {
        let moved = 0;
        for (let seed = 1; seed <= seeds; seed++) {
          const leaves = leavesOf(length, seed);
          const options = { ...LINES, yields };
          const before = planSplits([inputOf(length)], options, [leaves]);
          const met = new Set(leaves.at);
          const elsewhere = [...before.from].filter((from) => from > 0 && !met.has(from));
          expect(elsewhere.length).toBeLessThan(before.count / 4);
          const place = 10_000 + leaves.at[Math.floor(leaves.at.length * 0.4)]!;
          const more = inserted(leaves, place, 1000, new Random(seed));
          const after = planSplits([inputOf(length + 1000)], options, [more]);
          const known = new Set([...before.from].map((from) => (from > place ? from + 1000 : from)));
          moved += [...after.from].filter((from) => !known.has(from)).length;
        }
        expect(moved / seeds).toBeLessThan(2);
      }
    }
  });

  test("keeps 64 lanes at least 80 % busy on 256 MB, and two lanes with few splits", () => {
    for (const yields of ["value", "groups"] as const) {
      for (let seed = 1; seed <= 20; seed++) {
        const length = 256_000_000;
        const splits = planSplits([inputOf(length)], { ...LINES, yields }, [leavesOf(length, seed)]);
        const lanes = new Float64Array(64);
        for (const bytes of splits.length) lanes[lanes.indexOf(Math.min(...lanes))]! += bytes;
        expect(length / (64 * Math.max(...lanes))).toBeGreaterThanOrEqual(0.8);
        expect(splits.count).toBeLessThan(yields === "groups" ? 100 : 400);
      }
    }
  });
});

describe("splits of CSV", () => {
  test("have the rows that their scans add up to, file by file", () => {
    const spec = { kind: "csv", separator: ",", header: false } as const;
    const texts = ['a,"b\n"",c"\n"d\ne"\r\nx', "", '"""x""\n",y\ry\n', "one split", '"q"\r\n\r'];
    for (let splitBytes = 1; splitBytes < 10; splitBytes++) {
      const inputs = texts.map((text) => inputOf(text.length));
      const splits = planSplits(inputs, { ...LINES, splitBytes });
      const scanned = splitsToScan(splits);
      const selected = selectSplits(splits, scanned);
      const scans = Array.from({ length: selected.count }, (_, index) => {
        const from = selected.from[index]!;
        const part = texts[selected.input[index]!]!.slice(from, from + selected.length[index]!);
        const scanner = new CsvRows(spec).scan(0);
        scanner.push(new TextEncoder().encode(part));
        return scanner.result();
      });
      const rows = scannedRows(splits, scanned, scans);
      texts.forEach((text, input) => {
        const own = rows.filter((range, task) => range !== undefined && splits.input[task] === input);
        if (text.length <= splitBytes) return expect(own).toEqual([]);
        const parts = own.map((range) => text.slice(range!.from, range!.from + range!.length));
        expect(parts.join("")).toBe(text);
        // Where a part begins, so does a row: quotes are even before it, and a line end stands there.
        own.forEach((range) => {
          const before = text.slice(0, range!.from);
          if (range!.length === 0 || before === "") return;
          expect(before.split('"').length % 2).toBe(1);
          expect(before).toMatch(/[\r\n]$/);
          expect(before.endsWith("\r") && text[range!.from] === "\n").toBe(false);
        });
      });
    }
  });

  test("that are one a file need no scan", () => {
    expect(splitsToScan(planSplits([inputOf(5), inputOf(6)], LINES))).toHaveLength(0);
  });

  test("have scans that are told from what is none", () => {
    const scanner = new CsvRows({ kind: "csv", separator: ",", header: false }).scan(0);
    scanner.push(new TextEncoder().encode("ab\nc"));
    const good = encodeScan(scanner.result());
    expect(good.byteLength).toBeLessThanOrEqual(SCAN_BYTES_MAX);
    expect(decodeScan(good, 5)).toEqual(scanner.result());
    const bad = [new Uint8Array(), good.subarray(1), good.with(0, 0xff), good.with(5, 9), good.with(9, 0x7f)];
    for (const bytes of bad) expect(decodeScan(bytes, 5), bytes.join()).toBe(undefined);
  });
});

test("packet code gets large splits, of which rows and sizes alone say where they end", () => {
  const code: SplitOptions = { reader: { kind: "bytes", size: 12 }, yields: "value", kind: "code" };
  const inputs = [inputOf(1_000_000_000), inputOf(5)];
  expect(inputsToCut(inputs, code)).toEqual([]);
  const { count, from, length } = planSplits(inputs, code);
  expect(count).toBeLessThan(100);
  expect(Math.max(...length)).toBeLessThanOrEqual(CODE_SPLIT_BYTES * 1.5);
  expect([...from].every((at) => at % 12 === 0)).toBe(true);
  expect(length.reduce((sum, bytes) => sum + bytes, 0)).toBe(1_000_000_005);
});
