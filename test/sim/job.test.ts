import { describe, test } from "vitest";
import { refFromHex } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { FaultCode, faultErrorCode } from "../../packets/faults.ts";
import { Op } from "../../packets/layout.ts";
import { JobError, JobErrorCode } from "../../runtime/errors.ts";
import { execute } from "../../runtime/stream/execute.ts";
import type { JobInput, JobOutcome } from "../../runtime/contracts/jobs.ts";
import type { ScriptedExecutor, Waiting } from "../runtime/job/scripted-executor.ts";
import { FLOAT_KERNEL, INFO } from "../runtime/engine/kernels.ts";
import { ScriptedWorld, settle } from "../runtime/job/scripted-world.ts";
import { Random } from "./random.ts";
import { assert } from "./assert.ts";

/** `PACKETFS_SIM_SEEDS` runs more of them, `PACKETFS_SIM_SEED` a single one. */
const SEEDS = Number(process.env["PACKETFS_SIM_SEEDS"] ?? 20);
const ONLY = process.env["PACKETFS_SIM_SEED"];
const STEPS_MAX = 5_000;

describe("whole jobs among executors that come, go and fail, by seed", () => {
  test(`${SEEDS} seeds: the result is what it is in peace, whatever happened to it on its way`, async () => {
    await forEachSeed(async (seed) => {
      const [peaceful, troubled] = [new Turmoil(seed, false), new Turmoil(seed, true)];
      const expected = await peaceful.run();
      assert((await troubled.run()) === expected, "the answer is another one than in peace");
    });
  });

  test(`${SEEDS} seeds: and whatever one of them lies beside that`, async () => {
    let lies = 0;
    await forEachSeed(async (seed) => {
      const [peaceful, lied] = [new Turmoil(seed, false), new Turmoil(seed, true, undefined, true)];
      const expected = await peaceful.run();
      assert((await lied.run()) === expected, "the answer is another one than in peace");
      lies += lied.lies;
    });
    if (ONLY === undefined) assert(lies > SEEDS, "too few lies for this to say much");
  });

  test(`${SEEDS} seeds: of engines that come, go and fail, all of the result is of one`, async () => {
    let lost = 0;
    const classes = new Set<string>();
    await forEachSeed(async (seed) => {
      const troubled = new Turmoil(seed, true, undefined, false, true);
      const answer = await troubled.run();
      lost += troubled.losses;
      classes.add(answer);
    });
    if (ONLY !== undefined) return;
    assert(lost > SEEDS / 10, "too few classes are lost for this to say much");
    assert(classes.size > 1, "all jobs end on one class");
  });

  test(`${SEEDS} seeds: of several tasks that fail, the same one's error ends the job as in peace`, async () => {
    let failed = 0;
    await forEachSeed(async (seed) => {
      const random = new Random(seed + 1_000_000);
      const [every, first] = [random.integer(5, 40), random.integer(0, 4)];
      const merges = random.chance(0.5);
      const fails: Fails = ({ entry, packet }) => {
        return packet.at % every === first && (entry === "map" || (merges && entry === "merge"));
      };
      const [peaceful, troubled] = [new Turmoil(seed, false, fails), new Turmoil(seed, true, fails)];
      const expected = await peaceful.run();
      if (expected.startsWith("fault")) failed++;
      assert((await troubled.run()) === expected, "the error is another one than in peace");
    });
    if (ONLY === undefined) assert(failed > SEEDS / 2, "too few jobs fail for this to say much");
  });
});

async function forEachSeed(run: (seed: number) => Promise<void>): Promise<void> {
  const seeds = ONLY === undefined ? Array.from({ length: SEEDS }, (_, index) => index + 1) : [Number(ONLY)];
  for (const seed of seeds) {
    try {
      await run(seed);
    } catch (error) {
      throw new Error(`PACKETFS_SIM_SEED=${seed}: ${(error as Error).message}`, { cause: error });
    }
  }
}

/** A kernel that GPUs are faster at, which no executor here computes, and what a split is found to call of it. */
const FLOATS = { kernels: [FLOAT_KERNEL] };
const ESTIMATE = JSON.stringify([
  { kernel: 0, dimensions: { n: 1_000_000 }, scalars: {}, inputs: ["range"] },
]);
const GPU = { ...INFO, calibration: { uploadGBps: 10, downloadGBps: 10, launchMs: 0.1, gops: 10_000 } };

/** Which packets the program itself fails on, wherever they run. */
type Fails = (waiting: Waiting) => boolean;

