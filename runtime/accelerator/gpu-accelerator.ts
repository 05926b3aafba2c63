/**
 * Calls of one GPU: those that wait, and those that its process computes.
 *
 *   run ──▶ prepared ──▶ queue ──▶ process: compile, upload ──▶ kernel ──▶ download ──▶ answer
 *                          ▲                                      │ its limit of the GPU's own time is over
 *                          └── the others, as they were ◀── killed ┴─▶ a strike; the process that stood by goes on at once
 *
 * Whoever was computing when its process ended is told so; who was not has noticed nothing and is asked again.
 */
import { sameBytes } from "../../packets/digest.ts";
import { messageOf } from "../../packets/errors.ts";
import type {
  Accelerator,
  AcceleratorInfo,
  KernelAnswer,
  KernelCall,
  KernelInput,
} from "../contracts/kernels.ts";
import { AcceleratorError, AcceleratorErrorCode, KernelError, KernelErrorCode } from "../errors.ts";
import {
  GPU_CALLS_MAX,
  GPU_CALL_CEILING_MS,
  GPU_CALL_TRIES_MAX,
  GPU_COMPILE_CPU_MS,
  GPU_LIMIT_TIMES_MAX,
  GPU_PIECE_BYTES,
  GPU_PROBE_QUICK_MS,
  GPU_PROBE_WAIT_MS,
  GPU_REST_MS,
  GPU_STRIKES_MAX,
} from "../limits.ts";
import type { Kernel } from "../program/kernel/kernel.ts";
import { wrongCall } from "../program/kernel/binding.ts";
import { CallOutputs } from "./call-outputs.ts";
import type { CallInputs, PlannedRange, StreamRange } from "./call-inputs.ts";
import type { GpuProcessEnd, SentMessage } from "./gpu-process.ts";
import { GpuProcesses } from "./gpu-processes.ts";
import type { GpuProcessesOptions, LiveProcess } from "./gpu-processes.ts";
import { isInWindow } from "./output-window.ts";
import { SilenceWatch } from "./silence.ts";
import { Strikes } from "./strikes.ts";
import { OwnTimeWatch } from "./own-time.ts";
import type { WatchEnd } from "./own-time.ts";
import { moduleOf, prepareCall } from "./prepared-call.ts";
import type { PreparedCall } from "./prepared-call.ts";
import type { DoneMessage, FailedMessage, GpuInput, ProcessMessage, ReadyMessage } from "./protocol.ts";
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

/** What the process that computes has to do with calls. */
interface Worker {
  readonly live: LiveProcess;
  /** By key, what is in the GPU's memory. */
  readonly resident: Map<string, StreamRange>;
  readonly running: Map<number, Task>;
  /** While it has calls. */
  silence: SilenceWatch | undefined;
}

export interface GpuAcceleratorOptions extends Pick<GpuProcessesOptions, "process" | "first" | "reads"> {
  readonly info: AcceleratorInfo;
  readonly inputs: CallInputs;
}

export class GpuAccelerator implements Accelerator {
  readonly info: AcceleratorInfo;
  readonly gone: Promise<string>;
  readonly #processes: GpuProcesses;
  /** What the adapter takes. */
  readonly #limits: ReadyMessage["limits"];
  readonly #inputs: CallInputs;
  readonly #closing = new AbortController();
  readonly #queue: Task[] = [];
  readonly #strikes = new Strikes();
  #worker: Worker | undefined;
  #calls = 0;
  #rest: NodeJS.Timeout | undefined;

