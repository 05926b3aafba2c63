/** WGSL becomes pipelines, each once for as long as it is used now and then. */
import { messageOf } from "../../../packets/errors.ts";
import { GPU_MODULES_MAX } from "../../limits.ts";
import type { BindingAccess, CompilerNote, GpuModule } from "../protocol.ts";

export interface Pipeline {
  readonly layout: GPUBindGroupLayout;
  readonly pipeline: GPUComputePipeline;
}

/** Notes of a compiler that are passed on, and characters of each. */
const NOTES_MAX = 16;
const NOTE_CHARACTERS = 1000;
/** Of each buffer of a run that computes nothing: more than a kernel's uniform words are. */
const REHEARSED_BUFFER_BYTES: number = 16 * 1024;

export class Modules {
  readonly #device: GPUDevice;
  /** By name, the one that was used last at the end. */
  readonly #compiled = new Map<string, Promise<Pipeline | readonly CompilerNote[]>>();

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  has(module: string): boolean {
    return this.#compiled.has(module);
  }

  /** The pipeline, or why there is none. Never rejects. */
  async get(module: GpuModule): Promise<Pipeline | readonly CompilerNote[]> {
    const compiled = this.#compiled.get(module.module) ?? this.#prepare(module);
    this.#compiled.delete(module.module);
    this.#compiled.set(module.module, compiled);
    for (const oldest of this.#compiled.keys()) {
      if (this.#compiled.size <= GPU_MODULES_MAX) break;
      this.#compiled.delete(oldest);
    }
    return await compiled;
  }

  async #prepare(module: GpuModule): Promise<Pipeline | readonly CompilerNote[]> {
    const compiled = await this.compile(module);
    if ("pipeline" in compiled) await rehearse(this.#device, compiled, module);
    return compiled;
  }

  /** As `get`, of one that nobody will ask for again. */
  async compile({
    wgsl,
    entryPoint,
    hasUniform,
    bindings,
  }: GpuModule): Promise<Pipeline | readonly CompilerNote[]> {
    const device = this.#device;
    const [module, refused] = scoped(device, () => device.createShaderModule({ code: wgsl }));
    const { messages } = await module.getCompilationInfo();
    const errors = messages.filter(({ type }) => type === "error").slice(0, NOTES_MAX);
    if (errors.length > 0)
      return errors.map(({ lineNum, linePos, message }) => noteOf(message, lineNum, linePos));
    const [layout, unbound] = scoped(device, () =>
      device.createBindGroupLayout({ entries: entriesOf(hasUniform, bindings) }),
    );
    try {
      const pipeline = await device.createComputePipelineAsync({
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint },
      });
      const failure = (await refused) ?? (await unbound);
      return failure === undefined ? { layout, pipeline } : [noteOf(failure)];
    } catch (error) {
      return [noteOf((await refused) ?? (await unbound) ?? messageOf(error))];
    }
  }
}

/** Runs no workgroup of it: some drivers make their code of a module when it runs first, in which it would seem to be slow. */
async function rehearse(
  device: GPUDevice,
  { layout, pipeline }: Pipeline,
  { hasUniform, bindings }: GpuModule,
): Promise<void> {
  const buffers = entriesOf(hasUniform, bindings).map(({ buffer }) => {
    const isUniform = buffer?.type === "uniform";
    return device.createBuffer({
      size: REHEARSED_BUFFER_BYTES,
      usage: isUniform ? GPUBufferUsage.UNIFORM : GPUBufferUsage.STORAGE,
    });
  });
  const first = hasUniform ? 0 : 1;
  const entries = buffers.map((buffer, index) => ({ binding: first + index, resource: { buffer } }));
  const commands = device.createCommandEncoder();
  const pass = commands.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, device.createBindGroup({ layout, entries }));
  pass.dispatchWorkgroups(0);
  pass.end();
  device.queue.submit([commands.finish()]);
  await device.queue.onSubmittedWorkDone();
  for (const buffer of buffers) buffer.destroy();
}

/** What `make` makes, and what the device says against it. Scopes of a device are a stack: nothing may wait within one. */
export function scoped<T>(device: GPUDevice, make: () => T): readonly [T, Promise<string | undefined>] {
  device.pushErrorScope("internal");
  device.pushErrorScope("validation");
  const made = make();
  const errors = Promise.all([device.popErrorScope(), device.popErrorScope()]);
  return [made, errors.then((each) => each.find((error) => error !== null)?.message)];
}

function entriesOf(hasUniform: boolean, bindings: readonly BindingAccess[]): GPUBindGroupLayoutEntry[] {
  const visibility = GPUShaderStage.COMPUTE;
  const entries = bindings.map((access, index): GPUBindGroupLayoutEntry => {
    return {
      binding: index + 1,
      visibility,
      buffer: { type: access === "read" ? "read-only-storage" : "storage" },
    };
  });
  return hasUniform ? [{ binding: 0, visibility, buffer: { type: "uniform" } }, ...entries] : entries;
}

function noteOf(text: string, line = 0, column = 0): CompilerNote {
  return { line, column, text: text.slice(0, NOTE_CHARACTERS) };
}
