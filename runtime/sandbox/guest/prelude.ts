/**
 * The prelude: what an isolate holds beside the program. It is called once a frame, loops over the packets in here, and
 * leaves their results in one buffer (protocol.ts), so that nothing crosses the isolate's border per packet.
 */
import type { makeBlocks } from "./blocks.ts";
import type { ComputeKernel } from "./compute.ts";
import type { installConsole } from "./console.ts";
import type { makeCsvParser } from "./csv.ts";
import type { makeEntry, RunEntry } from "./entries.ts";
import type { makeFaults } from "./faults.ts";
import type { FrameLoop, Yielded, makeFrameLoop } from "./frame-loop.ts";
import type { makeFreeze } from "./freeze.ts";
import type { makeKeyTable } from "./key-table.ts";
import type { makeKernelInputs } from "./kernel-inputs.ts";
import type { Kernels, makeKernels } from "./kernels.ts";
import type { lockDown } from "./lockdown.ts";
import type { makeModule, makeTables, ModuleFactory, ProgramModule } from "./module.ts";
import type { makeOutput } from "./output.ts";
import type { makePartials } from "./partials.ts";
import type { makeOwnKernels } from "./own-kernels.ts";
import type { Primordials } from "./primordials.ts";
import type { AskNode, AskNumbers, makeQuestions } from "./questions.ts";
import type { installRandom } from "./random.ts";
import type { watchPromises } from "./promises.ts";
import type { installRegExps } from "./regexps.ts";
import type { makeReader } from "./readers.ts";
import type { makeRuns } from "./runs.ts";
import type { makeTextCodec } from "./text-codec.ts";
import type { installTextGlobals } from "./text-globals.ts";
import type { makeValues, ProgramFunctions, TopGroups } from "./values.ts";
import type { makeWasm } from "./wasm.ts";
import type { GivenFile } from "../process/protocol.ts";
import type { ExchangeLayout } from "../thread/exchange.ts";
import type { Entry, ProgramDescription } from "../../program/program.ts";
import type { makeValueCodec } from "../../program/values.ts";
import type { makeWasmAdditions } from "../../program/wasm/additions.ts";
import type { makeWasmBytes } from "../../program/wasm/bytes.ts";
import type { makeWasmInstructions } from "../../program/wasm/instructions.ts";
import type { makeWasmRewriter } from "../../program/wasm/rewriter.ts";
import type { TextEncoding } from "../../program/readers.ts";

export interface PreludeParts {
  readonly makeFreeze: typeof makeFreeze;
  readonly makeValueCodec: typeof makeValueCodec;
  readonly makeQuestions: typeof makeQuestions;
  readonly makeBlocks: typeof makeBlocks;
  readonly makeKernelInputs: typeof makeKernelInputs;
  readonly makeOwnKernels: typeof makeOwnKernels;
  readonly makeKernels: typeof makeKernels;
  readonly makeTables: typeof makeTables;
  readonly makeModule: typeof makeModule;
  readonly makeTextCodec: typeof makeTextCodec;
  readonly makeFaults: typeof makeFaults;
  readonly makeOutput: typeof makeOutput;
  readonly makeFrameLoop: typeof makeFrameLoop;
  readonly installConsole: typeof installConsole;
  readonly lockDown: typeof lockDown;
  readonly watchPromises: typeof watchPromises;
  readonly installRandom: typeof installRandom;
  readonly installRegExps: typeof installRegExps;
  readonly installTextGlobals: typeof installTextGlobals;
  readonly makeCsvParser: typeof makeCsvParser;
  readonly makeReader: typeof makeReader;
  readonly makeKeyTable: typeof makeKeyTable;
  readonly makePartials: typeof makePartials;
  readonly makeRuns: typeof makeRuns;
  readonly makeValues: typeof makeValues;
  readonly makeEntry: typeof makeEntry;
  readonly makeWasmBytes: typeof makeWasmBytes;
  readonly makeWasmInstructions: typeof makeWasmInstructions;
  readonly makeWasmAdditions: typeof makeWasmAdditions;
  readonly makeWasmRewriter: typeof makeWasmRewriter;
  readonly makeWasm: typeof makeWasm;
}

