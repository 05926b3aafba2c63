/**
 * One GPU: a process that computes, another that stands by, and the calls that wait for them.
 *
 *   run ──▶ prepared ──▶ queue ──▶ process: compile, upload ──▶ kernel ──▶ download ──▶ answer
 *                          ▲                                      │ its limit of the GPU's own time is over
 *                          └── the others, as they were ◀── killed ┴─▶ a strike; the one that stood by goes on at once
 *
 * Whoever was computing when its process ended is told so; who was not has noticed nothing and is asked again.
 */
import { setTimeout as pause } from "node:timers/promises";
import { PacketfsError } from "../../packets/errors.ts";
import { sameBytes } from "../../packets/digest.ts";
import { messageOf } from "../../packets/errors.ts";
import type {
  Accelerator,
  AcceleratorInfo,
  KernelAnswer,
  KernelCall,
  KernelInput,
} from "../contracts/kernels.ts";
import { AcceleratorError, AcceleratorErrorCode } from "../errors.ts";
import {
  GPU_FIND_MS_MAX,
  GPU_CALLS_MAX,
  GPU_CALL_CEILING_MS,
  GPU_CALL_TRIES_MAX,
  GPU_COMPILE_CPU_MS,
} from "../limits.ts";
import {
  GPU_LIMIT_TIMES_MAX,
  GPU_PIECE_BYTES,
  GPU_PROBE_WAIT_MS,
  GPU_REST_MS,
  GPU_STARTS_MAX,
  GPU_STRIKES_MAX,
} from "../limits.ts";
import { ProcessClock } from "../process-clock.ts";
import type { Kernel } from "../program/kernel/kernel.ts";
import { CallOutputs } from "./call-outputs.ts";
import type { CallInputs, PlannedRange, StreamRange } from "./call-inputs.ts";
import { GpuProcess } from "./gpu-process.ts";
import type { GpuProcessEnd, SentMessage, StartedGpuProcess } from "./gpu-process.ts";
import { isInWindow } from "./output-window.ts";
import { SilenceWatch } from "./silence.ts";
import { OwnTimeWatch } from "./own-time.ts";
import type { WatchEnd } from "./own-time.ts";
import { moduleOf, prepareCall } from "./prepared-call.ts";
import type { PreparedCall } from "./prepared-call.ts";
import type { DoneMessage, FailedMessage, GpuInput, GpuProcessOptions, ProcessMessage } from "./protocol.ts";
import type { Stage } from "./protocol.ts";

interface Task {
  readonly id: number;
  readonly call: KernelCall;
  readonly prepared: PreparedCall;
  /** Of each input that is a range. */
  readonly planned: readonly (PlannedRange | undefined)[];
  readonly signal: AbortSignal;
  readonly resolve: (answer: KernelAnswer) => void;
  readonly reject: (error: unknown) => void;
  readonly askedAt: number;
  /** Of its inputs, those that are sent because they are not where plans say. */
  readonly sent: Set<number>;
  /** Whether its process has been told all of it. */
  isSent: boolean;
  tries: number;
  /** Whether there was no room for it beside others. */
  isAlone: boolean;
  startedAt: number;
  stage: Stage | undefined;
  outputs: CallOutputs;
  /** Why its inputs cannot be read. */
  failure: unknown;
  watch: OwnTimeWatch | undefined;
  ceiling: NodeJS.Timeout | undefined;
}

/** A process that takes calls. */
interface Live extends StartedGpuProcess {
  readonly clock: ProcessClock | undefined;
  /** By key, what is in the GPU's memory. */
  readonly resident: Map<string, StreamRange>;
  readonly running: Map<number, Task>;
  /** By number, who waits for a probe. */
  readonly probes: Map<number, (milliseconds: number) => void>;
  /** Messages that came of it. */
  heard: number;
  /** While it has calls. */
  silence: SilenceWatch | undefined;
}

export interface GpuAcceleratorOptions {
  readonly info: AcceleratorInfo;
  /** Of processes to come. */
  readonly process: GpuProcessOptions;
  /** The first. */
  readonly first: StartedGpuProcess;
  readonly inputs: CallInputs;
  /** Folders with chunks that its processes read. */
  readonly reads?: readonly string[] | undefined;
}

