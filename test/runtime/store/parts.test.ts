import { mkdirSync, writeFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import { READ_RUN_BYTES_MAX } from "../../../runtime/limits.ts";
import {
  CODECS,
  COMPRESSION_SKIP_CHUNKS_MAX,
  Codec,
  Compressor,
  decompress,
} from "../../../packets/codec.ts";
import { planRuns } from "../../../runtime/store/segments/files.ts";
import { RefSet } from "../../../runtime/store/maintenance/ref-set.ts";
import {
  RECORD_HEADER_BYTES,
  RecordKind,
  checkSeed,
  decodeRecordHeader,
  encodeRecordHeader,
  offsetOf,
  placeOf,
  segmentOf,
} from "../../../runtime/store/segments/format.ts";
import { SegmentFiles } from "../../../runtime/store/segments/files.ts";
import { segmentPath, storePaths } from "../../../runtime/store/directory.ts";
import { failure, randomBytes, temporaryDirectory, textBytes } from "./store-fixture.ts";
import { descriptorsOf } from "../../suites/processes.ts";
import { until } from "../../suites/until.ts";

describe("a set of refs", () => {
  test("has what was added and nothing else, however much that is", () => {
    const set = new RefSet();
    const refs = Array.from({ length: 5000 }, (_, index) => sha256(Buffer.from(`ref ${index}`)));
    set.addAll(Buffer.concat(refs.slice(0, 2500)));
    for (const ref of refs.slice(0, 100)) set.add(ref);
    expect(set.size).toBe(2500);
    expect(refs.map((ref) => set.has(ref))).toEqual(refs.map((_, index) => index < 2500));
  });

  test("takes refs whose first bytes are zero", () => {
    const set = new RefSet(1000);
    const zero = new Uint8Array(32);
    const other = new Uint8Array(32).fill(1, 4, 8);
    expect(set.has(zero)).toBe(false);
    set.add(zero);
    expect([set.has(zero), set.has(other)]).toEqual([true, false]);
    set.add(other);
    expect([set.has(zero), set.has(other), set.size]).toEqual([true, true, 2]);
  });
});

describe("compression", () => {
  test("gives up on bytes that do not shrink, tries again ever more seldom, and comes back", () => {
    const compressor = new Compressor();
    const isPlain = (chunk: Uint8Array): boolean => {
      const { codec, bytes } = compressor.compress(chunk);
      if (codec === Codec.plain) expect(bytes).toBe(chunk);
      else expect(Buffer.compare(decompress(bytes, codec, chunk.byteLength)!, chunk)).toBe(0);
      return codec === Codec.plain;
    };
    const random = Array.from({ length: 300 }, (_, index) => randomBytes(`noise ${index}`, 4096));
    for (const chunk of random) expect(isPlain(chunk)).toBe(true);
    // Text is seen at once; what has many values, twice over, is found by one of the attempts.
    expect(isPlain(textBytes(4096))).toBe(false);
    for (const chunk of random) expect(isPlain(chunk)).toBe(true);
    const twice = Buffer.concat([random[0]!, random[0]!]);
    let skipped = 0;
    while (isPlain(twice)) skipped++;
    expect(skipped).toBeLessThanOrEqual(COMPRESSION_SKIP_CHUNKS_MAX);
    expect(isPlain(twice)).toBe(false);
  });

  test("is undone only for what it was done to", () => {
    const text = textBytes(4096);
    const { bytes: packed } = new Compressor().compress(text);
    expect(decompress(packed, Codec.zstd, 4095)).toBeUndefined();
    expect(decompress(packed, Codec.zstd, 4097)).toBeUndefined();
    expect(decompress(packed.subarray(1), Codec.zstd, 4096)).toBeUndefined();
    for (let codec = 0; codec < 256; codec++) {
      if (!(CODECS as readonly number[]).includes(codec))
        expect(decompress(packed, codec, 4096)).toBeUndefined();
    }
    expect(decompress(text, Codec.plain, 4095)).toBeUndefined();
    expect(decompress(text, Codec.plain, 4096)).toBe(text);
  });
});

describe("a record's header", () => {
  const storeId = randomBytes("store", 16);
  const header = {
    kind: RecordKind.chunk,
    codec: Codec.zstd,
    storedBytes: 12,
    plainBytes: 1_048_576,
    sequence: 2 ** 40 + 3,
    segment: 77,
    offset: 1234,
    ref: sha256(Buffer.from("x")),
    durableBytes: 1000,
  };
  const place = { segment: 77, offset: 1234 };

  test("is read as it was written, at its place, in its store", () => {
    const bytes = encodeRecordHeader(header, checkSeed(storeId));
    expect(bytes.byteLength).toBe(RECORD_HEADER_BYTES);
    expect(decodeRecordHeader(bytes, 0, place, checkSeed(storeId))).toEqual(header);
    expect(decodeRecordHeader(bytes, 0, { ...place, offset: 1235 }, checkSeed(storeId))).toBeUndefined();
    expect(decodeRecordHeader(bytes, 0, { ...place, segment: 78 }, checkSeed(storeId))).toBeUndefined();
    expect(decodeRecordHeader(bytes, 0, place, checkSeed(randomBytes("other", 16)))).toBeUndefined();
    expect(decodeRecordHeader(bytes, 1, place, checkSeed(storeId))).toBeUndefined();
  });

  test("is refused with any bit flipped", () => {
    const bytes = encodeRecordHeader(header, checkSeed(storeId));
    for (let bit = 0; bit < RECORD_HEADER_BYTES * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      expect(decodeRecordHeader(bytes, 0, place, checkSeed(storeId))).toBeUndefined();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
    }
  });

  test("has a place that is one number", () => {
    const numbers = [placeOf(1, 64), placeOf(8_388_607, 2 ** 30 - 1)];
    expect(numbers.every(Number.isSafeInteger)).toBe(true);
    expect(numbers.map((number) => [segmentOf(number), offsetOf(number)])).toEqual([
      [1, 64],
      [8_388_607, 2 ** 30 - 1],
    ]);
  });
});

test("neighbours are read at once, others and what would be too much are not", () => {
  const at = (
    segment: number,
    offset: number,
    storedBytes: number,
  ): { place: number; storedBytes: number } => ({
    place: placeOf(segment, offset),
    storedBytes,
  });
  const records = [at(1, 64, 1000), at(1, 1136, 1000), at(1, 1136, 1000), at(1, 500_000, 10), at(2, 64, 10)];
  expect(planRuns(records)).toEqual([
    { segment: 1, offset: 64, length: 2144, first: 0, end: 3 },
    { segment: 1, offset: 500_000, length: 82, first: 3, end: 4 },
    { segment: 2, offset: 64, length: 82, first: 4, end: 5 },
  ]);
  const many = Array.from({ length: 20 }, (_, index) => at(1, 64 + index * 100_072, 100_000));
  const runs = planRuns(many);
  expect(runs.every(({ length }) => length <= READ_RUN_BYTES_MAX)).toBe(true);
  expect(runs.map(({ first, end }) => end - first)).toEqual([10, 10]);
  expect(planRuns([])).toEqual([]);
});

test("few segments stay open, reads under way end well, and a missing one is no hole in memory", async () => {
  await using directory = await temporaryDirectory();
  const paths = storePaths(directory.path);
  mkdirSync(paths.segments);
  for (let number = 1; number <= 9; number++) writeFileSync(segmentPath(paths, number), `segment ${number}`);
  const files = new SegmentFiles(paths, 2);
  const reads = Array.from({ length: 27 }, (_, index) => files.read((index % 9) + 1, 8, 10));
  const read = (await Promise.all(reads)).map(String);
  expect(read).toEqual(Array.from({ length: 27 }, (_, index) => String((index % 9) + 1)));
  expect(await failure(files.read(10, 0, 10))).toMatchObject({ code: "ENOENT" });
  writeFileSync(segmentPath(paths, 10), "now it is there");
  expect(String(await files.read(10, 0, 3))).toBe("now");
  const last = files.read(1, 0, 7);
  files.close();
  expect(String(await last)).toBe("segment");
  if (process.platform === "linux") {
    await until(() => openFilesBelow(directory.path) === 0);
  }
});

function openFilesBelow(directory: string): number {
  return descriptorsOf(process.pid).filter((target) => target.startsWith(directory)).length;
}
