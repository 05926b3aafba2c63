/**
 * One isolate with one program. It bounds memory as far as V8 does; time, and what V8 does not bound, ends with the process.
 * Only text, numbers and buffers cross, and what stands in the exchange.
 */
import type IsolatedVm from "isolated-vm";
import { FaultCode } from "../../../packets/faults.ts";
import {
  BUCKET_UNITS,
  FAULT_TEXT_BYTES_MAX,
  FOLDED_KEYS_MAX,
  FRAME_LOG_BYTES,
  FRAME_OUTPUT_BYTES,
  KERNELS_MAX,
  KERNEL_WHOLE_MAX,
  KERNEL_VALUES_BYTES_MAX,
  PROGRAM_LIMITS_DEFAULT,
  PROGRAM_LIMITS_MAX,
  RECORD_BYTES_MAX,
  WASM_MEMORY_SHARE,
  WASM_TABLE_ELEMENTS_MAX,
  RUN_BLOCK_UNITS,
} from "../../limits.ts";
import { RUN_TRAILER_BYTES } from "../../program/program.ts";
import type { TextEncoding } from "../../program/readers.ts";
import type { ModuleFactory } from "../guest/module.ts";
import type { Prelude, PreludeConfig, ProgramConfig } from "../guest/prelude.ts";
import { MAY_AWAIT } from "../guest/promises.ts";
import { preludeSource } from "../guest/source.ts";
import type { AskNode } from "../guest/questions.ts";
import { EXCHANGE_LAYOUT, Exchange } from "./exchange.ts";
import type { GuestFrame } from "./frame-input.ts";
import type { Guest } from "./guest.ts";
import { emptyOutcome, faultOutcome } from "../process/protocol.ts";
import type { ProgramImage } from "../process/protocol.ts";
import { ivm } from "./isolated-vm.ts";
import { openKernelFunctions } from "./kernel-functions.ts";
import { ASK_NUMBERS } from "./node-questions.ts";
import type { GpuJsSource } from "../../program/kernel/gpujs.ts";

const MIB = 1024 * 1024;
const PROGRAM_FILE = "program.js";
const PRELUDE_FILE = "packetfs:prelude";
const PRELUDE = preludeSource();
const CONFIG: PreludeConfig = {
  file: PRELUDE_FILE,
  faultTextMax: FAULT_TEXT_BYTES_MAX,
  frameOutputBytes: FRAME_OUTPUT_BYTES,
  frameLogBytes: FRAME_LOG_BYTES,
  recordBytesMax: RECORD_BYTES_MAX,
  wasmMemoryShare: WASM_MEMORY_SHARE,
  wasmTableElementsMax: WASM_TABLE_ELEMENTS_MAX,
  kernelsMax: KERNELS_MAX,
  kernelWholeMax: KERNEL_WHOLE_MAX,
  askNumbers: ASK_NUMBERS,
  kernelValuesBytesMax: KERNEL_VALUES_BYTES_MAX,
  memoryBytesMax: PROGRAM_LIMITS_MAX.memoryBytes,
  exchange: EXCHANGE_LAYOUT,
  groups: {
    bucketUnits: BUCKET_UNITS,
    foldedKeysMax: FOLDED_KEYS_MAX,
    blockUnits: RUN_BLOCK_UNITS,
    trailerBytes: RUN_TRAILER_BYTES,
  },
  codes: {
    threw: FaultCode.threw,
    memoryLimit: FaultCode.memoryLimit,
    outputLimit: FaultCode.outputLimit,
    badRecord: FaultCode.badRecord,
    engineLost: FaultCode.engineLost,
  },
};
/** Made by this very code from the prelude, so V8 may believe it. */
let compiled: IsolatedVm.ExternalCopy<ArrayBuffer> | undefined;

/** Gives V8 what another process has compiled of the same prelude. */
export function believeCompiled(prelude: Uint8Array<ArrayBuffer>): void {
  compiled = new ivm.ExternalCopy(prelude.slice().buffer);
}