/**
 * A job whose maps copy their range, in brackets, and whose merges put what they get in brackets: the answer shows the input
 * and which results were combined with which. In peace one executor does everything in order.
 */
class Turmoil {
  readonly #random: Random;
  readonly #isTroubled: boolean;
  readonly #world = new ScriptedWorld();
  readonly #executors: ScriptedExecutor[] = [];
  readonly #fails: Fails;
  /** One that nothing is right of; the others are as honest as ever. */
  readonly #liar: ScriptedExecutor | undefined;
  lies = 0;
  /** Whether results depend on the engine, and how often a job began again for that. */
  readonly #hasClasses: boolean;
  losses = 0;
  /** GPUs that compute nothing any more. */
  readonly #dead = new Set<ScriptedExecutor>();
  #made = 0;
  /** Packets that met a defect of an honest executor: no other one has the same. */
  readonly #defects = new Set<string>();

  constructor(
    seed: number,
    isTroubled: boolean,
    fails: Fails = () => false,
    hasLiar = false,
    hasClasses = false,
  ) {
    this.#hasClasses = hasClasses;
    this.#random = new Random(seed);
    this.#isTroubled = isTroubled;
    this.#fails = fails;
    if (!hasLiar) return;
    const random = new Random(seed + 2_000_000);
    this.#liar = this.#world.add("liar", {
      loaded: async () => {
        if (!random.chance(0.3)) return;
        this.lies++;
        throw new JobError(JobErrorCode.invalidProgram, "it does not like the program");
      },
    });
  }

  /**
   * Resolves with the answer: the value, or the root of the file, or what the program failed with; where results depend on the
   * engine, with the class that they are of.
   */
  async run(): Promise<string> {
    const random = this.#random;
    const yieldsBytes = random.chance(0.4);
    // Splits that the user asks for, or those that follow from the input.
    const splitBytes = random.chance(0.6) ? random.integer(15, 60) : undefined;
    const length = random.integer(0, splitBytes === undefined ? 900_000 : 6_000);
    const input = await this.#world.putFile("x", length);
    const description = yieldsBytes
      ? ({ yields: "bytes", hasCombine: false } as const)
      : ({ yields: "value", hasCombine: random.chance(0.7) } as const);
    const executors = random.integer(1, 4);
    for (let count = this.#isTroubled ? executors : 1; count > 0; count--) this.#join();
    let outcome: JobOutcome | undefined;
    let failure: unknown;
    this.#world
      .run({ inputs: [input], splitBytes }, { ...description, ...(this.#hasClasses ? FLOATS : {}) })
      .then((result) => (outcome = result))
      .catch((error: unknown) => (failure = error));
    let mishaps = this.#isTroubled ? random.integer(0, 5) : 0;
    for (let step = 0; outcome === undefined && failure === undefined; step++) {
      assert(step < STEPS_MAX, "the job does not end");
      await this.#step();
      const isRunning = this.#world.jobs.jobs()[0]!.state === "running";
      if (isRunning && mishaps > 0 && random.chance(0.25)) {
        mishaps--;
        this.#mishap();
      }
    }
    const answer = outcome === undefined ? faultOf(failure) : await this.#answerOf(outcome, input);
    const notes = outcome?.statistics.notes ?? [];
    this.losses += notes.filter((note) => note.includes("is given up, and all packets run again")).length;
    await this.#world.jobs.close();
    assert(this.#world.writers === 1, "a writer is left open");
    for (const { lanes } of [...this.#executors, ...(this.#liar === undefined ? [] : [this.#liar])])
      assert(
        lanes.every(({ isClosed }) => isClosed),
        "a lane is left open",
      );
    return answer;
  }

  async #answerOf({ file, value }: JobOutcome, input: JobInput): Promise<string> {
    const result = file === undefined ? (value as string) : await this.#world.read(refFromHex(file.root)!);
    const content = result.replaceAll(/[()[\]]/g, "");
    assert(content === (await this.#world.read(input.root)), "the result is not the input");
    if (this.#hasClasses) {
      const classes = [/[()]/, /[[\]]/].map((brackets) => brackets.test(result));
      assert(!(classes[0] && classes[1]), "the result is of two classes");
      return classes[1] ? "gpu" : "cpu";
    }
    return file === undefined ? result : file.root;
  }

  /** Somebody does a few packets; sometimes time passes. */
  async #step(): Promise<void> {
    const random = this.#random;
    if (!this.#isTroubled) {
      const [only] = this.#executors;
      for (const waiting of only!.waiting.splice(0)) await this.#work(only!, waiting);
      return await settle();
    }
    for (const waiting of this.#liar?.waiting.splice(0) ?? []) this.#lie(waiting);
    // What it made is nowhere.
    this.#liar?.chunks.clear();
    const executor = this.#executors[random.integer(0, this.#executors.length - 1)]!;
    const count = random.integer(0, executor.waiting.length);
    for (const waiting of executor.waiting.splice(0, count)) await this.#work(executor, waiting);
    if (random.chance(0.5)) await this.#world.pass(random.integer(50, 500));
    else await settle();
  }

  async #work(executor: ScriptedExecutor, waiting: Waiting): Promise<void> {
    const { entry, lane, packet } = waiting;
    const random = this.#random;
    if (this.#fails(waiting)) return lane.fault(packet, FaultCode.threw, `fault of ${entry} ${packet.at}`);
    if (entry === "estimate") return lane.answer(packet, random.chance(0.8) ? ESTIMATE : "nonsense");
    if (this.#dead.has(executor)) return lane.fault(packet, FaultCode.engineLost, "gone");
    const key = `${entry} ${packet.at}`;
    if (this.#isTroubled && random.chance(0.01) && !this.#defects.has(key)) {
      this.#defects.add(key);
      return lane.fault(packet, FaultCode.internal, "a defect");
    }
    try {
      const { from, length } = packet;
      const parts: Uint8Array[] = [];
      const range = { start: from, end: from + length };
      for await (const part of execute(this.#world.source, packet.ref, range)) parts.push(part.slice());
      const [open, close] = executor.accelerator === undefined ? ["(", ")"] : ["[", "]"];
      const text = `${open}${new TextDecoder().decode(Buffer.concat(parts))}${close}`;
      lane.answer(packet, entry === "finish" ? JSON.stringify(text) : text);
      if (this.#isTroubled && random.chance(0.05)) lane.answer(packet, "a second answer");
    } catch {
      lane.fault(packet, FaultCode.inputMissing, "nowhere");
    }
    assert(executor.waiting.length < 20_000, "too many packets in flight");
  }

  /** Everything but a wrong value, which would have to be found out by doing it twice. */
  #lie({ lane, packet }: Waiting): void {
    this.lies++;
    switch (this.#random.integer(0, 5)) {
      case 0:
        return lane.fault(packet, FaultCode.internal, "a lie");
      case 1:
        return lane.fault(packet, FaultCode.inputMissing, "a lie");
      case 2:
        return lane.fault(packet, 99 as FaultCode, "a lie");
      case 3:
        return lane.say({ op: Op.EXEC, at: packet.at });
      case 4:
        return lane.lose();
      default:
        return lane.answer(packet, "a result that is nowhere, and long enough to be a chunk");
    }
  }

  #mishap(): void {
    const random = this.#random;
    const index = random.integer(0, this.#executors.length - 1);
    const executor = this.#executors[index]!;
    const open = executor.lanes.filter(({ isClosed }) => !isClosed);
    if (this.#hasClasses && random.chance(0.5)) {
      // One, or all that there are.
      const isAll = random.chance(0.5);
      for (const each of isAll ? this.#executors : [executor])
        if (each.accelerator !== undefined) this.#dead.add(each);
      return;
    }
    if (random.chance(0.3)) return this.#join();
    if (random.chance(0.4)) return open[random.integer(0, open.length - 1)]?.lose();
    this.#world.executors.remove(executor);
    this.#executors.splice(index, 1);
    // What it says from now on is too late.
    for (const { lane, packet } of executor.waiting.splice(0)) lane.answer(packet, "too late");
    if (!this.#hasCpu || random.chance(0.5)) this.#join();
  }

  /** As machines with GPUs do, CPUs compute what nothing else does. */
  get #hasCpu(): boolean {
    return this.#executors.some(({ accelerator }) => accelerator === undefined);
  }

  #join(): void {
    const name = `n${++this.#made}`;
    const workers = this.#random.integer(1, 8);
    const isGpu = this.#hasClasses && this.#hasCpu && this.#random.chance(0.75);
    this.#executors.push(
      isGpu
        ? this.#world.add(name, {}, workers, `test-${GPU.engineClass}`, GPU)
        : this.#world.add(name, {}, workers),
    );
  }
}

/** What the program said, without the node that it was said on. Throws whatever is no fault of the program. */
function faultOf(error: unknown): string {
  if (!hasCode(error, faultErrorCode(FaultCode.threw))) throw error as Error;
  return error.message.replace(/, on node ".*"/, "");
}
