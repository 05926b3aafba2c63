/** This process's WebAssembly as packet code and the chunker need it: TypeScript knows it only where there are browsers. */

/** Bytes of a page of memory. */
export const PAGE_BYTES: number = 64 * 1024;

/** What a program's module exports: the records between two addresses go into its state; it returns how far it came. */
export type Run = (start: number, end: number) => number;

/** A module that was compiled. */
export type CompiledModule = object & { readonly compiled?: never };

/** Memory for modules to import. */
export interface EngineMemory {
  readonly buffer: ArrayBuffer;
}

interface Engine {
  readonly Module: new (source: Uint8Array<ArrayBuffer>) => CompiledModule;
  readonly Memory: new (descriptor: { readonly initial: number; readonly maximum: number }) => EngineMemory;
  readonly Instance: new (
    module: CompiledModule,
    imports: { readonly env: { readonly memory: EngineMemory } },
  ) => { readonly exports: { readonly run: unknown } };
}

const { Module, Memory, Instance } = (globalThis as unknown as { readonly WebAssembly: Engine }).WebAssembly;

export function compileModule(source: Uint8Array<ArrayBuffer>): CompiledModule {
  return new Module(source);
}

/** Memory of so many pages, which does not grow. */
export function makeMemory(pages: number): EngineMemory {
  return new Memory({ initial: pages, maximum: pages });
}

/** What the module exports as `run`, whose parameters are the caller's business: all are numbers. */
export function instantiate<Exported extends (...parameters: never[]) => number = Run>(
  module: CompiledModule,
  memory: EngineMemory,
): Exported {
  return new Instance(module, { env: { memory } }).exports.run as Exported;
}
