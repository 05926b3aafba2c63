/**
 * Executor processes that lanes share: those of one program with one set of arguments (its map, merge and finish), since a
 * process costs more to start than many a job takes. Lanes of different programs share nothing.
 *
 *   lane ──▶ LaneProcess ──┐
 *   lane ──▶ LaneProcess ──┼──▶ ExecutorProcess, until it ends, or some seconds after the last one is closed
 *
 * A process that no lane has is kept for the same program, arguments and limits, and for nothing else: few of them, only
 * such as have done all that they were given, and none that has more memory than it needs to wait.
 */
import { refToHex, sha256 } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { SandboxError, SandboxErrorCode } from "../errors.ts";
import {
  EXECUTOR_BASE_BYTES,
  IDLE_DEATHS_MAX,
  EXECUTOR_THREAD_BYTES,
  INSPECTED_KEPT_MS,
  LANES_PER_PROCESS,
  PROCESSES_KEPT_MAX,
  PROCESSES_MAX,
  PROCESS_KEPT_MS,
} from "../limits.ts";
import type { ProgramDescription, ProgramLimits } from "../program/program.ts";
import type { ExecutorProcessOptions, ExecutorProcess } from "../sandbox/process/executor-process.ts";
import { describeKernels } from "./declared-kernels.ts";
import { LaneProcess, ProcessContents } from "./lane-process.ts";

interface Shared {
  readonly process: Promise<ExecutorProcess>;
  /** The same once it has started. */
  started: ExecutorProcess | undefined;
  /** Parts in it that somebody has. */
  parts: number;
  readonly contents: ProcessContents;
  /** Runs while no lane has it. */
  kept: NodeJS.Timeout | undefined;
}

/** Somebody who waits until a process may be started. */
interface Waiter {
  readonly program: string;
  readonly go: () => void;
}

/** The process that a program was looked into in. Nothing but that program has run there. */
interface Inspected {
  readonly code: string;
  readonly process: ExecutorProcess;
  readonly timer: NodeJS.Timeout;
}

export interface Wanted {
  /** Whoever has the same shares a process. */
  readonly program: string;
  readonly code: Uint8Array;
  readonly options: ExecutorProcessOptions;
  /** Ends waiting. */
  readonly signal?: AbortSignal;
}

export interface SharedProcessesOptions {
  /** How long a process stays that no lane has, in milliseconds; PROCESS_KEPT_MS unless given. */
  readonly keptMs?: number | undefined;
  /** Processes of programs that there are at once; PROCESSES_MAX unless given. */
  readonly processesMax?: number | undefined;
  /** Called when somebody waits because there are so many: lanes that do nothing may give back what they have. */
  readonly crowded?: () => void;
}

export class SharedProcesses {
  readonly #source: ProcessSource;
  readonly #processesMax: number;
  readonly #crowded: () => void;
  readonly #waiting: Waiter[] = [];
  /** By program; those that are kept in the order in which their last lane was closed. */
  readonly #shared = new Map<string, Shared>();
  readonly #keptMs: number;
  /** Programs that are being looked into, by their code. */
  readonly #inspecting = new Map<string, Promise<ProgramDescription>>();
  #inspected: Inspected | undefined;
  #closed = false;

  constructor(source: ProcessSource, options: SharedProcessesOptions = {}) {
    this.#source = source;
    this.#keptMs = options.keptMs ?? PROCESS_KEPT_MS;
    this.#processesMax = options.processesMax ?? PROCESSES_MAX;
    this.#crowded = options.crowded ?? (() => undefined);
  }

  /** Whether somebody waits for another program's process to end. */
  get isCrowded(): boolean {
    return this.#waiting.length > 0;
  }

  /**
   * What a program says of itself. Its process stays for a while: most programs that are looked into are run next.
   * Whoever asks about the same program meanwhile hears the same. Rejects with PFS_PROGRAM_INVALID.
   */
  inspect(code: Uint8Array): Promise<ProgramDescription> {
    const key = codeKey(code);
    const known = this.#inspecting.get(key);
    if (known !== undefined) return known;
    const inspecting = this.#inspect(key, code).finally(() => this.#inspecting.delete(key));
    this.#inspecting.set(key, inspecting);
    return inspecting;
  }

