/**
 * Executes packet code on this machine, in its own process: there is nothing in those 32 bytes that could do harm, so they
 * need no sandbox. Packets of all lanes take turns.
 *
 *   exec ──▶ lane ──▶ a bench that is free: bytes of the range, piece by piece ──▶ kernel ──▶ state ──▶ returned
 */
import { Stage, requireCode } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import {
  decodeState,
  emptyState,
  encodeState,
  mergeState,
  stateBytes,
  valueOf,
} from "../../packets/code/state.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError, hasCode } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag } from "../../packets/layout.ts";
import { LANES_MAX } from "../../packets/limits.ts";
import { flagsAt, fromAt, lengthAt, refOf } from "../../packets/packet.ts";
import type { ChunkPlaces, ChunkSource, StoreWriter } from "../contracts/chunks.ts";
import type { Capacity, Executor, InlineCode, Lane, LaneListener } from "../contracts/executor.ts";
import { JobError, JobErrorCode, LaneError, LaneErrorCode, StreamError, StreamErrorCode } from "../errors.ts";
import {
  CODE_DIRECT_BYTES_MAX,
  CODE_DIRECT_BYTES_MIN,
  CODE_THREADS_BYTES,
  INPUT_CACHE_IDLE_MS,
} from "../limits.ts";
import { valueCodec } from "../program/values.ts";
import { InputSource, inputFault } from "../stream/inputs.ts";
import type { StreamInput } from "../stream/inputs.ts";
import { inTurns, turnOver } from "../turns.ts";
import type { Outcome } from "./code-answers.ts";
import { Bench, CompiledModules } from "./bench.ts";
import { CodeLane } from "./code-lane.ts";
import type { CodeWork } from "./code-lane.ts";
import { CodeThreads } from "./code-threads.ts";
import { DirectPlans } from "./direct-plan.ts";
import { runDirect } from "./direct-read.ts";
import type { DirectWork } from "./direct-read.ts";
import { CARRY_BYTES, RangeRun } from "./range-run.ts";

/** All that answers of packet code depend on beside the code and the input is its version. */
const EDITION = "packet-code-1";

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
}

/** Bytes `from` to `from + length` of an input of `total` bytes, which stand at `base` of the file. */
interface Input {
  /** What it is a range of, where that is a file. */
  readonly stream?: StreamInput;
  readonly from: number;
  readonly length: number;
  readonly total: number;
  readonly base: number;
  /** Its bytes `start` to `end`, in pieces of at most PIECE_BYTES_MAX. */
  readonly pieces: (start: number, end: number) => AsyncIterable<Uint8Array>;
}

