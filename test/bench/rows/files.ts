/** Storing and fetching random bytes, against what SHA-256 alone reaches on one core and against a plain copy. */
import { hash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  constants,
  fsyncSync,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { openLocal } from "packetfs";
import type { PacketFS } from "packetfs";
import { writeRandom } from "../corpus.ts";
import type { Bench, Row, Side } from "../harness.ts";
import { seconds } from "../harness.ts";

const CHUNK_BYTES: number = 64 * 1024;

export async function* fileRows({ directory, sizes: { randomBytes, rounds } }: Bench): AsyncGenerator<Row> {
  const file = join(directory, "random");
  writeRandom(file, randomBytes);
  try {
    yield* rowsAbout(directory, file, rounds);
  } finally {
    rmSync(file);
  }
}

function rowsAbout(directory: string, file: string, rounds: number): Row[] {
  const megabytes = statSync(file).size / 1e6;
  const size = `${Math.round(statSync(file).size / 2 ** 20)} MiB of random bytes`;
  const rivals = [sha256Alone(file, megabytes), copy(directory, file, megabytes)];
  return [
    {
      question: `put ${size}`,
      unit: "MB/s",
      ours: { name: "put, durable", measure: () => measurePut(directory, file, megabytes) },
      rivals,
      rounds,
      goal: { ratio: 0.35 },
    },
    {
      question: `get ${size}`,
      unit: "MB/s",
      ours: {
        name: "verified, to the program",
        measure: () => measureGet(directory, file, megabytes, false),
      },
      rivals,
      rounds,
      goal: { ratio: 0.5 },
    },
    {
      question: `get ${size}, to a file`,
      unit: "MB/s",
      ours: {
        name: "verified, written, synced",
        measure: () => measureGet(directory, file, megabytes, true),
      },
      rivals,
      rounds,
      goal: { ratio: 0.5 },
    },
  ];
}

async function measurePut(directory: string, file: string, megabytes: number): Promise<number> {
  const store = mkdtempSync(join(directory, "put-"));
  try {
    await using pfs = await openLocal(store);
    return megabytes / (await seconds(() => pfs.put({ path: file }, { name: "random" })));
  } finally {
    rmSync(store, { recursive: true });
  }
}

async function measureGet(
  directory: string,
  file: string,
  megabytes: number,
  toFile: boolean,
): Promise<number> {
  await using pfs = await openLocal(join(directory, "get-store"));
  const stored = await pfs.stat("random").catch(() => undefined);
  if (stored === undefined) await pfs.put({ path: file }, { name: "random" });
  const fetch = toFile ? () => pfs.getFile("random", join(directory, "got")) : () => getAll(pfs);
  return megabytes / (await seconds(fetch));
}

async function getAll(pfs: PacketFS): Promise<void> {
  let length = 0;
  for await (const bytes of pfs.get("random")) length += bytes.byteLength;
  if (length === 0) throw new Error("nothing was read");
}

/** The floor: hashing chunks of the size that PacketFS hashes, on one core, from memory. */
function sha256Alone(file: string, megabytes: number): Side {
  const buffer = Buffer.allocUnsafe(64 * 1024 * 1024);
  const input = openSync(file, "r");
  readSync(input, buffer);
  closeSync(input);
  return {
    name: "sha256, one core",
    measure: async () => {
      const passes = Math.ceil((megabytes * 1e6) / buffer.length);
      const time = await seconds(async () => {
        for (let pass = 0; pass < passes; pass++) {
          for (let at = 0; at < buffer.length; at += CHUNK_BYTES) {
            hash("sha256", buffer.subarray(at, at + CHUNK_BYTES), "buffer");
          }
        }
      });
      return (passes * buffer.length) / 1e6 / time;
    },
  };
}

function copy(directory: string, file: string, megabytes: number): Side {
  const target = join(directory, "copied");
  return {
    name: "copying the file",
    measure: async () => {
      const time = await seconds(async () => {
        copyFileSync(file, target, constants.COPYFILE_FICLONE);
        const output = openSync(target, "r+");
        fsyncSync(output);
        closeSync(output);
      });
      return megabytes / time;
    },
  };
}
