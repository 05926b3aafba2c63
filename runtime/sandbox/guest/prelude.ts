/**
 * The prelude: what an isolate holds beside the program. It is called once a frame, loops over the packets in here, and
 * leaves their results in one buffer (protocol.ts), so that nothing crosses the isolate's border per packet.
 */
import type { installConsole } from "./console.ts";
import type { makeCsvParser } from "./csv.ts";
import type { makeEntry, RunEntry } from "./entries.ts";
import type { makeFaults } from "./faults.ts";
import type { makeFrameLoop } from "./frame-loop.ts";
import type { lockDown } from "./lockdown.ts";
import type { makeOutput } from "./output.ts";
import type { Primordials } from "./primordials.ts";
import type { installRandom } from "./random.ts";
import type { makeReader } from "./readers.ts";
import type { makeTextCodec } from "./text-codec.ts";
import type { installTextGlobals } from "./text-globals.ts";
import type { makeValues, ProgramFunctions } from "./values.ts";
import type { Entry, ProgramDescription } from "../../program/program.ts";
import type { TextEncoding } from "../../program/readers.ts";

export interface PreludeParts {
  readonly makeTextCodec: typeof makeTextCodec;
  readonly makeFaults: typeof makeFaults;
  readonly makeOutput: typeof makeOutput;
  readonly makeFrameLoop: typeof makeFrameLoop;
  readonly installConsole: typeof installConsole;
  readonly lockDown: typeof lockDown;
  readonly installRandom: typeof installRandom;
  readonly installTextGlobals: typeof installTextGlobals;
  readonly makeCsvParser: typeof makeCsvParser;
  readonly makeReader: typeof makeReader;
  readonly makeValues: typeof makeValues;
  readonly makeEntry: typeof makeEntry;
}

export interface PreludeConfig {
  readonly entry: Entry;
  readonly description: ProgramDescription;
  /** JSON text. */
  readonly args: string;
  /** Of the input, where it is text. */
  readonly encoding?: TextEncoding;
  readonly faultTextMax: number;
  readonly frameOutputBytes: number;
  readonly frameLogBytes: number;
  /** FaultCode. */
  readonly codes: {
    readonly threw: number;
    readonly memoryLimit: number;
    readonly outputLimit: number;
    readonly badRecord: number;
  };
}

export interface Prelude {
  /** What the module declares, as JSON text {reader, yields, …}, or {"reason"} why it is no program. */
  inspect(namespace: unknown): string;
  /** Takes over the program's functions: "" when all is well, otherwise why it is no program. */
  load(namespace: unknown): string;
  /**
   * Runs a frame, which has a number of its own from 1. `meta`: n × 7 float64 (start and length in the text, or else in
   * the bytes; the file offset of what is behind the prefix; bytes of the prefix; length of the tail, in text or bytes;
   * bytes; the file offset of the first byte that is not of the text's encoding, or -1), then n × 64 bytes of packets.
   * Either text or bytes.
   */
  run(frame: number, packets: number, meta: ArrayBuffer, text?: string, bytes?: ArrayBuffer): void;
  /** What the frame's packets yielded (protocol.ts). One that did not end is not among them. */
  collect(frame: number): ArrayBuffer;
}

export function makePrelude(p: Primordials, parts: PreludeParts, config: PreludeConfig): Prelude {
  const { codes, description, entry, faultTextMax, frameOutputBytes, frameLogBytes } = config;
  const { limits, yields } = description;
  const { outputBytes, logBytes } = limits;
  const codec = parts.makeTextCodec(p);
  const faults = parts.makeFaults(p, codes, faultTextMax);
  const output = parts.makeOutput(p, { codec, faults, outputLimit: codes.outputLimit });
  const log = parts.installConsole(p, { codec, faults, bytesMax: logBytes });
  const random = parts.installRandom(p);
  parts.lockDown(p);
  parts.installTextGlobals(p, codec);
  const loop = parts.makeFrameLoop(p, {
    codec,
    faults,
    output,
    log,
    random,
    outputBytes,
    faultTextMax,
    frameOutputBytes,
    frameLogBytes,
    encoding: config.encoding,
    badRecord: codes.badRecord,
  });
  let runEntry: RunEntry | undefined;

  function functionOf(definition: Record<string, unknown>, name: string): unknown {
    const value = definition[name];
    if (value === undefined || typeof value === "function") return value;
    throw new p.TypeError(`${name} is not a function`);
  }

  function definitionOf(namespace: unknown): Record<string, unknown> {
    const definition = (namespace as { default?: unknown }).default;
    if (typeof definition === "object" && definition !== null) return definition as Record<string, unknown>;
    throw new p.TypeError("the module has no default export that is a program");
  }

  function functionsOf(definition: Record<string, unknown>): ProgramFunctions {
    const map = functionOf(definition, "map");
    if (map === undefined) throw new p.TypeError("the program has no map");
    return {
      map,
      init: functionOf(definition, "init"),
      combine: functionOf(definition, "combine"),
      reduce: functionOf(definition, "reduce"),
    } as ProgramFunctions;
  }

  function inspect(namespace: unknown): string {
    try {
      const definition = definitionOf(namespace);
      const { combine, reduce } = functionsOf(definition);
      return p.stringify({
        reader: definition["input"] ?? null,
        yields: definition["yields"],
        hasCombine: combine !== undefined,
        hasReduce: reduce !== undefined,
        limits: definition["limits"],
      })!;
    } catch (error) {
      return p.stringify({ reason: faults.describe(error) })!;
    }
  }

  /** One packet must not see what another did to the arguments. */
  function frozen(value: unknown): unknown {
    if (typeof value !== "object" || value === null) return value;
    const names = p.keys(value);
    for (let index = 0; index < names.length; index++) {
      frozen((value as Record<string, unknown>)[names[index]!]);
    }
    return p.freeze(value);
  }

  function load(namespace: unknown): string {
    try {
      const { map, init, combine, reduce } = functionsOf(definitionOf(namespace));
      if (description.hasCombine && combine === undefined)
        throw new p.TypeError("the program has no combine");
      if (description.hasReduce && reduce === undefined) throw new p.TypeError("the program has no reduce");
      const program = p.freeze({
        map,
        init,
        combine: description.hasCombine ? combine : undefined,
        reduce: description.hasReduce ? reduce : undefined,
      });
      const args = frozen(p.parse(config.args));
      const { badRecord } = codes;
      const { place } = loop;
      const parseCsv = parts.makeCsvParser(p, faults, place, badRecord);
      const read = parts.makeReader(p, { faults, place, parseCsv, spec: description.reader, badRecord });
      const values = parts.makeValues(p, { faults, output, program, badRecord });
      runEntry = parts.makeEntry(p, { entry, yields, program, args, read, place, values, output });
      return "";
    } catch (error) {
      return faults.describe(error);
    }
  }

  return {
    inspect,
    load,
    run: (frame, packets, meta, text, bytes) => loop.run({ frame, packets, meta, text, bytes }, runEntry!),
    collect: (frame) => loop.collect(frame),
  };
}
