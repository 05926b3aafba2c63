/**
 * Packet code on a GPU gives what the interpreter gives, of any program over rows of integers and any bytes.
 * PACKETFS_TEST_PROGRAMS=10000 for minutes of it; PACKETFS_TEST_SEED repeats.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { decodeCode, lookahead } from "../../../packets/code/format.ts";
import { Interpreter } from "../../../packets/code/interpreter.ts";
import { encodeState } from "../../../packets/code/state.ts";
import type { State } from "../../../packets/code/state.ts";
import { codeText } from "../../../packets/code/text.ts";
import type { Ref } from "../../../packets/digest.ts";
import { findAccelerators } from "../../../runtime/accelerator/accelerators.ts";
import { RowKernel, hasRowKernel } from "../../../runtime/code/row-kernel.ts";
import type { Accelerator, KernelAnswer, KernelInput } from "../../../runtime/contracts/kernels.ts";
import { Store } from "../../../runtime/store/store.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { randomBytes as randomValues, randomCode, randomFrom } from "../../packets/code/random-code.ts";
import { noGpu } from "../../suites/gpu.ts";
import { inOnePiece, randomBytes, temporaryDirectory } from "../store/store-fixture.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 5);
const PROGRAMS = Number(process.env["PACKETFS_TEST_PROGRAMS"] ?? 10);
const never = new AbortController().signal;

describe.skipIf(noGpu !== undefined)("packet code on a GPU", () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
  let store: Store;
  let gpu: Accelerator;

  beforeAll(async () => {
    directory = await temporaryDirectory();
    store = await Store.open(directory.path);
    const found = await findAccelerators({ source: store, places: store, isSoftwareUsed: true });
    gpu = found.accelerators[0]!;
    expect(found.unused).toEqual([]);
  });

  afterAll(async () => {
    await gpu.close();
    await store.close();
    await directory[Symbol.asyncDispose]();
  });

  /** Runs it over rows, and compares. `rows` of the bytes are whole; what AT looks at may stand behind them. */
  async function compare(
    raw: Uint8Array,
    input: KernelInput,
    bytes: Uint8Array,
    rows: number,
  ): Promise<KernelAnswer> {
    const code = decodeCode(raw);
    const kernel = new RowKernel(code);
    const answer = await gpu.run(kernel.call({ input, bytes: bytes.byteLength, rows }), never);
    const interpreter = new Interpreter(code);
    // Behind the end of a file stands nothing, and so nothing that is looked for.
    const padded = new Uint8Array(bytes.byteLength + 32).fill(~(code.needle.at(-1) ?? 0));
    padded.set(bytes);
    interpreter.run(padded, 0, rows * code.rowBytes);
    const hex = (state: State | undefined): string =>
      state === undefined ? "no state" : Buffer.from(encodeState(code, state)).toString("hex");
    const found = hex(kernel.state(answer.outputs!, rows));
    expect(found, `${codeText(raw)} over ${rows} rows`).toBe(hex(interpreter.state));
    return answer;
  }

  test("random programs", async () => {
    const random = randomFrom(SEED);
    for (let count = 0; count < PROGRAMS;) {
      const raw = randomCode(random);
      const code = decodeCode(raw);
      if (!hasRowKernel(code)) continue;
      count++;
      const rows = 1 + random(random(8) === 0 ? 20_000 : 300);
      const behind = random(2) === 0 ? 0 : lookahead(code);
      const bytes = randomValues(random, rows * code.rowBytes + behind);
      await compare(raw, { bytes }, bytes, rows);
    }
  });

  test.each([
    ["bytes().sum()", 255],
    ["bytes().mean()", 0],
    ["histogram()", 7],
    ['rows(8).sum("u64@0")', 255],
    ['rows(8).sum("i64@0")', 255],
    ['rows(4).filter(not(at(0, "\\u0000"))).sum("i32@0")', 128],
    ['rows(8).max("u64@0")', 255],
    ['rows(8).min("i64@0")', 127],
  ])("%s where all rows are alike, and sums as large as they can be", async (source, value) => {
    const bytes = new Uint8Array(2 * 1024 * 1024).fill(value);
    const { packetCode } = parseCode(source);
    await compare(packetCode, { bytes }, bytes, bytes.byteLength / decodeCode(packetCode).rowBytes);
  });

  test("ranges of a file, wherever they begin, of which the second run sends nothing", async () => {
    const file = randomBytes("gpu", 512 * 1024 + 17);
    let root: Ref;
    {
      await using writer = await store.openWriter();
      ({ root } = await ingest(writer, inOnePiece(file)));
      await writer.bind({ name: "file", root, length: file.byteLength });
    }
    for (const from of [0, 1, 234_567, file.byteLength - 70_001]) {
      const length = file.byteLength - from;
      for (const source of ["histogram()", 'match("ab")', 'rows(2).sum("i16@0")']) {
        const { packetCode } = parseCode(source);
        const rows = Math.floor(length / decodeCode(packetCode).rowBytes);
        const run = (): Promise<KernelAnswer> =>
          compare(packetCode, { root, from, length }, file.subarray(from), rows);
        await run();
        const { times } = await run();
        expect(times.residentBytes).toBe(length);
        expect(times.uploadedBytes).toBeLessThan(4096);
      }
    }
  });
});
