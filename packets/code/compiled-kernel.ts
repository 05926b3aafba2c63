/** A program that was compiled, over one memory: what it adds to numbers there, as a state. */
import { ColumnType, isFloat, readValue, valuesOf, wideTypeOf, writeValue } from "./column-type.ts";
import { filtersBins } from "./compiler/blocks.ts";
import { Address, BIN_TABLES, KERNEL_BYTES } from "./compiler/registers.ts";
import type { Run } from "./engine.ts";
import { Aggregate } from "./format.ts";
import type { Code } from "./format.ts";
import { HISTOGRAM_BINS, emptyState } from "./state.ts";
import type { State } from "./state.ts";

/** Bytes after which what an address holds is added to numbers that have no end. */
const FLUSH_BYTES: number = 1024 * 1024 * 1024;

export class CompiledKernel {
  readonly #code: Code;
  readonly #memory: Uint8Array;
  readonly #run: Run;
  readonly #state: State;
  #bytes = 0;

  /** `run` is what the module exports over this memory, whose first KERNEL_BYTES it takes for itself from here on. */
  constructor(code: Code, memory: Uint8Array, run: Run) {
    this.#code = code;
    this.#memory = memory;
    this.#run = run;
    this.#state = emptyState(code);
    this.#clear();
    if (isFloat(code.type)) writeValue(memory, Address.extreme, ColumnType.f64, firstFloat(code));
    else writeValue(memory, Address.extreme, ColumnType.u64, firstInteger(code));
  }

  /** The records between two addresses: see interpreter.ts. */
  run(_memory: Uint8Array, start: number, end: number): number {
    this.#bytes += end - start;
    if (this.#bytes > FLUSH_BYTES) this.#flush();
    return this.#run(start, end);
  }

  get state(): State {
    this.#flush();
    return this.#state;
  }

  #clear(): void {
    this.#memory.fill(0, 0, Address.extreme);
    this.#memory.fill(0, Address.bins, KERNEL_BYTES);
  }

  #flush(): void {
    const { aggregate, type } = this.#code;
    const memory = this.#memory;
    const state = this.#state;
    this.#bytes = 0;
    state.count += Number(readValue(memory, Address.count, ColumnType.u64));
    if (state.bins !== undefined) this.#flushBins(state.bins);
    else if (aggregate === Aggregate.MIN || aggregate === Aggregate.MAX || isFloat(type)) this.#takeExtreme();
    else {
      const low = readValue(memory, Address.low, ColumnType.i64) as bigint;
      const high = readValue(memory, Address.high, ColumnType.i64) as bigint;
      if (aggregate === Aggregate.XOR) state.integer ^= low;
      else state.integer += (high << 32n) + low;
    }
    this.#clear();
  }

  /** It stays where it is, and is compared with, or added to, as long as there are records. */
  #takeExtreme(): void {
    const { type } = this.#code;
    const state = this.#state;
    if (isFloat(type)) state.float = readValue(this.#memory, Address.extreme, ColumnType.f64) as number;
    else if (state.count > 0)
      state.integer = readValue(this.#memory, Address.extreme, wideTypeOf(type)) as bigint;
  }

  #flushBins(bins: Float64Array): void {
    const tables = new Uint32Array(
      this.#memory.buffer,
      this.#memory.byteOffset + Address.bins,
      BIN_TABLES * HISTOGRAM_BINS,
    );
    const { ranges, isNot } = this.#code;
    const isFiltered = filtersBins(this.#code) && ranges.length > 0;
    for (let value = 0; value < HISTOGRAM_BINS; value++) {
      let records = 0;
      for (let table = 0; table < BIN_TABLES; table++) records += tables[table * HISTOGRAM_BINS + value]!;
      const passes = ranges.some(({ low, high }) => value >= low && value <= high) !== isNot;
      if (!isFiltered || passes) bins[value]! += records;
    }
  }
}

/** What changes nothing when it is compared or added. */
function firstFloat({ aggregate }: Code): number {
  if (aggregate === Aggregate.MIN) return Infinity;
  return aggregate === Aggregate.MAX ? -Infinity : 0;
}

function firstInteger({ aggregate, type }: Code): bigint {
  const { low, high } = valuesOf(wideTypeOf(type));
  return BigInt(aggregate === Aggregate.MIN ? high : low);
}
