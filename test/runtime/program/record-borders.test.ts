import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { recordsOfSplit } from "../../../runtime/program/record-borders.ts";
import { rowBytes } from "../../../runtime/program/readers.ts";
import type { BorderLimits, ReadBytes, Split } from "../../../runtime/program/record-borders.ts";
import { hasOddQuotes } from "../../../runtime/program/quote-parity.ts";
import type { ReaderSpec } from "../../../runtime/program/readers.ts";

type Csv = ReaderSpec & { kind: "csv" };
type Columns = ReaderSpec & { kind: "columns" };

const csv: Csv = { kind: "csv", separator: ",", header: false };
const headed: Csv = { ...csv, header: true };
const columns: Columns = {
  kind: "columns",
  fields: [
    { name: "id", type: "u16" },
    { name: "flag", type: "u8" },
  ],
};
const TEXT_READERS: readonly ReaderSpec[] = [{ kind: "blocks" }, { kind: "lines" }, { kind: "json-lines" }];
const LF = 10;
const QUOTE = 34;

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function readerOf(input: Uint8Array): ReadBytes {
  return async (start, end) => {
    if (start < 0 || start > end || end > input.byteLength) throw new Error(`read ${start}..${end} outside`);
    return input.subarray(start, end);
  };
}

function limitsOf(stepBytes: number, recordBytesMax = 1 << 20): BorderLimits {
  return { stepBytes, quoteStepBytes: stepBytes + 1, recordBytesMax };
}

/** What a reader makes of a whole input, found the plain way: byte by byte, from the beginning. */
interface Whole {
  /** Where each record begins, and where the last one ends. */
  readonly borders: readonly number[];
  /** Per byte, whether it begins inside quotes. */
  readonly quoted: readonly boolean[];
}

function wholeOf(reader: ReaderSpec, input: Uint8Array): Whole {
  const total = input.byteLength;
  const quoted: boolean[] = [];
  const borders: number[] = [];
  let size: number | undefined;
  if (reader.kind === "bytes") size = reader.size ?? 1;
  if (reader.kind === "columns") size = rowBytes(reader);
  if (size !== undefined) {
    for (let at = 0; at < total; at += size) borders.push(at);
  } else {
    const marked = input[0] === 0xef && input[1] === 0xbb && input[2] === 0xbf;
    let inside = false;
    let fresh = true;
    for (let at = 0; at < total; at++) {
      quoted.push(inside);
      if (marked && at < 3) continue;
      if (fresh) borders.push(at);
      if (reader.kind === "csv" && input[at] === QUOTE) inside = !inside;
      fresh = input[at] === LF && !inside;
    }
  }
  borders.push(total);
  return { borders, quoted };
}

/** Everything up to the end of the first record that is no empty line. */
function headerOf(input: Uint8Array, borders: readonly number[]): { start: number; end: number } {
  const texts = borders.map((border, index) =>
    Buffer.from(input.subarray(border, borders[index + 1])).toString(),
  );
  const index = texts.findIndex((text) => text !== "\n" && text !== "\r\n");
  return { start: borders[0]!, end: borders[index + 1]! };
}

/** Checks each of the splits that `cuts` make against what the whole input says. */
async function expectSplits(
  reader: ReaderSpec,
  input: Uint8Array,
  cuts: readonly number[],
  limits: BorderLimits,
): Promise<void> {
  const whole = wholeOf(reader, input);
  const edges = [0, ...cuts, input.byteLength];
  let covered = whole.borders[0]!;
  for (let index = 0; index + 1 < edges.length; index++) {
    const [start, end] = [edges[index]!, edges[index + 1]!];
    const split: Split = { start, end, total: input.byteLength, quoted: whole.quoted[start] ?? false };
    const records = await recordsOfSplit(reader, split, readerOf(input), limits);
    const first = whole.borders.findIndex((border) => border >= start);
    const behind = whole.borders.findIndex((border) => border >= end);
    const expected = [whole.borders[first]!, whole.borders[behind]!];
    const where = `${reader.kind} of ${JSON.stringify(Buffer.from(input).toString("latin1"))}, ${start}..${end}`;
    if (expected[0] === expected[1] || start === end) {
      expect(records.end - records.start, where).toBe(0);
      expect(records.header.end - records.header.start, where).toBe(0);
      continue;
    }
    expect([records.start, records.end], where).toEqual(expected);
    expect(records.start, where).toBe(covered);
    covered = records.end;
    const header = reader.kind === "csv" && reader.header ? headerOf(input, whole.borders) : undefined;
    if (header !== undefined && whole.borders[first]! >= header.end) {
      expect(records.header, where).toEqual(header);
    } else {
      expect(records.header.end, where).toBe(records.header.start);
    }
  }
  expect(covered).toBe(input.byteLength);
}

