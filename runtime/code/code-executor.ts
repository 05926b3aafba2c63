/**
 * Executes packet code on this machine, in its own process: there is nothing in those 32 bytes that could do harm, so they
 * need no sandbox. Packets of all lanes take turns.
 *
 *   exec ──▶ lane ─┬▶ a GPU, where that is expected to be faster ───────────────────────────────┬▶ state ──▶ returned
 *                  ├▶ a thread, or this one: chunks of the range where they lie ──▶ kernel ─────┤
 *                  └▶ a workspace that is free: bytes of the range, piece by piece ──▶ kernel ──╯
 */
import { CODE_EDITION, Stage } from "../../packets/code/format.ts";
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import type { ChunkPlaces, ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { Capacity, Executor, InlineCode, Lane, LaneListener, Tenant } from "../contracts/executor.ts";
import type { KernelEngine } from "../contracts/kernels.ts";
import { JobError, JobErrorCode, LaneError, LaneErrorCode } from "../errors.ts";
import type { LaneSlots } from "../lane-slots.ts";
import {
  CODE_DIRECT_BYTES_MAX,
  CODE_DIRECT_BYTES_MIN,
  CODE_KERNELS_MAX,
  CODE_THREADS_BYTES,
  INPUT_CACHE_IDLE_MS,
} from "../limits.ts";
import { InputSource, inputFault } from "../stream/inputs.ts";
import { inTurns } from "../turns.ts";
import { unlessAborted } from "../unless-aborted.ts";
import type { Outcome } from "./code-answers.ts";
import { CodeLane, CodeProgram } from "./code-lane.ts";
import type { CodeLanes, CodeWork } from "./code-lane.ts";
import { CodeThreads } from "./code-threads.ts";
import { DirectPlans } from "./direct-plan.ts";
import { runDirect } from "./direct-read.ts";
import type { DirectOutcome, DirectPlan, DirectWork } from "./direct-read.ts";
import { mapped, merged, openInput } from "./piecewise.ts";
import type { Input, Meter, Running } from "./piecewise.ts";
import { RowRanges } from "./row-ranges.ts";
import { CompiledModules, Workspace } from "./workspace.ts";

/** Lanes that had their turn, before the memory of their places is given back. */
const LANES_TAKEN_MAX = 4096;

export interface CodeExecutorOptions {
  readonly id: string;
  readonly label: string;
  readonly source: ChunkSource;
  /** Opens a writer for the results of a lane that do not fit into their answers. */
  readonly openWriter: () => Promise<StoreWriter>;
  /** One byte (0 or 1) per 32-byte ref. */
  readonly has: (refs: Uint8Array) => Uint8Array | Promise<Uint8Array>;
  /** Where chunks stand that are kept here. */
  readonly places: ChunkPlaces;
  /** Packets that are worked on at once. */
  readonly slots: number;
  /** This machine's, which lanes of other executors have too. */
  readonly lanes: LaneSlots;
  /** Asked of each range whether it is to be computed elsewhere. */
  readonly kernels?: KernelEngine | undefined;
  /** Called again and again when there is so much to do that a GPU is worth being looked for, or one is asked for. Never rejects. */
  readonly findGpus?: (() => Promise<void>) | undefined;
}

export class CodeExecutor implements Executor, AsyncDisposable {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly edition: string = CODE_EDITION;
  readonly #options: CodeExecutorOptions;
  readonly #inputs: InputSource;
  readonly #plans: DirectPlans;
  readonly #threads: CodeThreads;
  /** Where somebody decides what computes ranges. */
  readonly #rows: RowRanges | undefined;
  readonly #lanes = new Set<CodeLane>();
  readonly #hooks: CodeLanes;
  /** Those that are loaded, by their keys. */
  readonly #programs = new Map<string, CodeProgram>();
  readonly #waiting = new WaitingLanes();
  /** Memory for those who work on this thread, given back when they have nothing to do. */
  readonly #workspaces: Workspace[] = [];
  readonly #modules = new CompiledModules();
  /** Packets that are worked on. */
  #working = 0;
  /** Bytes that were read where they lie, on this thread, since it last had nothing to do. */
  #bytesHere = 0;
  /** The range that is, and that the next one waits for: side by side, each would only throw out of the caches what the other one has read. */
  #rangeHere: Promise<unknown> = Promise.resolve();
  #idle: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: CodeExecutorOptions) {
    this.id = options.id;
    this.label = options.label;
    this.capacity = { code: options.slots };
    this.#options = options;
    this.#inputs = new InputSource(options.source);
    this.#plans = new DirectPlans(options.places);
    this.#threads = new CodeThreads(options.slots, () => this.#goOn());
    const { kernels, findGpus } = options;
    this.#rows = kernels && new RowRanges(kernels, findGpus);
    this.#hooks = {
      openWriter: options.openWriter,
      ready: (lane) => this.#ready(lane),
      closed: (lane) => this.#forget(lane),
    };
  }

  /** Tenants share programs, which cannot remember anything. */
  async load(
    program: Ref | InlineCode,
    listener: LaneListener,
    signal: AbortSignal,
    tenant?: Tenant,
  ): Promise<Lane> {
    signal.throwIfAborted();
    if (!("inline" in program)) throw refused("only packet code runs here");
    const { inline, engine } = program;
    const { findGpus } = this.#options;
    if (engine === "gpu" && findGpus !== undefined) await unlessAborted(findGpus(), signal);
    if (this.#isClosed) throw new LaneError(LaneErrorCode.laneClosed, "the executor is closed");
    const shared = this.#program(inline);
    const slot = this.#options.lanes.take("code", tenant);
    this.#programs.set(shared.key, shared);
    const lane = new CodeLane(this.#hooks, { program: shared, engine, slot }, listener);
    slot.program = shared.name;
    slot.isLoaded = true;
    shared.lanes++;
    this.#lanes.add(lane);
    if (this.#lanes.size === 1) clearTimeout(this.#idle);
    return lane;
  }

  #program(bytes: Uint8Array): CodeProgram {
    const known = this.#programs.get(refKey(bytes));
    if (known !== undefined) return known;
    try {
      return new CodeProgram(bytes);
    } catch (error) {
      throw refused(error instanceof PacketfsError ? String(error.data["reason"]) : String(error), error);
    }
  }

  async has(refs: Uint8Array): Promise<Uint8Array> {
    return this.#options.has(refs);
  }

  /** Ends every lane. Nobody is told: whoever loaded a lane knows, or closes it too. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#idle);
    try {
      await Promise.all([...this.#lanes].map((lane) => lane.close()));
    } finally {
      await this.#threads.close();
      this.#workspaces.length = 0;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #forget(lane: CodeLane): void {
    const { program, slot } = lane;
    if (!this.#lanes.delete(lane)) return;
    this.#options.lanes.free(slot);
    if (--program.lanes === 0) this.#programs.delete(program.key);
    if (this.#lanes.size > 0 || this.#isClosed) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      this.#bytesHere = 0;
      this.#rows?.rest();
      this.#inputs.forget();
      this.#plans.clear();
      this.#workspaces.length = 0;
      void this.#threads.rest();
    }, INPUT_CACHE_IDLE_MS).unref();
  }

  #ready(lane: CodeLane): void {
    this.#waiting.add(lane);
    this.#goOn();
  }

  /** Begins with packets that wait, as many as are worked on at once: what threads are to read next is looked up meanwhile. */
  #goOn(): void {
    const calls = this.#rows === undefined ? 0 : CODE_KERNELS_MAX;
    const max = Math.max(this.#threads.room, this.#options.slots) + calls;
    while (this.#working < max) {
      const lane = this.#waiting.next();
      if (lane === undefined) return;
      const work = lane.next();
      if (lane.hasWork) this.#waiting.add(lane);
      if (work !== undefined) void this.#work(lane, work);
    }
  }

  /** Never rejects. */
  async #work(lane: CodeLane, work: CodeWork): Promise<void> {
    this.#working++;
    await lane.work(work, (signal) => this.#outcome(lane, work, signal));
    this.#working--;
    this.#goOn();
  }

  async #outcome(lane: CodeLane, work: CodeWork, signal: AbortSignal): Promise<Outcome> {
    const { program, slot } = lane;
    try {
      const input = await openInput(this.#inputs, work, signal, lane.stream);
      lane.stream = input.stream;
      if (program.code.stage !== Stage.MAP)
        return { bytes: await merged(program.code, input, { meter: slot, signal }) };
      const plan = await this.#plan(program, input);
      const here = (meter: Meter): Promise<Outcome> => this.#mapped(program, input, plan, { meter, signal });
      if (this.#rows === undefined) return await here(slot);
      const isVerified = plan !== undefined && !plan.isVerified.includes(0);
      return await this.#rows.run({ lane, input, isVerified, signal }, here);
    } catch (error) {
      if (!(error instanceof PacketfsError) || signal.aborted) throw error;
      return { fault: faultOf(error), reason: error.message };
    }
  }

  /** Of a range that is worth reading where it lies; undefined where that cannot be done. */
  async #plan({ code }: CodeProgram, input: Input): Promise<DirectPlan | undefined> {
    const { stream, length } = input;
    if (stream === undefined || length < CODE_DIRECT_BYTES_MIN || length > CODE_DIRECT_BYTES_MAX)
      return undefined;
    return await this.#plans.plan(code, stream, input);
  }

  async #mapped(
    program: CodeProgram,
    input: Input,
    plan: DirectPlan | undefined,
    running: Omit<Running, "workspace">,
  ): Promise<Outcome> {
    const outcome = plan && (await this.#direct(program, input, plan, running));
    return (
      outcome ?? (await this.#inWorkspace((workspace) => mapped(program, input, { ...running, workspace })))
    );
  }

  /** Runs the packet over chunks where they lie; undefined where that does not work. */
  async #direct(
    { bytes }: CodeProgram,
    { stream, from, length, total }: Input,
    plan: DirectPlan,
    { meter, signal }: Omit<Running, "workspace">,
  ): Promise<Outcome | undefined> {
    const { root } = stream!;
    const work: DirectWork = { code: bytes, range: { from, length, total }, plan };
    const isNew = plan.isVerified.includes(0);
    // Until one is ready this thread goes on.
    if (this.#bytesHere + total - from >= CODE_THREADS_BYTES) this.#threads.start();
    const isThere = this.#threads.isReady;
    const outcome = await (isThere ? this.#threads.run(work, meter) : this.#runHere(work, meter));
    if (isNew) this.#plans.wasRead(plan);
    signal.throwIfAborted();
    if (outcome === undefined) this.#plans.forget(root);
    else if ("isUnfinished" in outcome) this.#plans.readOn(root);
    else if ("state" in outcome) return { bytes: outcome.state };
    else return { fault: FaultCode.badRecord, reason: outcome.fault.reason, place: outcome.fault.at };
    return undefined;
  }

  async #runHere(work: DirectWork, meter: Meter): Promise<DirectOutcome> {
    this.#bytesHere += work.range.length;
    const run = this.#rangeHere.then(() =>
      this.#inWorkspace((workspace) => inTurns(counted(runDirect(work, workspace), meter))),
    );
    this.#rangeHere = run.catch(() => {});
    return await run;
  }

  async #inWorkspace<Result>(run: (workspace: Workspace) => Promise<Result>): Promise<Result> {
    const workspace = this.#workspaces.pop() ?? new Workspace(this.#modules);
    try {
      return await run(workspace);
    } finally {
      this.#workspaces.push(workspace);
    }
  }
}

