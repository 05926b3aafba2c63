/**
 * What every reader must do: its records, where they begin and what of them is their own do not depend on how the file was
 * split, and neither do its faults. The bytes of each split go through everything that they go through in a job: its scan,
 * its borders, and the reader in an isolate. A new reader is a row of READERS.
 */
import { parse } from "csv-parse/sync";
import type { Options as ParseOptions } from "csv-parse/sync";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RECORD_BYTES_MAX } from "../../../runtime/limits.ts";
import { lineCounter } from "../../../runtime/program/readers.ts";
import type { ReaderSpec } from "../../../runtime/program/readers.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { block, bytes, columns, csv, jsonLines, lines, matrix, records } from "../../../sdk/program.ts";
import { loadProgram, runFrame, startExecutor } from "../sandbox/harness.ts";
import type { PacketResult } from "../sandbox/harness.ts";
import { packetsOf } from "./splits.ts";
import type { Plan, SplitInput } from "./splits.ts";

let executor: ExecutorProcess;
beforeAll(async () => {
  executor = await startExecutor({ threads: 2 });
});
afterAll(async () => {
  await executor.close();
});

/** [record, offset, ownLength]: bytes are text of a unit a byte, and bigints text. */
type Shown = readonly [unknown, number, number];

/** All that came of a file: its records in order, or where and why the first packet failed. */
interface Read {
  readonly records: readonly Shown[];
  readonly fault?: { readonly at: number | undefined; readonly text: string };
}

const lanes = new Map<string, Promise<number>>();

/** A program that logs its records, loaded once. */
function laneOf(spec: ReaderSpec): Promise<number> {
  const key = JSON.stringify(spec);
  const known = lanes.get(key);
  if (known !== undefined) return known;
  const source = `
    const shown = (key, value) => typeof value === "bigint" ? value + "n"
      : value instanceof Uint8Array ? String.fromCharCode(...value)
      : value?.bytes !== undefined ? [value.length, value.rows, value.bytes]
      : value?.columns !== undefined ? [value.rows, value.columns, ...value.values] : value;
    export default {
      input: ${key},
      limits: { logBytes: 1048576 },
      map(record, { offset, ownLength }) { console.log(JSON.stringify([record, offset, ownLength], shown)); },
    };`;
  const loading = loadProgram(executor, source);
  lanes.set(key, loading);
  return loading;
}

/** What came of each plan. */
async function readAll(spec: ReaderSpec, input: Uint8Array, plans: readonly Plan[]): Promise<Read[]> {
  const lane = await laneOf(spec);
  const all = await Promise.all(plans.map((plan) => packetsOf(spec, input, plan)));
  const sources = all.flat().filter((packet): packet is SplitInput => !(packet instanceof Error));
  const results: PacketResult[] = [];
  while (results.length < sources.length) {
    const frame = sources.slice(results.length, results.length + 1000);
    const some = await runFrame(executor, lane, frame);
    if (some.length === 0) throw new Error("a packet has no answer");
    results.push(...some);
  }
  let next = 0;
  return all.map((packets) => {
    const records: Shown[] = [];
    let fault: Read["fault"];
    for (const packet of packets) {
      if (packet instanceof Error) {
        fault ??= { at: Number(packet.data["at"]), text: packet.message };
        continue;
      }
      const { status, text, at, log } = results[next++]!;
      if (status !== 0) fault ??= { at, text };
      else if (fault === undefined && log !== undefined)
        records.push(...log.split("\n").map((line) => JSON.parse(line) as Shown));
    }
    return fault === undefined ? { records } : { records, fault };
  });
}

async function whole(spec: ReaderSpec, input: Uint8Array): Promise<Read> {
  return (await readAll(spec, input, [[input.byteLength]]))[0]!;
}