/** What is the same for all programs, so that the prelude of an isolate is there before its program is. */
export interface PreludeConfig {
  /** What the prelude is called in stacks. */
  readonly file: string;
  readonly faultTextMax: number;
  readonly frameOutputBytes: number;
  readonly frameLogBytes: number;
  readonly recordBytesMax: number;
  /** What a program's WebAssembly modules may have: see WasmTools. */
  readonly wasmMemoryShare: number;
  readonly wasmTableElementsMax: number;
  readonly kernelsMax: number;
  readonly kernelWholeMax: number;
  readonly askNumbers: AskNumbers;
  readonly kernelValuesBytesMax: number;
  /** The memory that a program can ask for at most. */
  readonly memoryBytesMax: number;
  readonly groups: {
    readonly bucketUnits: number;
    readonly foldedKeysMax: number;
    readonly blockUnits: number;
    readonly trailerBytes: number;
  };
  readonly exchange: ExchangeLayout;
  /** FaultCode. */
  readonly codes: {
    readonly threw: number;
    readonly memoryLimit: number;
    readonly outputLimit: number;
    readonly badRecord: number;
    readonly engineLost: number;
  };
}

export interface ProgramConfig {
  readonly entry: Entry;
  readonly description: ProgramDescription;
  /** How many kernels it was found to have. */
  readonly kernels: number;
  /** JSON text. */
  readonly args: string;
  readonly files: readonly GivenFile[];
  /** Of kernels that GPU.js computes here, the dimensions that they want the sizes of; null for others. */
  readonly computed: readonly (readonly string[] | null)[];
  /** Of the input, where it is text. */
  readonly encoding?: TextEncoding;
  /** Whether the syntax of its text may make promises (promises.ts). */
  readonly mayAwait: boolean;
}

export interface Prelude {
  /** What the module declares, as JSON text {reader, yields, …}, or {"reason"} why it is no program. */
  inspect(factory: ModuleFactory, config: string): string;
  /**
   * Takes over the program, once: "" when all is well, otherwise why it is no program. `config` is ProgramConfig as JSON text. `compute`
   * is what computes kernels that have no function of their own, where there are such.
   */
  load(factory: ModuleFactory, config: string, compute?: ComputeKernel): string;
  /**
   * Runs a frame, which has a number of its own from 1, and its packets in the exchange, each with 8 float64: start and length
   * in the text, or else in the bytes; the file offset of what is behind the prefix; bytes of the prefix; length of the tail,
   * in text or bytes; bytes; the file offset of the first byte that is not of the encoding, where the text ends, or -1; how
   * many bytes from there on could begin a character that what a record overlaps does not hold all of. Its input is the text,
   * the bytes, or without either what stands in the exchange.
   *
   * It returns when the frame is over, with what its packets yielded (protocol.ts) or, where that is in the exchange, with how
   * many bytes it is; or with true when the jobs of a packet's promises shall run, which they do when the call has ended: there
   * is more to `resume`.
   */
  run(frame: number, packets: number, text?: string, bytes?: ArrayBuffer): Yielded | boolean;
  /**
   * The jobs have run, and left `rejection` unhandled, if any, which is the packet's fault. Goes on, and returns as `run`
   * does; false when there is nothing to resume.
   */
  resume(rejection?: string): Yielded | boolean;
  /** What the packets yielded of a frame that was stopped. One that did not end is not among them. */
  collect(frame: number): Yielded;
}