/** Every way to cut the input in two and in three. */
async function expectAllSplits(
  reader: ReaderSpec,
  input: Uint8Array,
  steps: readonly number[],
): Promise<void> {
  for (const step of steps) {
    for (let first = 0; first <= input.byteLength; first++) {
      for (let second = first; second <= input.byteLength; second++) {
        await expectSplits(reader, input, [first, second], limitsOf(step));
      }
    }
  }
}

const BOM = "\u{feff}";
const LINE_INPUTS = [
  "",
  "\n",
  "\r\n",
  "a",
  "a\n",
  "a\r\n",
  "\n\n\n",
  "\na\n\nbc\n",
  "one\ntwo\nthree",
  "one\r\ntwo\r\n\r\nthree\r\n",
  "\rcr\ralone\r",
  "a record longer than several splits\nb\n",
  "no delimiter at all",
  `${BOM}`,
  `${BOM}a\nb\n`,
  `${BOM}\nb`,
  `a${BOM}\n${BOM}b\n`,
  "ü\nßé\n😀\n",
];
const CSV_INPUTS = [
  ...LINE_INPUTS,
  'h1,h2\n1,"a\nb"\n2,c\n',
  '"h\n1",h2\r\n1,"a""\n""b"\r\n2,c\r\n',
  '"";"\n"\n"""\n"""\n',
  '"\n\n\n\n"\n"\n"',
  'a,"\r\n"\r\n"",\r\n"x"',
  '""""\n""\n"',
  `${BOM}"h",i\n"\n",2\n3,4`,
  `${BOM}\n\r\n\nh,i\n\n1,2\n`,
  "\r\n\n",
  "\r\r\nh\n1\n",
];

describe("records of a split", () => {
  it("are those that start in it, for every border position of adversarial texts", async () => {
    for (const text of LINE_INPUTS) {
      for (const reader of TEXT_READERS) await expectAllSplits(reader, bytesOf(text), [1, 64]);
    }
    for (const text of CSV_INPUTS) {
      for (const reader of [csv, headed]) await expectAllSplits(reader, bytesOf(text), [1, 3, 64]);
    }
  });

  it("are whole rows, for every border position", async () => {
    for (let rows = 0; rows < 7; rows++) {
      for (const reader of [columns, { kind: "bytes", size: 1 }, { kind: "bytes", size: 5 }] as const) {
        const size = reader.kind === "columns" ? rowBytes(reader) : reader.size;
        await expectAllSplits(reader, new Uint8Array(rows * size), [1]);
      }
    }
  });

  it("are exactly the split where bytes have no size", async () => {
    const input = bytesOf('\n"\n');
    const read = async (): Promise<never> => Promise.reject(new Error("nothing needs to be read"));
    for (let start = 0; start <= 3; start++) {
      for (let end = start; end <= 3; end++) {
        const split = { start, end, total: input.byteLength, quoted: false };
        const records = await recordsOfSplit({ kind: "bytes" }, split, read);
        expect([records.start, records.end]).toEqual([start, end]);
      }
    }
  });

  it("cover any text exactly once, whatever its borders and the size of a read", async () => {
    const text = fc.array(fc.constantFrom("\n", "\r\n", '"', '""', ",", "a", "bcdefgh", "é", BOM), {
      maxLength: 60,
    });
    const readers = fc.constantFrom<ReaderSpec>(...TEXT_READERS, csv, headed);
    const cuts = fc.array(fc.nat(400), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(
        text,
        readers,
        cuts,
        fc.integer({ min: 1, max: 20 }),
        async (parts, reader, at, step) => {
          const input = bytesOf(parts.join(""));
          const inside = at.map((cut) => cut % (input.byteLength + 1)).sort((a, b) => a - b);
          await expectSplits(reader, input, inside, limitsOf(step));
        },
      ),
      { numRuns: 1500 },
    );
  });

  it("cover a larger input exactly once with the real limits", async () => {
    const lines: string[] = [];
    for (let line = 0; line < 6000; line++) {
      lines.push(`${line},"${"x".repeat((line * 7919) % 90)}${line % 3 === 0 ? '""\n' : ""}",${line % 7}`);
    }
    lines[3000] = `3000,"${"long\n".repeat(60_000)}",0`;
    const input = bytesOf(`id,text,k\n${lines.join("\r\n")}`);
    for (const reader of [{ kind: "lines" }, csv, headed] as const) {
      const cuts = [...Array(40).keys()].map((n) => Math.floor((n * 48_271 * 997) % input.byteLength));
      const sorted = cuts.sort((a, b) => a - b);
      const limits = { stepBytes: 64 * 1024, quoteStepBytes: 1 << 20, recordBytesMax: 1 << 20 };
      await expectSplits(reader, input, sorted, limits);
    }
  });

  it("read what is around the borders, not the whole split", async () => {
    const line = `${"y".repeat(99)}\n`;
    const input = bytesOf(line.repeat(50_000));
    let bytesRead = 0;
    const read: ReadBytes = async (start, end) => {
      bytesRead += end - start;
      return input.subarray(start, end);
    };
    const split = { start: 1_000_001, end: 4_000_001, total: input.byteLength, quoted: false };
    const records = await recordsOfSplit({ kind: "lines" }, split, read);
    expect([records.start, records.end]).toEqual([1_000_100, 4_000_100]);
    expect(bytesRead).toBeLessThan(200_000);
  });
});

