import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import { refsOf } from "../../../runtime/block.ts";
import type { Block } from "../../../runtime/block.ts";
import { listSegments, segmentBytes, storePaths } from "../../../runtime/store/directory.ts";
import { nodeDisk } from "../../../runtime/store/disk.ts";
import { Store } from "../../../runtime/store/store.ts";
import type { WriterThread } from "../../../runtime/store/writer/thread.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { Random } from "../../packets/seed.ts";
import { Acknowledged, REMOVED } from "../../suites/acknowledged.ts";
import { openWriter } from "./faulty-disk.ts";
import { PowerLoss, SimulatedDisk, readIndex, tornIndex, writeIndex } from "./simulated-disk.ts";
import type { IndexFiles } from "./simulated-disk.ts";
import { inPieces, namesOf, randomBytes, readAll, temporaryDirectory } from "./store-fixture.ts";

/** States of the disk after a loss of power that are looked at, for each mode. */
const STATES = Number(process.env["PACKETFS_TEST_POWER_LOSSES"] ?? 20);
/** Nothing is decided by it: it ends what hangs. */
const HANGING_MS = 240_000 + STATES * 20_000;
/** PACKETFS_TEST_SEED repeats a run that failed. */
const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 20_261_126);
/** In one run of the workload, which is as long as it takes to fill a dozen segments. */
const STATES_PER_RUN = 10;
const OPERATIONS_PER_RUN = 500;
const SEGMENT_BYTES = 60_000;
const LANES = 3;
const PUTS = 16;
const NAMES = 5;

/** By root, the bytes of its stream. */
type Contents = Map<string, Uint8Array>;

/**
 * Puts, replaces and removes names in several lanes, and collects. Every step is noted before it begins and when it is
 * acknowledged.
 */
class Workload {
  readonly acknowledged = new Acknowledged();
  readonly contents: Contents = new Map();
  readonly #writer: WriterThread;
  readonly #random: Random;
  /** By root, the chunks that it needs, for gc to keep. */
  readonly #refs: Map<string, Uint8Array[]> = new Map();

  constructor(writer: WriterThread, random: Random) {
    this.#writer = writer;
    this.#random = random;
  }

  async run(): Promise<void> {
    await Promise.all([...Array.from({ length: LANES }, (_, lane) => this.#lane(lane)), this.#collect()]);
  }

  async #lane(lane: number): Promise<void> {
    for (let index = 0; index < PUTS; index++) {
      const name = `${lane}/${this.#random.below(NAMES)}`;
      if (this.#random.below(5) === 0)
        await this.#step(name, REMOVED, () => this.#writer.removeName(name, {}));
      else await this.#put(name, this.#random.word());
    }
  }

  async #put(name: string, seed: number): Promise<void> {
    const bytes = randomBytes(`power ${seed}`, 200 + (seed % 30_000));
    const id = this.#writer.openWriter();
    const refs: Uint8Array[] = [];
    const isAtOnce = this.#random.below(2) === 0;
    let held: Block | undefined;
    const { root, length } = await ingest(
      {
        write: async (block, lengths) => {
          if (isAtOnce) {
            held = { block, lengths };
            refs.push(refsOf(held));
            return { refs: refs[0]!, newChunks: 0, newBytes: 0, storedBytes: 0 };
          }
          const written = await this.#writer.write(id, block, lengths);
          refs.push(written.refs.slice());
          return written;
        },
      },
      inPieces(bytes, 10_000),
    );
    const key = refToHex(root);
    this.contents.set(key, bytes);
    this.#refs.set(key, refs);
    await this.#step(name, key, () =>
      held === undefined
        ? this.#writer.bind(id, { name, root, length }, {})
        : this.#writer.putWhole(held.block, held.lengths, { name, root, length }, {}),
    );
    this.#writer.closeWriter(id);
  }

  async #step(name: string, content: string, work: () => Promise<unknown>): Promise<void> {
    this.acknowledged.begun(name, content);
    await work();
    this.acknowledged.acknowledged(name, content);
  }

  async #collect(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      await this.#writer.beginGc();
      do this.#mark();
      while ((await this.#writer.sweep()).roots.byteLength > 0);
      this.#writer.endGc();
    }
  }

  #mark(): void {
    for (const content of new Set([...this.acknowledged.snapshot().values()].flat())) {
      for (const refs of this.#refs.get(content) ?? []) this.#writer.markLive(refs);
    }
  }
}

interface State {
  readonly directory: string;
  /** What each name may hold. */
  readonly allowed: ReadonlyMap<string, readonly string[]>;
  readonly when: string;
}

