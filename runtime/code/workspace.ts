/**
 * Where packet code runs: one memory for the bytes of a range, and what aggregates them. Programs are compiled once in a
 * process, and those that get few bytes are interpreted: compiling costs what interpreting some ten thousand bytes costs.
 */
import { crc32 } from "node:zlib";
import { CompiledKernel } from "../../packets/code/compiled-kernel.ts";
import { compileCode } from "../../packets/code/compiler/compiler.ts";
import { PAGE_BYTES, compileModule, instantiate, makeMemory } from "../../packets/code/engine.ts";
import type { CompiledModule, EngineMemory, Run } from "../../packets/code/engine.ts";
import { Aggregate } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { Interpreter } from "../../packets/code/interpreter.ts";
import { emptyState } from "../../packets/code/state.ts";
import type { State } from "../../packets/code/state.ts";
import { refKey } from "../../packets/digest.ts";
import { CODE_COMPILE_BYTES, CODE_INSTANCES_MAX, CODE_MODULES_MAX } from "../limits.ts";
import { CARRY_BYTES, PADDING_BYTES, PIECE_BYTES_MAX } from "./range-run.ts";
import type { Kernel } from "./range-run.ts";

const MEMORY_PAGES: number = Math.ceil((CARRY_BYTES + PIECE_BYTES_MAX + PADDING_BYTES) / PAGE_BYTES);

/** What was compiled in this process, the latest last, and how many bytes each program has had. */
export class CompiledModules {
  readonly #modules = new Map<string, CompiledModule>();
  readonly #bytes = new Map<string, number>();

  /** The module of a program that is given so many more bytes; undefined where it is not worth it. */
  get(bytes: Uint8Array, code: Code, length: number): CompiledModule | undefined {
    const key = refKey(bytes);
    const known = this.#modules.get(key);
    if (known !== undefined) return known;
    const seen = (this.#bytes.get(key) ?? 0) + length;
    this.#bytes.delete(key);
    this.#bytes.set(key, seen);
    forgetOldest(this.#bytes, CODE_MODULES_MAX);
    if (seen < CODE_COMPILE_BYTES) return undefined;
    const source = compileCode(code, MEMORY_PAGES);
    if (source === undefined) return undefined;
    const module = compileModule(source);
    this.#modules.set(key, module);
    forgetOldest(this.#modules, CODE_MODULES_MAX);
    return module;
  }
}

export class Workspace {
  readonly #modules: CompiledModules;
  readonly #memory: EngineMemory = makeMemory(MEMORY_PAGES);
  readonly #instances = new Map<CompiledModule, Run>();
  /** CARRY_BYTES for a kernel and what RangeRun keeps, a piece, and PADDING_BYTES. */
  readonly memory: Uint8Array<ArrayBuffer> = new Uint8Array(this.#memory.buffer);

  #packed: Uint8Array | undefined;

  constructor(modules: CompiledModules) {
    this.#modules = modules;
  }

  /** Room for chunks as they are kept, until they are decompressed into the memory. */
  get packed(): Uint8Array {
    return (this.#packed ??= new Uint8Array(PIECE_BYTES_MAX));
  }

  /** What runs the program over the next `length` bytes. One at a time. */
  kernel(bytes: Uint8Array, code: Code, length: number): Kernel {
    if (code.aggregate === Aggregate.CRC32) return new Crc32Kernel(code);
    const module = this.#modules.get(bytes, code, length);
    if (module === undefined) return new Interpreter(code);
    return new CompiledKernel(code, this.memory, this.#runOf(module));
  }

  #runOf(module: CompiledModule): Run {
    let run = this.#instances.get(module);
    if (run === undefined) {
      run = instantiate(module, this.#memory);
      this.#instances.set(module, run);
      forgetOldest(this.#instances, CODE_INSTANCES_MAX);
    }
    return run;
  }
}

/** That of zlib is faster than anything that it could be compiled to. */
class Crc32Kernel implements Kernel {
  readonly #state: State;
  #crc = 0;

  constructor(code: Code) {
    this.#state = emptyState(code);
  }

  run(memory: Uint8Array, start: number, end: number): number {
    this.#crc = crc32(memory.subarray(start, end), this.#crc);
    this.#state.count += end - start;
    return end;
  }

  get state(): State {
    this.#state.integer = BigInt(this.#crc);
    return this.#state;
  }
}

function forgetOldest<Key>(map: Map<Key, unknown>, max: number): void {
  if (map.size <= max) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    return;
  }
}
