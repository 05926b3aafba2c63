/** Kernels in WGSL for tests, made as those of programs are. */
import { kernelSpec, wgslKernel } from "../../../runtime/program/kernel/declaration.ts";
import type { ElementType, Kernel } from "../../../runtime/program/kernel/kernel.ts";

interface Declared {
  readonly name?: string;
  /** By name: type and shape. */
  readonly inputs: Readonly<Record<string, readonly [ElementType, ...(string | number)[]]>>;
  readonly outputs: Readonly<Record<string, readonly [ElementType, ...(string | number)[]]>>;
  readonly source: string;
  readonly count?: readonly string[];
  readonly size?: readonly number[];
  readonly isAtomic?: boolean;
  readonly limits?: { readonly gpuMs?: number; readonly gpuBytes?: number };
}

export function kernelOf({
  name = "test",
  inputs,
  outputs,
  source,
  count = ["n/64"],
  size = [64],
  isAtomic,
  limits,
}: Declared): Kernel {
  const tensors = (all: Declared["inputs"]): object[] =>
    Object.entries(all).map(([tensor, [type, ...shape]]) => ({ name: tensor, type, shape }));
  return wgslKernel(
    kernelSpec({
      kind: "wgsl",
      name,
      inputs: tensors(inputs),
      outputs: tensors(outputs).map((each) => (isAtomic === true ? { ...each, atomic: true } : each)),
      source,
      workgroup: { size, count },
      operations: "n",
      result: "exact",
      hasCpu: true,
      ...(limits === undefined ? {} : { limits: { gpuMs: 20_000, gpuBytes: 2 ** 32, ...limits } }),
    }),
  );
}

const ENTRY = "fn main(@builtin(global_invocation_id) id: vec3u)";

/** Mixes each word with its place. */
export const mix: Kernel = kernelOf({
  name: "mix",
  inputs: { v: ["u32", "n"] },
  outputs: { w: ["u32", "n"] },
  count: ["1024", "n/65536"],
  source: `${ENTRY} { let at = id.y * 65536u + id.x; if (at < dims.n) { w[at] = (v[at] ^ at) * 2654435761u; } }`,
});

export function mixed(words: Uint32Array): Uint32Array {
  return words.map((word, at) => Math.imul(word ^ at, 2654435761));
}

/** Never ends. */
export const endless: Kernel = kernelOf({
  name: "endless",
  inputs: { v: ["u32", "n"] },
  outputs: { w: ["u32", "n"] },
  source: `${ENTRY} { var x = id.x; loop { x = x * 1664525u + v[0]; if (x == 0xffffffffu && v[0] == 0u) { break; } } w[id.x] = x; }`,
  limits: { gpuMs: 300 },
});