  /**
   * A lane's part in the program's process, which is started when there is none, once there are not too many others. Rejects
   * as the source does, and with the signal's reason.
   */
  async take({ program, code, options, signal }: Wanted): Promise<LaneProcess> {
    const before = this.#shared.get(program)?.started;
    // What it was ended for is no fault of who comes before the system tells of the end.
    if (before?.closed === true) await before.ended;
    let shared = this.#shared.get(program);
    if (shared === undefined) {
      await this.#room(program, signal);
      shared = this.#shared.get(program);
      // Another lane has started it meanwhile: if there was room for this one, it is the next one's.
      if (shared !== undefined) this.#wake();
      else shared = this.#start(program, this.#takeProcess(code, options));
    }
    shared.parts++;
    clearTimeout(shared.kept);
    shared.kept = undefined;
    try {
      const process = await shared.process;
      return new LaneProcess(process, options.sharedMemoryBytes, shared.contents, () =>
        this.#release(program, shared),
      );
    } catch (error) {
      await this.#release(program, shared);
      throw error;
    }
  }

  /** Waits until there is a process of the program, or room for one. Those that no lane has make room at once. */
  async #room(program: string, signal: AbortSignal | undefined): Promise<void> {
    for (let waited = false; ; waited = true) {
      signal?.throwIfAborted();
      const isFull = this.#shared.size >= this.#processesMax || (!waited && this.isCrowded);
      if (!isFull || this.#shared.has(program)) return;
      const [oldest] = this.#kept;
      if (oldest !== undefined && !this.isCrowded) {
        await this.#drop(...oldest);
        continue;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      const waiter: Waiter = { program, go: resolve };
      const aborted = (): void => resolve();
      // Who was woken and came too late is the next all the same.
      if (waited) this.#waiting.unshift(waiter);
      else this.#waiting.push(waiter);
      signal?.addEventListener("abort", aborted);
      this.#crowded();
      await promise;
      signal?.removeEventListener("abort", aborted);
      const at = this.#waiting.indexOf(waiter);
      if (at >= 0) this.#waiting.splice(at, 1);
      // It has no use for what it was woken for.
      else if (signal?.aborted === true) this.#wake();
    }
  }

  /** A process is gone, or there is one of this program: those go on who waited for that. */
  #wake(program?: string): void {
    if (program === undefined) return this.#waiting.shift()?.go();
    for (const waiter of this.#waiting.filter((each) => each.program === program)) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.go();
    }
  }

