/** Packet code as jobs: on a store of this machine, and on a hub with its nodes. */
import { crc32 } from "node:zlib";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { codeFor, Stage } from "../../../packets/code/format.ts";
import { startNetwork } from "../../../sdk/cli/demo/network.ts";
import type { Network } from "../../../sdk/cli/demo/network.ts";
import {
  Flag,
  Op,
  code,
  connect,
  decodePacket,
  encodeFrame,
  openLocal,
  refFromHex,
} from "../../../sdk/index.ts";
import type { JobResult, PacketCode, PacketFS } from "../../../sdk/index.ts";
import { temporaryDirectory } from "../cli/run-pfs.ts";

const DASH = "–";
/** Lines of all lengths, some longer than a chunk; what is looked for stands in some. */
const text = Array.from({ length: 6_000 }, (_, index) => {
  const word = index % 97 === 0 ? "ERROR" : "fine";
  return `${word} ${DASH} ${"x".repeat((index * 7919) % 900)}${index % 1_999 === 0 ? "y".repeat(300_000) : ""}\n`;
}).join("");
const bytes = Buffer.from(text);
const floats = Float64Array.from({ length: 250_000 }, (_, index) => Math.sin(index) * 10 ** (index % 12));
const floatBytes = new Uint8Array(floats.buffer);

const lengths = text
  .split("\n")
  .slice(0, -1)
  .map((line) => Buffer.byteLength(line));
const occurrences = (of: string): number => text.split(of).length - 1;

const PROGRAMS: readonly (readonly [PacketCode, unknown])[] = [
  [code.count("\n"), 6_000],
  [code.count(), bytes.byteLength],
  [code.match("ERROR"), occurrences("ERROR")],
  [code.match(DASH), 6_000],
  [code.lines(), 6_000],
  [code.lines(DASH), 6_001],
  [code.lines().filter(code.contains("ERROR")), occurrences("ERROR")],
  [code.lines().max(), Math.max(...lengths)],
  [code.lines().mean(), lengths.reduce((sum, length) => sum + length, 0) / lengths.length],
  [
    code.lines().filter("length", ">", 500).sum(),
    lengths.filter((n) => n > 500).reduce((sum, n) => sum + n, 0),
  ],
  [code.crc32(), crc32(bytes)],
  [code.bytes().xor(), bytes.reduce((sum, byte) => sum ^ byte, 0)],
];

let directory: string;
let pfs: PacketFS;

beforeAll(async () => {
  directory = await temporaryDirectory();
  pfs = await openLocal(join(directory, "store"), { workers: 2 });
  await pfs.put(bytes, { name: "text" });
  await pfs.put(floatBytes, { name: "floats" });
  await pfs.put(new Uint8Array(0), { name: "empty" });
});

afterAll(async () => await pfs.close());

