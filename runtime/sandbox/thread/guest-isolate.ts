/**
 * One isolate with one program. It bounds memory as far as V8 does; time, and what V8 does not bound, ends with the process.
 * Only text, numbers and buffers cross.
 */
import ivm from "isolated-vm";
import { FaultCode } from "../../../packets/faults.ts";
import {
  FAULT_TEXT_BYTES_MAX,
  FRAME_LOG_BYTES,
  FRAME_OUTPUT_BYTES,
  PROGRAM_LIMITS_DEFAULT,
  RECORD_BYTES_MAX,
} from "../../limits.ts";
import type { TextEncoding } from "../../program/readers.ts";
import type { ModuleFactory } from "../guest/module.ts";
import type { Prelude, PreludeConfig } from "../guest/prelude.ts";
import { MAY_AWAIT } from "../guest/promises.ts";
import { preludeSource } from "../guest/source.ts";
import type { GuestFrame } from "./frame-input.ts";
import type { Guest } from "./guest.ts";
import { emptyOutcome, faultOutcome } from "../process/protocol.ts";
import type { ProgramImage } from "../process/protocol.ts";

const MIB = 1024 * 1024;
const PROGRAM_FILE = "program.js";
const PRELUDE = preludeSource();
/** Made by this very code from the prelude, so V8 may believe it. */
let compiledPrelude: ivm.ExternalCopy<ArrayBuffer> | undefined;

/** A program that does not load; the message says why. */
export class LoadFailure extends Error {}

type Call<Name extends keyof Prelude> = ivm.Reference<Prelude[Name]>;

export class GuestIsolate implements Guest {
  readonly encoding: TextEncoding | undefined;
  readonly #isolate: ivm.Isolate;
  readonly #prelude: ivm.Reference<Prelude>;
  readonly #factory: ivm.Reference<ModuleFactory>;
  readonly #run: Call<"run">;
  readonly #resume: Call<"resume">;
  readonly #collect: Call<"collect">;
  readonly #mayAwait: boolean;
  #frame = 0;
  #broken = false;

  /** Throws LoadFailure. */
  constructor(image: ProgramImage, code: string, prelude: string = PRELUDE) {
    this.encoding = image.encoding;
    this.#mayAwait = MAY_AWAIT.test(code);
    const { memoryBytes } = image.description.limits;
    this.#isolate = new ivm.Isolate({ memoryLimit: Math.ceil(memoryBytes / MIB) });
    try {
      const context = this.#isolate.createContextSync();
      this.#prelude = bootPrelude(this.#isolate, context, image, prelude);
      this.#run = this.#prelude.getSync("run", { reference: true }) as Call<"run">;
      this.#resume = this.#prelude.getSync("resume", { reference: true }) as Call<"resume">;
      this.#collect = this.#prelude.getSync("collect", { reference: true }) as Call<"collect">;
      this.#factory = this.#compile(context, code);
    } catch (error) {
      const failure = this.#loadFailure(error);
      this.dispose();
      throw failure;
    }
  }

