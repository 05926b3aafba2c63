/** Counting the newlines of a stored file with packet code, as a whole job, against reading alone, hashing, and decompressing alone. */
import { hash } from "node:crypto";
import { closeSync, openSync, readFileSync, readSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { zstdCompressSync, zstdDecompressSync } from "node:zlib";
import { makeMemory, PAGE_BYTES } from "../../../packets/code/engine.ts";
import { code, openLocal } from "packetfs";
import type { PacketFS } from "packetfs";
import { writeRandom, writeText } from "../corpus.ts";
import { seconds } from "../harness.ts";
import type { Bench, Row, Side } from "../harness.ts";
import { wc } from "../wc.ts";

const NEWLINE = 10;
const NEWLINES = code.count("\n");
const READ_BYTES: number = 1024 * 1024;
/** About what a chunk has. */
const PIECE_BYTES: number = 64 * 1024;
/** So that a rate is one of a core. */
const WORKERS = 1;

export async function* packetCodeRows({ directory, sizes }: Bench): AsyncGenerator<Row> {
  const { rounds } = sizes;
  const file = join(directory, "code-file");
  const store = join(directory, "code-store");
  writeRandom(file, sizes.randomBytes);
  yield* await rowsAboutPlain(file, store, rounds);
  rmSync(store, { recursive: true });
  writeText(file, sizes.textBytes);
  yield await rowAboutCompressed(file, store, rounds);
  rmSync(store, { recursive: true });
  rmSync(file);
}

/** Random bytes do not get smaller, so that their chunks are stored as they are. */
async function rowsAboutPlain(file: string, store: string, rounds: number): Promise<Row[]> {
  const expected = await putAndCount(file, store);
  const { length, megabytes, size } = sizeOf(file);
  const target = new Uint8Array(makeMemory(READ_BYTES / PAGE_BYTES).buffer);
  return [
    {
      question: `newlines of ${size}, packet code, hashes known`,
      unit: "MB/s",
      ours: countAgain(store, megabytes, expected),
      rivals: [
        {
          name: "readSync into WebAssembly memory",
          measure: async () => megabytes / (await seconds(async () => readThrough(file, length, target))),
        },
        ...wc("-l", file, megabytes),
      ],
      rounds,
      goal: { ratio: 0.7 },
    },
    {
      question: `newlines of ${size}, packet code, for the first time`,
      unit: "MB/s",
      ours: {
        name: "every hash checked",
        measure: async () => {
          await using pfs = await openLocal(store, { workers: WORKERS });
          // A store is opened by the first job.
          await pfs.run(NEWLINES, ["few"]);
          return megabytes / (await seconds(() => count(pfs, expected)));
        },
      },
      rivals: [
        {
          name: "readSync and SHA-256",
          measure: async () => {
            const hashed = (bytes: Uint8Array): void => {
              for (let at = 0; at < bytes.length; at += PIECE_BYTES)
                hash("sha256", bytes.subarray(at, at + PIECE_BYTES), "buffer");
            };
            return megabytes / (await seconds(async () => readThrough(file, length, target, hashed)));
          },
        },
      ],
      rounds,
      goal: { ratio: 0.85 },
    },
  ];
}

/** Text is stored compressed, and what takes time is to decompress it. */
async function rowAboutCompressed(file: string, store: string, rounds: number): Promise<Row> {
  const expected = await putAndCount(file, store);
  const { megabytes, size } = sizeOf(file);
  const bytes = readFileSync(file);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += PIECE_BYTES)
    pieces.push(zstdCompressSync(bytes.subarray(at, at + PIECE_BYTES)));
  return {
    question: `newlines of ${size} stored compressed, packet code, hashes known`,
    unit: "MB/s",
    ours: countAgain(store, megabytes, expected),
    rivals: [
      {
        name: "zstd alone, from memory",
        measure: async () => {
          const took = await seconds(async () => {
            for (const piece of pieces) zstdDecompressSync(piece);
          });
          return megabytes / took;
        },
      },
    ],
    rounds,
  };
}

/** Stores the file, and says how many newlines it has. */
async function putAndCount(file: string, store: string): Promise<number> {
  await using pfs = await openLocal(store);
  await pfs.put({ path: file }, { name: "file" });
  await pfs.put(Buffer.from("one\ntwo\n"), { name: "few" });
  let newlines = 0;
  const { length } = sizeOf(file);
  readThrough(file, length, new Uint8Array(READ_BYTES), (bytes) => {
    for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) newlines++;
  });
  return newlines;
}

function countAgain(store: string, megabytes: number, expected: number): Side {
  return {
    name: "a job over the store",
    measure: async () => {
      await using pfs = await openLocal(store, { workers: WORKERS });
      await count(pfs, expected);
      return megabytes / (await seconds(() => count(pfs, expected)));
    },
  };
}

async function count(pfs: PacketFS, expected: number): Promise<void> {
  const { value } = await pfs.run(NEWLINES, ["file"]);
  if (value !== expected) throw new Error(`packet code counted ${value} newlines of ${expected}`);
}

function readThrough(
  file: string,
  length: number,
  target: Uint8Array,
  use: (bytes: Uint8Array) => void = () => undefined,
): void {
  const input = openSync(file, "r");
  for (let at = 0; at < length;) {
    const read = readSync(input, target, 0, target.length, at);
    use(target.subarray(0, read));
    at += read;
  }
  closeSync(input);
}

function sizeOf(file: string): {
  readonly length: number;
  readonly megabytes: number;
  readonly size: string;
} {
  const length = statSync(file).size;
  return { length, megabytes: length / 1e6, size: `${Math.round(length / 2 ** 20)} MiB` };
}
