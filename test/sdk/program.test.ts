/** What `defineProgram` infers is checked by the compiler; this file compiling is half of the test. */
import { describe, expect, expectTypeOf, it } from "vitest";
import type { JobResult, PacketFS } from "../../sdk/packetfs.ts";
import {
  blocks,
  bytes,
  columns,
  csv,
  defineProgram,
  jsonLines,
  lines,
  records,
  shared,
  top,
} from "../../sdk/program.ts";
import type { Reader, Shared, SharedArray } from "../../sdk/program.ts";

describe("readers", () => {
  it("are plain data, as the sandbox takes it", () => {
    expect(bytes()).toEqual({ kind: "bytes" });
    expect(bytes(64)).toEqual({ kind: "bytes", size: 64 });
    expect(blocks()).toEqual({ kind: "blocks" });
    expect(bytes(64, { overlapBytes: 3 })).toEqual({ kind: "bytes", size: 64, overlapBytes: 3 });
    expect(lines()).toEqual({ kind: "lines" });
    expect(lines({ encoding: "latin1", raw: true })).toEqual({
      kind: "lines",
      encoding: "latin1",
      raw: true,
    });
    expect(records({ separator: "\r\n" })).toEqual({ kind: "records", separator: "0d0a" });
    expect(records({ separator: Uint8Array.of(0, 255), overlapBytes: 1 })).toEqual({
      kind: "records",
      separator: "00ff",
      overlapBytes: 1,
    });
    const separatorOf = (encoding: "utf-8" | "latin1" | "utf-16le" | "utf-16be"): unknown =>
      records({ separator: "é", encoding });
    expect(separatorOf("utf-8")).toMatchObject({ separator: "c3a9" });
    expect(separatorOf("latin1")).toMatchObject({ separator: "e9" });
    expect(separatorOf("utf-16le")).toMatchObject({ separator: "e900" });
    expect(separatorOf("utf-16be")).toMatchObject({ separator: "00e9" });
    expect(() => records({ separator: "€", encoding: "latin1" })).toThrow(RangeError);
    expect(jsonLines({ bigint: true })).toEqual({ kind: "json-lines", bigint: true });
    expect(csv({ columns: ["a"] })).toEqual({ kind: "csv", header: false, separator: ",", columns: ["a"] });
    expect(csv({ columns: ["a"], header: true })).toMatchObject({ header: true });
    expect(jsonLines()).toEqual({ kind: "json-lines" });
    expect(csv()).toEqual({ kind: "csv", header: true, separator: "," });
    expect(csv({ header: false, separator: ";" })).toEqual({ kind: "csv", header: false, separator: ";" });
    expect(columns({ id: "u32", x: "f64" })).toEqual({
      kind: "columns",
      fields: [
        { name: "id", type: "u32" },
        { name: "x", type: "f64" },
      ],
    });
  });

  it("give records their type", () => {
    defineProgram({
      input: columns({ id: "u64", x: "f64" }),
      map: (row) => {
        expectTypeOf(row).toEqualTypeOf<{ readonly id: bigint; readonly x: number }>();
        return row.x;
      },
      combine: (a, b) => a + b,
    });
    defineProgram({
      input: csv({ header: false }),
      map: (row) => {
        expectTypeOf(row).toEqualTypeOf<string[]>();
        return row.length;
      },
      combine: (a, b) => a + b,
    });
    defineProgram({
      input: csv(),
      yields: "bytes",
      map: (row, context) => {
        expectTypeOf(row).toEqualTypeOf<Readonly<Record<string, string>>>();
        context.write(row["name"] ?? "");
      },
    });
    defineProgram({
      input: csv({ columns: ["id", "name"], ragged: "keep" }),
      map: (row) => {
        expectTypeOf(row).toEqualTypeOf<Readonly<Partial<Record<"id" | "name", string>>>>();
        return row.id?.length;
      },
      combine: (a, b) => a + b,
    });
    defineProgram({
      input: lines({ raw: true }),
      map: (line) => {
        expectTypeOf(line).toEqualTypeOf<Uint8Array>();
        return line.length;
      },
      combine: (a, b) => a + b,
    });
    defineProgram({
      input: records({ separator: "\n\n", encoding: "utf-8", overlapBytes: 10 }),
      map: (text, { ownLength }) => {
        expectTypeOf(text).toEqualTypeOf<string>();
        return ownLength;
      },
      combine: (a, b) => a + b,
    });
    expectTypeOf(records({ separator: "\0" })).toEqualTypeOf<Reader<Uint8Array>>();
    defineProgram({
      input: jsonLines<{ readonly n: number }>(),
      map: (row) => row.n,
      combine: (a, b) => a + b,
    });
    // What always throws is a program too.
    defineProgram({
      input: lines(),
      map: (line) => {
        throw new RangeError(line);
      },
    });
  });
});

