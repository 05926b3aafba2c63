/**
 * Executes packet code on this machine, in its own process: there is nothing in those 32 bytes that could do harm, so they
 * need no sandbox. Packets of all lanes take turns.
 *
 *   exec ──▶ lane ─┬▶ a GPU, where that is expected to be faster ───────────────────────────────┬▶ state ──▶ returned
 *                  ├▶ a thread, or this one: chunks of the range where they lie ──▶ kernel ─────┤
 *                  └▶ a workspace that is free: bytes of the range, piece by piece ──▶ kernel ──╯
 */
import { CODE_EDITION, Stage, lookahead } from "../../packets/code/format.ts";
import { encodeState } from "../../packets/code/state.ts";
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError, hasCode, messageOf } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import type { ChunkPlaces, ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { Capacity, Executor, InlineCode, Lane, LaneListener, Tenant } from "../contracts/executor.ts";
import type { EngineDecision, KernelCall, KernelEngine } from "../contracts/kernels.ts";
import { JobError, JobErrorCode, LaneError, LaneErrorCode } from "../errors.ts";
import type { LaneSlots } from "../lane-slots.ts";
import {
  CODE_DIRECT_BYTES_MAX,
  CODE_DIRECT_BYTES_MIN,
  CODE_GPU_BYTES,
  CODE_KERNEL_BYTES_MIN,
  CODE_KERNELS_MAX,
  CODE_THREADS_BYTES,
  INPUT_CACHE_IDLE_MS,
} from "../limits.ts";
import { bucketOf, sizeOf, workOf } from "../program/kernel/cost.ts";
import { InputSource, inputFault } from "../stream/inputs.ts";
import { inTurns } from "../turns.ts";
import { unlessAborted } from "../unless-aborted.ts";
import type { Outcome } from "./code-answers.ts";
import { CodeLane, CodeProgram } from "./code-lane.ts";
import type { CodeLanes, CodeWork } from "./code-lane.ts";
import { CodeThreads } from "./code-threads.ts";
import { DirectPlans } from "./direct-plan.ts";
import { runDirect } from "./direct-read.ts";
import type { DirectOutcome, DirectWork } from "./direct-read.ts";
import { mapped, merged, openInput } from "./piecewise.ts";
import type { Input, Meter } from "./piecewise.ts";
import { rowsOf } from "./range-run.ts";
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

/** A range of rows that a GPU may take. */
interface RowCall {
  readonly call: KernelCall;
  readonly rows: number;
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
  /** Bytes of ranges that a GPU could take, since there last was nothing to do. */
  #bytesOffered = 0;
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
      this.#bytesOffered = 0;
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
    const calls = this.#options.kernels === undefined ? 0 : CODE_KERNELS_MAX;
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
      const rows = this.#options.kernels === undefined ? undefined : rowCall(lane, input);
      if (rows === undefined) return await this.#mapped(program, input, slot, signal);
      this.#bytesOffered += input.length;
      if (this.#bytesOffered >= CODE_GPU_BYTES) void this.#options.findGpus?.();
      return await this.#chosen(lane, input, rows, signal);
    } catch (error) {
      if (!(error instanceof PacketfsError) || signal.aborted) throw error;
      return { fault: faultOf(error), reason: error.message };
    }
  }

  /** Has the range computed by a GPU, or does it here. */
  async #chosen(lane: CodeLane, input: Input, row: RowCall, signal: AbortSignal): Promise<Outcome> {
    const { program, slot } = lane;
    const { answer, ...decision } = await this.#decided(row.call, signal);
    const bucket = bucketOf(workOf(sizeOf(row.call)));
    const outputs = answer?.outputs;
    const state = outputs === undefined ? undefined : program.rowKernel?.state(outputs, row.rows);
    if (answer !== undefined && state !== undefined) {
      const milliseconds = answer.times.totalMs - answer.times.waitMs;
      lane.measured({ kernel: 0, engine: "gpu", decision, bucket, milliseconds });
      return { bytes: encodeState(program.code, state) };
    }
    const meter: Meter = { cpuMs: 0 };
    const outcome = await this.#mapped(program, input, meter, signal);
    slot.cpuMs += meter.cpuMs;
    if (!("bytes" in outcome)) return outcome;
    this.#options.kernels?.computed(row.call, meter.cpuMs);
    // Where there is no GPU, nobody has to be told which of them did it.
    const isChoice = decision.predictedMs !== undefined || lane.engine !== undefined;
    const { cpuMs: milliseconds } = meter;
    if (isChoice) {
      const own =
        answer === undefined ? decision : { engineClass: "cpu", reason: "a GPU answered what no run gives" };
      lane.measured({ kernel: 0, engine: "cpu", decision: own, bucket, milliseconds });
    }
    return outcome;
  }

  /** Whatever goes wrong where a GPU is to do it, who reads the range here does better, or finds what is wrong with it. */
  async #decided(call: KernelCall, signal: AbortSignal): Promise<EngineDecision> {
    try {
      return await this.#options.kernels!.run(call, signal);
    } catch (error) {
      signal.throwIfAborted();
      return { engineClass: "cpu", reason: messageOf(error) };
    }
  }

  async #mapped(program: CodeProgram, input: Input, meter: Meter, signal: AbortSignal): Promise<Outcome> {
    return (
      (await this.#direct(program, input, meter, signal)) ??
      (await this.#inWorkspace((workspace) => mapped(program, input, { workspace, meter, signal })))
    );
  }

  /** Runs the packet over chunks where they lie; undefined where that does not work. */
  async #direct(
    { bytes, code }: CodeProgram,
    input: Input,
    meter: Meter,
    signal: AbortSignal,
  ): Promise<Outcome | undefined> {
    const { stream, length } = input;
    if (stream === undefined || length < CODE_DIRECT_BYTES_MIN || length > CODE_DIRECT_BYTES_MAX)
      return undefined;
    const plan = await this.#plans.plan(code, stream, input);
    if (plan === undefined) return undefined;
    const { from, total } = input;
    const work: DirectWork = { code: bytes, range: { from, length, total }, plan };
    const isNew = plan.isVerified.includes(0);
    // Until one is ready this thread goes on.
    if (this.#bytesHere + total - from >= CODE_THREADS_BYTES) this.#threads.start();
    const isThere = this.#threads.isReady;
    const outcome = await (isThere ? this.#threads.run(work, meter) : this.#runHere(work, meter));
    if (isNew) this.#plans.wasRead(plan);
    signal.throwIfAborted();
    if (outcome === undefined) this.#plans.forget(stream.root);
    else if ("isUnfinished" in outcome) this.#plans.readOn(stream.root);
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

/** What a GPU would be asked for the range; undefined where that is not worth a question, or who reads it has to say more. */
function rowCall({ program: { code, rowKernel }, engine }: CodeLane, input: Input): RowCall | undefined {
  const { stream, length, total } = input;
  const least = engine === "gpu" ? 1 : CODE_KERNEL_BYTES_MIN;
  if (stream === undefined || length < least || length > CODE_DIRECT_BYTES_MAX) return undefined;
  if (rowKernel === undefined) return undefined;
  const { start, end } = rowsOf(code, input);
  // A file that ends within a row is a fault.
  if (start === end || end > total) return undefined;
  const bytes = Math.min(total, end + lookahead(code)) - start;
  const rows = (end - start) / code.rowBytes;
  const place = { root: stream.root, from: start, length: bytes };
  return { call: { ...rowKernel.call({ input: place, bytes, rows }), engine }, rows };
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
