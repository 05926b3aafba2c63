/**
 * Where the inputs of tasks are: a sample of the chunks of each is looked up in the inputs' streams, and executors are
 * asked which of those they have. A hint: whatever goes wrong here costs speed and nothing else.
 */
import { sameBytes } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES } from "../../packets/layout.ts";
import { refOf } from "../../packets/packet.ts";
import { LOCALITY_REFS_MAX, LOCALITY_REFS_PER_SPLIT, LOCALITY_WAIT_MS } from "../limits.ts";
import type { ChunkSource } from "../contracts/chunks.ts";
import type { Executor, ProgramKind } from "../contracts/executor.ts";
import type { JobInput } from "../contracts/jobs.ts";
import { leafRefs } from "../stream/leaves.ts";
import type { Batch } from "./batch.ts";
import type { Dispatcher, SetTimer } from "./dispatcher.ts";
import type { Splits } from "./splits.ts";

/** Chunks that tasks read. */
export interface Samples {
  /** n × 32 bytes, those of a task next to each other. */
  readonly refs: Uint8Array;
  /** Refs of each sampled task. */
  readonly perTask: number;
  /** Tasks that each sampled one stands for: itself and those behind it. */
  readonly stride: number;
}

/** How many tasks to sample, so that not too many chunks are looked up. */
export function sampleShape(tasks: number): { readonly perTask: number; readonly stride: number } {
  const stride = Math.ceil(tasks / LOCALITY_REFS_MAX);
  const sampled = Math.ceil(tasks / stride);
  const perTask = Math.max(1, Math.min(LOCALITY_REFS_PER_SPLIT, Math.floor(LOCALITY_REFS_MAX / sampled)));
  return { perTask, stride };
}

/** Samples for splits of inputs, evenly over each. */
export async function sampleSplits(
  source: ChunkSource,
  splits: Splits,
  inputs: readonly JobInput[],
  signal: AbortSignal,
): Promise<Samples> {
  const { perTask, stride } = sampleShape(splits.count);
  function* positions(): Generator<{ root: Ref; position: number }> {
    for (let task = 0; task < splits.count; task += stride) {
      const { root } = inputs[splits.input[task]!]!;
      for (let index = 0; index < perTask; index++) {
        const part = (index + 0.5) / perTask;
        yield { root, position: Math.floor(splits.from[task]! + splits.length[task]! * part) };
      }
    }
  }
  return { refs: await leafRefs(source, positions(), signal), perTask, stride };
}

/** Samples for packets as they are: what each names itself stands for what it reads. One for all that name the same. */
export function samplePackets(frame: Uint8Array, count: number): Samples {
  const stride = nameTheSame(frame, count) ? count : sampleShape(count).stride;
  const refs = new Uint8Array(Math.ceil(count / stride) * REF_BYTES);
  for (let task = 0; task < count; task += stride) refs.set(refOf(frame, task), (task / stride) * REF_BYTES);
  return { refs, perTask: 1, stride };
}

function nameTheSame(frame: Uint8Array, count: number): boolean {
  const first = refOf(frame, 0);
  for (let index = 1; index < count; index++) if (!sameBytes(refOf(frame, index), first)) return false;
  return true;
}

/** The bytes of each task that are on the executor which said so of the samples. */
export function heldBytes(samples: Samples, has: Uint8Array, bytes: Float64Array): Float64Array {
  const { perTask, stride } = samples;
  return bytes.map((length, task) => {
    const first = Math.floor(task / stride) * perTask;
    let held = 0;
    for (let index = first; index < first + perTask; index++) held += has[index] === 1 ? 1 : 0;
    return (length * held) / perTask;
  });
}

export class Locality {
  readonly #dispatcher: Dispatcher;
  readonly #setTimer: SetTimer;
  readonly #batch: Batch;
  readonly #kind: ProgramKind;
  readonly #sample: () => Promise<Samples>;
  #samples: Promise<Samples> | undefined;
  #isOver = false;
  readonly #stopListening: () => void;

  /** `sample` is not called as long as there is one executor only. */
  constructor(dispatcher: Dispatcher, setTimer: SetTimer, batch: Batch, sample: () => Promise<Samples>) {
    this.#dispatcher = dispatcher;
    this.#setTimer = setTimer;
    this.#batch = batch;
    this.#kind = dispatcher.kindOf(batch);
    this.#sample = sample;
    this.#stopListening = dispatcher.candidates.onJoined((number, executor) => {
      if (executor.capacity[this.#kind] === undefined) return;
      const { length } = this.#able();
      if (length === 2) void this.#askAll();
      else if (length > 2) void this.#ask(number, executor);
    });
  }

  /** Whether there is anything to be known: who is alone in running such programs gets every packet. */
  get isOfUse(): boolean {
    let able = 0;
    for (const { capacity } of this.#dispatcher.candidates.executors.values())
      if (capacity[this.#kind] !== undefined) able++;
    return able > 1;
  }

  /** Resolves when all executors said what they have, or when that takes too long. What they say later counts too. */
  async known(): Promise<void> {
    if (!this.isOfUse) return;
    let cancel = (): void => {};
    const late = new Promise<void>((resolve) => {
      cancel = this.#setTimer(resolve, LOCALITY_WAIT_MS);
    });
    await Promise.race([this.#askAll(), late]);
    cancel();
  }

  close(): void {
    this.#isOver = true;
    this.#stopListening();
  }

  async #askAll(): Promise<void> {
    await Promise.all(this.#able().map(([number, executor]) => this.#ask(number, executor)));
  }

  /** The executors that run programs of the batch's kind. */
  #able(): [number, Executor][] {
    return [...this.#dispatcher.candidates.executors].filter(
      ([, { capacity }]) => capacity[this.#kind] !== undefined,
    );
  }

  /** Never rejects. */
  async #ask(number: number, executor: Executor): Promise<void> {
    try {
      this.#samples ??= this.#sample();
      const samples = await this.#samples;
      const has = await executor.has(samples.refs);
      if (this.#isOver || has.byteLength * REF_BYTES !== samples.refs.byteLength) return;
      this.#dispatcher.located(this.#batch, number, heldBytes(samples, has, this.#batch.bytes));
    } catch {
      // Then the executor is one that has nothing.
    }
  }
}
