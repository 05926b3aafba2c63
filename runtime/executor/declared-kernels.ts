/** Kernels that a program declares, as jobs get them: validated, and those in JavaScript compiled by GPU.js. */
import { messageOf } from "../../packets/errors.ts";
import { KernelError } from "../errors.ts";
import { jsKernel, kernelSpec, titleOf, wgslKernel } from "../program/kernel/declaration.ts";
import { gpuJsSource } from "../program/kernel/gpujs.ts";
import type { Kernel, KernelDeclaration, KernelSpec } from "../program/kernel/kernel.ts";
import { invalidProgram } from "../program/manifest.ts";
import type { InspectedProgram, ProgramDescription } from "../program/program.ts";
import type { ExecutorProcess } from "../sandbox/process/executor-process.ts";
import { inTurns } from "../turns.ts";

/**
 * The program's description with its kernels. GPU.js runs in the process that the program was looked into, in an isolate of its
 * own: what comes of it is believed no more than the program is. Rejects with PFS_PROGRAM_INVALID.
 */
export async function describeKernels(
  process: Pick<ExecutorProcess, "compileKernels">,
  code: Uint8Array,
  { declared, ...description }: InspectedProgram,
): Promise<ProgramDescription> {
  if (declared === undefined || declared.length === 0) return description;
  try {
    const specs = await inTurns(specsOf(declared, code));
    const sources = specs.filter(({ kind }) => kind === "js").map(gpuJsSource);
    const made = sources.length === 0 ? [] : await process.compileKernels(sources);
    return { ...description, kernels: await inTurns(kernelsOf(specs, made)) };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    throw invalidProgram(messageOf(error), error);
  }
}

/** Sources are strangers', and may be long: others have their turns between two. */
function* specsOf(
  declared: readonly KernelDeclaration[],
  code: Uint8Array,
): Generator<void, readonly KernelSpec[]> {
  const specs: KernelSpec[] = [];
  for (const [index, declaration] of declared.entries()) {
    yield;
    const spec = specOf(declaration, index, code);
    if (specs.some(({ name }) => name === spec.name))
      throw invalidProgram(`two of its kernels are called ${spec.name}`);
    specs.push(spec);
  }
  return specs;
}

function specOf(declaration: KernelDeclaration, index: number, code: Uint8Array): KernelSpec {
  try {
    return kernelSpec(declaration, index);
  } catch (error) {
    const place = error instanceof KernelError ? placeInCode(error, declaration, code) : undefined;
    if (!(error instanceof KernelError) || place === undefined) throw error;
    const { kernel, reason } = error.data;
    const message = `${titleOf(String(kernel))} is wrong: ${String(reason)} (${place})`;
    throw new KernelError(error.code, message, error.data, { cause: error });
  }
}

/** Where it is wrong in the program's module, as stacks say it: whoever has its source map finds its author's place by that. */
function placeInCode(
  { data }: KernelError,
  { source }: KernelDeclaration,
  code: Uint8Array,
): string | undefined {
  const { line, column } = data;
  if (typeof source !== "string" || typeof line !== "number" || typeof column !== "number") return undefined;
  const text = Buffer.from(code).toString();
  const at = text.indexOf(source);
  // Of a function it is the text as it stands there; of a text it need not be.
  if (at === -1) return undefined;
  const before = text.slice(0, at).split("\n");
  const inLine = line === 1 ? before.at(-1)!.length + column : column;
  return `program.js:${before.length + line - 1}:${inLine}`;
}

function* kernelsOf(
  specs: readonly KernelSpec[],
  made: readonly unknown[],
): Generator<void, readonly Kernel[]> {
  const kernels: Kernel[] = [];
  let compiled = 0;
  for (const spec of specs) {
    yield;
    kernels.push(spec.kind === "js" ? jsKernel(spec, made[compiled++]) : wgslKernel(spec));
  }
  return kernels;
}