/** Each way to cut the input in two, and splits of every size. */
function plansOf(total: number): Plan[] {
  const plans: Plan[] = [];
  for (let cut = 0; cut <= total; cut++) plans.push([cut, total]);
  for (const size of [1, 2, 3, 5, 8, 13]) {
    const ends: number[] = [];
    for (let end = size; end < total; end += size) ends.push(end);
    plans.push([...ends, total]);
  }
  return plans;
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function utf16(text: string, isBig = false): Uint8Array {
  const little = Buffer.from(text, "utf16le");
  return isBig ? little.swap16() : little;
}

interface Row {
  readonly name: string;
  readonly spec: ReaderSpec;
  readonly inputs: readonly Uint8Array[];
}

const BOM = "\u{feff}";
const LINES = ["", "\n", "a", "a\r\nb\n\n\rc\r\r\nd\r", `${BOM}ä\n€€\n${BOM}😀x\nlast`, "one\ntwo\n"];
const JSON_LINES = [
  '{"a":[1,"ü"]}\n\n \t\r\nnull\r\n3',
  "9007199254740993\n[-12345678901234567890,1e30,1.5,-0]\n",
];
const ROWS = [
  "",
  "\n\r\n\r",
  "a,b\r1,2\r3,4\r",
  "a,b\r\n1,2\r\n3,4",
  'h1,"h\n2"\n1,"a\nb"\n\n2,"c""\r\n""d"\r\n"","x,y"\n',
  `${BOM}"h",i\n"\n","2\r"\n3,4`,
  "a,,\n1,2,3\n4\n",
  "a,b\n1,2,\n3,4,\n",
  'sep=;\na;b\r\n1;2\r\n"x;\n";4',
  `${BOM}SEP=\t\r\n\r\na\tb\r1\t2\r`,
  "ü,ß\n😀,é\n",
];
const DIALECT = ROWS.concat([
  "# 'c\n\nx, 'y' ,z\n#'\n '1\\'\n' , 2,3\n",
  "'a\\\\','b\\\\\\''\r'\\\n','\\x'",
  " a ,\t'b'\t\n#\n  #, c\n",
]);
const JOINED = ["", "aa", "xaaayaabaa", "aaaa", "aéaa😀aaü", "ab\n\n\ncd\n\ne"];
const SIZED = [0, 1, 4, 5, 12].map((bytes) => Uint8Array.from({ length: bytes }, (_, index) => index + 60));
const dialect = csv({
  quote: "'",
  escape: "\\",
  comment: "#",
  trim: true,
  relaxQuotes: true,
  ragged: "keep",
});

const READERS: readonly Row[] = [
  { name: "lines", spec: lines(), inputs: LINES.map(utf8) },
  {
    name: "lines, raw",
    spec: lines({ raw: true }),
    inputs: [...LINES.map(utf8), Uint8Array.of(0xff, 10, 0xfe, 0x80, 13, 10)],
  },
  {
    name: "lines in latin1",
    spec: lines({ encoding: "latin1" }),
    inputs: [Uint8Array.of(0xe4, 10, 0xff, 13, 10, 0x80), utf8("a\nb")],
  },
  {
    name: "lines in utf-16le",
    spec: lines({ encoding: "utf-16le" }),
    inputs: [...LINES, "\u0a0a\u0a00\n\u000a\ud800"].map((text) => utf16(text)),
  },
  {
    name: "lines in utf-16be",
    spec: lines({ encoding: "utf-16be" }),
    inputs: [...LINES, "\u0a0a\u0a00\n\u000d\u0a0d\n"].map((text) => utf16(text, true)),
  },
  {
    name: "lines in utf-16be, raw",
    spec: lines({ encoding: "utf-16be", raw: true }),
    inputs: LINES.map((text) => utf16(text, true)),
  },
  {
    name: "matrices of rows",
    spec: matrix({ type: "bytes", columns: 3, rows: 2 }),
    inputs: ["", "abc", "abcdef", "abcdefg", "abcdefghijkl", "abcdefghijklmnop"].map(utf8),
  },
  {
    name: "matrices of numbers",
    spec: matrix({ type: "i32", columns: 1, rows: 2 }),
    inputs: [utf8("abcdefghijkl")],
  },
  { name: "blocks of a size", spec: block(5), inputs: ["", "abc", "abcde", "abcdefghijklm"].map(utf8) },
  {
    name: "columns, some rows at once",
    spec: columns({ id: "u8", x: "u16" }, { rows: 2 }),
    inputs: ["", "abc", "abcdefghi", "abcdefghijk"].map(utf8),
  },
  { name: "jsonLines", spec: jsonLines(), inputs: JSON_LINES.map(utf8) },
  { name: "jsonLines with bigints", spec: jsonLines({ bigint: true }), inputs: JSON_LINES.map(utf8) },
  { name: "csv", spec: csv(), inputs: ROWS.map(utf8) },
  { name: "csv without a header", spec: csv({ header: false }), inputs: ROWS.map(utf8) },
  {
    name: "csv in utf-16le",
    spec: csv({ encoding: "utf-16le", separator: "\t" }),
    inputs: ROWS.map((text) => utf16(text)),
  },
  {
    name: "csv in utf-16be",
    spec: csv({ encoding: "utf-16be", header: false }),
    inputs: ROWS.map((text) => utf16(text, true)),
  },
  {
    name: "csv in latin1",
    spec: csv({ encoding: "latin1", separator: "\xa7", quote: "\xfe" }),
    inputs: [Buffer.from("a\xa7b\n1\xa7\xfe2\xfe\xfe\r\xfe\n", "latin1")],
  },
  { name: "csv of a dialect", spec: dialect, inputs: DIALECT.map(utf8) },
  {
    name: "csv with names and without quotes",
    spec: csv({ columns: ["x", "y"], quote: "", trim: true }),
    inputs: ROWS.map(utf8),
  },
  {
    name: "csv with other names than its header's",
    spec: csv({ columns: ["x", "y"], header: true }),
    inputs: ROWS.map(utf8),
  },
  { name: "csv whose rows must fit", spec: csv({ ragged: "error" }), inputs: ROWS.map(utf8) },
  { name: "records", spec: records({ separator: "aa" }), inputs: JOINED.map(utf8) },
  {
    name: "records that overlap",
    spec: records({ separator: Uint8Array.of(0x61, 0x61), overlapBytes: 3 }),
    inputs: JOINED.map(utf8),
  },
  {
    name: "records of text",
    spec: records({ separator: "\n\n", encoding: "utf-8" }),
    inputs: JOINED.map(utf8),
  },
  {
    name: "records of text that overlap",
    spec: records({ separator: "a", encoding: "utf-8", overlapBytes: 4 }),
    inputs: JOINED.map(utf8),
  },
  {
    name: "records in utf-16le that overlap",
    spec: records({ separator: "aa", encoding: "utf-16le", overlapBytes: 5 }),
    inputs: JOINED.map((text) => utf16(text)),
  },
  {
    name: "records in utf-16be",
    spec: records({ separator: "aa", encoding: "utf-16be" }),
    inputs: JOINED.map((text) => utf16(BOM + text, true)),
  },
  { name: "bytes of a size", spec: { kind: "bytes", size: 4 }, inputs: SIZED },
  { name: "bytes of a size that overlap", spec: { kind: "bytes", size: 4, overlapBytes: 5 }, inputs: SIZED },
  {
    name: "columns",
    spec: {
      kind: "columns",
      fields: [
        { name: "a", type: "u8" },
        { name: "b", type: "u16" },
      ],
    },
    inputs: [...SIZED],
  },
];

describe.each(READERS)("$name", ({ spec, inputs }) => {
  it("gives the same records, places and faults whatever the splits", async () => {
    for (const input of inputs) {
      const expected = await whole(spec, input);
      const plans = plansOf(input.byteLength);
      const reads = await readAll(spec, input, plans);
      reads.forEach(({ records: found, fault }, index) => {
        const where = `${Buffer.from(input).toString("latin1")} cut at ${plans[index]!.join()}`;
        expect(fault, where).toEqual(expected.fault);
        if (fault === undefined) expect(found, where).toEqual(expected.records);
      });
      // Places grow, and nothing is seen twice.
      const places = expected.records.map(([, offset]) => offset);
      expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
    }
  });
});

describe("lines of a fault", () => {
  it.each([
    [lines(), utf8("a\r\n\rb\nc"), 3],
    [csv(), utf8("a\r\n\rb\nc\r\n"), 5],
    [lines({ encoding: "utf-16le" }), utf16("a\n\u0a0a\u0a00b\n"), 3],
    [csv({ encoding: "utf-16be" }), utf16("a\r\n\r\n\u0a0db", true), 3],
    [records({ separator: "x", encoding: "utf-8" }), utf8("a\nb"), 2],
  ] as const)("are counted as editors do, whatever the pieces: %#", (spec, input, line) => {
    for (let cut = 0; cut <= input.byteLength; cut++) {
      const counter = lineCounter(spec)!;
      counter.push(input.subarray(0, cut));
      counter.push(input.subarray(cut));
      expect(counter.line).toBe(line);
    }
  });

  it("are none where records are bytes", () => {
    expect(lineCounter({ kind: "bytes", size: 4 })).toBeUndefined();
    expect(lineCounter(records({ separator: "\n" }))).toBeUndefined();
  });
});

describe("what of a record is its own", () => {
  it.each([
    ["a line", lines(), "äb\r\n", 2],
    ["the bytes of a line", lines({ raw: true }), "äb\r\n", 3],
    ["text that overlaps", records({ separator: "\n", encoding: "utf-8", overlapBytes: 2 }), "äb\ncd", 3],
    ["bytes that overlap", bytes(3, { overlapBytes: 2 }), "abcde", 3],
    ["a JSON value", jsonLines(), "[1]\n", 0],
    ["a row of CSV", csv(), "a\nb\n", 0],
    ["a row of columns", columns({ a: "u8" }), "a", 0],
  ] as const)("is told of text and bytes: %s", async (_, spec, text, own) => {
    expect((await whole(spec, utf8(text))).records[0]![2]).toBe(own);
  });
});

describe("fixed answers", () => {
  async function shown(spec: ReaderSpec, input: Uint8Array | string): Promise<unknown[]> {
    const { records: found, fault } = await whole(spec, typeof input === "string" ? utf8(input) : input);
    if (fault !== undefined) throw new Error(`${fault.text} (${fault.at})`);
    return found.map(([record]) => record);
  }

  async function places(spec: ReaderSpec, input: Uint8Array | string): Promise<number[]> {
    return (await whole(spec, typeof input === "string" ? utf8(input) : input)).records.map(
      ([, offset]) => offset,
    );
  }

  it("of text in its encodings, places in bytes", async () => {
    expect(await shown(lines({ encoding: "latin1" }), Uint8Array.of(0xe4, 0x0a, 0x80))).toEqual([
      "ä",
      "\x80",
    ]);
    const wide = `${BOM}ä\r\n😀\n${BOM}x`;
    expect(await shown(lines({ encoding: "utf-16le" }), utf16(wide))).toEqual(["ä", "😀", `${BOM}x`]);
    expect(await places(lines({ encoding: "utf-16be" }), utf16(wide, true))).toEqual([2, 8, 14]);
    expect(await shown(lines({ raw: true }), Uint8Array.of(0xff, 13, 10, 0))).toEqual(["\xff", "\0"]);
    expect(await shown(lines(), `${BOM}${BOM}a\n${BOM}`)).toEqual([`${BOM}a`, BOM]);
  });

  it("of text that is not of its encoding name the byte", async () => {
    expect(await whole(lines(), Uint8Array.of(0x61, 10, 0xe4, 10))).toMatchObject({ fault: { at: 2 } });
    const odd = await whole(lines({ encoding: "utf-16le" }), Uint8Array.of(0x61, 0, 10, 0, 0x61));
    expect(odd.fault).toEqual({ at: 4, text: "the text ends in the middle of a character" });
    const header = utf8("ä,b\n1,2\n").with(0, 0x80);
    const reads = await readAll(csv(), header, [[9], [5, 9], [8, 9]]);
    expect(reads.map(({ fault }) => fault?.at)).toEqual([0, 0, 0]);
  });

  it("of JSON lines", async () => {
    const text =
      '9007199254740993\n{"id":-9007199254740993,"x":[1,1e400,9007199254740992.0,"9007199254740993"]}\n';
    expect(await shown(jsonLines({ bigint: true }), text)).toEqual([
      "9007199254740993n",
      { id: "-9007199254740993n", x: [1, null, 9007199254740992, "9007199254740993"] },
    ]);
    expect(await shown(jsonLines(), "9007199254740993")).toEqual([9007199254740992]);
    const bad = await whole(jsonLines(), utf8('"ü"\n{oops}\n'));
    expect(bad.fault).toMatchObject({ at: 5, text: expect.stringMatching(/^the line is not JSON: /) });
  });

  it("of CSV with each line end, unnamed columns and separators at the end of rows", async () => {
    for (const lineEnd of ["\r", "\n", "\r\n"]) {
      const text = ["a,b", "1,2", "3,4", ""].join(lineEnd);
      expect(await shown(csv(), text)).toEqual([
        { a: "1", b: "2" },
        { a: "3", b: "4" },
      ]);
    }
    expect(await shown(csv(), "a,,\n1,2,3\n")).toEqual([{ a: "1", column2: "2", column3: "3" }]);
    expect(await shown(csv(), "column2,,\n1,2,3\n")).toEqual([{ column2: "1", column2_: "2", column3: "3" }]);
    for (const ragged of ["pad", "error"] as const) {
      expect(await shown(csv({ ragged }), "a,b\n1,2,\n3,4,\n")).toEqual([
        { a: "1", b: "2" },
        { a: "3", b: "4" },
      ]);
    }
    expect(await shown(csv(), "sep=;\na;b\n1,5;2\n")).toEqual([{ a: "1,5", b: "2" }]);
    expect(await shown(csv({ header: false }), "x\r\ry\n")).toEqual([["x"], ["y"]]);
  });

  it("of CSV whose rows are ragged", async () => {
    expect(await shown(csv(), "a,b\n1\n1,2,,\n")).toEqual([
      { a: "1", b: "" },
      { a: "1", b: "2" },
    ]);
    expect(await shown(csv({ ragged: "keep" }), "a,b\n1\n1,2,,4\n")).toEqual([
      { a: "1" },
      { a: "1", b: "2", column3: "", column4: "4" },
    ]);
    for (const [options, row, fields] of [
      [{ ragged: "error" }, "1", 1],
      [{ ragged: "error" }, "1,2,,", 3],
      [{}, "1,2,3", 3],
    ] as const) {
      const { fault } = await whole(csv(options), utf8(`ä,b\n\n1,2\n${row}\n`));
      expect(fault).toEqual({ at: 10, text: `a row has ${fields} fields, the header 2` });
    }
    const rows = ["h1,h2", "1,2", "3,4", "5,6", "7,8", "9,9,9", ""].join("\n");
    const [first] = await readAll(csv(), utf8(rows), [[10, 20, 28]]);
    expect(first!.fault!.at).toBe(22);
  });

  it("of CSV that is none, at the row", async () => {
    for (const [text, at, reason] of [
      ['a,b"c\n', 0, "does not begin with one"],
      ['ok,1\n2,"b" c\n', 5, "followed by text"],
      ['ok,1\n2,"b\n', 5, "no closing quote"],
    ] as const) {
      const { fault } = await whole(csv({ header: false }), utf8(text));
      expect(fault).toEqual({ at, text: expect.stringContaining(reason) });
    }
    expect(await whole(csv(), utf8("\na,a\n"))).toMatchObject({
      fault: { at: 1, text: expect.stringContaining('names the column "a" twice') },
    });
    // The header is at fault, whichever split finds out.
    const [, second] = await readAll(csv(), utf8("a,a\n1,2\n3,4\n"), [[12], [0, 6, 12]]);
    expect(second!.fault!.at).toBe(0);
  });

  it("of records and windows", async () => {
    const paragraphs = records({ separator: "\n\n", encoding: "utf-8" });
    expect(await shown(paragraphs, "a\nb\n\n\n\nc\n")).toEqual(["a\nb", "c\n"]);
    const { records: windows } = await whole(
      records({ separator: "\n", encoding: "utf-8", overlapBytes: 4 }),
      utf8("ab\nü€x\n"),
    );
    expect(windows).toEqual([
      ["ab\nü", 0, 3],
      ["ü€x\n", 3, 4],
    ]);
    const overlapping = await whole({ kind: "bytes", size: 4, overlapBytes: 2 }, utf8("abcdefghi"));
    expect(overlapping.records).toEqual([
      ["abcdef", 0, 4],
      ["efghi", 4, 4],
      ["i", 8, 1],
    ]);
  });

  it("of every k-mer once, and of matches across lines once", async () => {
    const bases = Array.from({ length: 300 }, (_, index) => "ACGT"[(index * 7 + (index >> 2)) % 4]).join("");
    const k = 5;
    for (const size of [1, 4, 64, 1000]) {
      const { records: windows } = await whole({ kind: "bytes", size, overlapBytes: k - 1 }, utf8(bases));
      const found = windows.flatMap(([window]) => kmers(window as string, k));
      expect(found).toEqual(kmers(bases, k));
    }
    const text = "BEGIN\nx\nEND\nBEGIN\nEND\n";
    const spans = await whole(records({ separator: "\n", encoding: "utf-8", overlapBytes: 20 }), utf8(text));
    const matches = spans.records.flatMap(([record, offset, own]) =>
      [...(record as string).matchAll(/BEGIN\n(?:.*\n)*?END/g)]
        .filter(({ index }) => index < own)
        .map(({ index }) => offset + index),
    );
    expect(matches).toEqual([0, 12]);
  });
});

function kmers(text: string, k: number): string[] {
  return Array.from({ length: Math.max(0, text.length - k + 1) }, (_, at) => text.slice(at, at + k));
}

describe("the first bad record", () => {
  const BAD = "not JSON";
  const ENCODING = "not UTF-8";
  const csvRows = csv({ ragged: "error" });
  const overlapping = records({ separator: "\n", encoding: "utf-8", overlapBytes: 2 });

  it.each<readonly [string, ReaderSpec, string, number, string]>([
    ["JSON, then bytes", jsonLines(), "7d0aff310a", 0, BAD],
    ["JSON, then bytes of the same line", jsonLines(), "7dff310a", 1, ENCODING],
    ["bytes, then JSON", jsonLines(), "310a22ff220a7d0a", 3, ENCODING],
    ["bytes behind the last line end", jsonLines(), "310a320aff", 4, ENCODING],
    ["half a character at the end", lines(), "610ae282", 2, ENCODING],
    ["half a unit at the end", lines({ encoding: "utf-16le" }), "61000a0062", 4, "middle of a character"],
    ["a ragged row, then bytes", csvRows, "612c620a310a322cff0a", 4, "a row has 1 fields"],
    ["bytes, then a ragged row", csvRows, "612c620a322cff0a310a", 6, ENCODING],
    ["a quote that bytes stand in", csvRows, "612c620a2231ff0a310a", 6, ENCODING],
    ["a header twice, then bytes", csvRows, "612c610a312cff0a", 0, "twice"],
    ["bytes of a header", csvRows, "61ff2c620a310a", 1, ENCODING],
    ["bytes in what a record overlaps", overlapping, "610a62ff0a", 3, ENCODING],
    ["bytes right behind what one overlaps", overlapping, "610a6263ff0a", 4, ENCODING],
    ["bytes that go on no character that one overlaps", overlapping, "610ae2280a", 2, ENCODING],
    ["bytes that go on one's beginning behind it", overlapping, "610a62e2280a", 3, ENCODING],
    ["a character that is none by its second byte", overlapping, "610ae0800a", 2, ENCODING],
  ])("is told, wherever the borders fall: %s", async (_, spec, hex, at, text) => {
    const input = Uint8Array.from(Buffer.from(hex, "hex"));
    const plans = plansOf(input.byteLength);
    for (const [index, { fault }] of (await readAll(spec, input, plans)).entries()) {
      const expected = { at, text: expect.stringContaining(text) as string };
      expect(fault, `cut at ${plans[index]!.join()}`).toEqual(expected);
    }
  });
});

describe("what is wrong before", () => {
  /** Throws at each record whose own part has an x. */
  async function firstFaults(
    spec: ReaderSpec,
    input: Uint8Array,
    plans: readonly Plan[],
  ): Promise<unknown[]> {
    const lane = await loadProgram(
      executor,
      `export default { input: ${JSON.stringify(spec)}, map(record, { ownLength }) {
        if (typeof record === "string" ? record.slice(0, ownLength).includes("x") : record.a === 120) throw new RangeError("x");
      } };`,
    );
    const found: unknown[] = [];
    for (const plan of plans) {
      let fault: unknown;
      for (const packet of await packetsOf(spec, input, plan)) {
        if (packet instanceof Error) fault = [packet.data["at"], packet.message];
        else {
          const [result] = await runFrame(executor, lane, [packet]);
          if (result!.status !== 0) fault = [result!.at, result!.text.split("\n")[0]];
        }
        if (fault !== undefined) break;
      }
      found.push(fault);
    }
    executor.unload(lane);
    return found;
  }

  const window = (overlapBytes: number, encoding: "utf-8" | "utf-16le" = "utf-8"): ReaderSpec =>
    records({ separator: "\n", encoding, overlapBytes });

  it.each<readonly [string, ReaderSpec, string]>([
    ["a row cut off", columns({ a: "u8", b: "u16" }), "610000780000610000" + "6100"],
    ["half a character in what it overlaps, wrong behind it", window(1), "780ae2280a"],
    ["half a character in what it overlaps, and the end", window(3), "780ae282"],
    ["half a unit in what it overlaps", window(5, "utf-16le"), "78000a00610062"],
  ])("comes first, wherever the borders fall: %s", async (_, spec, hex) => {
    const input = Uint8Array.from(Buffer.from(hex, "hex"));
    const at = hex.indexOf("78") / 2;
    for (const fault of await firstFaults(spec, input, plansOf(input.byteLength)))
      expect(fault).toEqual([at, "RangeError: x"]);
  });

  it("comes first where a record is too long", async () => {
    const long = `a\nx\n"${"y".repeat(RECORD_BYTES_MAX + 9)}`;
    const input = utf8(long);
    const total = input.byteLength;
    const plans = [[total], [5, total], [6, total], [2, 9, total], [total - 1, total]];
    for (const [spec, at] of [
      [lines(), 2],
      [csv({ columns: ["a"] }), undefined],
      [window(3), 2],
    ] as const) {
      for (const fault of await firstFaults(spec, input, plans)) {
        expect(fault).toEqual(
          at === undefined ? [4, expect.stringContaining("RECORD_BYTES_MAX")] : [at, "RangeError: x"],
        );
      }
    }
    // Bytes that are not text count where the record is not too long before them.
    for (const [wrong, text] of [
      [10, "not UTF-8"],
      [4 + RECORD_BYTES_MAX - 1, "not UTF-8"],
      [4 + RECORD_BYTES_MAX, "RECORD_BYTES_MAX"],
    ] as const) {
      for (const [, told] of (await firstFaults(
        jsonLines(),
        utf8(long.replaceAll("x", "1").replace("a", "0")).with(wrong, 0xff),
        plans,
      )) as string[][])
        expect(told).toContain(text);
    }
  });
});

describe("a record that is too long", () => {
  const long = Buffer.alloc(RECORD_BYTES_MAX + 3, 0x61);

  it.each([
    ["lines", lines()],
    ["lines, raw", lines({ raw: true })],
    ["csv", csv({ header: false })],
    ["records", records({ separator: "\n" })],
    ["blocks", { kind: "blocks" }],
  ] as const)("is refused in %s wherever the border falls, and no other is", async (_, spec) => {
    const total = RECORD_BYTES_MAX + 6;
    const input = (bytes: number): Uint8Array => {
      const text = Buffer.alloc(total, 0x62);
      text.set(Buffer.from("x\n"));
      text.set(long.subarray(0, bytes - 1), 2);
      text[1 + bytes] = 0x0a;
      return text;
    };
    const lane = await loadProgram(executor, `export default { input: ${JSON.stringify(spec)}, map() {} }`);
    // In the same words, wherever it is.
    const told = new Set<string>();
    for (const extra of [0, 1]) {
      const bytes = input(RECORD_BYTES_MAX + extra);
      for (const ends of [[total], [1, total], [3, total], [RECORD_BYTES_MAX, total], [total - 3, total]]) {
        const faults: (number | undefined)[] = [];
        for (const packet of await packetsOf(spec, bytes, ends)) {
          if (packet instanceof Error) {
            told.add(packet.message);
            faults.push(Number(packet.data["at"]));
            continue;
          }
          const [result] = await runFrame(executor, lane, [packet]);
          if (result!.status === 0) continue;
          told.add(result!.text);
          faults.push(result!.at);
        }
        expect(faults, `${extra} more, cut at ${ends.join()}`).toEqual(extra === 0 ? [] : [2]);
      }
    }
    const sentence = `a record has more than RECORD_BYTES_MAX = ${RECORD_BYTES_MAX} bytes`;
    expect([...told]).toEqual([
      spec.kind === "csv" ? `${sentence} (is a quoted field not closed?)` : sentence,
    ]);
    executor.unload(lane);
  });
});

describe("csv", () => {
  interface Dialect {
    readonly spec: ReaderSpec;
    readonly reference: ParseOptions;
  }
  const common = { record_delimiter: ["\r\n", "\n", "\r"], skip_empty_lines: true, relax_column_count: true };
  const dialects: readonly Dialect[] = [
    { spec: csv({ header: false }), reference: {} },
    { spec: csv({ header: false, quote: "'", escape: "\\" }), reference: { quote: "'", escape: "\\" } },
    { spec: csv({ header: false, relaxQuotes: true }), reference: { relax_quotes: true } },
    { spec: csv({ header: false, comment: "#" }), reference: { comment: "#", comment_no_infix: true } },
    { spec: csv({ header: false, quote: "" }), reference: { quote: null } },
    { spec: csv({ header: false, separator: ";" }), reference: { delimiter: ";" } },
  ] as const;
  const text = fc.array(
    fc.constantFrom(
      "\n",
      "\r\n",
      "\r",
      '"',
      '""',
      "'",
      "\\",
      "\\'",
      ",",
      ";",
      "#",
      "a",
      "bc",
      " ",
      "é",
      '"x",',
      "'y'\n",
      '"\n",',
    ),
    { maxLength: 40 },
  );

  it.each(dialects)("agrees with another parser, whatever the splits: $reference", async (chosen) => {
    const { spec, reference } = chosen;
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(text, fc.array(fc.nat(120), { maxLength: 4 }), async (parts, cuts) => {
        const input = utf8(parts.join(""));
        const total = input.byteLength;
        const plan = [...cuts.map((cut) => cut % (total + 1)).sort((a, b) => a - b), total];
        const [one, many] = await readAll(spec, input, [[total], plan]);
        expect(many!.fault).toEqual(one!.fault);
        if (one!.fault !== undefined) return;
        expect(many!.records).toEqual(one!.records);
        let expected: unknown;
        try {
          expected = parse(Buffer.from(input), { ...common, ...reference, bom: true });
        } catch {
          // It refuses more.
          return;
        }
        // Two things are taken as they stand here alone: what goes on behind a closing quote, with its doubled quotes,
        // and an escape before anything but a quote or an escape.
        if (reference.relax_quotes === true && parts.join("").includes('""')) return;
        if (reference.escape !== undefined && /\\[^'\\]/.test(parts.join(""))) return;
        compared++;
        expect(one!.records.map(([record]) => record)).toEqual(expected);
      }),
      { numRuns: 200 },
    );
    expect(compared).toBeGreaterThan(10);
  });
});