  /** An isolate with its program ready to run. Throws LoadFailure. */
  static open(image: ProgramImage, code: string): GuestIsolate {
    const guest = new GuestIsolate(image, code);
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
  run({ packets, meta, text, bytes }: GuestFrame): Uint8Array<ArrayBuffer> {
    const frame = ++this.#frame;
    const input = bytes === undefined ? undefined : transferred(bytes);
    const args = [frame, packets, transferred(meta), text, input];
    const failure = this.#runToEnd(args);
    const alone = packets === 1;
    if (this.#isolate.isDisposed) return alone ? this.#outOfMemory() : emptyOutcome();
    const outcome = this.#collected(frame);
    if (outcome !== undefined && (new Uint32Array(outcome.buffer, 0, 1)[0]! > 0 || !alone)) return outcome;
    // Nothing was handed out for the only packet: it never began.
    this.#broken = true;
    if (!alone) return emptyOutcome();
    if (this.#isolate.isDisposed || /allocation failed/.test(messageOf(failure))) return this.#outOfMemory();
    return faultOutcome(FaultCode.threw, messageOf(failure).slice(0, FAULT_TEXT_BYTES_MAX));
  }

  /**
   * Calls into the isolate until the frame is over: the jobs of promises run when a call ends, and it throws what they left
   * rejected, which is the fault of the packet that ran last. Returns what was thrown last, since it may be something else:
   * then there is nothing to resume.
   */
  #runToEnd(args: readonly unknown[]): unknown {
    let thrown: unknown;
    let rejection: string | undefined;
    let hasMore = true;
    for (let isFirst = true; hasMore && !this.#isolate.isDisposed; isFirst = false) {
      try {
        hasMore = isFirst
          ? this.#run.applySync(undefined, args as never)
          : this.#resume.applySync(undefined, [rejection]);
        rejection = undefined;
      } catch (error) {
        thrown = error;
        rejection = rejectionText(error);
      }
    }
    return thrown;
  }

  dispose(): void {
    this.#broken = true;
    if (!this.#isolate.isDisposed) this.#isolate.dispose();
  }

  /** The module as a function, which evaluates it afresh each time that it is called: see bundle.ts. */
  #compile(context: ivm.Context, code: string): ivm.Reference<ModuleFactory> {
    // By itself first: text that closes the function around it would run in no function, and leave things behind.
    this.#isolate.compileScriptSync(`"use strict";\n${code}`, { filename: PROGRAM_FILE, lineOffset: -1 });
    const script = this.#isolate.compileScriptSync(
      `(function ($exports, $packetfs) { "use strict";\n${code}\n})`,
      {
        filename: PROGRAM_FILE,
        lineOffset: -1,
      },
    );
    return script.runSync(context, { reference: true }) as ivm.Reference<ModuleFactory>;
  }

  #ask(name: "inspect" | "load"): string {
    try {
      const call = this.#prelude.getSync(name, { reference: true }) as Call<"inspect">;
      return String(call.applySync(undefined, [this.#factory.derefInto(), this.#mayAwait] as never));
    } catch (error) {
      throw this.#loadFailure(error);
    }
  }

  #loadFailure(error: unknown): LoadFailure {
    if (error instanceof LoadFailure) return error;
    if (this.#isolate.isDisposed) return new LoadFailure("it needs more memory than its limit to load");
    return new LoadFailure(thrownText(error));
  }

  /** What the frame yielded, or undefined when the guest cannot say. */
  #collected(frame: number): Uint8Array<ArrayBuffer> | undefined {
    try {
      const result: unknown = this.#collect.applySync(undefined, [frame], { result: { copy: true } });
      return result instanceof ArrayBuffer && result.byteLength >= 8 ? new Uint8Array(result) : undefined;
    } catch {
      return undefined;
    }
  }

  #outOfMemory(): Uint8Array<ArrayBuffer> {
    // What the limit is, is said where the program is named (executor/results.ts).
    return faultOutcome(FaultCode.memoryLimit, "");
  }
}

/** What a program is inspected with, when nothing is known of it yet. */
export function inspectionImage(): ProgramImage {
  const limits = PROGRAM_LIMITS_DEFAULT;
  const description = {
    reader: { kind: "lines" },
    yields: "value",
    hasCombine: false,
    hasReduce: false,
    limits,
  } as const;
  return { name: "program", entry: "map", description, args: "null" };
}

function bootPrelude(
  isolate: ivm.Isolate,
  context: ivm.Context,
  image: ProgramImage,
  prelude: string,
): ivm.Reference<Prelude> {
  const cached = prelude === PRELUDE ? compiledPrelude : undefined;
  const script = isolate.compileScriptSync(prelude, {
    filename: "packetfs:prelude",
    ...(cached === undefined ? { produceCachedData: true } : { cachedData: cached }),
  }) as ivm.Script & ivm.CachedDataResult;
  if (prelude === PRELUDE) compiledPrelude ??= script.cachedData;
  const { entry, description, args, encoding } = image;
  const config: PreludeConfig = {
    entry,
    description,
    args,
    ...(encoding === undefined ? {} : { encoding }),
    faultTextMax: FAULT_TEXT_BYTES_MAX,
    frameOutputBytes: FRAME_OUTPUT_BYTES,
    frameLogBytes: FRAME_LOG_BYTES,
    recordBytesMax: RECORD_BYTES_MAX,
    codes: {
      threw: FaultCode.threw,
      memoryLimit: FaultCode.memoryLimit,
      outputLimit: FaultCode.outputLimit,
      badRecord: FaultCode.badRecord,
    },
  };
  const boot = script.runSync(context, { reference: true }) as ivm.Reference<(config: string) => Prelude>;
  return boot.applySync(undefined, [JSON.stringify(config)], {
    result: { reference: true },
  }) as ivm.Reference<Prelude>;
}

function transferred(buffer: ArrayBuffer): ivm.Copy<ArrayBuffer> {
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
