/** Kernels that a program declares, as jobs get them: validated, and those in JavaScript compiled by GPU.js. */
import { messageOf } from "../../packets/errors.ts";
import { KernelError } from "../errors.ts";
import { jsKernel, kernelSpec, wgslKernel } from "../program/kernel/declaration.ts";
import { gpuJsSource } from "../program/kernel/gpujs.ts";
import { invalidProgram } from "../program/manifest.ts";
import type { InspectedProgram, ProgramDescription } from "../program/program.ts";
import type { ExecutorProcess } from "../sandbox/process/executor-process.ts";

/**
 * The program's description with its kernels. GPU.js runs in the process that the program was looked into, in an isolate of its
 * own: what comes of it is believed no more than the program is. Rejects with PFS_PROGRAM_INVALID.
 */
export async function describeKernels(
  process: Pick<ExecutorProcess, "compileKernels">,
  { declared, ...description }: InspectedProgram,
): Promise<ProgramDescription> {
  if (declared === undefined || declared.length === 0) return description;
  try {
    const specs = declared.map((each, index) => kernelSpec(each, index));
    const twice = specs.find(({ name }, index) => specs.findIndex((each) => each.name === name) !== index);
    if (twice !== undefined) throw invalidProgram(`two of its kernels are called ${twice.name}`);
    const sources = specs.filter(({ kind }) => kind === "js").map(gpuJsSource);
    const made = sources.length === 0 ? [] : [...(await process.compileKernels(sources))];
    const kernels = specs.map((spec) =>
      spec.kind === "js" ? jsKernel(spec, made.shift()) : wgslKernel(spec),
    );
    return { ...description, kernels };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    throw invalidProgram(messageOf(error), error);
  }
}
