/** An executor process as one of the lanes sees it that share it: what it has loaded there, and its part of the memory. */
import { ENTRIES_KEPT } from "../limits.ts";
import type {
  ExecutorProcess,
  LaneProgram,
  Questions,
  RanFrame,
} from "../sandbox/process/executor-process.ts";
import type { InputMemory } from "./input-buffer.ts";
import { ProcessTurns } from "./process-turns.ts";

type EndReason = Awaited<ExecutorProcess["ended"]>;

/** An entry of the program, which is loaded once for all who use it: what a process has loaded remembers nothing of them. */
interface LoadedEntry {
  /** What the process calls it. */
  readonly lane: number;
  readonly ready: Promise<void>;
  users: number;
}

/** What all lanes of a process have there together. */
export class ProcessContents {
  /** Parts of its shared memory, and who waits until there is more of that. */
  readonly memories: Set<LaneMemory> = new Set();
  readonly awaitingMemory: Set<() => void> = new Set();
  /** What is loaded, by its name and entry; what nobody uses in the order in which it was let go. */
  readonly loaded: Map<string, LoadedEntry> = new Map();
  readonly turns: ProcessTurns = new ProcessTurns();
}

/** Closing it closes what the lane has there. */
export class LaneProcess {
  readonly memory: InputMemory;
  /** Resolves when the process has ended or this was closed. */
  readonly ended: Promise<EndReason>;
  readonly #process: ExecutorProcess;
  readonly #part: LaneMemory;
  readonly #contents: ProcessContents;
  readonly #release: () => Promise<void>;
  readonly #resolveEnded: (reason: EndReason) => void;
  #loaded: LoadedEntry | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    process: ExecutorProcess,
    sharedMemoryBytes: number,
    contents: ProcessContents,
    release: () => Promise<void>,
  ) {
    const { promise, resolve } = Promise.withResolvers<EndReason>();
    this.#process = process;
    this.#part = new LaneMemory(process, sharedMemoryBytes, contents);
    this.#contents = contents;
    this.#release = release;
    this.#resolveEnded = resolve;
    this.memory = this.#part;
    this.ended = promise;
    void process.ended.then((end) => {
      contents.turns.end();
      resolve(end);
    });
  }

  get pid(): number {
    return this.#process.pid;
  }

  get closed(): boolean {
    return this.#closing !== undefined || this.#process.closed;
  }

  /** Whose frames it is sent. */
  get turns(): ProcessTurns {
    return this.#contents.turns;
  }

  /** Rejects with PFS_PROGRAM_INVALID. */
  async load(program: LaneProgram): Promise<void> {
    const { loaded } = this.#contents;
    const key = JSON.stringify([program.entry, program.name]);
    const entry = loaded.get(key) ?? this.#loadEntry(program);
    // In use: behind those that nobody uses, which the first ones are let go of.
    loaded.delete(key);
    loaded.set(key, entry);
    entry.users++;
    this.#loaded = entry;
    try {
      await entry.ready;
    } catch (error) {
      if (loaded.get(key) === entry) loaded.delete(key);
      throw error;
    }
  }

  #loadEntry(program: LaneProgram): LoadedEntry {
    const taken = new Set([...this.#contents.loaded.values()].map(({ lane }) => lane));
    let lane = 1;
    while (taken.has(lane)) lane++;
    return { lane, ready: this.#process.load(lane, program), users: 0 };
  }

  /** Runs a frame of the program that was loaded, as ExecutorProcess does. */
  run(
    frame: Uint8Array,
    extents: Float64Array,
    inputs?: Uint8Array,
    questions?: Questions,
  ): Promise<RanFrame> {
    return this.#process.run(this.#loaded!.lane, frame, extents, inputs, questions);
  }

  recycle(outcome: RanFrame): void {
    this.#process.recycle(outcome);
  }

  /** Its shared memory cannot be written to. The next process gets another, elsewhere if there is too little of it. */
  giveUp(detail: string): void {
    this.#process.kill("shared-memory", detail);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#loaded !== undefined) this.#letGo(this.#loaded);
    this.#part.freeAll();
    this.#resolveEnded({ reason: "closed", detail: "" });
    await this.#release();
  }

  /** It stays loaded for who comes next, who then has nothing to wait for. */
  #letGo(entry: LoadedEntry): void {
    const { loaded } = this.#contents;
    if (--entry.users > 0 || this.#process.closed) return;
    const [key] = [...loaded].find(([, each]) => each === entry) ?? [];
    if (key !== undefined) {
      loaded.delete(key);
      loaded.set(key, entry);
    }
    const unused = [...loaded].filter(([, { users }]) => users === 0);
    for (const [key, { lane }] of unused.slice(0, Math.max(0, unused.length - ENTRIES_KEPT))) {
      loaded.delete(key);
      this.#process.unload(lane);
    }
  }
}

/** What one lane has in the shared memory, up to its share, so that no lane waits for another one's inputs. */
class LaneMemory implements InputMemory {
  readonly #process: ExecutorProcess;
  readonly #bytesMax: number;
  readonly #extents = new Map<number, number>();
  readonly #contents: ProcessContents;
  #bytes = 0;

  constructor(process: ExecutorProcess, bytesMax: number, contents: ProcessContents) {
    this.#process = process;
    this.#bytesMax = bytesMax;
    this.#contents = contents;
    contents.memories.add(this);
  }

  /** There is room for a few shares at once, and there may be more lanes. */
  awaitOthers(bytes: number, freed: () => void): boolean {
    const { memories, awaitingMemory } = this.#contents;
    if (bytes > this.#bytesMax || ![...memories].some((other) => other !== this && other.#bytes > 0))
      return false;
    awaitingMemory.add(freed);
    return true;
  }

  get path(): string | undefined {
    return this.#process.sharedMemory.path;
  }

  hold(): () => void {
    return this.#process.sharedMemory.hold();
  }

  alloc(bytes: number): number | undefined {
    if (this.#bytes + bytes > this.#bytesMax) return undefined;
    const offset = this.#process.sharedMemory.alloc(bytes);
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
    this.#process.sharedMemory.free(offset);
    const { awaitingMemory } = this.#contents;
    if (awaitingMemory.size === 0) return;
    const waiting = [...awaitingMemory];
    awaitingMemory.clear();
    for (const freed of waiting) freed();
  }

  write(offset: number, bytes: Uint8Array): Promise<void> {
    return this.#process.sharedMemory.write(offset, bytes);
  }

  freeAll(): void {
    this.#contents.memories.delete(this);
    for (const offset of this.#extents.keys()) this.free(offset);
  }
}