describe("on this machine", () => {
  test.each(PROGRAMS)("%s", async (program, expected) => {
    expect((await pfs.run(program, ["text"])).value).toEqual(expected);
    // Chunks and splits meet elsewhere, and many states are merged along the tree.
    expect((await pfs.run(program, ["text"], { splitBytes: 40_009 })).value).toEqual(expected);
  });

  test("a histogram, whose state is a chunk", async () => {
    const { value } = await pfs.run(code.histogram(), ["text"], { splitBytes: 100_000 });
    const expected = Array.from({ length: 256 }, () => 0);
    for (const byte of bytes) expected[byte]!++;
    expect(value).toEqual(expected);
  });

  test("files of nothing, several files, and results as files", async () => {
    expect((await pfs.run(code.lines(), ["empty"])).value).toBe(0);
    expect((await pfs.run(code.min("f64"), ["empty"])).value).toBe(null);
    expect((await pfs.run(code.lines(), ["text", "empty", "text"])).value).toBe(12_000);
    const { file, value } = await pfs.run(code.count("\n"), ["text"], { out: "counted" });
    expect([value, file?.length]).toEqual([undefined, 4]);
  });

  test("sums of floats follow from the input and the options alone", async () => {
    const sum = async (workers: number, splitBytes?: number): Promise<JobResult<number | bigint>> => {
      await using other = await openLocal(join(directory, "store"), { workers });
      return await other.run(code.sum("f64"), ["floats"], splitBytes === undefined ? {} : { splitBytes });
    };
    await pfs.close();
    const results = [await sum(1), await sum(3), await sum(1, 64_000), await sum(4, 64_000)];
    pfs = await openLocal(join(directory, "store"), { workers: 2 });
    const [one, three, small, smallAgain] = results.map(({ value }) => value);
    expect(three).toBe(one);
    expect(smallAgain).toBe(small);
    expect(results[2]!.statistics.tasks).toBeGreaterThan(30);
    const exact = floats.reduce((total, each) => total + each, 0);
    expect(Number(one) / exact).toBeCloseTo(1, 9);
  });

  test("a file that ends within a row says where", async () => {
    const failing = pfs.run(code.sum("u64"), ["text"]);
    await expect(failing).rejects.toMatchObject({
      code: "PFS_RECORD_INVALID",
      data: { file: "text", at: bytes.byteLength - (bytes.byteLength % 8) },
    });
    await expect(failing).rejects.toThrow(/ends within a row/);
  });

  test("packets that callers make themselves", async () => {
    await using program = await pfs.load(code.count("x"));
    const { root } = await pfs.stat("text");
    const exec = { op: Op.EXEC, flags: Flag.STREAM, lane: 1, ref: refFromHex(root)! };
    const answers = await program.exec(
      encodeFrame([
        { ...exec, from: 0, length: 10_000 },
        { ...exec, from: 10_000, length: 0 },
        { ...exec, from: bytes.byteLength, length: 1 },
        { ...exec, from: 0, length: 10, ref: new Uint8Array(32).fill(1) },
      ]),
    );
    const [some, none, beyond, missing] = [0, 1, 2, 3].map((index) => decodePacket(answers, index));
    const counted = bytes.subarray(0, 10_000).filter((byte) => byte === 0x78).byteLength;
    expect(some).toMatchObject({ op: Op.RETURN, flags: Flag.INLINE, length: 8 });
    expect(Buffer.from(some!.ref).readBigUInt64LE()).toBe(BigInt(counted));
    expect(Buffer.from(none!.ref).readBigUInt64LE()).toBe(0n);
    expect([beyond!.op, beyond!.from, missing!.op, missing!.from]).toEqual([Op.FAULT, 16, Op.FAULT, 6]);
  });

  test("bytes that are no packet code are refused before anything runs", async () => {
    const broken = code.count("x");
    Object.assign(broken, { packetCode: codeFor(broken.packetCode, Stage.MAP).fill(9, 0, 1) });
    await expect(pfs.run(broken, ["text"])).rejects.toMatchObject({ code: "PFS_CODE_INVALID" });
  });
});

describe("on a hub and its nodes", () => {
  let network: Network;
  let client: PacketFS;

  beforeAll(async () => {
    network = await startNetwork({ nodes: 2, workers: 1 });
    client = await connect(network.clientToken);
    await client.put(bytes, { name: "text" });
    await client.put(floatBytes, { name: "floats" });
  });

  afterAll(async () => {
    await client?.close();
    await network?.stop();
  });

  test("gives what this machine gives, to the last bit", async () => {
    const options = { splitBytes: 100_000 };
    for (const [program, expected] of PROGRAMS) {
      const { value, statistics } = await client.run(program, ["text"], options);
      expect(value).toEqual(expected);
      expect(statistics.tasks).toBeGreaterThan(20);
    }
    const sum = await client.run(code.sum("f64"), ["floats"], options);
    expect(sum.value).toBe((await pfs.run(code.sum("f64"), ["floats"], options)).value);
    expect((await client.jobs()).map(({ program }) => program)).toContain(
      'bytes().filter(at(0, "ERROR")).count()',
    );
  });

  test("refuses bytes that are none", async () => {
    const broken = code.count("x");
    Object.assign(broken, { packetCode: new Uint8Array(32) });
    await expect(client.run(broken, ["text"])).rejects.toMatchObject({ code: "PFS_CODE_INVALID" });
    await using program = await client.load(code.lines());
    const { root } = await client.stat("text");
    const exec = { op: Op.EXEC, flags: Flag.STREAM, lane: 1, ref: refFromHex(root)!, length: 1_000 };
    expect(decodePacket(await program.exec(encodeFrame([exec])), 0)).toMatchObject({
      op: Op.RETURN,
      length: 8,
    });
  });
});
