import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { CARRIED_INPUT_BYTES_MAX } from "../../../runtime/limits.ts";
import type { ReaderSpec } from "../../../runtime/program/readers.ts";
import { loadProgram, logged, runFrame, runOnce, startExecutor } from "./harness.ts";
import type { PacketSource } from "./harness.ts";

let executor: ExecutorProcess;
beforeAll(async () => {
  executor = await startExecutor();
});
afterAll(async () => {
  await executor.close();
});

/** A program that logs its records with where they begin. */
function shows(input: ReaderSpec, show = "record"): string {
  return `export default {
    input: ${JSON.stringify(input)},
    limits: { logBytes: 1048576 },
    map(record, { offset, index }) { console.log(JSON.stringify([${show}, offset, index])); },
  };`;
}

async function records(
  input: ReaderSpec,
  bytes: PacketSource | string | Uint8Array,
  show?: string,
): Promise<unknown[]> {
  return logged(await runOnce(executor, shows(input, show), bytes));
}

const BYTES = "Array.from(record)";

describe("lines", () => {
  const lines: ReaderSpec = { kind: "lines" };

  it("ends them at LF and CRLF, and the last one at the end", async () => {
    expect(await records(lines, "a\r\nb\n\n\rc\r\r\nd\r")).toEqual([
      ["a", 0, 0],
      ["b", 3, 1],
      ["", 5, 2],
      ["\rc\r", 6, 3],
      ["d\r", 11, 4],
    ]);
  });

  it("has none in nothing and one in a lone LF", async () => {
    expect(await records(lines, "")).toEqual([]);
    expect(await records(lines, "\n")).toEqual([["", 0, 0]]);
  });

  it("counts bytes of the file, not characters, whatever the text", async () => {
    const bytes = "ä\n€€\n😀x\nlast";
    expect(await records(lines, { bytes, place: 1000 })).toEqual([
      ["ä", 1000, 0],
      ["€€", 1003, 1],
      ["😀x", 1010, 2],
      ["last", 1016, 3],
    ]);
  });

  it.each([
    [[0xff], 0],
    [[0xf0, 0x9f, 0x0a], 0],
    [[0x41, 0xed, 0xa0, 0x80, 0x0a], 1],
    [[0xc3, 0xa4, 0xc0, 0x80], 2],
    [[0xe2, 0x82, 0xac, 0x0a, 0xe2, 0x82], 4, '["€",100,0]'],
    [[...Buffer.from("ü€😀".repeat(5000)), 0x80, ...Buffer.from("ü".repeat(9000))], 45_000],
    [[...Buffer.alloc(70_000, 0x80)], 0],
  ])("names the byte that is not UTF-8 and runs what ends before it: %#", async (bytes, at, log?: string) => {
    const result = await runOnce(executor, shows(lines), { bytes: Uint8Array.from(bytes), place: 100 });
    expect(result).toMatchObject({ status: FaultCode.badRecord, at: 100 + at, log });
    expect(result.text).toContain("not UTF-8");
    // A replacement character that stands in the file is a character like any other.
    expect(await records(lines, "\ufffd")).toEqual([["\ufffd", 0, 0]]);
  });

  it("keeps each packet of a frame to itself", async () => {
    const lane = await loadProgram(executor, shows(lines));
    const sources = [
      { bytes: "a\nb", place: 10 },
      { bytes: "", place: 13 },
      { bytes: "c\n", place: 13 },
      { bytes: "d", place: 15 },
    ];
    const ascii = await runFrame(executor, lane, sources);
    expect(ascii.map((result) => logged(result))).toEqual([
      [
        ["a", 10, 0],
        ["b", 12, 1],
      ],
      [],
      [["c", 13, 0]],
      [["d", 15, 0]],
    ]);
    const cut = [
      { bytes: new Uint8Array([0x41, 0xe2, 0x82]), place: 0 },
      { bytes: "ü\nB", place: 3 },
      { bytes: new Uint8Array([0xac, 0x0a, 0x42]), place: 7 },
    ];
    const [first, second, third] = await runFrame(executor, lane, cut);
    expect([first!.at, third!.at]).toEqual([1, 7]);
    expect(logged(second!)).toEqual([
      ["ü", 3, 0],
      ["B", 6, 1],
    ]);
  });

  it("reads megabytes of lines, long and short", async () => {
    const text = `${"x".repeat(3_000_000)}\n${"y\n".repeat(200_000)}`;
    const source = `export default { input: { kind: "lines" }, map: (line) => line.length, combine: (a, b) => a + b };`;
    const { status, text: result } = await runOnce(executor, source, text);
    expect([status, result]).toEqual([0, "3200000\n"]);
  });
});