describe("what would be lost", () => {
  // None of these is run: each line compiles only because what it says is an error.
  it("does not compile", () => {
    // @ts-expect-error a promise
    defineProgram({ input: lines(), map: async () => 1 });
    // @ts-expect-error a promise
    defineProgram({ input: lines(), map: async () => 1, combine: (a) => a });
    // @ts-expect-error a promise
    defineProgram({ input: lines(), map: () => 1, combine: async (a: number, _b: number) => a });
    const later = async (n: number): Promise<number> => n;
    // @ts-expect-error a promise
    defineProgram({ input: lines(), map: () => 1, combine: Math.max, reduce: later });
    // @ts-expect-error a promise
    defineProgram({ input: lines(), init: async () => 1, map: () => 1 });
    // @ts-expect-error a promise
    defineProgram({ input: lines(), yields: "groups", map: async (_line, { emit }) => emit("k", 1) });
    // @ts-expect-error a promise
    defineProgram({ input: lines(), yields: "bytes", map: async (line, { write }) => write(line) });
    // @ts-expect-error returned beside what is emitted
    defineProgram({ input: lines(), yields: "groups", map: (line, { emit }) => (emit(line, 1), line) });
    // @ts-expect-error returned beside what is written, and no bytes
    defineProgram({ input: lines(), yields: "bytes", map: (line) => line.length });
    // What the kinds of programs refuse, the overload that says why must not take.
    // @ts-expect-error combine takes something else
    defineProgram({ input: lines(), map: () => 1, combine: (a: string, _b: string) => a });
    // @ts-expect-error combine returns something else
    defineProgram({ input: lines(), map: () => 1, combine: (a: number, _b: number) => `${a}` });
    // @ts-expect-error reduce takes something else
    defineProgram({ input: lines(), map: () => 1, combine: Math.max, reduce: (text: string) => text });
    // @ts-expect-error no such property
    defineProgram({ input: lines(), map: () => 1, combin: Math.max });
    // @ts-expect-error groups alone have largest ones
    defineProgram({ input: lines(), map: () => 1, combine: Math.max, result: top(3) });
    // @ts-expect-error a number is no reader
    defineProgram({ input: 3, map: () => 1 });
    const table = shared(() => ({ list: [1], bytes: new Uint8Array(2), map: new Map([["a", 1]]) }));
    const writes = (): void => {
      // @ts-expect-error unwritable
      table.list[0] = 2;
      // @ts-expect-error unwritable
      table.bytes[0] = 2;
      // @ts-expect-error unwritable
      table.map.set("a", 2);
    };
    expect(writes).toBeTypeOf("function");
  });

  it("is nothing where a program emits or writes", () => {
    defineProgram({ input: lines(), yields: "groups", map: (line, { emit }) => emit(line, 1) });
    defineProgram({
      input: lines(),
      yields: "groups",
      map: (line, { emit }) => line.split("").forEach((c) => emit(c, 1)),
    });
    defineProgram({
      input: lines(),
      yields: "groups",
      map: (line, { emit }) => {
        if (line === "") return;
        emit(line, 1);
      },
    });
    defineProgram({ input: lines(), yields: "bytes", map: (line, { write }) => write(line) });
    defineProgram({ input: lines(), yields: "bytes", map: (line) => (line === "" ? undefined : line) });
  });
});

describe("shared and top", () => {
  it("have the types of what packets see", () => {
    const table = shared(() => ({
      byKey: new Map([["a", [1]]]),
      seen: new Set(["x"]),
      crc: new Uint32Array(2),
    }));
    expectTypeOf(table.byKey.get("a")).toEqualTypeOf<readonly number[] | undefined>();
    expectTypeOf(table.seen.has("x")).toEqualTypeOf<boolean>();
    expectTypeOf(table.crc).toEqualTypeOf<SharedArray<number>>();
    expectTypeOf<Shared<BigInt64Array>>().toEqualTypeOf<SharedArray<bigint>>();
    expectTypeOf<Shared<() => 1>>().toEqualTypeOf<never>();
    expect(table.crc[1]).toBe(0);
    const words = defineProgram({
      input: lines(),
      yields: "groups",
      map: (line, { emit }) => emit(line, 1),
      combine: (a: number, b: number) => a + b,
      result: top(10),
    });
    expectTypeOf(words.result!.top).toEqualTypeOf<number>();
    expect(words.result).toEqual({ top: 10 });
    const sums = defineProgram({
      input: lines(),
      yields: "groups",
      map: (line, { emit }) => emit(line, 1),
      combine: (a: number, b: number) => a + b,
      reduce: (_key, [sum]) => ({ sum: sum ?? 0 }),
      result: top(3, { by: ({ sum }: { readonly sum: number }) => sum }),
    });
    expect(sums.result).toMatchObject({ top: 3 });
  });
});

