/** Each example runs over an input small enough to be checked against a plain computation, cut into several splits. */
import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openLocal } from "../../sdk/local.ts";
import type { JobResult, PacketFS } from "../../sdk/packetfs.ts";

const EXAMPLES = fileURLToPath(new URL("../../examples/", import.meta.url));
const SPLIT_BYTES = 64 * 1024;

let directory: string;
let pfs: PacketFS;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "pfs-examples-"));
  pfs = await openLocal(join(directory, "store"));
});
afterAll(async () => {
  await pfs.close();
  await rm(directory, { recursive: true, force: true });
});

/** Runs an example over `input`, cut into several splits. */
async function run(example: string, input: Uint8Array | string, args?: unknown): Promise<JobResult> {
  await pfs.put(Buffer.from(input), { name: example });
  const options = args === undefined ? {} : { args };
  const result = await pfs.run({ path: join(EXAMPLES, example) }, [example], {
    ...options,
    splitBytes: SPLIT_BYTES,
  });
  expect(result.statistics.tasks).toBeGreaterThan(1);
  return result;
}

async function bytesOf({ file }: JobResult): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of pfs.get(file!.root)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** Numbers that are the same in every run (Lehmer). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state;
  };
}

describe("examples of WebAssembly", () => {
  it("count words, as a program and as a part of one", async () => {
    const text = "the größe\t名前  x\r\n a-much-longer-word-than-the-others, 0\n\n".repeat(20_000);
    const words = text.split(/\s+/).filter((each) => each !== "").length;
    expect((await run("wasm/count-words.wasm", text)).value).toBe(words);
    const { value } = await run("wasm/count-words.ts", text);
    expect(value).toEqual({ words, bytes: Buffer.byteLength(text) });
  });

  it("count each word as the program in TypeScript does, whatever the bytes are", async () => {
    const next = numbers(2);
    const parts = ["the", '"quoted\\"', "größe", "__proto__", "12", "\xff\xfe", "x".repeat(300)].map((each) =>
      each.startsWith("\xff") ? Buffer.from(each, "latin1") : Buffer.from(each),
    );
    const input = Buffer.concat(
      Array.from({ length: 60_000 }, (_, index) =>
        Buffer.concat([
          index % 3 === 0 ? Buffer.from(`word${next() % 30_000}`) : parts[next() % parts.length]!,
          Buffer.from(" \n\t"[next() % 3]!),
        ]),
      ),
    );
    const { value } = await run("wasm/word-count.wasm", input);
    expect(value).toEqual((await run("word-count.ts", input)).value);
  });
});

