/** A hub, a node with a GPU (as a CPU imitates it), its executors and its GPU's processes that are killed under jobs of kernels: see kills.ts. */
import { mkdirSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { connect, PacketfsError } from "../../sdk/index.ts";
import type { JobEvent, PacketFS } from "../../sdk/index.ts";
import { Random } from "../packets/seed.ts";
import { temporaryDirectory } from "../sdk/cli/run-pfs.ts";
import { noGpu } from "../suites/gpu.ts";
import { descendantsOf, executorsOf, goneAll, gpuProcessesOf, signalAll } from "../suites/processes.ts";
import { until } from "../suites/until.ts";
import { joinNode, startHub } from "./daemon.ts";
import type { Daemon, HubDaemon } from "./daemon.ts";
import { HANGING_MS, KILLS, SEED } from "./kills.ts";
import { program, rememberSlowCpus, ROWS, SOFTWARE, SPLITS, sumOf, words } from "./mix-kernel.ts";

const GPU_NODE = "gpu";
/** How a job ends whose hub is killed, or which is to run on a GPU and none is left. */
const LOST = {
  hub: /^PFS_(LINK_CLOSED|NODE_LOST|NO_EXECUTOR|PEER_UNREACHABLE)$/,
  gpu: /^PFS_(ENGINE_LOST|NODE_LOST|NO_EXECUTOR)$/,
} as const;
const VICTIMS = ["gpu", "gpu", "gpus", "stopped", "executor", "node", "hub"] as const;

describe.skipIf(noGpu !== undefined)("a hub and a node with a GPU that are killed", () => {
  const kills = Math.ceil(KILLS / 2);
  it(
    `${kills} times, answer right, and leave nothing behind`,
    { timeout: HANGING_MS },
    async ({ annotate }) => {
      const storm = await KernelStorm.begin(new Random(SEED));
      try {
        while (storm.kills < kills) await storm.step();
        await storm.look();
      } finally {
        await annotate(storm.summary);
        await storm.close();
      }
    },
  );
});

class KernelStorm {
  kills = 0;
  readonly #random: Random;
  readonly #cwd: string;
  readonly #counts = new Map<string, number>();
  /** All that ran below hubs and nodes. */
  readonly #below = new Set<number>();
  /** What was killed comes again. */
  #starting: Promise<void> | undefined;
  #steps = 0;
  #when = "the beginning";
  #hub!: HubDaemon;
  #node!: Daemon;
  #other!: Daemon;
  #client!: PacketFS;

  private constructor(random: Random, cwd: string) {
    this.#random = random;
    this.#cwd = cwd;
  }

  static async begin(random: Random): Promise<KernelStorm> {
    const storm = new KernelStorm(random, await temporaryDirectory());
    mkdirSync(join(storm.#cwd, "tmp"));
    await rememberSlowCpus(join(storm.#cwd, "hub"));
    await storm.#startHub();
    storm.#other = await joinNode(storm.#hub.joinToken, "cpu", { store: join(storm.#cwd, "cpu") });
    await storm.#startNode();
    storm.#client = await connect(storm.#hub.clientToken, { reconnectMs: 180_000 });
    await storm.#client.put(new Uint8Array(words.buffer), { name: "words" });
    await storm.#untilThere();
    return storm;
  }

  get summary(): string {
    const counts = [...this.#counts].map(([what, count]) => `${what} ${count}`);
    return `seed ${SEED}: ${this.kills} killed; ${counts.toSorted().join(", ")}`;
  }

  async close(): Promise<void> {
    await this.#client.close();
  }

  async step(): Promise<void> {
    const random = this.#random;
    const victim = random.pick(VICTIMS);
    // Most of a job's calls are on their way to a GPU, or on it, when it is one of few rounds.
    const rounds = random.pick([1000, 20_000]) + random.below(100);
    const result = random.pick(["{ relL2: 0, abs: 0 }", '"exact"']);
    const engine = random.pick(["auto", "auto", "gpu"] as const);
    const at = 1 + random.below(6);
    this.#when = `step ${++this.#steps} of seed ${SEED}: ${victim} at ${at} of ${rounds} rounds, ${result}, ${engine}`;
    let seen = 0;
    const run = this.#client.run({ source: program(rounds, 0, result) }, ["words"], {
      splitBytes: ROWS * 4,
      engine,
      onEvent: ({ kind }: JobEvent) => {
        if (kind === "progress" && ++seen === at) this.#kill(victim);
      },
    });
    try {
      const { value, statistics } = await run;
      expect(value, this.#when).toBe(sumOf(words, rounds));
      this.#count(`answers of ${Object.keys(statistics.byNode).toSorted().join("+")}`);
    } catch (error) {
      if (!(error instanceof PacketfsError)) throw error;
      this.#count(error.code);
      const may = victim === "hub" ? LOST.hub : victim === "node" && engine === "gpu" ? LOST.gpu : undefined;
      if (may?.test(error.code) !== true) throw new Error(this.#when, { cause: error });
    }
    await this.#starting;
    await this.#untilThere();
  }

  /** Whether all is as it must be: an answer comes of a GPU, and nothing is left over. */
  async look(): Promise<void> {
    this.#when = `looking after ${this.#when}`;
    const { value, statistics } = await this.#client.run({ source: program(777) }, ["words"], {
      splitBytes: ROWS * 4,
      engine: "gpu",
    });
    expect(value, this.#when).toBe(sumOf(words, 777));
    expect(statistics.byNode, this.#when).toEqual({ [GPU_NODE]: SPLITS });
    expect(
      (await this.#client.nodes()).flatMap(({ barred }) => barred),
      this.#when,
    ).toEqual([]);
    this.#remember();
    for (const daemon of [this.#node, this.#other, this.#hub])
      expect(await daemon.end("SIGTERM"), this.#when).toEqual({ status: 0, signal: null });
    await goneAll([...this.#below]);
    expect(readdirSync(join(this.#cwd, "tmp")), this.#when).toEqual([]);
  }

  #kill(victim: (typeof VICTIMS)[number]): void {
    this.#remember();
    const gpus = gpuProcessesOf(this.#node.pid);
    const one = (pids: readonly number[]): number[] =>
      pids.slice(this.#random.below(pids.length)).slice(0, 1);
    const victims = {
      gpu: () => one(gpus),
      gpus: () => gpus,
      stopped: () => one(gpus),
      executor: () => executorsOf(this.#node.pid),
      node: () => [this.#node.pid],
      hub: () => [this.#hub.pid],
    }[victim]();
    if (signalAll(victims, victim === "stopped" ? "SIGSTOP" : "SIGKILL") === 0) return;
    this.kills++;
    this.#count(victim);
    if (victim === "hub") this.#starting = this.#hub.ended.then(() => this.#startHub());
    if (victim === "node") this.#starting = this.#node.ended.then(() => this.#startNode());
  }

  #remember(): void {
    for (const { pid } of [this.#hub, this.#node, this.#other])
      for (const below of descendantsOf(pid)) this.#below.add(below);
  }

  async #startHub(): Promise<void> {
    const address = (this.#hub as HubDaemon | undefined)?.address;
    this.#hub = await startHub({
      store: join(this.#cwd, "hub"),
      environment: { TMPDIR: join(this.#cwd, "tmp") },
      ...(address === undefined ? {} : { address }),
    });
  }

  async #startNode(): Promise<void> {
    this.#node = await joinNode(this.#hub.joinToken, GPU_NODE, {
      store: join(this.#cwd, GPU_NODE),
      workers: 2,
      environment: { ...SOFTWARE, TMPDIR: join(this.#cwd, "tmp") },
    });
  }

  async #untilThere(): Promise<void> {
    await until(async () => {
      const nodes = await this.#client.nodes().catch(() => []);
      const gpu = nodes.find(({ label }) => label === GPU_NODE);
      return (gpu?.accelerators.length ?? 0) > 0 && nodes.some(({ label }) => label === "cpu");
    });
  }

  #count(what: string): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + 1);
  }
}