describe("defineProgram", () => {
  it("returns the program unchanged", () => {
    const program = { input: lines(), map: (line: string) => line.length, combine: Math.max };
    expect(defineProgram(program)).toBe(program);
  });

  it("infers arguments and state from init, and values from combine", () => {
    defineProgram({
      input: lines(),
      yields: "groups",
      init: (args: { readonly pattern: string }) => new RegExp(args.pattern),
      map: (line, context) => {
        expectTypeOf(context.args).toEqualTypeOf<{ readonly pattern: string }>();
        expectTypeOf(context.state).toEqualTypeOf<RegExp>();
        if (context.state.test(line)) context.emit(line, 1);
        // @ts-expect-error values are numbers, because combine says so
        context.emit(line, "1");
        // @ts-expect-error only programs that yield bytes write
        context.write(line);
      },
      combine: (a: number, b: number) => a + b,
      reduce: (key, values, args) => {
        expectTypeOf(key).toEqualTypeOf<string>();
        expectTypeOf(values).toEqualTypeOf<number[]>();
        expectTypeOf(args).toEqualTypeOf<{ readonly pattern: string }>();
        return values.length;
      },
    });
  });

  it("knows no emit where one value is wanted", () => {
    defineProgram({
      input: lines(),
      map: (line, context) => {
        // @ts-expect-error only programs that yield groups emit
        expectTypeOf(context.emit).toBeNever();
        expectTypeOf(context.offset).toEqualTypeOf<number>();
        return line === "" ? undefined : line.length;
      },
      combine: (a, b) => a + b,
    });
  });

  it("gives reduce a list where nothing combines", () => {
    defineProgram({
      input: lines(),
      map: (line) => (line.startsWith("#") ? line.length : undefined),
      reduce: (lengths) => {
        expectTypeOf(lengths).toEqualTypeOf<number[]>();
        return lengths.length;
      },
    });
  });

  it("takes bytes that are returned as well as written", () => {
    defineProgram({
      input: lines(),
      yields: "bytes",
      map: (line, { index, write }) => {
        if (index === 0) write("first\n");
        return `${line}\n`;
      },
    });
  });
});

describe("a job that is told its program's type", () => {
  // Never called: what it compiles to is the test.
  async function typed(pfs: PacketFS): Promise<void> {
    const longest = defineProgram({
      input: lines(),
      init: (args: { readonly least: number }) => args.least,
      map: (line, { state }) => Math.max(state, line.length),
      combine: (a: number, b: number) => Math.max(a, b),
    });
    const options = { args: { least: 3 } };
    const result = await pfs.run<typeof longest>({ path: "x.ts" }, ["f"], options);
    expectTypeOf(result).toEqualTypeOf<JobResult<number | null>>();
    // @ts-expect-error the program wants another shape of arguments
    await pfs.run<typeof longest>({ path: "x.ts" }, ["f"], { args: { most: 3 } });

    const counts = defineProgram({
      input: lines(),
      yields: "groups",
      map: (line, { emit }) => emit(line, 1),
      combine: (a: number, b: number) => a + b,
      reduce: (key, [count]) => `${key}: ${count}`,
    });
    const groups = await pfs.run<typeof counts>({ path: "x.ts" }, ["f"]);
    expectTypeOf(groups.value).toEqualTypeOf<[key: string, value: string][] | undefined>();

    const list = defineProgram({ input: lines(), map: (line) => line.length });
    expectTypeOf((await pfs.run<typeof list>({ path: "x.ts" }, ["f"])).value).toEqualTypeOf<
      number[] | undefined
    >();
    const output = defineProgram({ input: lines(), yields: "bytes", map: (line) => line });
    expectTypeOf((await pfs.run<typeof output>({ path: "x.ts" }, ["f"])).value).toEqualTypeOf<undefined>();
    expectTypeOf((await pfs.run({ path: "x.ts" }, ["f"])).value).toEqualTypeOf<unknown>();
  }

  it("knows its arguments and its value", () => {
    expect(typed).toBeTypeOf("function");
  });
});