export class CodeExecutor implements Executor, AsyncDisposable {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly edition: string = EDITION;
  readonly #options: CodeExecutorOptions;
  readonly #inputs: InputSource;
  readonly #plans: DirectPlans;
  readonly #threads: CodeThreads;
  readonly #lanes = new Map<number, CodeLane>();
  /** Lanes with packets that wait, the one first whose turn it is. */
  readonly #waiting = new Set<CodeLane>();
  /** Memory of those who work, given back when they have nothing to do. */
  readonly #benches: Bench[] = [];
  readonly #modules = new CompiledModules();
  #working = 0;
  #lastLane = 0;
  #idle: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(options: CodeExecutorOptions) {
    this.id = options.id;
    this.label = options.label;
    this.capacity = { code: options.slots };
    this.#options = options;
    this.#inputs = new InputSource(options.source);
    this.#plans = new DirectPlans(options.places);
    this.#threads = new CodeThreads(options.slots);
  }

  async load(program: Ref | InlineCode, listener: LaneListener, signal: AbortSignal): Promise<Lane> {
    signal.throwIfAborted();
    if (this.#isClosed) throw new LaneError(LaneErrorCode.laneClosed, "the executor is closed");
    if (!("inline" in program)) throw refused("only packet code runs here");
    try {
      requireCode(program.inline);
    } catch (error) {
      throw refused(error instanceof PacketfsError ? String(error.data["reason"]) : String(error), error);
    }
    const number = this.#freeLane();
    const lane = new CodeLane({
      code: program.inline,
      listener,
      openWriter: this.#options.openWriter,
      ready: () => this.#ready(lane),
      closed: () => this.#forget(number, lane),
    });
    this.#lanes.set(number, lane);
    clearTimeout(this.#idle);
    return lane;
  }

  async has(refs: Uint8Array): Promise<Uint8Array> {
    return this.#options.has(refs);
  }

  /** Ends every lane. Nobody is told: whoever loaded a lane knows, or closes it too. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#idle);
    await Promise.all([...this.#lanes.values()].map((lane) => lane.close()));
    await this.#threads.close();
    this.#benches.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #freeLane(): number {
    if (this.#lanes.size === LANES_MAX) {
      throw new LaneError(LaneErrorCode.lanesFull, `all ${LANES_MAX} lanes are taken`, { max: LANES_MAX });
    }
    do this.#lastLane = (this.#lastLane % LANES_MAX) + 1;
    while (this.#lanes.has(this.#lastLane));
    return this.#lastLane;
  }

  #forget(number: number, lane: CodeLane): void {
    this.#waiting.delete(lane);
    this.#lanes.delete(number);
    if (this.#lanes.size > 0 || this.#isClosed) return;
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      this.#inputs.forget();
      this.#plans.clear();
      this.#benches.length = 0;
      void this.#threads.rest();
    }, INPUT_CACHE_IDLE_MS).unref();
  }

  #ready(lane: CodeLane): void {
    this.#waiting.add(lane);
    const { slots } = this.#options;
    for (let started = 0; started < lane.waiting && this.#working < slots; started++) this.#start();
  }

  #start(): void {
    this.#working++;
    void this.#work();
  }

  /** Works on packets until none waits. Never rejects. */
  async #work(): Promise<void> {
    const bench = this.#benches.pop() ?? new Bench(this.#modules);
    for (let lane = this.#nextLane(); lane !== undefined; lane = this.#nextLane()) {
      const [turn, work] = [lane, lane.next()];
      if (lane.hasWork) this.#waiting.add(lane);
      if (work !== undefined) await lane.work(work, () => this.#outcome(turn, work, bench));
    }
    this.#benches.push(bench);
    this.#working--;
  }

  #nextLane(): CodeLane | undefined {
    const [lane] = this.#waiting;
    if (lane !== undefined) this.#waiting.delete(lane);
    return lane;
  }

  async #outcome(lane: CodeLane, { frame, index }: CodeWork, bench: Bench): Promise<Outcome> {
    const { code, signal } = lane;
    try {
      const input = await this.#input(frame, index, signal);
      if (code.stage !== Stage.MAP) return { bytes: await merged(code, input) };
      return (await this.#direct(lane, input, bench)) ?? (await mapped(lane, input, bench));
    } catch (error) {
      if (!(error instanceof PacketfsError) || signal.aborted) throw error;
      return { fault: faultOf(error), reason: error.message };
    }
  }

  /** Runs the packet over chunks where they lie; undefined where that does not work. */
  async #direct({ bytes, code, signal }: CodeLane, input: Input, bench: Bench): Promise<Outcome | undefined> {
    const { stream, length } = input;
    if (stream === undefined || length < CODE_DIRECT_BYTES_MIN || length > CODE_DIRECT_BYTES_MAX)
      return undefined;
    const plan = await this.#plans.plan(code, stream, input);
    if (plan === undefined) return undefined;
    const { from, total } = input;
    const work: DirectWork = { code: bytes, range: { from, length, total }, plan };
    const isNew = plan.isVerified.includes(0);
    const outcome = this.#isBusy() ? await this.#threads.run(work) : await inTurns(runDirect(work, bench));
    if (isNew) this.#plans.wasRead(plan);
    signal.throwIfAborted();
    if (outcome === undefined) this.#plans.forget(stream.root);
    else if ("state" in outcome) return { bytes: outcome.state };
    else return { fault: FaultCode.badRecord, reason: outcome.fault.reason, place: outcome.fault.at };
    return undefined;
  }

  /** Whether so much waits that threads are worth their start, or are there already. */
  #isBusy(): boolean {
    if (this.#options.slots === 1 || !this.#threads.hasRoom) return false;
    let waiting = 0;
    for (const lane of this.#waiting) waiting += lane.waitingBytes;
    return waiting >= CODE_THREADS_BYTES || this.#threads.isRunning;
  }

  /** Rejects with what reading rejects with, and PFS_RANGE_INVALID. */
  async #input(frame: Uint8Array, index: number, signal: AbortSignal): Promise<Input> {
    const flags = flagsAt(frame, index);
    const [from, length, ref] = [fromAt(frame, index), lengthAt(frame, index), refOf(frame, index)];
    if ((flags & Flag.STREAM) === 0) {
      // A range of a chunk is whole records.
      const [chunk] = length === 0 ? [new Uint8Array(0)] : await this.#inputs.chunks([ref], signal);
      if (length > 0) requireRange(from, length, chunk!.byteLength);
      const pieces = (start: number, end: number): AsyncIterable<Uint8Array> =>
        onePiece(chunk!.subarray(from + start, from + end));
      return { from: 0, length, total: length, base: from, pieces };
    }
    const stream = await this.#inputs.stream(ref, signal);
    requireRange(from, length, stream.length);
    if ((flags & Flag.WHOLE) === 0) {
      return {
        stream,
        from,
        length,
        total: stream.length,
        base: 0,
        pieces: (start, end) => stream.pieces(start, end),
      };
    }
    const pieces = (start: number, end: number): AsyncIterable<Uint8Array> =>
      stream.pieces(from + start, from + end);
    return { from: 0, length, total: length, base: from, pieces };
  }
}

