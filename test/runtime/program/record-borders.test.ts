/** Which records belong to which split, at every border of adversarial inputs, against readers that go byte by byte. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { recordsOfSplit } from "../../../runtime/program/record-borders.ts";
import type { BorderLimits, ReadBytes, SplitRecords } from "../../../runtime/program/record-borders.ts";
import { bordersOf } from "../../../runtime/program/readers.ts";
import type { ReaderSpec } from "../../../runtime/program/readers.ts";

const columns: ReaderSpec = {
  kind: "columns",
  fields: [
    { name: "id", type: "u16" },
    { name: "flag", type: "u8" },
  ],
};
const csv = { kind: "csv", separator: ",", header: false } as const;
const headed = { ...csv, header: true } as const;
const LINES: readonly ReaderSpec[] = [{ kind: "blocks" }, { kind: "lines" }, { kind: "json-lines" }];

function separated(separator: string, overlapBytes?: number): ReaderSpec {
  const hex = Buffer.from(separator, "latin1").toString("hex");
  const spec = { kind: "records", separator: hex } as const;
  return overlapBytes === undefined ? spec : { ...spec, overlapBytes };
}

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
  return { stepBytes, recordBytesMax };
}

/** Where each record begins, found the plain way, and where the last one ends. */
function bordersIn(reader: ReaderSpec, input: Uint8Array): number[] {
  const total = input.byteLength;
  const by = bordersOf(reader);
  if (by.by === "split" || by.by === "rows") throw new Error("splits themselves say where their records are");
  const found: number[] = [];
  if (by.by === "size") {
    for (let at = 0; at < total; at += by.size) found.push(at);
    return [...found, total];
  }
  const { separator, encoding } = by;
  const marks = {
    "utf-8": [0xef, 0xbb, 0xbf],
    "utf-16le": [0xff, 0xfe],
    "utf-16be": [0xfe, 0xff],
    latin1: [],
  };
  const mark = encoding === undefined ? [] : marks[encoding];
  const start = mark.every((byte, at) => input[at] === byte) ? mark.length : 0;
  const unit = encoding?.startsWith("utf-16") === true ? 2 : 1;
  // Bytes that separators cover; a record begins where one ends and none goes on.
  const inside = new Uint8Array(total + 1);
  for (let at = start; at + separator.byteLength <= total; at++) {
    if (at % unit !== 0 || !separator.every((byte, index) => input[at + index] === byte)) continue;
    inside[at + separator.byteLength] = Math.max(1, inside[at + separator.byteLength]!);
    for (let index = at + 1; index < at + separator.byteLength; index++) inside[index] = 2;
  }
  if (start < total) found.push(start);
  for (let at = start + 1; at < total; at++) if (inside[at] === 1) found.push(at);
  return [...found, total];
}