describe("json-lines", () => {
  const jsonLines: ReaderSpec = { kind: "json-lines" };

  it("skips blank lines and keeps any JSON value", async () => {
    const text = '{"a":[1,"ü"]}\n\n  \t\r\nnull\r\n3';
    expect(await records(jsonLines, text)).toEqual([
      [{ a: [1, "ü"] }, 0, 0],
      [null, 21, 1],
      [3, 27, 2],
    ]);
  });

  it("says which line is not JSON", async () => {
    const bytes = { bytes: '"ü"\n{oops}\n', place: 50 };
    const { status, at, text } = await runOnce(executor, shows(jsonLines), bytes);
    expect([status, at]).toEqual([FaultCode.badRecord, 55]);
    expect(text).toMatch(/^the line is not JSON: /);
  });
});

describe("csv", () => {
  const plain: ReaderSpec = { kind: "csv", separator: ",", header: false };
  const named: ReaderSpec = { kind: "csv", separator: ",", header: true };

  it("reads RFC 4180: quotes, doubled quotes, line ends within fields, CRLF", async () => {
    const text = 'a,"b ""x""",c\r\n"1\n2",,"3\r\n"\n,\n"",x\nlast,"q"';
    expect(await records(plain, { bytes: text, place: 50 })).toEqual([
      [["a", 'b "x"', "c"], 50, 0],
      [["1\n2", "", "3\r\n"], 65, 1],
      [["", ""], 78, 2],
      [["", "x"], 80, 3],
      [["last", "q"], 85, 4],
    ]);
  });

  it("counts bytes behind quoted line ends in text that is not ASCII", async () => {
    expect(await records(plain, 'ä,"ö\n\n"\nü,x\n')).toEqual([
      [["ä", "ö\n\n"], 0, 0],
      [["ü", "x"], 10, 1],
    ]);
  });

  it("names fields by the header, which is no record and may stand in a prefix", async () => {
    const header = 'id,"full, name",__proto__\n';
    const bytes = `${header}1,Ann,x\n\n2\n`;
    const show = "[record.id, record['full, name'], Object.keys(record), record.__proto__]";
    const keys = ["id", "full, name", "__proto__"];
    expect(await records(named, { bytes, place: 900, prefix: header.length }, show)).toEqual([
      [["1", "Ann", keys, "x"], 900, 0],
      [["2", "", keys, ""], 909, 1],
    ]);
    expect(await records(named, bytes, "record.id")).toEqual([
      ["1", header.length, 0],
      ["2", header.length + 9, 1],
    ]);
    expect(await records(named, header)).toEqual([]);
  });

  it("takes other separators", async () => {
    const tabs: ReaderSpec = { kind: "csv", separator: "\t", header: false };
    expect(await records(tabs, 'a\t"b\t"\tc\n')).toEqual([[["a", "b\t", "c"], 0, 0]]);
  });

  it.each([
    ['a,b"c\n', "does not begin with one"],
    ['a,"b" c\n', "followed by text"],
    ['a,"b\n', "no closing quote"],
  ])("refuses %j", async (text, reason) => {
    const result = await runOnce(executor, shows(plain), `ok,1\n${text}`);
    expect(result.status).toBe(FaultCode.badRecord);
    expect(result.at).toBe(5);
    expect(result.text).toContain(reason);
  });

  it("refuses rows longer than the header and columns named twice", async () => {
    const long = await runOnce(executor, shows(named), "a,b\n1,2,3\n");
    expect(long).toMatchObject({
      status: FaultCode.badRecord,
      at: 4,
      text: "a row has 3 fields, the header 2",
    });
    const twice = await runOnce(executor, shows(named), "a,a\n1,2\n");
    expect(twice.text).toContain('the header names the column "a" twice');
  });

  it("reads a header of very many columns", async () => {
    const names = Array.from({ length: 700 }, (_, index) => `c${index}`);
    const text = `${names.join(",")}\n${names.map((_, index) => index).join(",")}\n`;
    expect(await records(named, text, "[record.c0, record.c699]")).toEqual([
      [["0", "699"], text.indexOf("\n") + 1, 0],
    ]);
  });
});