export function makePrelude(
  p: Primordials,
  parts: PreludeParts,
  config: PreludeConfig,
  exchange: SharedArrayBuffer,
  ask: AskNode | undefined,
): Prelude {
  const { codes, faultTextMax, frameOutputBytes, frameLogBytes, recordBytesMax, groups } = config;
  const exchangeLayout = config.exchange;
  const freeze = parts.makeFreeze();
  const codec = parts.makeTextCodec(p);
  const faults = parts.makeFaults(p, codes, faultTextMax);
  const output = parts.makeOutput(p, { codec, faults, outputLimit: codes.outputLimit });
  const log = parts.installConsole(p, { codec, faults });
  const random = parts.installRandom(p);
  const wasm = parts.makeWasm(p, {
    rewrite: (module, limits) => {
      const bytes = parts.makeWasmBytes();
      const makeInstructions = parts.makeWasmInstructions(bytes);
      const additions = parts.makeWasmAdditions(bytes);
      return parts.makeWasmRewriter({ bytes, makeInstructions, additions })(module, limits);
    },
    codec,
    faults,
    freeze,
    log,
    codes,
    memoryShare: config.wasmMemoryShare,
    tableElementsMax: config.wasmTableElementsMax,
  });
  parts.lockDown(p, config.file, (reason) => faults.fail(codes.memoryLimit, reason));
  const promises = parts.watchPromises(p);
  parts.installTextGlobals(p, codec);
  parts.installRegExps(p);
  freeze.realm();
  const valueCodec = parts.makeValueCodec((view) => tables.targetOf(view));
  const { askAt, askBytes } = exchangeLayout;
  const numbers = config.askNumbers;
  const questions = parts.makeQuestions(p, { codec, faults, ask, numbers, exchange, askAt, askBytes });
  const blocks = parts.makeBlocks(p, { freeze, read: questions.read });
  const { kernelsMax, kernelValuesBytesMax: valuesBytesMax } = config;
  const inputs = parts.makeKernelInputs(p, blocks, config.kernelWholeMax);
  const own = parts.makeOwnKernels(p, {
    blocks,
    inputs,
    callApart,
    outOfMemory: (reason) => faults.fail(codes.memoryLimit, reason),
    noEngine: (reason) => faults.fail(codes.engineLost, reason),
  });
  const kernels: Kernels = parts.makeKernels(p, {
    freeze,
    blocks,
    inputs,
    own,
    questions,
    kernelsMax,
    valuesBytesMax,
    over: () => wasm.begin(),
  });
  const tables = parts.makeTables(
    freeze,
    () => valueCodec,
    { wasm, kernels },
    (sentence) => faults.fail(codes.threw, sentence),
  );
  let program: ProgramModule | undefined;
  let loop: FrameLoop | undefined;
  let runEntry: RunEntry | undefined;

  /** Evaluates the program beside the packet that runs, and calls the cpu of its kernel of that index there. */
  function callApart(index: number, given: readonly unknown[]): unknown {
    return log.apart(() =>
      random.apart(() => {
        program!.evaluate(false);
        return kernels.callCpu(index, given);
      }),
    );
  }

  function functionOf(name: string, value: unknown): unknown {
    if (value === undefined || typeof value === "function") return value;
    throw new p.TypeError(`${name} is not a function`);
  }

  function definitionOf(module: ProgramModule, isLoading: boolean): Record<string, unknown> {
    const definition = module.evaluate(isLoading);
    if (typeof definition === "object" && definition !== null) return definition as Record<string, unknown>;
    const what =
      definition === null ? "null" : definition === undefined ? "nothing" : `a ${typeof definition}`;
    throw new p.TypeError(
      `the module exports ${what} by default, where a program has: export default defineProgram({ input: …, map: … })`,
    );
  }

  function functionsOf(definition: Record<string, unknown>): ProgramFunctions {
    const map = functionOf("map", definition["map"]);
    if (map === undefined) throw new p.TypeError("the program has no map");
    // The program sees it as `this`: what was checked here is what is called.
    return p.freeze({
      map,
      init: functionOf("init", definition["init"]),
      combine: functionOf("combine", definition["combine"]),
      reduce: functionOf("reduce", definition["reduce"]),
      result: topOf(definition["result"]),
    }) as ProgramFunctions;
  }

  function topOf(result: unknown): TopGroups | undefined {
    if (result === undefined) return undefined;
    const { top, by } = result as { top?: unknown; by?: unknown };
    const isCount = typeof top === "number" && top >= 1 && top % 1 === 0;
    if (!isCount || (by !== undefined && typeof by !== "function")) {
      throw new p.TypeError("result is top(n): n is a whole number from 1 on, and by a function");
    }
    return { top, by: by as TopGroups["by"] };
  }

  function inspect(factory: ModuleFactory, program: string): string {
    try {
      const { description } = p.parse(program) as ProgramConfig;
      log.allow(description.limits.logBytes);
      // What its limits are, it is about to say.
      wasm.allow(config.memoryBytesMax, false);
      const definition = definitionOf(
        parts.makeModule(factory, { tables, random, log, wasm, kernels }),
        true,
      );
      const { combine, reduce, result } = functionsOf(definition);
      if (result !== undefined && definition["yields"] !== "groups") {
        throw new p.TypeError('result is for programs that yield "groups"');
      }
      const declared = kernels.declared();
      return p.stringify({
        reader: definition["input"] ?? null,
        yields: definition["yields"],
        hasCombine: combine !== undefined,
        hasReduce: reduce !== undefined,
        hasTop: result !== undefined,
        limits: definition["limits"],
        declared: declared.length === 0 ? undefined : declared,
      })!;
    } catch (error) {
      return p.stringify({ reason: faults.describe(error) })!;
    }
  }

  function load(factory: ModuleFactory, config: string, compute?: ComputeKernel): string {
    try {
      const {
        entry,
        description,
        kernels: known,
        args: argsText,
        files,
        computed,
        encoding,
        mayAwait,
      } = p.parse(config) as ProgramConfig;
      const { outputBytes, logBytes, memoryBytes } = description.limits;
      log.allow(logBytes);
      wasm.allow(memoryBytes, true);
      if (mayAwait) promises.expectAlways();
      const module = parts.makeModule(factory, { tables, random, log, wasm, kernels });
      program = module;
      const fresh = (): ProgramFunctions => functionsOf(definitionOf(module, false));
      const { combine, reduce } = functionsOf(definitionOf(module, true));
      const combines = description.hasCombine;
      if (combines !== (combine !== undefined) || description.hasReduce !== (reduce !== undefined)) {
        throw new p.TypeError("the program is not what it was said to be: it has another combine or reduce");
      }
      if (known > 0 && known !== kernels.declared().length) {
        throw new p.TypeError("the program is not what it was said to be: it has other kernels");
      }
      if (known > 0) kernels.askNode();
      if (compute !== undefined) own.useGpuJs(compute, computed);
      const args = tables.readOnly(p.parse(argsText));
      const { threw, badRecord } = codes;
      loop = parts.makeFrameLoop(p, {
        codec,
        faults,
        output,
        log,
        random,
        promises,
        inPacket: (index) => kernels.inPacket(index),
        threw,
        outputBytes,
        faultTextMax,
        frameOutputBytes,
        frameLogBytes,
        encoding,
        badRecord,
        exchange,
        exchangeLayout,
      });
      const { place, late } = loop;
      const spec = description.reader;
      const parseCsv = parts.makeCsvParser(p, { faults, place, spec, badRecord, recordBytesMax });
      const read = parts.makeReader(p, {
        faults,
        place,
        parseCsv,
        spec,
        badRecord,
        recordBytesMax,
        codec,
        blocks,
      });
      const partials = parts.makePartials(p, { output, bucketUnits: groups.bucketUnits });
      const runs = parts.makeRuns(p, { faults, output, ...groups, badRecord });
      const values = parts.makeValues(p, {
        faults,
        output,
        codec: valueCodec,
        table: parts.makeKeyTable(p),
        partials,
        runs,
        combines,
        groups: description.yields === "groups",
        foldedKeysMax: groups.foldedKeysMax,
        badRecord,
      });
      runEntry = parts.makeEntry(p, {
        entry,
        yields: description.yields,
        program: fresh,
        args,
        files,
        blocks,
        read,
        place,
        values,
        kernels,
        output,
        freeze,
        late,
      });
      return "";
    } catch (error) {
      return faults.describe(error);
    }
  }

  return {
    inspect,
    load,
    run: (frame, packets, text, bytes) => loop!.run({ frame, packets, text, bytes }, runEntry!),
    resume: (rejection) => loop!.resume(rejection),
    collect: (frame) => loop!.collect(frame),
  };
}
