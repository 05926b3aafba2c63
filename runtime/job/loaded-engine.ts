/**
 * Which class of engine a loaded program runs on whose results depend on it. What its packets call is known when the first of them is
 * there: that one is asked, as the first split of a job is, and all of its packets run on the class that is chosen then. What was
 * answered is not taken back: so nothing of it runs on another class, also when that one is lost.
 *
 *   first packet ──▶ estimate ──▶ chosen ──▶ its packets, and all that follow
 */
import { execPackets } from "../../packets/exec-frame.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Op, PACKET_BYTES } from "../../packets/layout.ts";
import { fromAt, opAt } from "../../packets/packet.ts";
import { LOADED_PACKETS_EXPECTED } from "../limits.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import type { Engine, KernelEstimate, KernelUse } from "../contracts/kernels.ts";
import type { KernelAverages } from "../program/kernel/averages.ts";
import { measuredOf } from "../program/kernel/cost.ts";
import { expectedCalls, parseEstimates } from "../program/kernel/estimate.ts";
import type { ExpectedCalls } from "../program/kernel/estimate.ts";
import type { Kernel } from "../program/kernel/kernel.ts";
import type { EditionChoice } from "../schedule/state.ts";
import type { BatchListener, ProgramToLoad } from "./batch.ts";
import type { Dispatcher } from "./dispatcher.ts";
import { chooseEngine, engineOptions, noEngine, rememberGivenUp } from "./engine-choice.ts";
import type { EngineOption, EnginePlan } from "./engine-choice.ts";
import { resultText } from "./results.ts";

export interface LoadedEngineOptions {
  readonly dispatcher: Dispatcher;
  /** Where estimates are read. */
  readonly source: ChunkSource;
  readonly averages: KernelAverages;
  readonly kernels: readonly Kernel[];
  /** What shall compute them, where somebody says so. */
  readonly wanted: Engine | undefined;
  /** The entry of the program that says what a packet calls. */
  readonly estimate: ProgramToLoad;
  readonly group: () => number;
}

export class LoadedEngine {
  /** The program's: its edition is there once it is chosen. */
  readonly choice: EditionChoice = { edition: undefined };
  readonly #options: LoadedEngineOptions;
  readonly #closing = new AbortController();
  #choosing: Promise<void> | undefined;
  #plan: EnginePlan | undefined;
  #calls: readonly ExpectedCalls[] = [];
  #isGivenUp = false;

  /** Throws PFS_NO_EXECUTOR where what is wanted is not there. */
  constructor(options: LoadedEngineOptions) {
    this.#options = options;
    const { wanted, estimate } = options;
    const isOpen = wanted === undefined && new Set(this.#engines().map(({ engine }) => engine)).size > 1;
    if (isOpen) return;
    this.#choose();
    if (wanted !== undefined && !this.isChosen) throw noEngine(wanted, estimate.name);
  }

  get isChosen(): boolean {
    return this.choice.edition !== undefined;
  }

  /** Resolves when it is chosen where `frame`, EXEC packets that are about to run, is to run. Never rejects. */
  chosen(frame: Uint8Array): Promise<void> {
    this.#choosing ??= this.isChosen ? Promise.resolve() : this.#estimateAndChoose(frame);
    return this.#choosing;
  }

  close(): void {
    this.#closing.abort(new Error("the program was closed"));
  }

  /** As of a job: what calls took is remembered of the class that the program runs on. */
  measured(uses: readonly KernelUse[]): void {
    const { averages, kernels } = this.#options;
    for (const { kernel: index, ...use } of uses) {
      const kernel = kernels[index];
      if (kernel !== undefined && use.engineClass === this.#plan?.option.engineClass)
        averages.add({ ...measuredOf(kernel), ...use });
    }
  }

  /** Answers to these tasks came: a class that gave its kernels up is expected to be slow, so that the program loads elsewhere then. */
  answered(tasks: Uint32Array, answers: Uint8Array): void {
    if (this.#isGivenUp || this.#plan === undefined) return;
    const isLost = (task: number): boolean =>
      opAt(answers, task) === Op.FAULT && fromAt(answers, task) === FaultCode.engineLost;
    if (!tasks.some(isLost)) return;
    this.#isGivenUp = true;
    const { averages, kernels } = this.#options;
    rememberGivenUp(averages, this.#plan, this.#calls, kernels);
  }

  async #estimateAndChoose(frame: Uint8Array): Promise<void> {
    this.#calls = await this.#expected(frame);
    this.#choose();
  }

  #choose(): void {
    const { averages, wanted } = this.#options;
    this.#plan = chooseEngine(this.#engines(), { wanted, lost: new Set(), calls: this.#calls, averages });
    // Where nobody is there yet, it is that of the first executor that comes.
    this.choice.edition ??= this.#plan?.option.edition;
  }

  #engines(): EngineOption[] {
    return engineOptions(this.#options.dispatcher.executorsFor("kernel"), "kernel");
  }

  async #expected(frame: Uint8Array): Promise<readonly ExpectedCalls[]> {
    const { kernels } = this.#options;
    try {
      return expectedCalls(await this.#estimate(frame), kernels, LOADED_PACKETS_EXPECTED);
    } catch {
      // The packet's own faults come again when it runs.
      return [];
    }
  }

  /** What the first of the packets calls, as the entry says that tells it. */
  async #estimate(frame: Uint8Array): Promise<KernelEstimate[]> {
    const { dispatcher, estimate, group, kernels, source } = this.#options;
    const { signal } = this.#closing;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const program = dispatcher.openProgram(estimate, { edition: undefined });
    const abort = (): void => reject(signal.reason as Error);
    signal.addEventListener("abort", abort);
    try {
      signal.throwIfAborted();
      const listener: BatchListener = {
        settled: () => undefined,
        givenUp: () => reject(new Error("nobody answers it")),
        finished: () => resolve(),
        laneLost: () => undefined,
        failed: reject,
        logged: () => undefined,
        noted: () => undefined,
      };
      const packets = execPackets(frame.subarray(0, PACKET_BYTES), 1, 0);
      const batch = dispatcher.start({ program, group: group(), packets, isFixed: true, listener });
      dispatcher.release(batch);
      await promise;
      if (batch.answers.isFault(0)) throw new Error("it has no answer");
      const text = await resultText(source, batch.answers.at(0).slice(), signal);
      return parseEstimates(text, kernels);
    } finally {
      signal.removeEventListener("abort", abort);
      dispatcher.closeProgram(program);
    }
  }
}