  constructor(options: GpuAcceleratorOptions) {
    this.info = options.info;
    this.#limits = options.first.ready.limits;
    this.#inputs = options.inputs;
    this.#processes = new GpuProcesses({
      ...options,
      memoryBytes: options.info.memoryBytes,
      user: {
        began: (worker) => this.#began(worker),
        said: (worker, message, body) => this.#hear(worker, message, body),
        ended: (worker, end) => this.#ended(worker, end),
        freed: () => this.#budget(),
      },
    });
    this.gone = this.#processes.gone;
    this.#worker = workerOf(this.#processes.live!);
    // Whoever waits for another process waits for nothing.
    void this.gone.then(() => this.#pump());
  }

  async run(call: KernelCall, signal: AbortSignal): Promise<KernelAnswer> {
    const askedAt = performance.now();
    signal.throwIfAborted();
    this.#checkOpen();
    this.#checkNotBarred(call.kernel);
    const prepared = prepareCall(call, this.#limits);
    const { memoryBytes } = this.info;
    if (prepared.bytes > memoryBytes) throw overLimit(call.kernel, prepared.bytes, memoryBytes);
    const planned = await Promise.all(
      prepared.inputs.map(async (input, index) => {
        if (!("root" in input)) return undefined;
        const range = await this.#inputs.plan(input, signal);
        // What was looked at is kept by a name of its own, and is not looked at again.
        const check = prepared.checks[index];
        return check === undefined ? range : { ...range, key: `${range.key} ${check.type}` };
      }),
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
    this.#processes.standBy();
    try {
      return await promise;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  resident({ root, from, length }: StreamRange): number {
    // An input is kept as a whole, and found again as a whole.
    for (const range of this.#worker?.resident.values() ?? [])
      if (range.from === from && range.length === length && sameBytes(range.root, root)) return length;
    return 0;
  }

  isBarred(kernel: Kernel): boolean {
    return this.#strikes.isBarred(moduleOf(kernel).module);
  }

  async close(): Promise<void> {
    this.#closing.abort(lost("it was closed"));
    clearTimeout(this.#rest);
    const { running } = this.#worker ?? {};
    this.#worker = undefined;
    for (const task of [...this.#queue.splice(0), ...(running?.values() ?? [])]) {
      this.#drop(task);
      this.#reject(task, lost("it was closed"));
    }
    await this.#processes.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (this.#closing.signal.aborted) throw lost("it was closed");
    const { goneFor } = this.#processes;
    if (goneFor !== undefined) throw lost(goneFor);
  }

  #checkNotBarred(kernel: Kernel): void {
    if (!this.isBarred(kernel)) return;
    throw new KernelError(
      KernelErrorCode.barred,
      `${kernel.name} gets no more calls on this GPU: it was ended there ${GPU_STRIKES_MAX} times`,
      { kernel: kernel.name },
    );
  }

  #began(live: LiveProcess): void {
    this.#worker = workerOf(live);
    this.#budget();
  }

  #ended(live: LiveProcess, { reason, isCrash }: GpuProcessEnd): void {
    const worker = this.#worker;
    if (worker?.live !== live) return;
    this.#worker = undefined;
    const tasks = [...worker.running.values()];
    const working = tasks.filter(({ stage }) => stage === "kernel" || stage === "compile");
    for (const task of tasks) {
      this.#leave(worker, task);
      if (!working.includes(task)) this.#again(task, reason);
      else {
        // One that does it each time is not asked for ever.
        if (isCrash && working.length === 1) this.#strike(task);
        this.#reject(task, lost(reason));
      }
    }
    if (tasks.length > 0 || this.#queue.length > 0) this.#processes.replace();
  }

  #budget(): void {
    this.#worker?.live.process.tell({ kind: "budget", bytes: this.#processes.budgetBytes });
    this.#pump();
  }

  #pump(): void {
    for (;;) {
      const task = this.#queue[0];
      if (task === undefined) return;
      const worker = this.#worker;
      if (worker === undefined) return this.#wait();
      if (worker.running.size >= (task.isAlone ? 1 : GPU_CALLS_MAX)) return;
      let bytes = task.prepared.bytes;
      for (const { prepared } of worker.running.values()) bytes += prepared.bytes;
      // Those that run are over soon, and so are dead processes.
      if (bytes > this.#processes.budgetBytes && (worker.running.size > 0 || this.#processes.isFreeing))
        return;
      this.#queue.shift();
      this.#send(worker, task);
    }
  }

  /** For another process to compute, if there will be one. */
  #wait(): void {
    const { goneFor } = this.#processes;
    if (goneFor === undefined) return this.#processes.replace();
    for (const task of this.#queue.splice(0)) this.#reject(task, lost(goneFor));
  }

  #send(worker: Worker, task: Task): void {
    const { call } = task;
    task.tries++;
    task.startedAt = performance.now();
    task.stage = undefined;
    task.isSent = false;
    if (worker.running.size === 0) this.#watch(worker);
    worker.running.set(task.id, task);
    const ceilingMs = GPU_CALL_CEILING_MS + call.kernel.limits.gpuMs * GPU_LIMIT_TIMES_MAX;
    task.ceiling = setTimeout(() => this.#expire(worker, task, "ceiling"), ceilingMs);
    const { tries } = task;
    const sent = worker.live.process.send(this.#messages(worker, task)).catch((error: unknown) => {
      task.failure = error;
      void worker.live.process.send([{ message: { kind: "broken", call: task.id } }]);
    });
    void sent.then(() => {
      if (task.tries === tries) task.isSent = true;
    });
  }

  /** What a process is told of a call: all that it needs, the bytes of inputs that it cannot read last. */
  async *#messages(worker: Worker, task: Task): AsyncGenerator<SentMessage, void> {
    const { prepared, planned, signal } = task;
    const plans: Uint8Array[] = [];
    const sent: KernelInput[] = [];
    const inputs = prepared.inputs.map((input, index): GpuInput => {
      const range = planned[index];
      const check = prepared.checks[index];
      if (!("root" in input) || range === undefined) {
        sent.push(input);
        return { length: (input as { readonly bytes: Uint8Array }).bytes.byteLength, check };
      }
      const { length } = input;
      const { key, plan } = range;
      if (worker.resident.has(key)) return { length, key, isResident: true };
      if (plan !== undefined && !task.sent.has(index)) {
        plans.push(plan.bytes);
        return { length, key, rows: plan.rows, files: plan.files, check };
      }
      sent.push(input);
      return { length, key, check };
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

  #hear(live: LiveProcess, message: ProcessMessage, body: Uint8Array<ArrayBuffer>): void {
    const worker = this.#worker;
    if (worker?.live !== live) return;
    if (message.kind === "dropped") {
      for (const key of message.keys) worker.resident.delete(key);
      return;
    }
    const task = "call" in message ? worker.running.get(message.call) : undefined;
    if (task === undefined) return;
    if (message.kind === "stage") this.#entered(worker, task, message.stage);
    else if (message.kind === "bytes" || message.kind === "window") {
      if (!this.#receive(worker, task, message, body))
        worker.live.process.distrust("it sends what no kernel's outputs are");
    } else if (message.kind === "done") void this.#done(worker, task, message);
    else if (message.kind === "failed") this.#failed(worker, task, message);
  }

  #entered(worker: Worker, task: Task, stage: Stage): void {
    task.stage = stage;
    task.watch?.close();
    task.watch = undefined;
    const { gpuMs } = task.call.kernel.limits;
    const over = (end: WatchEnd): void => this.#expire(worker, task, end);
    if (stage === "compile") {
      const ceilingMs = GPU_COMPILE_CPU_MS * GPU_LIMIT_TIMES_MAX;
      task.watch = new OwnTimeWatch({
        limitMs: GPU_COMPILE_CPU_MS,
        ceilingMs,
        share: cpuShare(worker),
        over,
      });
    } else if (stage === "kernel") {
      const share = this.info.isSoftware
        ? cpuShare(worker)
        : (passed: number) => this.#processes.shareOf(passed);
      const ceilingMs = gpuMs * GPU_LIMIT_TIMES_MAX + GPU_PROBE_WAIT_MS;
      task.watch = new OwnTimeWatch({ limitMs: gpuMs, ceilingMs, share, over });
    }
  }

  /** False for what cannot be. */
  #receive(
    { live: { process } }: Worker,
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
    worker: Worker,
    task: Task,
    { kind: _kind, call: _call, kept, ...times }: DoneMessage,
  ): Promise<void> {
    if (!task.outputs.isWhole) return worker.live.process.distrust("it sends less than a kernel's outputs");
    for (const [index, planned] of task.planned.entries()) {
      const input = task.prepared.inputs[index]!;
      if (planned !== undefined && "root" in input && kept.includes(planned.key))
        worker.resident.set(planned.key, { root: input.root, from: input.from, length: input.length });
    }
    this.#leave(worker, task);
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

  #failed(worker: Worker, task: Task, { why, reason, notes }: FailedMessage): void {
    const { kernel } = task.call;
    const isAlone = worker.running.size === 1;
    this.#leave(worker, task);
    const { name } = kernel;
    if (task.failure !== undefined) this.#reject(task, task.failure);
    else if (task.signal.aborted) this.#reject(task, task.signal.reason);
    else if (why === "module") {
      const [first] = notes;
      const place = first === undefined || first.line === 0 ? {} : { line: first.line, column: first.column };
      const message = `the GPU's compiler refuses ${name}: ${reason}`;
      this.#reject(
        task,
        new KernelError(KernelErrorCode.invalid, message, { kernel: name, reason, ...place }),
      );
    } else if (why === "elements") this.#reject(task, wrongCall(kernel, reason));
    else if (why === "memory" && isAlone)
      this.#reject(task, overLimit(kernel, task.prepared.bytes, this.#processes.budgetBytes));
    else {
      if (why === "unread") this.#unread(worker, task);
      else if (why === "memory") task.isAlone = true;
      this.#again(task, reason);
    }
    this.#pump();
  }

  /** Inputs are not where they were thought to be. */
  #unread(worker: Worker, task: Task): void {
    for (const [index, planned] of task.planned.entries()) {
      if (planned === undefined) continue;
      const input = task.prepared.inputs[index]!;
      if (worker.resident.delete(planned.key) || !("root" in input)) continue;
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
  #leave(worker: Worker, task: Task): void {
    this.#drop(task);
    worker.running.delete(task.id);
    if (worker.running.size > 0) return;
    worker.live.process.unref();
    worker.silence?.close();
    clearTimeout(this.#rest);
    this.#rest = setTimeout(() => this.#restUnused(), GPU_REST_MS).unref();
  }

  /** Others may have use for the memory. */
  #restUnused(): void {
    if (this.#worker === undefined || this.#worker.running.size > 0) return;
    this.#worker.live.process.tell({ kind: "budget", bytes: 0 });
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
    this.#worker?.live.process.tell({ kind: "cancel", call: task.id });
  }

  #strike({ call: { kernel } }: Task): void {
    this.#strikes.add(moduleOf(kernel).module);
  }

  /** It has calls from now on. */
  #watch(worker: Worker): void {
    worker.live.process.ref();
    const { clock } = worker.live;
    // Where nobody tells its CPU time, nobody knows that it does nothing.
    if (clock === undefined) return;
    worker.silence = new SilenceWatch({
      progress: () => clock.read() + worker.live.heard,
      owes: () => this.#owes(worker),
      over: () => this.#hung(worker),
    });
  }

  /** Whether it should do something: not while it waits for its GPU, or for bytes that come from elsewhere. */
  #owes(worker: Worker): boolean {
    const tasks = [...worker.running.values()];
    if (!this.info.isSoftware && tasks.some(({ stage }) => stage === "kernel")) return false;
    return worker.live.process.isFull || tasks.some(({ isSent }) => isSent);
  }

  /** Its calls are over there. What they have of the GPU's memory they have until it is gone. */
  #kill(worker: Worker): void {
    const bytes = usedBytes(worker);
    for (const task of worker.running.values()) this.#leave(worker, task);
    if (this.#worker === worker) this.#worker = undefined;
    this.#processes.kill(worker.live, bytes);
  }

  /** It is stopped, or stands still in its driver, which is no fault of what it computes. */
  #hung(worker: Worker): void {
    const tasks = [...worker.running.values()];
    this.#kill(worker);
    for (const task of tasks.toReversed()) this.#again(task, "it did nothing for very long");
    this.#pump();
  }

  #expire(worker: Worker, task: Task, end: WatchEnd): void {
    if (!worker.running.has(task.id)) return;
    const { kernel } = task.call;
    const { stage } = task;
    const others = [...worker.running.values()].filter((other) => other !== task);
    const probed = end === "unknown" ? this.#processes.probe() : undefined;
    this.#kill(worker);
    for (const other of others.toReversed()) this.#again(other, "another call used up its time");
    this.#pump();
    if (end === "ceiling") return this.#reject(task, lost(`nothing came of ${kernel.name} for very long`));
    const blame = (): void => {
      this.#strike(task);
      this.#reject(task, stage === "compile" ? slowToCompile(kernel) : deadline(kernel));
    };
    if (probed === undefined) return blame();
    // The GPU answered nobody: if it does now, and at once, it was this call that it was busy with, and not the machine.
    const askedAt = performance.now();
    void probed.then((milliseconds) => {
      const isQuick = performance.now() - askedAt < GPU_PROBE_QUICK_MS;
      if (milliseconds === undefined || !isQuick) this.#reject(task, lost("the GPU answers nobody"));
      else blame();
    });
  }
}

