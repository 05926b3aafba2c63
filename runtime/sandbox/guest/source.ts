/**
 * The prelude as a script for isolates. It is written and checked like any other code here; what an isolate gets is the
 * text of these functions, which for that reason use nothing but what they are given.
 */
import { makeCompute } from "./compute.ts";
import { makeBlocks } from "./blocks.ts";
import { installConsole } from "./console.ts";
import { makeCsvParser } from "./csv.ts";
import { makeEntry } from "./entries.ts";
import { makeFaults } from "./faults.ts";
import { makeFrameLoop } from "./frame-loop.ts";
import { makeFreeze } from "./freeze.ts";
import { makeKeyTable } from "./key-table.ts";
import { makeKernelInputs } from "./kernel-inputs.ts";
import { makeKernels } from "./kernels.ts";
import { lockDown } from "./lockdown.ts";
import { makeModule, makeTables } from "./module.ts";
import { makeOutput } from "./output.ts";
import { makeOwnKernels } from "./own-kernels.ts";
import { makePartials } from "./partials.ts";
import { makePrelude } from "./prelude.ts";
import type { PreludeParts } from "./prelude.ts";
import { capturePrimordials } from "./primordials.ts";
import { makeQuestions } from "./questions.ts";
import { installRandom } from "./random.ts";
import { watchPromises } from "./promises.ts";
import { installRegExps } from "./regexps.ts";
import { makeReader } from "./readers.ts";
import { makeRuns } from "./runs.ts";
import { makeTextCodec } from "./text-codec.ts";
import { installTextGlobals } from "./text-globals.ts";
import { makeValues } from "./values.ts";
import { makeWasm } from "./wasm.ts";
import { makeValueCodec } from "../../program/values.ts";
import { makeWasmAdditions } from "../../program/wasm/additions.ts";
import { makeWasmBytes } from "../../program/wasm/bytes.ts";
import { makeWasmInstructions } from "../../program/wasm/instructions.ts";
import { makeWasmRewriter } from "../../program/wasm/rewriter.ts";

/** For another context than the prelude's. */
export { makeCompute };

/** Tests take single parts out, to see what each protects from. */
export const PRELUDE_PARTS: PreludeParts = {
  makeFreeze,
  makeValueCodec,
  makeQuestions,
  makeBlocks,
  makeKernelInputs,
  makeOwnKernels,
  makeKernels,
  makeTables,
  makeModule,
  makeTextCodec,
  makeFaults,
  makeOutput,
  makeFrameLoop,
  installConsole,
  lockDown,
  watchPromises,
  installRandom,
  installRegExps,
  installTextGlobals,
  makeCsvParser,
  makeReader,
  makeKeyTable,
  makePartials,
  makeRuns,
  makeValues,
  makeEntry,
  makeWasmBytes,
  makeWasmInstructions,
  makeWasmAdditions,
  makeWasmRewriter,
  makeWasm,
};

/** A script whose value is a function from PreludeConfig, as JSON text, an Exchange's memory and what asks the node, to the Prelude of its context. */
export function preludeSource(prelude: PreludeParts = PRELUDE_PARTS): string {
  const parts = Object.entries(prelude).map(([name, part]) => `${name}: ${String(part)}`);
  return [
    '"use strict";',
    "(config, exchange, ask) =>",
    `(${String(makePrelude)})((${String(capturePrimordials)})(), {${parts.join(",\n")}}, JSON.parse(config), exchange, ask)`,
  ].join("\n");
}
