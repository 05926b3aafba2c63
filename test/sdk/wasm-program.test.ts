/** WebAssembly modules that are programs by themselves, by what they export, and modules in programs: from a file to a job's value. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { bundleProgram } from "../../sdk/programs/bundle.ts";
import { checkTypes } from "../../sdk/programs/type-check.ts";
import { openLocal } from "../../sdk/local.ts";
import type { JobResult, PacketFS } from "../../sdk/packetfs.ts";
import { allocator, wasmModule } from "../wasm-module.ts";
import type { ValueType, WasmFunction, WasmParts } from "../wasm-module.ts";

let directory: string;
let pfs: PacketFS;
const TEXT = Array.from({ length: 3000 }, (_, index) => `line ${index} größe\n`).join("");
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pfs-wasm-"));
  pfs = await openLocal(join(directory, "store"));
  await pfs.put(Buffer.from(TEXT), { name: "text" });
});
afterAll(async () => {
  await pfs.close();
  await rm(directory, { recursive: true, force: true });
});

const { globals, alloc } = allocator(4096);
const PLACE_AND_LENGTH = ["i32", "i32"] as const;

/** Gives the bytes that it takes, of which the first parameter says where they are. */
function echo(name: string, params: readonly ValueType[] = PLACE_AND_LENGTH): WasmFunction {
  const code = "local.get 0 i64.extend_i32_u i64.const 32 i64.shl local.get 1 i64.extend_i32_u i64.or";
  return { name, params, results: ["i64"], code };
}

/** A module that says this of itself. */
function describes(declaration: object, ...functions: readonly WasmFunction[]): WasmParts {
  const bytes = JSON.stringify(declaration);
  const code = `i64.const ${(64n << 32n) + BigInt(Buffer.byteLength(bytes))}`;
  return {
    memory: [1],
    globals,
    data: [{ at: 64, bytes }],
    functions: [alloc, { name: "describe", results: ["i64"], code }, ...functions],
  };
}

let files = 0;
async function fileOf(
  content: WasmParts | string | Uint8Array,
  name = `module${++files}.wasm`,
): Promise<string> {
  const path = join(directory, name);
  const isPlain = typeof content === "string" || content instanceof Uint8Array;
  await writeFile(path, isPlain ? content : wasmModule(content));
  return path;
}

async function run(parts: WasmParts, args?: unknown): Promise<JobResult> {
  const path = await fileOf(parts);
  return pfs.run({ path }, ["text"], { splitBytes: 16_384, ...(args === undefined ? {} : { args }) });
}