function workerOf(live: LiveProcess): Worker {
  return { live, resident: new Map(), running: new Map(), silence: undefined };
}

/** Of the time that passed, what the process had of CPUs, where that is told. */
function cpuShare({ live: { clock } }: Worker): (passedMs: number) => number {
  let before = clock?.read() ?? 0;
  return (passedMs) => {
    if (clock === undefined) return passedMs;
    const now = clock.read();
    const used = now - before;
    before = now;
    return used;
  };
}

function usedBytes({ resident, running }: Worker): number {
  let bytes = 0;
  for (const { length } of resident.values()) bytes += length;
  for (const { prepared } of running.values()) bytes += prepared.bytes;
  return bytes;
}

function lost(reason: string): AcceleratorError {
  return new AcceleratorError(AcceleratorErrorCode.lost, `the GPU's process is gone: ${reason}`, { reason });
}

function overLimit({ name }: Kernel, bytes: number, max: number): KernelError {
  const message = `a call of ${name} takes ${bytes} bytes of the GPU's memory, and ${max} of it are used: give each call less`;
  return new KernelError(KernelErrorCode.overLimit, message, { kernel: name, bytes, max });
}

function deadline({ name, limits: { gpuMs } }: Kernel): KernelError {
  const message = `${name} took more of the GPU's time than its limit of ${gpuMs} ms, and was ended: raise its limits.gpuMs, or give each call less to do`;
  return new KernelError(KernelErrorCode.deadline, message, { kernel: name, limitMs: gpuMs });
}

function slowToCompile({ name }: Kernel): KernelError {
  const reason = `it is not compiled within ${GPU_COMPILE_CPU_MS} ms`;
  return new KernelError(KernelErrorCode.invalid, `the GPU's compiler refuses ${name}: ${reason}`, {
    kernel: name,
    reason,
  });
}