/** What V8 has compiled of the prelude, and was kept; no bytes when nothing was. */
export function compiledPrelude(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(compiled?.copy() ?? []);
}

/** A program that does not load; the message says why. */
export class LoadFailure extends Error {}

type Call<Name extends keyof Prelude> = IsolatedVm.Reference<Prelude[Name]>;

export interface RealmOptions {
  /** What its kernels and blocks are asked for; none but computes and has all of them itself. */
  readonly ask?: AskNode;
  /** Another prelude than ours. */
  readonly source?: string | undefined;
}

/** An isolate with its prelude and no program. Nothing of it depends on the program, so it can be opened ahead of need. */
export class GuestRealm {
  readonly isolate: IsolatedVm.Isolate;
  readonly context: IsolatedVm.Context;
  readonly prelude: IsolatedVm.Reference<Prelude>;
  readonly exchange: Exchange = new Exchange();
  readonly #memoryMiB: number;

  /** Throws LoadFailure. */
  constructor(memoryBytes: number, { ask, source = PRELUDE }: RealmOptions = {}) {
    this.#memoryMiB = Math.ceil(memoryBytes / MIB);
    this.isolate = new ivm.Isolate({ memoryLimit: this.#memoryMiB });
    try {
      this.context = this.isolate.createContextSync();
      const cached = source === PRELUDE ? compiled : undefined;
      const options = { filename: PRELUDE_FILE, ...(cached === undefined ? {} : { cachedData: cached }) };
      const script = this.isolate.compileScriptSync(source, options);
      const boot: IsolatedVm.Reference<
        (config: string, exchange: SharedArrayBuffer, ask: AskNode | undefined) => Prelude
      > = script.runSync(this.context, { reference: true });
      const exchange = new ivm.ExternalCopy(this.exchange.memory).copyInto({ release: true });
      const asks = ask === undefined ? undefined : new ivm.Callback(ask);
      this.prelude = boot.applySync(undefined, [JSON.stringify(CONFIG), exchange, asks] as never, {
        result: { reference: true },
      });
    } catch (error) {
      const failure = loadFailure(this.isolate, error);
      this.dispose();
      throw failure;
    }
  }

  /** Whether it has as much memory as a program with this limit. */
  fits(memoryBytes: number): boolean {
    return !this.isolate.isDisposed && this.#memoryMiB === Math.ceil(memoryBytes / MIB);
  }

  /**
   * Keeps what V8 has compiled of the prelude up to now, which are the functions that were called: those opened from here
   * on compile none of these again. Where some are kept already, only if there are `more`.
   */
  keepCompiled(more = false): void {
    if ((compiled !== undefined && !more) || this.isolate.isDisposed) return;
    const options = { filename: PRELUDE_FILE, produceCachedData: true } as const;
    // V8 finds the script that it has compiled already.
    const script = this.isolate.compileScriptSync(PRELUDE, options) as IsolatedVm.Script &
      IsolatedVm.CachedDataResult;
    compiled = script.cachedData;
  }

  dispose(): void {
    if (!this.isolate.isDisposed) this.isolate.dispose();
  }
}

export class GuestIsolate implements Guest {
  readonly exchange: Exchange;
  readonly encoding: TextEncoding | undefined;
  readonly #realm: GuestRealm;
  readonly #isolate: IsolatedVm.Isolate;
  readonly #factory: IsolatedVm.Reference<ModuleFactory>;
  readonly #run: Call<"run">;
  readonly #resume: Call<"resume">;
  readonly #collect: Call<"collect">;
  readonly #config: ProgramConfig;
  readonly #computed: readonly (GpuJsSource | null)[];
  #frame = 0;
  #broken = false;

  /** Takes over the realm, which has had no program. Throws LoadFailure. */
  constructor(image: ProgramImage, code: string, realm: GuestRealm) {
    const { entry, description, kernels = 0, args, encoding, files = [], computed = [] } = image;
    const dimensions = computed.map((source) => source && source.dimensions);
    const program = { entry, description, kernels, args, files, computed: dimensions };
    const plain = { ...program, mayAwait: MAY_AWAIT.test(code) };
    this.#computed = computed;
    this.#config = encoding === undefined ? plain : { ...plain, encoding };
    this.encoding = encoding;
    this.#realm = realm;
    this.exchange = realm.exchange;
    this.#isolate = realm.isolate;
    try {
      const { prelude } = realm;
      this.#run = prelude.getSync("run", { reference: true }) as Call<"run">;
      this.#resume = prelude.getSync("resume", { reference: true }) as Call<"resume">;
      this.#collect = prelude.getSync("collect", { reference: true }) as Call<"collect">;
      this.#factory = this.#compile(code);
    } catch (error) {
      const failure = loadFailure(this.#isolate, error);
      this.dispose();
      throw failure;
    }
  }

  /** An isolate with its program ready to run. Throws LoadFailure. */
  static open(image: ProgramImage, code: string, realm: GuestRealm): GuestIsolate {
    const guest = new GuestIsolate(image, code, realm);
    try {
      guest.load();
      return guest;
    } catch (error) {
      guest.dispose();
      throw error;
    }
  }

  /** It has run out of memory, or does not hand out what its packets yielded. */
  get broken(): boolean {
    return this.#broken || this.#isolate.isDisposed;
  }

  /** What the module declares, as JSON text. Throws LoadFailure. */
  inspect(): string {
    return this.#ask("inspect");
  }

  /** Makes the program ready to run. Throws LoadFailure. */
  load(): void {
    const reason = this.#ask("load");
    if (reason !== "") throw new LoadFailure(reason);
  }

  /** Runs a frame and returns its outcome (protocol.ts). */
  run({ packets, text, bytes }: GuestFrame): Uint8Array<ArrayBuffer> {
    const frame = ++this.#frame;
    const args = [frame, packets, text, bytes === undefined ? undefined : transferred(bytes)];
    const { yielded, failure } = this.#runToEnd(args);
    const alone = packets === 1;
    if (this.#isolate.isDisposed) return alone ? this.#outOfMemory() : emptyOutcome();
    const outcome = this.#outcome(yielded) ?? this.#collected(frame);
    if (outcome !== undefined && (new Uint32Array(outcome.buffer, 0, 1)[0]! > 0 || !alone)) return outcome;
    // Nothing was handed out for the only packet: it never began.
    this.#broken = true;
    if (!alone) return emptyOutcome();
    if (this.#isolate.isDisposed || /allocation failed/.test(messageOf(failure))) return this.#outOfMemory();
    return faultOutcome(FaultCode.threw, messageOf(failure).slice(0, FAULT_TEXT_BYTES_MAX));
  }

  /**
   * Calls into the isolate until the frame is over: the jobs of promises run when a call ends, and it throws what they left
   * rejected, which is the fault of the packet that ran last. Returns what the frame yielded, if it said so, and what was
   * thrown last, since it may be something else: then there is nothing to resume.
   */
  #runToEnd(args: readonly unknown[]): { readonly yielded: unknown; readonly failure: unknown } {
    let failure: unknown;
    let rejection: string | undefined;
    let yielded: unknown = true;
    for (let isFirst = true; yielded === true && !this.#isolate.isDisposed; isFirst = false) {
      try {
        yielded = isFirst
          ? this.#run.applySync(undefined, args as never, COPIED)
          : this.#resume.applySync(undefined, [rejection], COPIED);
        rejection = undefined;
      } catch (error) {
        failure = error;
        rejection = rejectionText(error);
      }
    }
    return { yielded, failure };
  }

  dispose(): void {
    this.#broken = true;
    this.#realm.dispose();
  }

  /** The module as a function, which evaluates it afresh each time that it is called: see bundle.ts. */
  #compile(code: string): IsolatedVm.Reference<ModuleFactory> {
    // By itself first: text that closes the function around it would run in no function, and leave things behind.
    this.#isolate.compileScriptSync(`"use strict";\n${code}`, { filename: PROGRAM_FILE, lineOffset: -1 });
    const script = this.#isolate.compileScriptSync(
      `(function ($exports, $packetfs) { "use strict";\n${code}\n})`,
      {
        filename: PROGRAM_FILE,
        lineOffset: -1,
      },
    );
    return script.runSync(this.#realm.context, { reference: true }) as IsolatedVm.Reference<ModuleFactory>;
  }

  #ask(name: "inspect" | "load"): string {
    try {
      const call = this.#realm.prelude.getSync(name, { reference: true }) as Call<"inspect">;
      const args: unknown[] = [this.#factory.derefInto(), JSON.stringify(this.#config)];
      if (name === "load" && this.#computed.length > 0)
        args.push(openKernelFunctions(this.#isolate, this.#computed).derefInto());
      return String(call.applySync(undefined, args as never));
    } catch (error) {
      throw loadFailure(this.#isolate, error);
    }
  }

  /** What the frame yielded, or undefined when the guest cannot say. */
  #collected(frame: number): Uint8Array<ArrayBuffer> | undefined {
    try {
      return this.#outcome(this.#collect.applySync(undefined, [frame], COPIED));
    } catch {
      return undefined;
    }
  }

  /** What the guest handed out, if it is long enough to be an outcome. */
  #outcome(yielded: unknown): Uint8Array<ArrayBuffer> | undefined {
    let bytes: Uint8Array<ArrayBuffer> | undefined;
    if (typeof yielded === "number") bytes = this.exchange.outcome(yielded);
    else if (yielded instanceof ArrayBuffer) bytes = new Uint8Array(yielded);
    return bytes !== undefined && bytes.byteLength >= OUTCOME_BYTES_MIN ? bytes : undefined;
  }

  #outOfMemory(): Uint8Array<ArrayBuffer> {
    // What the limit is, is said where the program is named (executor/results.ts).
    return faultOutcome(FaultCode.memoryLimit, "");
  }
}

const COPIED = { result: { copy: true } } as const;
/** One of no packets. */
const OUTCOME_BYTES_MIN = 8;

/** What a program is inspected with, when nothing is known of it yet. */
export function inspectionImage(): ProgramImage {
  const limits = PROGRAM_LIMITS_DEFAULT;
  const description = {
    reader: { kind: "lines" },
    yields: "value",
    hasCombine: false,
    hasReduce: false,
    hasTop: false,
    limits,
  } as const;
  return { name: "program", entry: "map", description, args: "null" };
}

function loadFailure(isolate: IsolatedVm.Isolate, error: unknown): LoadFailure {
  if (error instanceof LoadFailure) return error;
  if (isolate.isDisposed) return new LoadFailure("it needs more memory than its limit to load");
  return new LoadFailure(thrownText(error));
}

function transferred(buffer: ArrayBuffer): IsolatedVm.Copy<ArrayBuffer> {
  return new ivm.ExternalCopy(buffer, { transferOut: true }).copyInto({ transferIn: true, release: true });
}

/** What a program threw, with the lines of its stack that are the program's own. */
function thrownText(error: unknown): string {
  const stack = error instanceof Error && typeof error.stack === "string" ? error.stack.slice(0, 64_000) : "";
  const lines = stack.split("\n").filter((line) => line.startsWith("    at ") && line.includes(PROGRAM_FILE));
  const name = error instanceof Error ? `${error.name.slice(0, 64)}: ` : "threw ";
  return [name + messageOf(error).slice(0, 1024), ...lines.slice(0, 8)].join("\n");
}

function rejectionText(error: unknown): string {
  return `a promise was rejected and nobody handled it: ${thrownText(error)}`;
}

function messageOf(error: unknown): string {
  return error instanceof Error ? String(error.message) : String(error);
}