export class GpuAccelerator implements Accelerator {
  readonly info: AcceleratorInfo;
  readonly #options: GpuAcceleratorOptions;
  readonly #inputs: CallInputs;
  readonly #closing = new AbortController();
  readonly #queue: Task[] = [];
  /** By module, how often it used up its time, or ended its process. */
  readonly #strikes = new Map<string, number>();
  /** Bytes of the GPU's memory that processes have which were killed and are not gone. */
  readonly #dead = new Map<GpuProcess, number>();
  #live: Live | undefined;
  #starting: Promise<void> | undefined;
  #standby: Promise<Live | undefined> | undefined;
  #calls = 0;
  #rest: NodeJS.Timeout | undefined;

  constructor(options: GpuAcceleratorOptions) {
    this.info = options.info;
    this.#options = options;
    this.#inputs = options.inputs;
    this.#live = this.#adopt(options.first);
  }

  async run(call: KernelCall, signal: AbortSignal): Promise<KernelAnswer> {
    const askedAt = performance.now();
    signal.throwIfAborted();
    this.#checkOpen();
    this.#checkNotBarred(call.kernel);
    const { limits } = this.#options.first.ready;
    const prepared = prepareCall(call, limits);
    const { memoryBytes } = this.info;
    if (prepared.bytes > memoryBytes) throw overLimit(call.kernel, prepared.bytes, memoryBytes);
    const planned = await Promise.all(
      prepared.inputs.map(async (input) => ("root" in input ? this.#inputs.plan(input, signal) : undefined)),
    );
    signal.throwIfAborted();
    this.#checkOpen();
    const { promise, resolve, reject } = Promise.withResolvers<KernelAnswer>();
    const task: Task = {
      id: this.#calls++,
      call,
      prepared,
      planned,
      signal,
      resolve,
      reject,
      askedAt,
      sent: new Set(),
      isSent: false,
      tries: 0,
      isAlone: false,
      startedAt: 0,
      stage: undefined,
      outputs: new CallOutputs(prepared.outputBytes, call.output),
      failure: undefined,
      watch: undefined,
      ceiling: undefined,
    };
    const abort = (): void => this.#cancel(task);
    signal.addEventListener("abort", abort, { once: true });
    this.#queue.push(task);
    this.#pump();
    this.#standBy();
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  resident({ root, from, length }: StreamRange): number {
    // An input is kept as a whole, and found again as a whole.
    for (const range of this.#live?.resident.values() ?? [])
      if (range.from === from && range.length === length && sameBytes(range.root, root)) return length;
    return 0;
  }

  isBarred(kernel: Kernel): boolean {
    return (this.#strikes.get(moduleOf(kernel).module) ?? 0) >= GPU_STRIKES_MAX;
  }

  async close(): Promise<void> {
    this.#closing.abort(lost("it was closed"));
    clearTimeout(this.#rest);
    const [live, standby] = [this.#live, await this.#standby];
    this.#live = undefined;
    for (const task of [...this.#queue.splice(0), ...(live?.running.values() ?? [])]) {
      this.#drop(task);
      this.#reject(task, lost("it was closed"));
    }
    for (const each of [live, standby]) each?.process.kill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#closing.signal.aborted) throw lost("it was closed");
  }

  #checkNotBarred(kernel: Kernel): void {
    if (!this.isBarred(kernel)) return;
    throw new AcceleratorError(
      AcceleratorErrorCode.barred,
      `${kernel.name} gets no more calls on this GPU: it was ended there ${GPU_STRIKES_MAX} times`,
      { kernel: kernel.name },
    );
  }

  // ── processes ──

  #adopt(started: StartedGpuProcess): Live {
    const { process } = started;
    const clock = ProcessClock.of(process.pid);
    const live: Live = {
      ...started,
      clock,
      resident: new Map(),
      running: new Map(),
      probes: new Map(),
      heard: 0,
      silence: undefined,
    };
    process.unref();
    process.onMessage = (message, body) => this.#hear(live, message, body);
    void process.ended.then((end) => this.#ended(live, end));
    return live;
  }

  /** Undefined where none starts any more, or it was closed. */
  async #start(): Promise<Live | undefined> {
    const { signal } = this.#closing;
    for (let starts = 0; starts < GPU_STARTS_MAX && !signal.aborted; starts++) {
      // One whose driver hangs meanwhile is none.
      const patience = AbortSignal.any([signal, AbortSignal.timeout(GPU_FIND_MS_MAX)]);
      const started = await GpuProcess.start(
        { ...this.#options.process, calibrates: false },
        { reads: this.#options.reads, signal: patience },
      ).catch(() => undefined);
      if (started !== undefined && !("kind" in started)) return this.#adopt(started);
    }
    return undefined;
  }

  /** Others start in the background once there is something to do: as the next, and to ask how busy the GPU is. */
  #standBy(): void {
    if (this.#closing.signal.aborted) return;
    this.#standby ??= this.#start();
  }

  /** Has calls go on in another process. */
  #replace(): void {
    if (this.#starting !== undefined || this.#closing.signal.aborted) return;
    this.#starting = this.#startNext();
  }

  async #startNext(): Promise<void> {
    const standby = this.#standby;
    this.#standby = undefined;
    let live = await standby;
    if (live === undefined || live.process.isEnded) live = await this.#start();
    this.#starting = undefined;
    if (this.#closing.signal.aborted) return live?.process.kill();
    this.#live = live;
    if (live === undefined) {
      const reason = "no process of it starts any more";
      for (const task of this.#queue.splice(0)) this.#reject(task, lost(reason));
      return;
    }
    this.#budget();
    this.#pump();
    this.#standBy();
  }

  /** Ends it, whatever it does, without waiting for it: its memory is counted until it is gone. */
  #kill(live: Live): void {
    if (this.#live === live) this.#live = undefined;
    this.#dead.set(live.process, usedBytes(live));
    live.process.kill();
    this.#replace();
  }

  #ended(live: Live, { reason, isCrash }: GpuProcessEnd): void {
    this.#dead.delete(live.process);
    live.clock?.close();
    if (this.#live === live) this.#live = undefined;
    const tasks = [...live.running.values()];
    const working = tasks.filter(({ stage }) => stage === "kernel" || stage === "compile");
    for (const task of tasks) {
      this.#leave(live, task);
      if (!working.includes(task)) this.#again(task, reason);
      else {
        // One that does it each time is not asked for ever.
        if (isCrash && working.length === 1) this.#strike(task);
        this.#reject(task, lost(reason));
      }
    }
    this.#budget();
    if (tasks.length > 0 || this.#queue.length > 0) this.#replace();
  }

  #budget(): void {
    this.#live?.process.tell({ kind: "budget", bytes: this.#budgetBytes() });
    this.#pump();
  }

  #budgetBytes(): number {
    let bytes = this.info.memoryBytes;
    for (const dead of this.#dead.values()) bytes -= dead;
    return Math.max(0, bytes);
  }

  // ── calls ──

  #pump(): void {
    for (;;) {
      const task = this.#queue[0];
      if (task === undefined) return;
      const live = this.#live;
      if (live === undefined) return this.#replace();
      if (live.running.size >= (task.isAlone ? 1 : GPU_CALLS_MAX)) return;
      let bytes = task.prepared.bytes;
      for (const { prepared } of live.running.values()) bytes += prepared.bytes;
      // Those that run are over soon, and so are dead processes.
      if (bytes > this.#budgetBytes() && (live.running.size > 0 || this.#dead.size > 0)) return;
      this.#queue.shift();
      this.#send(live, task);
    }
  }

  #send(live: Live, task: Task): void {
    const { call } = task;
    task.tries++;
    task.startedAt = performance.now();
    task.stage = undefined;
    task.isSent = false;
    if (live.running.size === 0) this.#watch(live);
    live.running.set(task.id, task);
    const ceilingMs = GPU_CALL_CEILING_MS + call.kernel.limits.gpuMs * GPU_LIMIT_TIMES_MAX;
    task.ceiling = setTimeout(() => this.#expire(live, task, "ceiling"), ceilingMs);
    const { tries } = task;
    const sent = live.process.send(this.#messages(live, task)).catch((error: unknown) => {
      task.failure = error;
      void live.process.send([{ message: { kind: "broken", call: task.id } }]);
    });
    void sent.then(() => {
      if (task.tries === tries) task.isSent = true;
    });
  }

  /** What a process is told of a call: all that it needs, the bytes of inputs that it cannot read last. */
  async *#messages(live: Live, task: Task): AsyncGenerator<SentMessage, void> {
    const { prepared, planned, signal } = task;
    const plans: Uint8Array[] = [];
    const sent: KernelInput[] = [];
    const inputs = prepared.inputs.map((input, index): GpuInput => {
      const range = planned[index];
      if (!("root" in input) || range === undefined) {
        sent.push(input);
        return { length: (input as { readonly bytes: Uint8Array }).bytes.byteLength };
      }
      const { length } = input;
      const { key, plan } = range;
      if (live.resident.has(key)) return { length, key, isResident: true };
      if (plan !== undefined && !task.sent.has(index)) {
        plans.push(plan.bytes);
        return { length, key, rows: plan.rows, files: plan.files };
      }
      sent.push(input);
      return { length, key };
    });
    const { module, uniform, workgroups, buffers, outputs } = prepared;
    yield {
      message: {
        kind: "run",
        call: task.id,
        ...module,
        uniform,
        workgroups,
        buffers,
        inputs,
        outputs,
      },
      body: plans.length === 1 ? plans[0] : Buffer.concat(plans),
    };
    const message = { kind: "piece", call: task.id } as const;
    for (const input of sent) {
      if ("root" in input) for await (const body of this.#inputs.read(input, signal)) yield { message, body };
      else
        for (let at = 0; at < input.bytes.byteLength; at += GPU_PIECE_BYTES)
          yield { message, body: input.bytes.subarray(at, at + GPU_PIECE_BYTES) };
    }
  }

  #hear(live: Live, message: ProcessMessage, body: Uint8Array<ArrayBuffer>): void {
    live.heard++;
    if (message.kind === "dropped") {
      for (const key of message.keys) live.resident.delete(key);
      return;
    }
    if (message.kind === "probed") return live.probes.get(message.call)?.(message.probeMs);
    const task = "call" in message ? live.running.get(message.call) : undefined;
    if (task === undefined) return;
    if (message.kind === "stage") this.#entered(live, task, message.stage);
    else if (message.kind === "bytes" || message.kind === "window") {
      if (!this.#receive(live, task, message, body))
        live.process.distrust("it sends what no kernel's outputs are");
    } else if (message.kind === "done") void this.#done(live, task, message);
    else if (message.kind === "failed") this.#failed(live, task, message);
  }

  #entered(live: Live, task: Task, stage: Stage): void {
    task.stage = stage;
    task.watch?.close();
    task.watch = undefined;
    const { gpuMs } = task.call.kernel.limits;
    const over = (end: WatchEnd): void => this.#expire(live, task, end);
    if (stage === "compile") {
      const ceilingMs = GPU_COMPILE_CPU_MS * GPU_LIMIT_TIMES_MAX;
      task.watch = new OwnTimeWatch({ limitMs: GPU_COMPILE_CPU_MS, ceilingMs, share: cpuShare(live), over });
    } else if (stage === "kernel") {
      const share = this.info.isSoftware ? cpuShare(live) : (passed: number) => this.#gpuShare(passed);
      const ceilingMs = gpuMs * GPU_LIMIT_TIMES_MAX + GPU_PROBE_WAIT_MS;
      task.watch = new OwnTimeWatch({ limitMs: gpuMs, ceilingMs, share, over });
    }
  }

  /** False for what cannot be. */
  #receive(
    { process }: Live,
    { outputs }: Task,
    message: Extract<ProcessMessage, { readonly kind: "bytes" | "window" }>,
    body: Uint8Array,
  ): boolean {
    if (message.kind === "bytes") return outputs.add(body);
    const { at, bytes } = message;
    if (!isInWindow(at, bytes)) return false;
    const window = process.useWindow();
    if (window === undefined) return false;
    const isTaken = outputs.addFrom(window, at, bytes, () => process.freeWindow(at));
    if (!isTaken) process.freeWindow(at);
    return isTaken;
  }

  async #done(
    live: Live,
    task: Task,
    { kind: _kind, call: _call, kept, ...times }: DoneMessage,
  ): Promise<void> {
    if (!task.outputs.isWhole) return live.process.distrust("it sends less than a kernel's outputs");
    for (const [index, planned] of task.planned.entries()) {
      const input = task.prepared.inputs[index]!;
      if (planned !== undefined && "root" in input && kept.includes(planned.key))
        live.resident.set(planned.key, { root: input.root, from: input.from, length: input.length });
    }
    this.#leave(live, task);
    this.#pump();
    try {
      const outputs = await task.outputs.finish();
      const totalMs = performance.now() - task.askedAt;
      const answer = { times: { totalMs, waitMs: task.startedAt - task.askedAt, ...times } };
      task.resolve(outputs === undefined ? answer : { ...answer, outputs });
    } catch (error) {
      this.#reject(task, lost(messageOf(error)));
    }
  }

  #failed(live: Live, task: Task, { why, reason, notes }: FailedMessage): void {
    const { kernel } = task.call;
    const isAlone = live.running.size === 1;
    this.#leave(live, task);
    const { name } = kernel;
    if (task.failure !== undefined) this.#reject(task, task.failure);
    else if (task.signal.aborted) this.#reject(task, task.signal.reason);
    else if (why === "module") {
      const [first] = notes;
      const place = first === undefined || first.line === 0 ? {} : { line: first.line, column: first.column };
      const message = `the GPU's compiler refuses ${name}: ${reason}`;
      this.#reject(
        task,
        new AcceleratorError(AcceleratorErrorCode.invalid, message, { kernel: name, reason, ...place }),
      );
    } else if (why === "memory" && isAlone)
      this.#reject(task, overLimit(kernel, task.prepared.bytes, this.#budgetBytes()));
    else {
      if (why === "unread") this.#unread(live, task);
      else if (why === "memory") task.isAlone = true;
      this.#again(task, reason);
    }
    this.#pump();
  }

  /** Inputs are not where they were thought to be. */
  #unread(live: Live, task: Task): void {
    for (const [index, planned] of task.planned.entries()) {
      if (planned === undefined) continue;
      const input = task.prepared.inputs[index]!;
      if (live.resident.delete(planned.key) || !("root" in input)) continue;
      task.sent.add(index);
      this.#inputs.forget(input);
    }
  }

  #again(task: Task, reason: string): void {
    if (task.signal.aborted) return this.#reject(task, task.signal.reason);
    if (task.tries >= GPU_CALL_TRIES_MAX) return this.#reject(task, lost(reason));
    void task.outputs.close().then(() => {
      if (task.signal.aborted || this.#closing.signal.aborted)
        return task.reject(task.signal.aborted ? task.signal.reason : lost("it was closed"));
      task.outputs = new CallOutputs(task.prepared.outputBytes, task.call.output);
      this.#queue.unshift(task);
      this.#pump();
    });
  }

  /** Once nothing is written to where its outputs go. */
  #reject(task: Task, error: unknown): void {
    void task.outputs.close().then(() => task.reject(error));
  }

  /** It takes no more part in what its process does. */
  #leave(live: Live, task: Task): void {
    this.#drop(task);
    live.running.delete(task.id);
    if (live.running.size > 0) return;
    live.process.unref();
    live.silence?.close();
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#restUnused(), GPU_REST_MS).unref();
  }