/** Runs a workload, and has the power fail at some of its moments. */
async function losePower(
  directory: string,
  mode: PowerLoss,
  seed: number,
): Promise<{ states: State[]; contents: Contents }> {
  const random = new Random(seed);
  const paths = storePaths(join(directory, "store"));
  const states: State[] = [];
  let workload: Workload | undefined;
  /** The index some moments ago, when the power is to be lost while it changes. */
  let before: IndexFiles | undefined;
  /** How often it changes until then, and what segments there were: without the last of their rows an index may be, without more not. */
  let changes = 0;
  let isOnly = true;
  let log: Buffer | undefined;
  let segments: ReadonlyMap<number, number> = new Map();
  const lose = (index: IndexFiles | undefined, what: string): void => {
    const target = storePaths(join(directory, `state-${states.length}`));
    disk.losePower(paths, target, mode);
    if (index !== undefined) writeIndex(target, index);
    const when = `${mode}, seed ${seed}, state ${states.length}, ${what}`;
    states.push({ directory: target.directory, allowed: workload!.acknowledged.snapshot(), when });
  };
  const disk = new SimulatedDisk(random, () => {
    if (workload === undefined || states.length === STATES_PER_RUN) return;
    if (before !== undefined) {
      const now = readIndex(paths);
      if (now.log.equals(log!)) return;
      log = now.log;
      // What is freed is freed behind a transaction that lasts.
      const isFreed = [...segments].some(([number, bytes]) => segmentBytes(paths, number) < bytes);
      if (--changes > 0 && !isFreed) return;
      if (isOnly || !isFreed) lose(tornIndex(before, now, random), "with the index torn");
      before = undefined;
      return;
    }
    if (random.below(OPERATIONS_PER_RUN / STATES_PER_RUN) > 0) return;
    const kind = random.below(4);
    if (kind === 0) lose(undefined, "without the index");
    else if (kind === 1) lose(readIndex(paths), "with the index");
    else {
      before = readIndex(paths);
      log = before.log;
      isOnly = kind === 2;
      changes = isOnly ? 1 : 2 + random.below(6);
      segments = new Map(listSegments(paths).map((number) => [number, segmentBytes(paths, number)]));
    }
  });
  // Where there is no room gc frees segments piece by piece.
  if (random.below(2) === 0) disk.free = 0;
  const { writer, abandon } = await openWriter(paths.directory, { disk, segmentBytesMax: SEGMENT_BYTES });
  workload = new Workload(writer, random);
  await workload.run();
  await abandon();
  return { states, contents: workload.contents };
}

async function expectRight({ directory, allowed, when }: State, contents: Contents): Promise<void> {
  const { writer } = await openWriter(directory, {
    disk: { ...nodeDisk, abandon: async () => {} },
    segmentBytesMax: SEGMENT_BYTES,
  });
  await writer.close();
  const held = await heldBy(directory, contents, when);
  for (const [name, candidates] of allowed) {
    const holds = held.get(name) ?? REMOVED;
    expect(candidates, `${name}, ${when}`).toContain(holds);
  }
  expect(
    [...held.keys()].filter((name) => !allowed.has(name)),
    when,
  ).toEqual([]);
  // What was found once is what is there: also for who has to build the index again.
  rmSync(join(directory, "index.db"));
  expect(await heldBy(directory, contents, when), when).toEqual(held);
}

/** The root of each name, all of them whole. */
async function heldBy(directory: string, contents: Contents, when: string): Promise<Map<string, string>> {
  await using store = await Store.open(directory, { readOnly: true });
  expect(await store.verify(), when).toMatchObject({ damaged: [], incomplete: [], lostRecords: 0 });
  const held = new Map<string, string>();
  for (const name of await namesOf(store)) {
    const { root } = (await store.catalog.resolve(name))!;
    const key = refToHex(root);
    held.set(name, key);
    expect(Buffer.compare(await readAll(store, root), contents.get(key)!), `${name}, ${when}`).toBe(0);
  }
  return held;
}

describe.each(Object.values(PowerLoss))("a loss of power, %s", (mode) => {
  test(
    `leaves everything acknowledged and nothing by halves, in ${STATES} states`,
    async () => {
      let looked = 0;
      for (let seed = SEED; looked < STATES; seed++) {
        await using directory = await temporaryDirectory();
        const { states, contents } = await losePower(directory.path, mode, seed);
        for (const state of states.slice(0, STATES - looked)) await expectRight(state, contents);
        looked += states.length;
      }
    },
    HANGING_MS,
  );
});
