/** Compiled packet code gives what the interpreter gives, of any program and any bytes. PACKETFS_TEST_PROGRAMS=1000000 for minutes of it. */
import { expect, test } from "vitest";
import { CompiledKernel } from "../../../packets/code/compiled-kernel.ts";
import { compileCode } from "../../../packets/code/compiler/compiler.ts";
import { KERNEL_BYTES } from "../../../packets/code/compiler/registers.ts";
import { compileModule, instantiate, makeMemory } from "../../../packets/code/engine.ts";
import { Aggregate, Records, decodeCode, invalidCode, lookahead } from "../../../packets/code/format.ts";
import type { Code } from "../../../packets/code/format.ts";
import { Interpreter } from "../../../packets/code/interpreter.ts";
import { encodeState } from "../../../packets/code/state.ts";
import { codeText } from "../../../packets/code/text.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { randomBytes, randomCode, randomFrom } from "./random-code.ts";
import type { Random } from "./random-code.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 3);
const PROGRAMS = Number(process.env["PACKETFS_TEST_PROGRAMS"] ?? 700);

const PAGES = 4;
const memory = makeMemory(PAGES);
const bytes = new Uint8Array(memory.buffer);

function compiled(code: Code): CompiledKernel {
  const run = instantiate(compileModule(compileCode(code, PAGES)!), memory);
  return new CompiledKernel(code, bytes, run);
}

/** Runs both over a few pieces of memory; whatever stands behind those must not matter. */
function compare(raw: Uint8Array, random: Random): void {
  const code = decodeCode(raw);
  const [plain, fast] = [new Interpreter(code), compiled(code)];
  for (let piece = 0; piece < 3; piece++) {
    const isLong = random(3) === 0;
    const size =
      code.records === Records.ROWS
        ? code.rowBytes * random(isLong ? 600 : 30)
        : random(isLong ? 3_000 : 120);
    const at = KERNEL_BYTES + random(50);
    if (at + size + 200 > bytes.byteLength) continue;
    bytes.set(randomBytes(random, size + lookahead(code) + 64), at);
    const [left, expected] = [fast.run(bytes, at, at + size), plain.run(bytes, at, at + size)];
    if (left !== expected) expect.fail(`${codeText(raw)} is through at ${left}, not ${expected}`);
  }
  const hex = (kernel: { readonly state: Interpreter["state"] }): string =>
    Buffer.from(encodeState(code, kernel.state)).toString("hex");
  // Asked a million times, so it is asked cheaply.
  if (hex(fast) !== hex(plain)) expect(hex(fast), codeText(raw)).toBe(hex(plain));
}

test("random programs, and what is left of them when some of their bytes are others", () => {
  const random = randomFrom(SEED);
  let compared = 0;
  for (let count = 0; count < PROGRAMS; count++) {
    const raw = randomCode(random);
    for (let times = random(4); times > 0; times--)
      raw[random(raw.length)] = random(random(2) === 0 ? 12 : 256);
    if (invalidCode(raw) !== null || decodeCode(raw).aggregate === Aggregate.CRC32) continue;
    compare(raw, random);
    compared++;
  }
  expect(compared).toBeGreaterThan(PROGRAMS / 4);
});

test.each([
  'count("\\n")',
  'count(not(anyOf("aeiou", range("0", "9"))))',
  "bytes().sum()",
  "bytes().min()",
  "bytes().filter(anyOf(3)).max()",
  "bytes().filter(not(anyOf(10))).mean()",
  "bytes().xor()",
  "histogram()",
  'bytes().filter(anyOf("\\n")).histogram()',
  'match("\\n\\u000b\\n\\u000b\\n")',
  'bytes().filter(not(at(0, "\\n\\u000b\\n\\u000b\\n")))',
  // Bytes that are read as signed numbers where they are compared, and as unsigned ones where they are counted.
  'bytes().filter("i8", anyOf(range(-50, 10))).histogram()',
  "lines()",
  "lines().max()",
  'lines().filter(contains("\\u000b\\u000c")).count()',
  'sum("f64")',
])("%s over a hundred thousand bytes", (source) => {
  const code = decodeCode(parseCode(source).packetCode);
  const random = randomFrom(SEED + 9);
  const data = randomBytes(random, 100_000);
  // Sums of a byte in all lanes, and counts of nothing else, are where they would overflow.
  for (const file of [data, new Uint8Array(100_000).fill(255), new Uint8Array(100_000).fill(10)]) {
    const [plain, fast] = [new Interpreter(code), compiled(code)];
    bytes.set(file, KERNEL_BYTES);
    const end = KERNEL_BYTES + file.byteLength;
    expect(fast.run(bytes, KERNEL_BYTES, end)).toBe(plain.run(bytes, KERNEL_BYTES, end));
    expect(Buffer.from(encodeState(code, fast.state)).toString("hex")).toBe(
      Buffer.from(encodeState(code, plain.state)).toString("hex"),
    );
  }
});
