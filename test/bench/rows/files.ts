/**
 * Storing and fetching files, against what SHA-256 alone reaches on one core, a plain copy, and borg where it is installed; and how long a
 * small file takes, embedded and over a hub.
 */
import { execFile, spawnSync } from "node:child_process";
import { hash } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  constants,
  fdatasyncSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { connect, openLocal } from "packetfs";
import type { PacketFS } from "packetfs";
import { startNetwork } from "../../../sdk/cli/demo/network.ts";
import { writeRandom } from "../corpus.ts";
import { cpuSeconds } from "../cpu-time.ts";
import type { Bench, Row, Side } from "../harness.ts";
import { medianOf, seconds } from "../harness.ts";
import { startEcho } from "../task-rivals.ts";

const CHUNK_BYTES: number = 64 * 1024;
const HASHED_BYTES: number = 64 * 1024 * 1024;
const SMALL_BYTES = 15_000;

export async function* fileRows(bench: Bench): AsyncGenerator<Row> {
  const { directory, sizes } = bench;
  const random = join(directory, "random");
  writeRandom(random, sizes.randomBytes);
  yield* rowsAbout(bench, random, "random bytes", ["-C", "none"], true);
  rmSync(random);
  const binary = join(directory, "binary");
  copyFileSync(process.execPath, binary);
  if (statSync(binary).size > sizes.randomBytes) truncateSync(binary, sizes.randomBytes);
  // What is compressed takes the time of that as well.
  yield* rowsAbout(bench, binary, "a real binary", ["-C", "lz4"], false);
  rmSync(binary);
  yield* smallRows(bench);
}

async function* rowsAbout(
  { directory, sizes: { rounds } }: Bench,
  file: string,
  what: string,
  borgWords: readonly string[],
  hasGoals: boolean,
): AsyncGenerator<Row> {
  const goal = (ratio: number): Pick<Row, "goal"> => (hasGoals ? { goal: { ratio } } : {});
  const size = `${Math.round(statSync(file).size / 2 ** 20)} MiB of ${what}`;
  const bytes = statSync(file).size;
  const work = mkdtempSync(join(directory, "files-"));
  const sha256 = sideOf("sha256, one core", bytes, hashing(file, bytes));
  const copying = sideOf("copying the file", bytes, copy(file, join(work, "copied")));
  const putting = sideOf("put, durable", bytes, put(work, file));
  const borg = hasBorg() ? [sideOf("borg create", bytes, borgCreate(work, file, borgWords))] : [];
  await using pfs = await openLocal(join(work, "get-store"));
  await pfs.put({ path: file }, { name: "file" });
  const toProgram = sideOf(
    "verified, to the program",
    bytes,
    timed(() => getAll(pfs, bytes)),
  );
  const toFile = sideOf(
    "verified, written, synced",
    bytes,
    timed(() => pfs.getFile("file", join(work, "got"))),
  );
  try {
    const rate = { unit: "MB/s", rounds };
    const rivals = [sha256.rate, copying.rate];
    yield {
      question: `put ${size}`,
      ...rate,
      ours: putting.rate,
      rivals: [...rivals, ...borg.map((each) => each.rate)],
      ...goal(0.7),
    };
    yield {
      question: `put ${size}, in CPU time`,
      unit: "CPU s/GiB",
      rounds,
      ours: putting.cost,
      rivals: [...borg.map((each) => each.cost), sha256.cost],
    };
    yield { question: `get ${size}`, ...rate, ours: toProgram.rate, rivals, ...goal(0.9) };
    yield { question: `get ${size}, to a file`, ...rate, ours: toFile.rate, rivals, ...goal(0.75) };
  } finally {
    rmSync(work, { recursive: true });
  }
}

/** What one run took, in seconds. */
interface Took {
  readonly wall: number;
  readonly cpu: number;
}

/** A side of a row about rates, and of one about CPU time. */
function sideOf(
  name: string,
  bytes: number,
  run: () => Promise<Took>,
): { readonly rate: Side; readonly cost: Side } {
  return {
    rate: { name, measure: async () => bytes / 1e6 / (await run()).wall },
    cost: { name, measure: async () => ((await run()).cpu / bytes) * 2 ** 30 },
  };
}

function timed(work: () => Promise<unknown>): () => Promise<Took> {
  return async () => {
    const before = cpuSeconds();
    const wall = await seconds(work);
    return { wall, cpu: cpuSeconds() - before };
  };
}

function put(directory: string, file: string): () => Promise<Took> {
  return async () => {
    const store = mkdtempSync(join(directory, "put-"));
    try {
      await using pfs = await openLocal(store);
      return await timed(() => pfs.put({ path: file }, { name: "file" }))();
    } finally {
      rmSync(store, { recursive: true });
    }
  };
}

async function getAll(pfs: PacketFS, bytes: number): Promise<void> {
  let length = 0;
  for await (const piece of pfs.get("file")) length += piece.byteLength;
  if (length !== bytes) throw new Error(`${length} bytes were read`);
}