describe("a module that is a program", () => {
  it("gives numbers, which it folds and reduces", async () => {
    const { value, statistics } = await run({
      memory: [1],
      globals,
      functions: [
        alloc,
        { name: "map", params: PLACE_AND_LENGTH, results: ["i32"], code: "local.get 1" },
        {
          name: "combine",
          params: ["i32", "i32"],
          results: ["i32"],
          code: "local.get 0 local.get 1 i32.add",
        },
        {
          name: "reduce",
          params: ["i32"],
          results: ["f64"],
          code: "local.get 0 f64.convert_i32_s f64.const 2 f64.div",
        },
      ],
    });
    expect(value).toBe(Buffer.byteLength(TEXT) / 2);
    expect(statistics.tasks).toBeGreaterThan(2);
  });

  it("gives JSON, and takes its values and the job's arguments as that", async () => {
    // Keeps the arguments, gives them for each split, takes the later of two, and passes the last on.
    const init = "i32.const 1024 local.get 0 local.get 1 memory.copy i32.const 2048 local.get 1 i32.store 0";
    const kept = "i64.const 4398046511104 i32.const 2048 i64.load32_u 0 i64.or";
    const args = { deep: [1, null, "größe"] };
    const { value } = await run(
      describes(
        { input: { kind: "blocks" } },
        { name: "init", params: PLACE_AND_LENGTH, code: init },
        { name: "map", params: PLACE_AND_LENGTH, results: ["i64"], code: kept },
        echo("combine", ["i32", "i32", "i32", "i32"]),
        echo("reduce"),
      ),
      args,
    );
    expect(value).toEqual(args);
  });

  it("takes records of any reader: text, bytes, or JSON", async () => {
    const lines = await run(describes({ input: { kind: "lines" }, values: "bytes" }, echo("map")));
    const texts = (lines.value as Uint8Array[]).map((line) => Buffer.from(line).toString());
    expect(texts).toEqual(TEXT.trimEnd().split("\n"));
    const csv = { kind: "csv", separator: " ", header: false, columns: ["word", "number", "size"] };
    const rows = await run(describes({ input: csv }, echo("map")));
    expect((rows.value as unknown[])[7]).toEqual({ word: "line", number: "7", size: "größe" });
  });

  it("gives groups, and bytes that are stored as a file", async () => {
    const columns = '[["b","a","b"],[1,2,3]]';
    const given = `i64.const ${(512n << 32n) + BigInt(columns.length)}`;
    const groups = describes(
      { yields: "groups" },
      { name: "map", params: PLACE_AND_LENGTH, results: ["i64"], code: given },
      { name: "combine", params: ["f64", "f64"], results: ["f64"], code: "local.get 0 local.get 1 f64.add" },
    );
    const { value, statistics } = await run({
      ...groups,
      data: [...groups.data!, { at: 512, bytes: columns }],
    });
    expect(value).toEqual([
      ["a", 2 * statistics.tasks],
      ["b", 4 * statistics.tasks],
    ]);
    const { file } = await run(describes({ yields: "bytes" }, echo("map")));
    const pieces: Uint8Array[] = [];
    for await (const piece of pfs.get(file!.root)) pieces.push(piece);
    expect(Buffer.concat(pieces).toString()).toBe(TEXT);
  });

  it("adds nothing where it gives 0", async () => {
    const { value } = await run(
      describes({}, { name: "map", params: PLACE_AND_LENGTH, results: ["i64"], code: "i64.const 0" }),
    );
    expect(value).toEqual([]);
  });

  it.each<readonly [string, WasmParts | Uint8Array, RegExp]>([
    [
      "no map",
      { memory: [1], functions: [] },
      /module\d+\.wasm is no program: it exports no map\(place, length\)/,
    ],
    [
      "a declaration that is no JSON",
      { ...describes({}, echo("map")), data: [{ at: 64, bytes: "{]" }] },
      /does not load: SyntaxError: /,
    ],
    ["a reader that is none", describes({ input: { kind: "words" } }, echo("map")), /input is a reader/],
    [
      "values that are none",
      describes({ values: "xml" }, echo("map")),
      /what its values are is "json" or "bytes"/,
    ],
    [
      "an import",
      { memory: [1], imports: [{ module: "env", name: "abort", kind: [0] }] },
      /^module\d+\.wasm: .*imports "env.abort"/,
    ],
    ["no module", Buffer.from("#include"), /^module\d+\.wasm: the file is not a WebAssembly module/],
  ])("is told why it is none: %s", async (_name, content, reason) => {
    const path = await fileOf(content);
    await expect(pfs.run({ path }, ["text"])).rejects.toThrow(reason);
    await expect(pfs.run({ path }, ["text"])).rejects.toHaveProperty("code", "PFS_PROGRAM_INVALID");
  });

  it("has faults that name it, its file and its function", async () => {
    const path = await fileOf({
      memory: [1],
      globals,
      functions: [alloc, { ...echo("map"), code: "unreachable" }],
    });
    await expect(pfs.run({ path }, ["text"])).rejects.toThrow(/module\d+\.wasm: map: unreachable/);
  });
});

describe("a program that imports a module", () => {
  it("is bundled with it, the same wherever it lies, and knows its types", async () => {
    await fileOf({ memory: [1], globals, functions: [alloc, echo("f")] }, "kernel.wasm");
    const source = `import { defineProgram, lines } from "packetfs";
      import kernel from "./kernel.wasm";
      export default defineProgram({ input: lines(), map: (line) => kernel.text("f", line)?.length ?? 0, combine: (a: number, b: number) => a + b });`;
    const path = await fileOf(source, "program.ts");
    const bundle = await bundleProgram({ path });
    expect(await checkTypes(path, bundle, { cache: join(directory, "types") })).toBeUndefined();
    const { value } = await pfs.run({ path }, ["text"]);
    expect(value).toBe(TEXT.replaceAll("\n", "").length);
    const wrong = await fileOf(source.replace("?.length ?? 0", ".size"), "wrong.ts");
    await expect(
      checkTypes(wrong, await bundleProgram({ path: wrong }), { cache: join(directory, "types") }),
    ).rejects.toThrow(/wrong\.ts:\d+:\d+: .*'size' does not exist/);
  });
});