/** Lanes with packets that wait, the one first whose turn it is. They may be very many, so nothing here goes through them all. */
class WaitingLanes {
  #lanes: CodeLane[] = [];
  #first = 0;

  add(lane: CodeLane): void {
    if (lane.isQueued) return;
    lane.isQueued = true;
    this.#lanes.push(lane);
  }

  /** One that was closed meanwhile has nothing to run. */
  next(): CodeLane | undefined {
    const lane = this.#lanes[this.#first];
    if (lane === undefined) return undefined;
    lane.isQueued = false;
    if (++this.#first === this.#lanes.length || this.#first === LANES_TAKEN_MAX) {
      this.#lanes = this.#lanes.slice(this.#first);
      this.#first = 0;
    }
    return lane;
  }
}

/** The steps take time of this thread. Between them others have their turns. */
function* counted<Result>(steps: Iterator<void, Result>, meter: Meter): Generator<void, Result> {
  for (;;) {
    const began = performance.now();
    const { done, value } = steps.next();
    meter.cpuMs += performance.now() - began;
    if (done === true) return value;
    yield;
  }
}

/** What is no state was made by somebody who means harm, or by a defect: the packet runs elsewhere. */
function faultOf(error: PacketfsError): FaultCode {
  return hasCode(error, "PFS_CODE_INVALID") ? FaultCode.internal : inputFault(error);
}

function refused(reason: string, cause?: unknown): JobError {
  const text = `the program cannot be loaded: ${reason}`;
  return new JobError(JobErrorCode.invalidProgram, text, { reason }, { cause });
}