  /** Others may have use for the memory. */
  #restUnused(): void {
    if (this.#live === undefined || this.#live.running.size > 0) return;
    this.#live.process.tell({ kind: "budget", bytes: 0 });
    this.#budget();
  }

  #drop(task: Task): void {
    task.watch?.close();
    task.watch = undefined;
    clearTimeout(task.ceiling);
  }

  #cancel(task: Task): void {
    const index = this.#queue.indexOf(task);
    if (index >= 0) {
      this.#queue.splice(index, 1);
      return this.#reject(task, task.signal.reason);
    }
    // It may be about to write outputs, so that it is over when its process says so.
    this.#live?.process.tell({ kind: "cancel", call: task.id });
  }

  #strike({ call: { kernel } }: Task): void {
    const { module } = moduleOf(kernel);
    this.#strikes.set(module, (this.#strikes.get(module) ?? 0) + 1);
  }

  // ── time ──

  /** It has calls from now on. */
  #watch(live: Live): void {
    live.process.ref();
    const { clock } = live;
    // Where nobody tells its CPU time, nobody knows that it does nothing.
    if (clock === undefined) return;
    live.silence = new SilenceWatch({
      progress: () => clock.read() + live.heard,
      owes: () => this.#owes(live),
      over: () => this.#hung(live),
    });
  }

  /** Whether it should do something: not while it waits for its GPU, or for bytes that come from elsewhere. */
  #owes(live: Live): boolean {
    const tasks = [...live.running.values()];
    if (!this.info.isSoftware && tasks.some(({ stage }) => stage === "kernel")) return false;
    return live.process.isFull || tasks.some(({ isSent }) => isSent);
  }

  /** It is stopped, or stands still in its driver, which is no fault of what it computes. */
  #hung(live: Live): void {
    const tasks = [...live.running.values()];
    for (const task of tasks) this.#leave(live, task);
    this.#kill(live);
    for (const task of tasks.toReversed()) this.#again(task, "it did nothing for very long");
    this.#pump();
  }

  #expire(live: Live, task: Task, end: WatchEnd): void {
    if (!live.running.has(task.id)) return;
    const { kernel } = task.call;
    const { stage } = task;
    this.#leave(live, task);
    const others = [...live.running.values()];
    for (const other of others) this.#leave(live, other);
    const probed = end === "unknown" ? this.#probe() : undefined;
    this.#kill(live);
    for (const other of others.toReversed()) this.#again(other, "another call used up its time");
    this.#pump();
    if (end === "ceiling") return this.#reject(task, lost(`nothing came of ${kernel.name} for very long`));
    const blame = (): void => {
      this.#strike(task);
      this.#reject(task, stage === "compile" ? slowToCompile(kernel) : deadline(kernel));
    };
    if (probed === undefined) return blame();
    // The GPU answered nobody: if it does now, it was this call that it was busy with.
    void probed.then((milliseconds) => {
      if (milliseconds === undefined) this.#reject(task, lost("the GPU answers nobody"));
      else blame();
    });
  }

  /** Of the time that passed, what this process had of the GPU: as many use it by turns as a probe takes longer, but for itself. */
  async #gpuShare(passedMs: number): Promise<number | undefined> {
    const standby = await this.#standby;
    if (standby === undefined || standby.process.isEnded) return passedMs;
    const milliseconds = await this.#probe();
    if (milliseconds === undefined) return undefined;
    return passedMs / Math.max(1, milliseconds / standby.ready.probeMs - 1);
  }

  /** What a probe takes in the process that stands by; undefined when nothing comes of it. */
  async #probe(): Promise<number | undefined> {
    const standby = await this.#standby;
    if (standby === undefined || standby.process.isEnded) return undefined;
    const call = this.#calls++;
    const { promise, resolve } = Promise.withResolvers<number | undefined>();
    standby.probes.set(call, resolve);
    void standby.process.send([{ message: { kind: "probe", call } }]);
    const waited = pause(GPU_PROBE_WAIT_MS, undefined, { ref: false });
    const milliseconds = await Promise.race([promise, waited]);
    standby.probes.delete(call);
    return milliseconds ?? undefined;
  }
}