describe("records that are refused", () => {
  const limits = limitsOf(3, 10);

  function settle(reader: ReaderSpec, text: string, start: number, end: number): Promise<unknown> {
    const input = bytesOf(text);
    return recordsOfSplit(
      reader,
      { start, end, total: input.byteLength, quoted: false },
      readerOf(input),
      limits,
    );
  }

  it("reach beyond their split by more than the limit, and by no byte less", async () => {
    for (const reader of [...TEXT_READERS, csv]) {
      // The LF is the tenth byte behind the split, then the eleventh.
      await expect(settle(reader, `ab${"c".repeat(9)}\nd\n`, 0, 2)).resolves.toMatchObject({ end: 12 });
      const refused = { code: "PFS_RECORD_INVALID", data: { at: 2 } };
      await expect(settle(reader, `ab${"c".repeat(10)}\nd\n`, 0, 2)).rejects.toMatchObject(refused);
      // At the end of the input no LF is needed.
      await expect(settle(reader, `ab${"c".repeat(10)}`, 0, 2)).resolves.toMatchObject({ end: 12 });
      await expect(settle(reader, `ab${"c".repeat(11)}`, 0, 2)).rejects.toMatchObject(refused);
    }
  });

  it("are those of the split they start in alone: the splits in their midst are empty", async () => {
    const records = await settle({ kind: "lines" }, `a${"b".repeat(30)}\nc\n`, 8, 12);
    expect(records).toMatchObject({ start: 8, end: 8 });
  });

  it("have a header record that is too long", async () => {
    const text = `${"h".repeat(12)}\n1\n2\n`;
    await expect(settle(headed, text, 14, 16)).rejects.toMatchObject({ code: "PFS_RECORD_INVALID" });
  });

  it("are rows cut off by the end of the input", async () => {
    const split = { start: 3, end: 7, total: 8, quoted: false };
    const read = readerOf(new Uint8Array(8));
    const refused = { code: "PFS_RECORD_INVALID", data: { at: 6 } };
    await expect(recordsOfSplit(columns, split, read)).rejects.toMatchObject(refused);
    await expect(recordsOfSplit(columns, { ...split, start: 0, end: 6 }, read)).resolves.toMatchObject({
      end: 6,
    });
    // Nothing starts in the last byte, so nothing is wrong with its split.
    await expect(recordsOfSplit(columns, { ...split, start: 7, end: 8 }, read)).resolves.toMatchObject({
      end: 7,
    });
  });

  it("pass on what reading rejects with", async () => {
    const read = async (): Promise<never> => Promise.reject(new Error("gone"));
    const split = { start: 5, end: 10, total: 20, quoted: false };
    for (const reader of [...TEXT_READERS, csv, headed]) {
      await expect(recordsOfSplit(reader, split, read)).rejects.toThrow("gone");
    }
  });
});

describe("hasOddQuotes", () => {
  it("agrees with counting, at every alignment", () => {
    const bytes = fc.array(fc.constantFrom(0x22, 0x21, 0x23, 0xa2, 0x02, 0, 0xff, 0x80), { maxLength: 70 });
    fc.assert(
      fc.property(bytes, fc.nat(5), (values, offset) => {
        const buffer = new Uint8Array(values.length + offset);
        buffer.set(values, offset);
        const count = values.filter((value) => value === QUOTE).length;
        expect(hasOddQuotes(buffer.subarray(offset))).toBe(count % 2 === 1);
      }),
    );
  });
});
