/** Jobs over chunks in memory, scripted executors, and a clock that the test moves. */
import { EventEmitter } from "node:events";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { ExecutorList } from "../../../runtime/job/candidates.ts";
import type { EventMap, Events, JobEvent } from "../../../runtime/contracts/events.ts";
import type { JobInput, JobOutcome, JobRequest, StoredProgram } from "../../../runtime/contracts/jobs.ts";
import { Jobs } from "../../../runtime/job/jobs.ts";
import type { JobsOptions } from "../../../runtime/job/jobs.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import type { AcceleratorInfo } from "../../../runtime/contracts/kernels.ts";
import type { ProgramDescription } from "../../../runtime/program/program.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import type { NameRecord } from "../../../runtime/contracts/catalog.ts";
import type { ChunkSource, StoreWriter } from "../../../runtime/contracts/chunks.ts";
import { MemoryChunks } from "../executor/memory-chunks.ts";
import { ScriptedExecutor } from "./scripted-executor.ts";
import type { Script } from "./scripted-executor.ts";
import { inOnePiece } from "../store/store-fixture.ts";
import { withValue } from "../../../runtime/job/results.ts";

const LIMITS = { timeMs: 1000, memoryBytes: 1e8, outputBytes: 1e8, logBytes: 1000 };

export class ScriptedWorld {
  readonly chunks: MemoryChunks = new MemoryChunks();
  readonly executors: ExecutorList = new ExecutorList();
  readonly names: Map<string, { readonly root: Ref; readonly length: number }> = new Map();
  /** What the job told its caller. */
  readonly events: JobEvent[] = [];
  /** What the jobs told whoever watches. */
  readonly watched: Events = new EventEmitter<EventMap>();
  /** Reads the machine's own chunks, and those of every executor that is there. */
  readonly source: ChunkSource;
  readonly jobs: Jobs;
  /** What was freed of unnamed results. */
  readonly freed: string[] = [];
  readonly #descriptions = new Map<string, ProgramDescription>();
  writers = 0;
  now = 0;
  /** What its jobs take for chance. */
  chance = 1;
  readonly #timers = new Set<{ readonly at: number; readonly run: () => void }>();

  /** `kept`: where it is remembered what jobs and their kernels took; nowhere unless given. */
  constructor(kept: Pick<JobsOptions, "history" | "kernels"> = {}) {
    this.source = { read: async (refs) => refs.map((ref) => this.#read(ref)) };
    this.jobs = new Jobs({
      source: this.source,
      openWriter: async () => this.#writer(),
      executors: this.executors,
      inspect: async (code) => this.#descriptions.get(refToHex(code))!,
      removeParts: async (out) => void this.freed.push(out),
      events: this.watched,
      ...kept,
      now: () => this.now,
      chance: () => this.chance,
      setTimer: (run, milliseconds) => {
        const timer = { at: this.now + milliseconds, run };
        this.#timers.add(timer);
        return () => void this.#timers.delete(timer);
      },
    });
  }

  add(
    id: string,
    script: Script = {},
    workers = 2,
    edition?: string,
    accelerator?: AcceleratorInfo,
  ): ScriptedExecutor {
    const executor = new ScriptedExecutor(id, this.source, script, workers, edition, accelerator);
    this.executors.add(executor);
    return executor;
  }

  async putFile(name: string, length: number): Promise<JobInput> {
    const content = new Uint8Array(length).map((_, index) => 97 + (index % 26));
    const { root } = await ingest(this.#writer(), inOnePiece(content));
    return { name, root, length };
  }

  async run(spec: Partial<JobRequest>, description: Partial<ProgramDescription> = {}): Promise<JobOutcome> {
    const full = { id: "job", ...this.program(description), inputs: [], ...spec };
    return withValue(await this.jobs.run(full, { onEvent: (event) => void this.events.push(event) }));
  }

  program(description: Partial<ProgramDescription> = {}): StoredProgram {
    const fixed = {
      reader: { kind: "blocks" },
      yields: "value",
      hasCombine: true,
      hasReduce: false,
      hasTop: false,
    } as const;
    const whole = { ...fixed, limits: LIMITS, ...description };
    const writer = new StreamWriter((_ref, bytes) => void this.chunks.put(bytes));
    writer.data(sha256(new TextEncoder().encode(JSON.stringify(whole))));
    const { root: code } = writer.finish();
    this.#descriptions.set(refToHex(code), whole);
    return { name: "script", code, args: "null" };
  }

  /** Lets time pass, in steps in which everything that follows happens. */
  async pass(milliseconds: number): Promise<void> {
    const end = this.now + milliseconds;
    while (this.now < end) {
      this.now = Math.min(end, this.now + 50);
      for (const timer of this.#timers) {
        if (timer.at > this.now) continue;
        this.#timers.delete(timer);
        timer.run();
      }
      await settle();
    }
  }

  async read(root: Ref): Promise<string> {
    const parts: Uint8Array[] = [];
    for await (const part of execute(this.source, root)) parts.push(part.slice());
    return new TextDecoder().decode(Buffer.concat(parts));
  }

  #read(ref: Ref): Uint8Array {
    for (const executor of this.executors.list()) {
      const bytes = executor instanceof ScriptedExecutor ? executor.chunks.get(refToHex(ref)) : undefined;
      if (bytes !== undefined) return bytes;
    }
    return this.chunks.get(ref);
  }

  #writer(): StoreWriter {
    this.writers++;
    const close = async (): Promise<void> => void this.writers--;
    return {
      write: (block, lengths) => this.chunks.write(block, lengths),
      claim: async (refs) => new Uint8Array(refs.byteLength / 32),
      flush: async () => {},
      bind: async ({ name, root, length }): Promise<NameRecord> => {
        this.names.set(name, { root, length });
        return { name, root, length, version: 1, storedAt: 0 };
      },
      close,
      [Symbol.asyncDispose]: close,
    };
  }
}

/** Lets everything happen that needs no time, but maybe a turn of the event loop for each of a few dozen steps. */
export async function settle(): Promise<void> {
  for (let turn = 0; turn < 64; turn++) await new Promise((resolve) => setImmediate(resolve));
}