async function expectSplits(
  reader: ReaderSpec,
  input: Uint8Array,
  cuts: readonly number[],
  limits: BorderLimits,
): Promise<void> {
  const total = input.byteLength;
  const borders = bordersIn(reader, input);
  const by = bordersOf(reader);
  const overlap = by.by === "size" || by.by === "separator" ? by.overlapBytes : 0;
  const edges = [0, ...cuts, total];
  let covered = borders[0]!;
  for (let index = 0; index + 1 < edges.length; index++) {
    const [start, end] = [edges[index]!, edges[index + 1]!];
    const records = await recordsOfSplit(
      reader,
      { start, end, total, whole: false },
      readerOf(input),
      limits,
    );
    const first = borders.find((border) => border >= start)!;
    const behind = borders.find((border) => border >= end)!;
    const where = `${JSON.stringify(reader)} of ${JSON.stringify(Buffer.from(input).toString("latin1"))}, ${start}..${end}`;
    if (first === behind || start === end) {
      expect(records.end - records.start, where).toBe(0);
      continue;
    }
    expect([records.start, records.end], where).toEqual([first, behind]);
    expect(records.tailBytes, where).toBe(Math.min(overlap, total - behind));
    expect(records.start, where).toBe(covered);
    covered = records.end;
  }
  expect(covered).toBe(total);
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
const TEXTS = [
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

describe("records of a split", () => {
  it("are those that start in it, for every border position of adversarial texts", async () => {
    for (const text of TEXTS) {
      for (const reader of LINES) await expectAllSplits(reader, bytesOf(text), [1, 64]);
    }
  });

  it.each(["aba", "aa", "\n\n", "ab", "a", "abab", "\n>"])(
    "stand between any bytes: %j",
    async (separator) => {
      const texts = [
        separator,
        `${separator}${separator}x`,
        "ababababa",
        "aaaaaaa",
        "a\n\n\n\nb\n\nc\n\n\n",
        "xabaybabaz",
        ">a\nC\n>b\n\n>",
        "aab\n>a",
      ];
      for (const text of texts) {
        for (const overlap of [undefined, 1, 5]) {
          await expectAllSplits(separated(separator, overlap), bytesOf(text), [1, 64]);
        }
      }
    },
  );

  it.each(["utf-16le", "utf-16be"] as const)(
    "respect the two bytes of a character in %s",
    async (encoding) => {
      // Characters whose bytes, shifted by one, look like line ends.
      const text = `${BOM}a\n\u0a00\u000a\u0a0a\u0d0a\u000d\u000ab\u0a00`;
      for (const whole of [text, text.slice(1), "", BOM, "\n", `${text}\n\n`]) {
        const little = Buffer.from(whole, "utf16le");
        const bytes = encoding === "utf-16le" ? little : Buffer.from(little).swap16();
        for (const odd of [bytes, Buffer.concat([bytes, Buffer.from([0x0a])])]) {
          await expectAllSplits({ kind: "lines", encoding }, odd, [1, 3, 64]);
        }
      }
    },
  );

  it("are rows of a size, the last of bytes cut short", async () => {
    for (let bytes = 0; bytes < 17; bytes++) {
      for (const reader of [
        { kind: "bytes", size: 1 },
        { kind: "bytes", size: 5, overlapBytes: 3 },
      ] as const) {
        await expectAllSplits(reader, new Uint8Array(bytes), [1]);
      }
      if (bytes % 3 === 0) await expectAllSplits(columns, new Uint8Array(bytes), [1]);
    }
  });

  it("are exactly the split where bytes have no size", async () => {
    const read = async (): Promise<never> => Promise.reject(new Error("nothing needs to be read"));
    for (let start = 0; start <= 3; start++) {
      for (let end = start; end <= 3; end++) {
        const records = await recordsOfSplit({ kind: "bytes" }, { start, end, total: 3, whole: false }, read);
        expect([records.start, records.end]).toEqual([start, end]);
      }
    }
  });

  it("cover any input exactly once, whatever its borders and the size of a read", async () => {
    const parts = fc.array(fc.constantFrom("\n", "\r\n", "aa", "ab", "a", "bcdefgh", "é", BOM, "\0"), {
      maxLength: 60,
    });
    const separators = ["aa", "aba", "\n\n", "b"].map((separator) => separated(separator, 4));
    const wide: ReaderSpec[] = [
      { kind: "lines", encoding: "utf-16le" },
      { kind: "lines", encoding: "utf-16be" },
    ];
    const readers = fc.constantFrom<ReaderSpec>(...LINES, ...separators, ...wide, { kind: "bytes", size: 7 });
    const cuts = fc.array(fc.nat(400), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(
        parts,
        readers,
        cuts,
        fc.integer({ min: 1, max: 20 }),
        async (texts, reader, at, step) => {
          const input = bytesOf(texts.join(""));
          // What is another encoding's mark is refused.
          if (reader.kind === "lines" && reader.encoding !== undefined && input[0]! >= 0xef) return;
          const inside = at.map((cut) => cut % (input.byteLength + 1)).sort((a, b) => a - b);
          await expectSplits(reader, input, inside, limitsOf(step));
        },
      ),
      { numRuns: 2000 },
    );
  });

  it("read what is around the borders and the beginning, not the whole split", async () => {
    const line = `${"y".repeat(99)}\n`;
    const input = bytesOf(line.repeat(50_000));
    let bytesRead = 0;
    const read: ReadBytes = async (start, end) => {
      bytesRead += end - start;
      return input.subarray(start, end);
    };
    const split = { start: 1_000_001, end: 4_000_001, total: input.byteLength, whole: false };
    const records = await recordsOfSplit({ kind: "lines" }, split, read);
    expect([records.start, records.end]).toEqual([1_000_100, 4_000_100]);
    expect(bytesRead).toBeLessThan(200_000);
  });
});

describe("rows of CSV", () => {
  function settle(
    reader: ReaderSpec,
    text: string,
    start: number,
    end: number,
    whole = false,
  ): Promise<object> {
    const input = bytesOf(text);
    return recordsOfSplit(
      reader,
      { start, end, total: input.byteLength, whole },
      readerOf(input),
      limitsOf(4),
    );
  }

  it("are the whole range where a scan has settled it, behind what stands before the rows", async () => {
    const text = `${BOM}sep=;\r\n\n"h\n1";h2\r\n1;2\r\n3;4`;
    const header = bytesOf(text.slice(0, text.indexOf("1;2"))).byteLength;
    const total = bytesOf(text).byteLength;
    const line = { start: 0, end: 10 };
    // The byte order mark, the line and the rows.
    expect(await settle(headed, text, 0, header, true)).toEqual({
      start: 10,
      end: header,
      prefix: line,
      tailBytes: 0,
    });
    expect(await settle(headed, text, header, total, true)).toMatchObject({
      start: header,
      prefix: { start: 0, end: header },
    });
    expect(await settle(csv, text, header, total, true)).toMatchObject({ prefix: line });
    // Only an empty line begins before the header.
    expect(await settle(headed, text, 10, 11, true)).toMatchObject({ start: 10, end: 11, prefix: line });
    expect(await settle(headed, text, 11, header, true)).toMatchObject({ prefix: line });
  });

  it("end with the first row behind a range that is not whole", async () => {
    expect(await settle(csv, 'a,"b\n\r"\r\nc,d\n', 0, 3)).toMatchObject({ start: 0, end: 9 });
    expect(await settle(csv, "a\rb\rc", 0, 1)).toMatchObject({ start: 0, end: 2 });
    expect(await settle(csv, "a\r", 0, 1)).toMatchObject({ start: 0, end: 2 });
  });

  it("take a first line for the separator's only where it names one", async () => {
    for (const line of [
      "sep=\n",
      "sep=;;\n",
      'sep="\n',
      "sep=\u{e9}\n",
      "sep =;\n",
      "xsep=;\n",
      "\nsep=;\n",
    ]) {
      expect(await settle(csv, `${line}a,b\n`, 0, 3), line).toMatchObject({
        start: 0,
        prefix: { start: 0, end: 0 },
      });
    }
    for (const line of ["sep=;\n", "sep=,\r", "SEP=\t\r\n", "sep= \n"]) {
      expect(await settle(csv, `${line}a,b\n`, 0, 9), line).toMatchObject({ start: line.length });
    }
    expect(await settle(csv, "sep=;", 0, 5)).toMatchObject({ start: 0, end: 0 });
  });
});

describe("records that are refused", () => {
  const limits = limitsOf(3, 10);
  const refused = (at: number): object => ({ code: "PFS_RECORD_INVALID", data: { at } });

  function settle(
    reader: ReaderSpec,
    text: string | Uint8Array,
    start: number,
    end: number,
  ): Promise<SplitRecords> {
    const input = typeof text === "string" ? bytesOf(text) : text;
    return recordsOfSplit(
      reader,
      { start, end, total: input.byteLength, whole: false },
      readerOf(input),
      limits,
    );
  }

  it("have more bytes than RECORD_BYTES_MAX: the guest gets enough of one to see it", async () => {
    for (const reader of [...LINES, csv, separated("\n\n\n")]) {
      for (let end = 1; end < 10; end++) {
        if (reader.kind === "records") break;
        await expect(settle(reader, `${"c".repeat(9)}\nd\n`, 0, end)).resolves.toMatchObject({ end: 10 });
      }
      for (let end = 3; end < 14; end++) {
        const input = `x\n\n\n${"c".repeat(40)}\nd\n`;
        const { start, end: behind } = await settle(reader, input, 0, end + 4);
        expect(start).toBe(0);
        // Ten bytes more than where the record may begin last, and not all of it.
        expect(behind).toBeGreaterThan(end + 3 + 10);
        expect(behind).toBeLessThan(4 + 40);
      }
      const { end } = await settle(reader, "c".repeat(12), 0, 1);
      expect(end).toBe(12);
    }
    expect((await settle(csv, `a\n"${"c".repeat(60)}\n`, 0, 3)).end).toBeLessThan(30);
    // Separators that overlap one another go on behind the limit: one of them stands there whole.
    const { end } = await settle(separated("aaaaaaaa"), `x${"a".repeat(40)}`, 0, 1);
    expect(end).toBeGreaterThan(10 + 7);
  });

  it("are those of the split they start in alone: the splits in their midst are empty", async () => {
    const records = await settle({ kind: "lines" }, `a${"b".repeat(30)}\nc\n`, 8, 12);
    expect(records).toMatchObject({ start: 8, end: 8 });
  });

  it("have a header that is too long", async () => {
    const text = `${"h".repeat(12)}\n1\n2\n`;
    await expect(settle(headed, text, 14, 16)).rejects.toMatchObject(refused(0));
  });

  it("are rows of columns that the end of the input cuts off: the guest gets what there is of them", async () => {
    const read = readerOf(new Uint8Array(8));
    const split = { start: 3, end: 7, total: 8, whole: false };
    await expect(recordsOfSplit(columns, split, read)).resolves.toMatchObject({ start: 3, end: 8 });
    await expect(recordsOfSplit(columns, { ...split, start: 0, end: 6 }, read)).resolves.toMatchObject({
      end: 6,
    });
    // Nothing starts in the last byte, so nothing is wrong with its split.
    await expect(recordsOfSplit(columns, { ...split, start: 7, end: 8 }, read)).resolves.toMatchObject({
      end: 7,
    });
  });

  it.each([
    ["gzip", [0x1f, 0x8b, 8, 0]],
    ["zip", [0x50, 0x4b, 3, 4]],
    ["zip", [0x50, 0x4b, 5, 6]],
    ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
    ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]],
    ["bzip2", [0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59]],
    ["utf-16le", [0xff, 0xfe, 0x61, 0]],
    ["utf-16be", [0xfe, 0xff, 0, 0x61]],
  ])("are no text but %s, in every split", async (name, magic) => {
    const input = Uint8Array.from([...magic, 10, 10, 10, 10, 10, 10]);
    const text: ReaderSpec[] = [
      { kind: "lines" },
      { kind: "json-lines" },
      csv,
      { ...separated("x"), encoding: "latin1" } as ReaderSpec,
    ];
    for (const reader of text) {
      for (const [start, end] of [
        [0, 2],
        [magic.length, magic.length + 2],
      ] as const) {
        await expect(settle(reader, input, start, end), name).rejects.toMatchObject({
          ...refused(0),
          message: expect.stringContaining(`this is ${name}`),
        });
      }
    }
    for (const reader of [
      { kind: "blocks" },
      { kind: "lines", raw: true },
      separated("\n"),
      { kind: "bytes", size: 3 },
    ] as const) {
      await expect(settle(reader, input, 0, 2)).resolves.toBeDefined();
    }
  });

  it("pass on what reading rejects with", async () => {
    const read = async (): Promise<never> => Promise.reject(new Error("gone"));
    const split = { start: 5, end: 10, total: 20, whole: false };
    for (const reader of [...LINES, csv, headed, separated("ab")]) {
      await expect(recordsOfSplit(reader, split, read)).rejects.toThrow("gone");
    }
  });
});
