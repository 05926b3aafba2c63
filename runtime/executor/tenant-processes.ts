/**
 * Executor processes by tenant: the lanes of one program with one set of arguments (its map, merge and finish) share a
 * process, since a process costs more to start than many a job takes. Lanes of different programs share nothing.
 *
 *   lane ──▶ Tenancy ──┐
 *   lane ──▶ Tenancy ──┼──▶ ExecutorProcess, until the last one is closed or the process ends
 */
import { refToHex, sha256 } from "../../packets/digest.ts";
import { INSPECTED_KEPT_MS, LANES_PER_PROCESS } from "../limits.ts";
import type { ProgramDescription } from "../program/program.ts";
import type { ExecutorOptions, ExecutorProcess } from "../sandbox/process/executor-process.ts";
import type { LaneProgram } from "../sandbox/process/executor-process.ts";
import type { FrameOutcome } from "../sandbox/process/outcome.ts";
import { startWith } from "./process-start.ts";
import type { ProcessSource } from "./process-start.ts";
import type { Window } from "./window-space.ts";

type EndReason = Awaited<ExecutorProcess["ended"]>;

interface Shared {
  readonly process: Promise<ExecutorProcess>;
  tenancies: number;
}

/** The process that a program was looked into in. Nothing but that program has run there. */
interface Inspected {
  readonly code: string;
  readonly process: ExecutorProcess;
  readonly timer: NodeJS.Timeout;
}

export interface Wanted {
  /** Whoever has the same shares a process. */
  readonly tenant: string;
  readonly code: Uint8Array;
  readonly options: ExecutorOptions;
}

export class TenantProcesses {
  readonly #source: ProcessSource;
  readonly #shared = new Map<string, Shared>();
  #inspected: Inspected | undefined;

  constructor(source: ProcessSource) {
    this.#source = source;
  }

  /**
   * What a program says of itself. Its process stays for a while: most programs that are looked into are run next.
   * Rejects with PFS_PROGRAM_INVALID.
   */
  async inspect(code: Uint8Array): Promise<ProgramDescription> {
    const { process, result } = await inspectIn(this.#source, code);
    await this.#dropInspected();
    const timer = setTimeout(() => void this.#dropInspected(), INSPECTED_KEPT_MS).unref();
    this.#inspected = { code: codeKey(code), process, timer };
    return result;
  }

  /** A lane's part in the tenant's process, which is started when there is none. Rejects as the source does. */
  async take({ tenant, code, options }: Wanted): Promise<Tenancy> {
    const shared = this.#shared.get(tenant) ?? this.#start(tenant, this.#takeProcess(code, options));
    shared.tenancies++;
    try {
      const process = await shared.process;
      return new Tenancy(process, options.windowBytes, () => this.#release(tenant, shared));
    } catch (error) {
      await this.#release(tenant, shared);
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#dropInspected();
  }

  async #takeProcess(code: Uint8Array, options: ExecutorOptions): Promise<ExecutorProcess> {
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

  #start(tenant: string, process: Promise<ExecutorProcess>): Shared {
    const shared: Shared = { process, tenancies: 0 };
    this.#shared.set(tenant, shared);
    const forget = (): void => {
      if (this.#shared.get(tenant) === shared) this.#shared.delete(tenant);
    };
    // Whoever takes next gets another one.
    process.then(({ ended }) => ended.then(forget), forget);
    return shared;
  }

  async #release(tenant: string, shared: Shared): Promise<void> {
    if (--shared.tenancies > 0) return;
    if (this.#shared.get(tenant) === shared) this.#shared.delete(tenant);
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
    (process) => process.inspect(code),
  );
}

function codeKey(code: Uint8Array): string {
  return refToHex(sha256(code));
}

/** What a process is started with so that several lanes find room in its window. */
export function sharedOptions(options: ExecutorOptions): ExecutorOptions {
  return { ...options, windowBytes: options.windowBytes * LANES_PER_PROCESS };
}

/** A process as one of its lanes sees it: closing it closes what the lane has there. */
export class Tenancy {
  readonly window: Window;
  /** Resolves when the process has ended or this was closed. */
  readonly ended: Promise<EndReason>;
  readonly #process: ExecutorProcess;
  readonly #part: WindowPart;
  readonly #release: () => Promise<void>;
  readonly #resolveEnded: (reason: EndReason) => void;
  #lane: number | undefined;
  #closing: Promise<void> | undefined;

  constructor(process: ExecutorProcess, windowBytes: number, release: () => Promise<void>) {
    const { promise, resolve } = Promise.withResolvers<EndReason>();
    this.#process = process;
    this.#part = new WindowPart(process, windowBytes);
    this.#release = release;
    this.#resolveEnded = resolve;
    this.window = this.#part;
    this.ended = promise;
    void process.ended.then(resolve);
  }

  get pid(): number {
    return this.#process.pid;
  }

  get closed(): boolean {
    return this.#closing !== undefined || this.#process.closed;
  }

  async load(lane: number, program: LaneProgram): Promise<void> {
    this.#lane = lane;
    await this.#process.load(lane, program);
  }

  run(lane: number, frame: Uint8Array, extents: Float64Array): Promise<FrameOutcome> {
    return this.#process.run(lane, frame, extents);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#lane !== undefined && !this.#process.closed) this.#process.unload(this.#lane);
    this.#part.freeAll();
    this.#resolveEnded({ reason: "closed", detail: "" });
    await this.#release();
  }
}

/** What one lane has in a window, up to its share, so that no lane waits for another one's inputs. */
class WindowPart implements Window {
  readonly #process: ExecutorProcess;
  readonly #bytesMax: number;
  readonly #extents = new Map<number, number>();
  #bytes = 0;

  constructor(process: ExecutorProcess, bytesMax: number) {
    this.#process = process;
    this.#bytesMax = bytesMax;
  }

  alloc(bytes: number): number | undefined {
    if (this.#bytes + bytes > this.#bytesMax) return undefined;
    const offset = this.#process.window.alloc(bytes);
    if (offset === undefined) return undefined;
    this.#extents.set(offset, bytes);
    this.#bytes += bytes;
    return offset;
  }

  free(offset: number): void {
    const bytes = this.#extents.get(offset);
    if (bytes === undefined) return;
    this.#extents.delete(offset);
    this.#bytes -= bytes;
    this.#process.window.free(offset);
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#process.window.write(offset, bytes);
  }

  freeAll(): void {
    for (const offset of this.#extents.keys()) this.free(offset);
  }
}