describe("examples", () => {
  it("are short, and say how to run them", () => {
    for (const name of readdirSync(EXAMPLES).filter((file) => file.endsWith(".ts"))) {
      const text = readFileSync(join(EXAMPLES, name), "utf8");
      expect({ name, short: text.split("\n").length <= 80 }).toEqual({ name, short: true });
      expect(text).toContain('from "packetfs"');
      expect(text.slice(0, 1000)).toContain(
        name === "use-from-typescript.ts" ? `examples/${name}` : `pfs run examples/${name}`,
      );
    }
  });

  it("word-count counts words", async () => {
    const next = numbers(1);
    const vocabulary = ["the", "größe", "名前", "x", "a-much-longer-word-than-the-others", "0"];
    const spaces = [" ", "\n", "\t", "  ", "\r\n"];
    let text = "";
    for (let index = 0; index < 40_000; index++) {
      const word = index % 50 === 0 ? `rare${next() % 5000}` : vocabulary[next() % vocabulary.length]!;
      text += word + spaces[next() % spaces.length]!;
    }
    const counts = new Map<string, number>();
    for (const word of text.split(/\s+/).filter((each) => each !== ""))
      counts.set(word, (counts.get(word) ?? 0) + 1);
    const { value } = await run("word-count.ts", text);
    expect(new Map(value as [string, number][])).toEqual(counts);
  });

  it("grep finds lines, and where they begin", async () => {
    const lines = Array.from(
      { length: 12_000 },
      (_, index) => `${index} grüße ${index % 97 === 0 ? "TimeOut" : "ok"}`,
    );
    let offset = 0;
    let expected = "";
    for (const line of lines) {
      if (line.includes("TimeOut")) expected += `${offset}:${line}\n`;
      offset += Buffer.byteLength(line) + 1;
    }
    const result = await run("grep.ts", `${lines.join("\n")}\n`, { pattern: "timeout", flags: "i" });
    expect((await bytesOf(result)).toString()).toBe(expected);
  });

  it("csv-aggregate aggregates a column by another", async () => {
    const next = numbers(2);
    const cities = ["Bonn", 'the "Big" Apple, NY', "São\nPaulo"];
    const quote = (field: string): string => `"${field.replaceAll('"', '""')}"`;
    const groups = new Map<string, number[]>();
    let text = "city,note,amount\r\n";
    for (let row = 0; row < 8000; row++) {
      const city = cities[next() % cities.length]!;
      const amount = row % 100 === 0 ? "" : String((next() % 1000) - 500);
      text += `${quote(city)},${quote(`row ${row}`)},${amount}\r\n`;
      if (amount !== "") groups.set(city, [...(groups.get(city) ?? []), Number(amount)]);
    }
    const { value } = await run("csv-aggregate.ts", text, { by: "city", of: "amount" });
    const expected = [...groups].map(([city, amounts]): [string, unknown] => {
      const sum = amounts.reduce((a, b) => a + b, 0);
      const [min, max, count] = [Math.min(...amounts), Math.max(...amounts), amounts.length];
      return [city, { count, sum, min, max, mean: sum / count }];
    });
    expect(new Map(value as [string, unknown][])).toEqual(new Map(expected));
  });

  it("filter-json-lines keeps what is grave, in order", async () => {
    const levels = ["debug", "info", "warning", "error", "fatal"];
    const events = Array.from({ length: 4000 }, (_, index) => ({
      time: index,
      level: levels[index % 5],
      message: `it is “${index}”`,
      rest: "left out",
    }));
    const text = events.map((event) => `${JSON.stringify(event)}\n`).join("");
    const result = await run("filter-json-lines.ts", text, { least: "error", keep: ["time", "message"] });
    const expected = events
      .filter(({ level }) => level === "error" || level === "fatal")
      .map(({ time, message }) => `${JSON.stringify({ time, message })}\n`)
      .join("");
    expect((await bytesOf(result)).toString()).toBe(expected);
  });

  it("thumbnail averages squares of pixels", async () => {
    const [width, height] = [1920, 32];
    const next = numbers(3);
    const pixels = new Uint8Array(width * height * 3).map(() => next());
    const result = await run("thumbnail.ts", pixels);
    const expected = new Uint8Array((width / 8) * (height / 8));
    for (let at = 0; at < expected.length; at++) {
      const [left, top] = [(at % 240) * 8, Math.floor(at / 240) * 8];
      let sum = 0;
      for (let y = top; y < top + 8; y++) {
        for (let x = left; x < left + 8; x++) {
          const pixel = (y * width + x) * 3;
          sum += 77 * pixels[pixel]! + 150 * pixels[pixel + 1]! + 29 * pixels[pixel + 2]!;
        }
      }
      expected[at] = sum / (256 * 64);
    }
    expect(Buffer.compare(await bytesOf(result), expected)).toBe(0);
  });

  it("mandelbrot computes a picture, row by row", async () => {
    const picture = { width: 40, height: 30, x: -0.5, y: 0, scale: 2.5, steps: 100 };
    const rows = Array.from({ length: picture.height }, (_, row) => `${row}\n`).join("");
    await pfs.put(Buffer.from(rows), { name: "rows" });
    const program = { path: join(EXAMPLES, "mandelbrot.ts") };
    const result = await pfs.run(program, ["rows"], { args: picture, splitBytes: 10 });
    expect(result.statistics.tasks).toBeGreaterThan(5);
    const points = await bytesOf(result);
    expect(points).toHaveLength(picture.width * picture.height);
    const at = (x: number, y: number): number => {
      const column = Math.round(((x - picture.x) / picture.scale) * picture.height + picture.width / 2);
      const row = Math.round(((y - picture.y) / picture.scale + 0.5) * picture.height);
      return points[row * picture.width + column]!;
    };
    // In the heart and the disc that the set is mostly made of; and far away, where nothing stays for a second step.
    expect([at(0, 0), at(-1, 0), at(-0.2, 0.4)]).toEqual([0, 0, 0]);
    expect(points[0]).toBe(1 + Math.floor(254 * Math.sqrt(2 / 101)));
    // What is above the real axis is as what is below it.
    for (let row = 1; row < picture.height / 2; row++) {
      const mirrored = picture.height - row;
      const rowOf = (index: number): Buffer =>
        points.subarray(index * picture.width, (index + 1) * picture.width);
      expect(Buffer.compare(rowOf(row), rowOf(mirrored))).toBe(0);
    }
  });

  it("use-from-typescript runs as it is", async () => {
    const script = join(EXAMPLES, "use-from-typescript.ts");
    const { stdout } = await promisify(execFile)(process.execPath, [script, join(directory, "other")]);
    expect(stdout).toContain("[ 'dog', 200000 ]");
    expect(stdout).toContain("bytes 4 to 19: quick brown fox\n".trimEnd());
    expect(stdout).toContain("as expected: ");
  });
});