/** Of the time that passed, what the process had of CPUs, where that is told. */
function cpuShare({ clock }: Live): (passedMs: number) => number {
  let before = clock?.read() ?? 0;
  return (passedMs) => {
    if (clock === undefined) return passedMs;
    const now = clock.read();
    const used = now - before;
    before = now;
    return used;
  };
}

function usedBytes({ resident, running }: Live): number {
  let bytes = 0;
  for (const { length } of resident.values()) bytes += length;
  for (const { prepared } of running.values()) bytes += prepared.bytes;
  return bytes;
}

function lost(reason: string): AcceleratorError {
  return new AcceleratorError(AcceleratorErrorCode.lost, `the GPU's process is gone: ${reason}`, { reason });
}

function overLimit({ name }: Kernel, bytes: number, max: number): AcceleratorError {
  const message = `a call of ${name} takes ${bytes} bytes of the GPU's memory, and ${max} of it are used`;
  return new AcceleratorError(AcceleratorErrorCode.overLimit, message, { kernel: name, bytes, max });
}

function deadline({ name, limits: { gpuMs } }: Kernel): AcceleratorError {
  const message = `${name} took more of the GPU's time than its limit of ${gpuMs} ms, and was ended`;
  return new AcceleratorError(AcceleratorErrorCode.deadline, message, { kernel: name, limitMs: gpuMs });
}

function slowToCompile({ name }: Kernel): PacketfsError {
  const reason = `it is not compiled within ${GPU_COMPILE_CPU_MS} ms`;
  return new AcceleratorError(AcceleratorErrorCode.invalid, `the GPU's compiler refuses ${name}: ${reason}`, {
    kernel: name,
    reason,
  });
}