/** Reads the range's bytes and runs the program on them. */
async function mapped({ bytes, code, signal }: CodeLane, input: Input, bench: Bench): Promise<Outcome> {
  const { memory } = bench;
  const kernel = bench.kernel(bytes, code, input.length);
  const run = new RangeRun(code, kernel, memory, input);
  while (!run.isDone) {
    const { start, end } = run.wanted;
    for await (const piece of input.pieces(start, end)) {
      const over = turnOver();
      if (over !== undefined) await over;
      signal.throwIfAborted();
      memory.set(piece, CARRY_BYTES);
      run.push(CARRY_BYTES, piece.byteLength);
      if (run.isDone) break;
    }
  }
  const { fault } = run;
  if (fault === undefined) return { bytes: encodeState(code, kernel.state) };
  return { fault: FaultCode.badRecord, reason: fault.reason, place: input.base + fault.at };
}

/** The states that the input is, as one; or the value's text. */
async function merged(code: Code, { from, length, pieces }: Input): Promise<Uint8Array> {
  const size = stateBytes(code);
  const held = new Uint8Array(size);
  let state: ReturnType<typeof emptyState> | undefined;
  let filled = 0;
  for await (const piece of pieces(from, from + length)) {
    for (let at = 0; at < piece.byteLength;) {
      const taken = Math.min(size - filled, piece.byteLength - at);
      held.set(piece.subarray(at, at + taken), filled);
      at += taken;
      filled += taken;
      if (filled < size) continue;
      filled = 0;
      const next = decodeState(code, held);
      if (state === undefined) state = next;
      else mergeState(code, state, next);
    }
  }
  if (filled > 0) decodeState(code, held.subarray(0, filled));
  const all = state ?? emptyState(code);
  if (code.stage === Stage.MERGE) return encodeState(code, all);
  return new TextEncoder().encode(valueCodec.encode(valueOf(code, all), "packet code gave"));
}

async function* onePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  if (bytes.byteLength > 0) yield bytes;
}

function requireRange(from: number, length: number, available: number): void {
  if (from + length <= available) return;
  const data = { start: from, end: from + length, length: available };
  const text = `it reads to byte ${from + length} of an input of ${available} bytes`;
  throw new StreamError(StreamErrorCode.invalidRange, text, data);
}

/** What is no state was made by somebody who means harm, or by a defect: the packet runs elsewhere. */
function faultOf(error: PacketfsError): FaultCode {
  return hasCode(error, "PFS_CODE_INVALID") ? FaultCode.internal : inputFault(error);
}

function refused(reason: string, cause?: unknown): JobError {
  const text = `the program cannot be loaded: ${reason}`;
  return new JobError(JobErrorCode.invalidProgram, text, { reason }, { cause });
}
