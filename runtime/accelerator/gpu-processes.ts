/**
 * The processes of one GPU: one that computes, another that stands by, and those that were killed and are not gone yet, whose
 * memory is nobody else's until then.
 *
 *   starting ──▶ stands by, tells how busy the GPU is ──▶ computes ──▶ killed | ended ──▶ gone
 *                                                                          └── the next one computes at once
 */
import { setTimeout as pause } from "node:timers/promises";
import { messageOf } from "../../packets/errors.ts";
import { GPU_FIND_MS_MAX, GPU_PROBE_WAIT_MS, GPU_STARTS_MAX } from "../limits.ts";
import { ProcessClock } from "../process-clock.ts";
import { GpuProcess } from "./gpu-process.ts";
import type { GpuProcessEnd, StartedGpuProcess } from "./gpu-process.ts";
import type { GpuProcessOptions, ProcessMessage } from "./protocol.ts";

/** A process that takes calls. */
export interface LiveProcess extends StartedGpuProcess {
  /** Of its CPU time, where that is told. */
  readonly clock: ProcessClock | undefined;
  /** By number, who waits for a probe. */
  readonly probes: Map<number, (milliseconds: number) => void>;
  /** Messages that came of it. */
  heard: number;
}

/** Who has calls for them. */
export interface ProcessUser {
  /** Another one computes from now on. */
  began(live: LiveProcess): void;
  /** The one that computes says so. */
  said(live: LiveProcess, message: ProcessMessage, body: Uint8Array<ArrayBuffer>): void;
  /** The one that computed has ended by itself, or from outside. */
  ended(live: LiveProcess, end: GpuProcessEnd): void;
  /** More memory may be used than before. */
  freed(): void;
}

export interface GpuProcessesOptions {
  /** Of processes to come. */
  readonly process: GpuProcessOptions;
  /** The first, which computes. */
  readonly first: StartedGpuProcess;
  /** Folders with chunks that they read. */
  readonly reads?: readonly string[] | undefined;
  /** What they use of the GPU's memory at most, all together. */
  readonly memoryBytes: number;
  readonly user: ProcessUser;
}

export class GpuProcesses {
  /** Resolves with the reason, for people, when none starts any more. */
  readonly gone: Promise<string>;
  readonly #options: GpuProcessesOptions;
  readonly #closing = new AbortController();
  /** Bytes of the GPU's memory that processes have which were killed and are not gone. */
  readonly #dead = new Map<GpuProcess, number>();
  readonly #resolveGone: (reason: string) => void;
  #live: LiveProcess | undefined;
  #starting: Promise<void> | undefined;
  #standby: Promise<LiveProcess | undefined> | undefined;
  #probes = 0;
  /** Why the last one did not start. */
  #failure = "";
  #goneFor: string | undefined;

  constructor(options: GpuProcessesOptions) {
    this.#options = options;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.gone = promise;
    this.#resolveGone = resolve;
    this.#live = this.#adopt(options.first);
  }

  /** The one that computes, if one does now. */
  get live(): LiveProcess | undefined {
    return this.#live;
  }

  /** The reason, once none starts any more. */
  get goneFor(): string | undefined {
    return this.#goneFor;
  }

  /** What those that live may use. */
  get budgetBytes(): number {
    let bytes = this.#options.memoryBytes;
    for (const dead of this.#dead.values()) bytes -= dead;
    return Math.max(0, bytes);
  }

  /** Whether memory will be free that is not now. */
  get isFreeing(): boolean {
    return this.#dead.size > 0;
  }

  /** Another starts in the background, unless one stands by: as the next, and to ask how busy the GPU is. */
  standBy(): void {
    if (this.#closing.signal.aborted) return;
    this.#standby ??= this.#start();
  }

  /** Has another one compute, where none does. */
  replace(): void {
    if (this.#starting !== undefined || this.#closing.signal.aborted || this.#goneFor !== undefined) return;
    this.#starting = this.#startNext();
  }

  /** Ends the one that computes, whatever it does, without waiting for it: its memory, so much, is counted until it is gone. */
  kill(live: LiveProcess, usedBytes: number): void {
    if (this.#live === live) this.#live = undefined;
    this.#dead.set(live.process, usedBytes);
    live.process.kill();
    this.replace();
  }

  /** Of the time that passed, what the one that computes had of the GPU: as many use it by turns as a probe takes longer, but for itself. */
  async shareOf(passedMs: number): Promise<number | undefined> {
    const standby = await this.#standby;
    if (standby === undefined || standby.process.isEnded) return passedMs;
    const milliseconds = await this.probe();
    if (milliseconds === undefined) return undefined;
    return passedMs / Math.max(1, milliseconds / standby.ready.probeMs - 1);
  }

  /** What a probe takes in the process that stands by; undefined when nothing comes of it. */
  async probe(): Promise<number | undefined> {
    const standby = await this.#standby;
    if (standby === undefined || standby.process.isEnded) return undefined;
    const call = this.#probes++;
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    standby.probes.set(call, resolve);
    void standby.process.send([{ message: { kind: "probe", call } }]);
    const waited = pause(GPU_PROBE_WAIT_MS, undefined, { ref: false });
    const milliseconds = await Promise.race([promise, waited]);
    standby.probes.delete(call);
    return milliseconds ?? undefined;
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error("the GPU was closed"));
    const [live, standby] = [this.#live, await this.#standby];
    this.#live = undefined;
    for (const each of [live, standby]) each?.process.kill();
  }

  #adopt(started: StartedGpuProcess): LiveProcess {
    const { process } = started;
    const live: LiveProcess = {
      ...started,
      clock: ProcessClock.of(process.pid),
      probes: new Map(),
      heard: 0,
    };
    process.unref();
    process.onMessage = (message, body) => this.#hear(live, message, body);
    void process.ended.then((end) => this.#ended(live, end));
    return live;
  }

  #hear(live: LiveProcess, message: ProcessMessage, body: Uint8Array<ArrayBuffer>): void {
    live.heard++;
    if (message.kind === "probed") live.probes.get(message.call)?.(message.probeMs);
    else if (live === this.#live) this.#options.user.said(live, message, body);
  }

  #ended(live: LiveProcess, end: GpuProcessEnd): void {
    this.#dead.delete(live.process);
    live.clock?.close();
    const { user } = this.#options;
    if (this.#live === live) {
      this.#live = undefined;
      user.ended(live, end);
    }
    user.freed();
  }

  /** Undefined where none starts, or it was closed. */
  async #start(): Promise<LiveProcess | undefined> {
    const { signal } = this.#closing;
    for (let starts = 0; starts < GPU_STARTS_MAX && !signal.aborted; starts++) {
      // One whose driver hangs meanwhile is none.
      const patience = AbortSignal.any([signal, AbortSignal.timeout(GPU_FIND_MS_MAX)]);
      try {
        const { process, reads } = this.#options;
        const started = await GpuProcess.start(process, { reads, signal: patience });
        if (!("kind" in started)) return this.#adopt(started);
        this.#failure = started.reason;
      } catch (error) {
        this.#failure = messageOf(error);
      }
    }
    return undefined;
  }

  async #startNext(): Promise<void> {
    const standby = this.#standby;
    this.#standby = undefined;
    let live = await standby;
    if (live === undefined || live.process.isEnded) live = await this.#start();
    this.#starting = undefined;
    if (this.#closing.signal.aborted) return live?.process.kill();
    if (live === undefined) {
      this.#goneFor = `no process of it starts any more: ${this.#failure}`;
      return this.#resolveGone(this.#goneFor);
    }
    this.#live = live;
    this.#options.user.began(live);
    this.standBy();
  }
}