/** The floor: hashing chunks of the size that PacketFS hashes, on one core, from memory. */
function hashing(file: string, bytes: number): () => Promise<Took> {
  const buffer = Buffer.allocUnsafe(Math.min(HASHED_BYTES, bytes));
  const input = openSync(file, "r");
  readSync(input, buffer);
  closeSync(input);
  return timed(async () => {
    for (let hashed = 0; hashed < bytes; hashed += CHUNK_BYTES) {
      const at = hashed % (buffer.length - CHUNK_BYTES + 1);
      hash("sha256", buffer.subarray(at, at + Math.min(CHUNK_BYTES, bytes - hashed)), "buffer");
    }
  });
}

function copy(file: string, target: string): () => Promise<Took> {
  return timed(async () => {
    copyFileSync(file, target, constants.COPYFILE_FICLONE);
    const output = openSync(target, "r+");
    fsyncSync(output);
    closeSync(output);
  });
}

function hasBorg(): boolean {
  return spawnSync("borg", ["--version"]).status === 0;
}

/** An archive in a new repository, without encryption; with the start of its interpreter, which is most of it where the file is small. */
function borgCreate(directory: string, file: string, words: readonly string[]): () => Promise<Took> {
  const base = join(directory, "borg");
  mkdirSync(base);
  const env = {
    ...process.env,
    BORG_BASE_DIR: base,
    BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: "yes",
    BORG_RELOCATED_REPO_ACCESS_IS_OK: "yes",
  };
  const borg = async (...each: readonly string[]): Promise<void> => {
    await promisify(execFile)("borg", [...each], { env });
  };
  return async () => {
    const repository = mkdtempSync(join(base, "repository-"));
    rmSync(repository, { recursive: true });
    try {
      await borg("init", "-e", "none", repository);
      return await timed(() => borg("create", ...words, `${repository}::archive`, file))();
    } finally {
      rmSync(repository, { recursive: true, force: true });
    }
  };
}

/** Files that are put and got one after the other, each of its own bytes. */
async function* smallRows({ directory, sizes: { pings, rounds } }: Bench): AsyncGenerator<Row> {
  const plain = join(directory, "small");
  const reading = medianOf("read from a file", pings, async () => void readFileSync(plain));
  await using local = await openLocal(join(directory, "small-store"));
  yield* smallRowsOf(local, "embedded", {
    pings,
    rounds,
    putRival: writing(plain, pings),
    getRival: reading,
  });
  const network = await startNetwork({ nodes: 0, workers: 0 });
  try {
    await using echo = await startEcho(SMALL_BYTES);
    await using remote = await connect(network.clientToken);
    // Where the hub's store is, too.
    const synced = writing(join(tmpdir(), `pfs-bench-${process.pid}`), pings);
    const echoing = medianOf("ZeroMQ echo of as many bytes", pings, () => echo.run());
    yield* smallRowsOf(remote, "over a hub", {
      pings,
      rounds,
      putRival: synced,
      getRival: echoing,
      goals: { put: 2, get: 0.8 },
    });
  } finally {
    await network.stop();
    rmSync(join(tmpdir(), `pfs-bench-${process.pid}`), { force: true });
  }
}

function writing(path: string, calls: number): Side {
  let written = 0;
  return medianOf("written to a file, synced", calls, async () => {
    const file = openSync(path, "w");
    writeSync(file, smallBytes(written++));
    fdatasyncSync(file);
    closeSync(file);
  });
}

interface SmallRows {
  readonly pings: number;
  readonly rounds: number;
  readonly putRival: Side;
  readonly getRival: Side;
  readonly goals?: { readonly put: number; readonly get: number };
}

function smallRowsOf(
  pfs: PacketFS,
  where: string,
  { pings, rounds, putRival, getRival, goals }: SmallRows,
): Row[] {
  let files = 0;
  const name = `median of ${pings}`;
  const putOne = async (): Promise<void> => {
    const index = files++;
    await pfs.put(smallBytes(index), { name: `small-${index}` });
  };
  let got = 0;
  const getOne = async (): Promise<void> => {
    let bytes = 0;
    for await (const piece of pfs.get(`small-${got++ % files}`)) bytes += piece.byteLength;
    if (bytes !== SMALL_BYTES) throw new Error(`${bytes} bytes were read`);
  };
  return [
    {
      question: `put ${SMALL_BYTES} bytes, durable, ${where}`,
      unit: "ms",
      rounds,
      ours: medianOf(name, pings, putOne),
      rivals: [putRival],
      ...(goals === undefined ? {} : { goal: { figureMax: goals.put } }),
    },
    {
      question: `get ${SMALL_BYTES} bytes, ${where}`,
      unit: "ms",
      rounds,
      ours: medianOf(name, pings, getOne),
      rivals: [getRival],
      ...(goals === undefined ? {} : { goal: { figureMax: goals.get } }),
    },
  ];
}

function smallBytes(index: number): Uint8Array {
  const bytes = Buffer.alloc(SMALL_BYTES);
  for (let at = 0; at + 32 <= SMALL_BYTES; at += 32)
    hash("sha256", `${index} ${at}`, "buffer").copy(bytes, at);
  return bytes;
}
