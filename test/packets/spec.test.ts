/** SPEC.md says what the code does: its tables are read and compared, number by number. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ColumnType, valueBytes } from "../../packets/code/column-type.ts";
import {
  Aggregate,
  CODE_BYTES,
  CodeOffset,
  FILTER_NOT,
  Filter,
  Records,
  Stage,
} from "../../packets/code/format.ts";
import { CHUNKER_DEFAULTS } from "../../packets/chunker.ts";
import { ENVELOPE_BYTES, EnvelopeFlag, EnvelopeOffset, MessageType } from "../../packets/envelope.ts";
import { Priority } from "../../packets/envelope.ts";
import { PacketErrorCode } from "../../packets/errors.ts";
import { FaultCode, faultErrorCode } from "../../packets/faults.ts";
import { FLAGS_ALLOWED, Flag, OP_NAMES, Offset, Op, PACKET_BYTES } from "../../packets/layout.ts";
import type { OpName } from "../../packets/layout.ts";
import * as limits from "../../packets/limits.ts";
import * as level from "../../packets/stream-level.ts";

const spec = readFileSync(new URL("../../packets/SPEC.md", import.meta.url), "utf8");

/** The rows, header included, of the `nth` table of the section whose heading begins with `number`. */
function table(number: number, nth = 0): string[][] {
  const section = spec.split(/^## /m).find((text) => text.startsWith(`${number}. `));
  if (section === undefined) throw new Error(`SPEC.md has no section ${number}`);
  const tables = section.split(/\n\n+/).filter((block) => block.startsWith("|"));
  const rows = tables[nth]!.trim().split("\n");
  return rows
    .filter((row) => !row.startsWith("|---"))
    .map((row) =>
      row
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
}

const body = (number: number, nth = 0): string[][] => table(number, nth).slice(1);
const grouped = (value: number): string => String(value).replace(/\B(?=(\d{3})+$)/g, " ");

/** Offsets and sizes of a layout, in order, as the tables have them. */
function layoutRows(offsets: Readonly<Record<string, number>>, bytes: number): string[][] {
  const fields = Object.entries(offsets);
  return fields.map(([name, offset], index) => {
    const next = fields[index + 1]?.[1] ?? bytes;
    return [String(offset), String(next - offset), name];
  });
}

test("the packet's layout", () => {
  expect(body(1).map((row) => row.slice(0, 3))).toEqual(layoutRows(Offset, PACKET_BYTES));
});

test("the ops", () => {
  expect(body(2).map(([op, name]) => [op, name])).toEqual(OP_NAMES.map((name) => [String(Op[name]), name]));
});

test("the flags", () => {
  const allowed = new Map<string, number>();
  for (const [op, flag, bit] of body(3)) {
    expect(Number(bit)).toBe(Flag[flag as keyof typeof Flag]);
    allowed.set(op!, (allowed.get(op!) ?? 0) | Number(bit));
  }
  const inCode = Object.entries(FLAGS_ALLOWED).filter(([op, bits]) => bits !== 0 && op !== "FILL");
  expect([...allowed]).toEqual(inCode);
  expect(FLAGS_ALLOWED.FILL).toBe(0xff);
});

test("the reasons why a packet is invalid", () => {
  const source = readFileSync(new URL("../../packets/validate.ts", import.meta.url), "utf8");
  const code = source.slice(source.indexOf("export function invalidPacket"));
  const inCode = new Set([...code.matchAll(/"([^"]* [^"]*|\w+)"/g)].map((match) => match[1]!));
  expect(new Set(body(4).map((row) => row[2]!))).toEqual(inCode);
});

test("the fault codes", () => {
  const inCode = Object.values(FaultCode).map((code) => [String(code), faultErrorCode(code)]);
  expect(body(8).map((row) => row.slice(0, 2))).toEqual(inCode);
  expect(faultErrorCode(255)).toBe(faultErrorCode(10));
});

describe("the wire", () => {
  test("the envelope's layout", () => {
    expect(body(9).map((row) => row.slice(0, 3))).toEqual(layoutRows(EnvelopeOffset, ENVELOPE_BYTES));
  });

  test("its flags, priorities and limits", () => {
    const meaning = new Map(body(9).map((row) => [row[2]!, row[3]!]));
    for (const [name, bit] of Object.entries(EnvelopeFlag)) {
      expect(meaning.get("flags")).toContain(`${bit} = ${name}`);
    }
    for (const [name, value] of Object.entries(Priority)) {
      expect(meaning.get("priority")).toContain(`${value} = ${name}`);
    }
    expect(meaning.get("meta")).toContain(grouped(limits.META_BYTES_MAX));
    expect(meaning.get("packets")).toContain(grouped(limits.FRAME_PACKETS_MAX * PACKET_BYTES));
    expect(meaning.get("chunks")).toContain(grouped(limits.MESSAGE_CHUNK_BYTES_MAX));
  });

  test("the message types", () => {
    const cells = body(9, 1).flatMap((row) => [row.slice(0, 2), row.slice(2, 4), row.slice(4, 6)]);
    const types = cells.filter(([number]) => number !== "").map(([number, name]) => [name, Number(number)]);
    expect(Object.fromEntries(types)).toEqual(MessageType);
  });
});

describe("packet code", () => {
  test("its layout", () => {
    expect(body(12).map((row) => row.slice(0, 3))).toEqual(layoutRows(CodeOffset, CODE_BYTES));
  });

  test("its numbers", () => {
    const meaning = new Map(body(12).map((row) => [row[2]!, row[3]!]));
    const told = (field: string, numbers: Readonly<Record<string, number>>): void => {
      for (const [name, number] of Object.entries(numbers))
        expect(meaning.get(field)).toContain(`${number} = ${name}`);
    };
    told("records", Records);
    told("records", Stage);
    told("filter", Filter);
    told("filter", { NOT: FILTER_NOT });
    told("aggregate", Aggregate);
    const types = Object.entries(ColumnType);
    const list = (parts: readonly string[]): string => `${parts.slice(0, -1).join(", ")} and ${parts.at(-1)}`;
    const prose = spec.replaceAll(/\s+/g, " ");
    expect(prose).toContain(`Types are ${list(types.map(([name, type]) => `${type} = ${name}`))}, of `);
    expect(prose).toContain(`of ${list(types.map(([, type]) => String(valueBytes(type))))} bytes`);
  });

  test("the reasons why bytes are none", () => {
    const source = readFileSync(new URL("../../packets/code/format.ts", import.meta.url), "utf8");
    const code = source.slice(
      source.indexOf("export function invalidCode"),
      source.indexOf("/** Whether a column"),
    );
    const inCode = new Set(
      [...code.matchAll(/return "([^"]*)"|\? .*: "([^"]*)"/g)].map((match) => match[1] ?? match[2]!),
    );
    expect(new Set(body(12, 1).map((row) => row[2]!))).toEqual(inCode);
  });
});

test("the limits", () => {
  const { CUT_PACKETS_MIN, CUT_PACKETS_AVERAGE, CUT_PACKETS_MAX, CUT_CHECK_BELOW } = level;
  const inCode = { ...limits, CUT_PACKETS_MIN, CUT_PACKETS_AVERAGE, CUT_PACKETS_MAX, CUT_CHECK_BELOW };
  const values = body(11).map(([name, value]) => [name, Number(value!.replaceAll(" ", ""))]);
  expect(Object.fromEntries(values)).toEqual({ ...inCode });
  const { minBytes, averageBytes, maxBytes } = CHUNKER_DEFAULTS;
  expect(spec.replaceAll(/\s+/g, " ")).toContain(
    `${grouped(minBytes)}, ${grouped(averageBytes)} and ${grouped(maxBytes)}`,
  );
});

test("every error code of this layer is explained", () => {
  for (const code of Object.values(PacketErrorCode)) expect(spec).toContain(code);
});

test("every op is in some rule of section 4 by its name or as one of all", () => {
  const named = body(4).flatMap((row) => row[0]!.split(/[ ,]+/));
  const known = new Set<string>([
    ...OP_NAMES,
    "all",
    "others",
    "with",
    "without",
    "and",
    "INLINE",
    "STREAM",
    "OPEN",
  ]);
  for (const word of named) expect(known.has(word), word).toBe(true);
  const ops: OpName[] = ["DATA", "FILL", "COPY", "CALL", "LOAD", "EXEC", "RETURN", "FAULT", "HALT"];
  expect(named).toEqual(expect.arrayContaining(ops));
});