  /** Resolves when no process is left of those that no lane has. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#kept.map(([program, shared]) => this.#drop(program, shared)));
    await this.#dropInspected();
    await Promise.allSettled(this.#inspecting.values());
  }

  async #inspect(key: string, code: Uint8Array): Promise<ProgramDescription> {
    const { process, result } = await inspectIn(this.#source, code);
    if (this.#closed) {
      await process.close();
      return result;
    }
    const before = this.#dropInspected();
    // Before anything is waited for: another program may be looked into at the same time, and one of the two is dropped.
    const timer = setTimeout(() => void this.#dropInspected(), INSPECTED_KEPT_MS).unref();
    this.#inspected = { code: key, process, timer };
    await before;
    return result;
  }

  async #takeProcess(code: Uint8Array, options: ExecutorProcessOptions): Promise<ExecutorProcess> {
    const wanted = sharedOptions(options);
    const inspected = this.#inspected;
    if (inspected?.code === codeKey(code) && inspected.process.adapt(wanted)) {
      clearTimeout(inspected.timer);
      this.#inspected = undefined;
      return inspected.process;
    }
    return await this.#source.take(wanted);
  }

  async #dropInspected(): Promise<void> {
    const inspected = this.#inspected;
    this.#inspected = undefined;
    clearTimeout(inspected?.timer);
    await inspected?.process.close();
  }

  #start(program: string, process: Promise<ExecutorProcess>): Shared {
    const shared: Shared = {
      process,
      started: undefined,
      parts: 0,
      contents: new ProcessContents(),
      kept: undefined,
    };
    this.#shared.set(program, shared);
    this.#wake(program);
    const forget = (): void => this.#forget(program, shared);
    // Whoever takes next gets another one.
    process.then((started) => {
      shared.started = started;
      return started.ended.then(forget);
    }, forget);
    return shared;
  }

  #forget(program: string, shared: Shared): void {
    clearTimeout(shared.kept);
    if (this.#shared.get(program) !== shared) return;
    this.#shared.delete(program);
    this.#wake();
  }

  /** Resolves at once when the process is kept, otherwise when it has ended. */
  async #release(program: string, shared: Shared): Promise<void> {
    if (--shared.parts > 0) {
      // Others of it may have nothing to do either.
      if (this.isCrowded) this.#crowded();
      return;
    }
    const process = await shared.process.catch(() => undefined);
    // Somebody may have taken it while this waited.
    if (shared.parts > 0 || shared.kept !== undefined) return;
    if (process === undefined || this.isCrowded || !this.#mayKeep(program, shared, process))
      return this.#drop(program, shared);
    this.#shared.delete(program);
    this.#shared.set(program, shared);
    shared.kept = setTimeout(() => void this.#drop(program, shared), this.#keptMs).unref();
    const [oldest] = this.#kept;
    if (this.#kept.length > PROCESSES_KEPT_MAX) await this.#drop(...oldest!);
  }

  /** Whatever it had to do is done, so that nothing goes on in it, and it holds no more than one that was just started. */
  #mayKeep(program: string, shared: Shared, process: ExecutorProcess): boolean {
    const isOurs = this.#shared.get(program) === shared;
    if (this.#closed || this.#keptMs === 0 || !isOurs || process.pending > 0 || process.closed) return false;
    return process.residentBytes <= EXECUTOR_BASE_BYTES + process.threads * EXECUTOR_THREAD_BYTES;
  }

  /** Those that no lane has, the one that has waited longest first. */
  get #kept(): (readonly [program: string, shared: Shared])[] {
    return [...this.#shared].filter(([, { kept }]) => kept !== undefined);
  }

  async #drop(program: string, shared: Shared): Promise<void> {
    this.#forget(program, shared);
    await (await shared.process.catch(() => undefined))?.close();
  }
}

/** What a program says of itself, found out in a process that is closed again. Rejects with PFS_PROGRAM_INVALID. */
export async function inspectProgram(source: ProcessSource, code: Uint8Array): Promise<ProgramDescription> {
  const { process, result } = await inspectIn(source, code);
  await process.close();
  return result;
}

function inspectIn(
  source: ProcessSource,
  code: Uint8Array,
): Promise<{ readonly process: ExecutorProcess; readonly result: ProgramDescription }> {
  return startWith(
    () => source.take(),
    async (process) => describeKernels(process, code, await process.inspect(code)),
  );
}

function codeKey(code: Uint8Array): string {
  return refToHex(sha256(code));
}

/** What a process is started with so that several lanes find room in its shared memory. */
export function sharedOptions(options: ExecutorProcessOptions): ExecutorProcessOptions {
  return { ...options, sharedMemoryBytes: options.sharedMemoryBytes * LANES_PER_PROCESS };
}

/** Where processes come from: SpareExecutors, or whoever starts them otherwise. */
export interface ProcessSource {
  /** A process of the caller's own, like the source's others unless options are given. */
  take(options?: ExecutorProcessOptions): Promise<ExecutorProcess>;
}

/** What the executor process of a lane may use: a packet's memory for each thread, and what the process itself needs. */
export function processOptions(
  limits: ProgramLimits,
  threads: number,
  sharedMemoryBytes: number,
): ExecutorProcessOptions {
  const rssBytesMax = EXECUTOR_BASE_BYTES + threads * (EXECUTOR_THREAD_BYTES + limits.memoryBytes);
  return { threads, sharedMemoryBytes, rssBytesMax };
}

/**
 * A process in which `begin` succeeded, and its result. `taken` is told of each process as soon as there is one. Rejects
 * with what `begin` rejects with, and with PFS_PROGRAM_INVALID when two processes in a row did not survive it.
 */
export async function startWith<P extends { close(): Promise<void> }, T>(
  take: () => Promise<P>,
  begin: (process: P) => Promise<T>,
  taken: (process: P) => void = () => undefined,
): Promise<{ readonly process: P; readonly result: T }> {
  let deaths = 0;
  for (let attempt = 1; ; attempt++) {
    const process = await take();
    taken(process);
    try {
      return { process, result: await begin(process) };
    } catch (error) {
      await process.close();
      if (!mayBeAccident(error)) throw error;
      if (diedOfItself(error)) deaths++;
      else if (attempt > IDLE_DEATHS_MAX) throw error;
      if (deaths < 2) continue;
      const reason = `its executor process does not survive loading it: ${(error as Error).message}`;
      throw new SandboxError(
        SandboxErrorCode.invalidProgram,
        `the program cannot be loaded: ${reason}`,
        { reason },
        { cause: error },
      );
    }
  }
}

/** Not of a machine that is stopped or overloaded, nor of what another lane of its process did: these say nothing. */
function diedOfItself(error: PacketfsError): boolean {
  const { reason } = error.data;
  return hasCode(error, SandboxErrorCode.ended) && (reason === "memory" || reason === "crash");
}

/** Whether it may go well the next time: the process ended although nobody wanted it to, or did not get on. */
export function mayBeAccident(error: unknown): error is PacketfsError {
  if (hasCode(error, SandboxErrorCode.stalled)) return true;
  return hasCode(error, SandboxErrorCode.ended) && error.data["reason"] !== "closed";
}