describe("bytes", () => {
  it("gives the whole packet, also an empty one", async () => {
    const whole: ReaderSpec = { kind: "bytes" };
    expect(await records(whole, new Uint8Array([1, 2, 255]), BYTES)).toEqual([[[1, 2, 255], 0, 0]]);
    expect(await records(whole, { bytes: "", place: 5 }, BYTES)).toEqual([[[], 5, 0]]);
  });

  it("gives records of a size, the last one what is left", async () => {
    const pairs: ReaderSpec = { kind: "bytes", size: 2 };
    expect(await records(pairs, { bytes: new Uint8Array([1, 2, 3, 4]), place: 8 }, BYTES)).toEqual([
      [[1, 2], 8, 0],
      [[3, 4], 10, 1],
    ]);
    expect(await records(pairs, new Uint8Array([1, 2, 3]), BYTES)).toEqual([
      [[1, 2], 0, 0],
      [[3], 2, 1],
    ]);
  });

  it("gives no packet the bytes of another", async () => {
    const source = `export default { input: { kind: "bytes" }, map(record) {
      const all = new Uint8Array(record.buffer);
      console.log(JSON.stringify([record.length, all.length, record.byteOffset, Array.from(record)]));
      all.fill(9);
    } };`;
    const lane = await loadProgram(executor, source);
    const results = await runFrame(executor, lane, [{ bytes: "ab" }, { bytes: "c" }, { bytes: "" }]);
    expect(results.map((result) => logged(result))).toEqual([
      [[2, 2, 0, [97, 98]]],
      [[1, 1, 0, [99]]],
      [[0, 0, 0, []]],
    ]);
  });

  it("gives a packet that runs alone bytes that nobody else sees, few or many", async () => {
    const source = `export default { input: { kind: "bytes" }, map({ buffer }) {
      const all = new Uint8Array(buffer);
      console.log(JSON.stringify([buffer.constructor.name, all.length, all[0]]));
      all.fill(9);
    } };`;
    const lane = await loadProgram(executor, source);
    for (const length of [1, 64, CARRIED_INPUT_BYTES_MAX, CARRIED_INPUT_BYTES_MAX + 1, 1, 64]) {
      const [result] = await runFrame(executor, lane, [{ bytes: "b".repeat(length) }]);
      expect(logged(result!)).toEqual([["ArrayBuffer", length, 98]]);
    }
  });

  it("gives blocks, and none of nothing", async () => {
    const blocks: ReaderSpec = { kind: "blocks" };
    expect(await records(blocks, "a\nb\n", "record.length")).toEqual([[4, 0, 0]]);
    expect(await records(blocks, "")).toEqual([]);
  });
});

describe("columns", () => {
  const fields = [
    { name: "a", type: "u8" },
    { name: "b", type: "i16" },
    { name: "c", type: "u32" },
    { name: "d", type: "f64" },
    { name: "__proto__", type: "i64" },
    { name: "f", type: "u64" },
    { name: "g", type: "f32" },
    { name: "h", type: "i8" },
    { name: "i", type: "u16" },
    { name: "j", type: "i32" },
  ] as const;
  const rowBytes = 1 + 2 + 4 + 8 + 8 + 8 + 4 + 1 + 2 + 4;

  it("reads little-endian rows, 64-bit integers as bigints", async () => {
    const row = Buffer.alloc(rowBytes);
    row.writeUInt8(200, 0);
    row.writeInt16LE(-2, 1);
    row.writeUInt32LE(4_000_000_000, 3);
    row.writeDoubleLE(0.1, 7);
    row.writeBigInt64LE(-5n, 15);
    row.writeBigUInt64LE(2n ** 64n - 1n, 23);
    row.writeFloatLE(0.5, 31);
    row.writeInt8(-128, 35);
    row.writeUInt16LE(65535, 36);
    row.writeInt32LE(-1, 38);
    const show = "Object.entries(record).map(([name, value]) => [name, typeof value, String(value)])";
    const expected = [
      ["a", "number", "200"],
      ["b", "number", "-2"],
      ["c", "number", "4000000000"],
      ["d", "number", "0.1"],
      ["__proto__", "bigint", "-5"],
      ["f", "bigint", "18446744073709551615"],
      ["g", "number", "0.5"],
      ["h", "number", "-128"],
      ["i", "number", "65535"],
      ["j", "number", "-1"],
    ];
    const spec: ReaderSpec = { kind: "columns", fields };
    expect(await records(spec, Buffer.concat([row, row]), show)).toEqual([
      [expected, 0, 0],
      [expected, rowBytes, 1],
    ]);
    const cut = await runOnce(executor, shows(spec), row.subarray(1));
    expect(cut.status).toBe(FaultCode.badRecord);
  });
});
