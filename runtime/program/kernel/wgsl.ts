/**
 * Kernels that are written in WGSL: the module that is made of a source, which has functions and an entry `main`, and
 * the layout of its buffers. Sources are hostile text for whoever compiles them; what is refused here is what would not be
 * meant: declarations of what is declared already.
 */
import { KernelError, KernelErrorCode } from "../../errors.ts";
import { dimensionNames } from "./binding.ts";
import type { KernelLayout, KernelSpec, Tensor, UniformWord } from "./kernel.ts";

type WgslSpec = Pick<KernelSpec, "inputs" | "outputs" | "source"> & {
  readonly workgroup: NonNullable<KernelSpec["workgroup"]>;
};

/** WebGPU wants uniform buffers of structures at multiples of so many words. */
const UNIFORM_ALIGN_WORDS = 4;
const ENTRY_POINT = "main";
const ENTRY = /\bfn\s+main\s*\(/g;
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/@\s*(?:group|binding)\b/, "inputs and outputs are declared already, by their names"],
  [/@\s*(?:compute|workgroup_size)\b/, "main gets @compute and its workgroup's size from the declaration"],
  [/@\s*(?:vertex|fragment)\b/, "a kernel has one entry, main"],
  [/\boverride\b/, "nobody gives values to override declarations"],
  [/\b(?:enable|requires)\b/, "a kernel takes no extensions of WGSL"],
];

/** The text without what no code can stand in: comments, which nest, become as many spaces and line ends. */
function withoutComments(source: string): string {
  let text = "";
  for (let at = 0; at < source.length;) {
    const end = commentEnd(source, at);
    text += end === at ? source[at] : source.slice(at, end).replace(/[^\n]/g, " ");
    at = Math.max(end, at + 1);
  }
  return text;
}

/** Where the comment ends that begins at `at`, or `at`. */
function commentEnd(source: string, at: number): number {
  if (source.startsWith("//", at)) {
    const end = source.indexOf("\n", at);
    return end === -1 ? source.length : end;
  }
  if (!source.startsWith("/*", at)) return at;
  let depth = 1;
  let end = at + 2;
  for (; end < source.length && depth > 0; end++) {
    if (source.startsWith("/*", end)) depth++;
    else if (source.startsWith("*/", end)) depth--;
    else continue;
    end++;
  }
  return end;
}

/** The source with line ends and without what a text may not have. Throws PFS_KERNEL_INVALID {reason, line, column}. */
export function checkWgslSource(source: string): string {
  const text = source.replace(/\r\n?/g, "\n").replace(/\s+$/, "\n");
  const code = withoutComments(text);
  // oxlint-disable-next-line no-control-regex
  const odd = /[^\t\n\x20-\x7e\u00a0-\ud7ff\ue000-\uffff]/u.exec(
    text.replace(/[\u{10000}-\u{10ffff}]/gu, "  "),
  );
  if (odd !== null) throw wrongSource(text, odd.index, "this character cannot stand in WGSL");
  for (const [pattern, reason] of REFUSED) {
    const found = pattern.exec(code);
    if (found !== null) throw wrongSource(text, found.index, reason);
  }
  const entries = [...code.matchAll(ENTRY)];
  if (entries.length === 0) throw wrongSource(text, 0, "it has no function main");
  if (entries.length > 1) throw wrongSource(text, entries[1]!.index, "it has more than one function main");
  return text;
}

/** The module, in whose lines the source's stand in their order, behind those of `wgslHeader`. */
export function wgslModule(spec: WgslSpec): string {
  const [entry] = withoutComments(spec.source).matchAll(ENTRY);
  const at = entry?.index ?? 0;
  return wgslHeader(spec) + spec.source.slice(0, at) + entryAttributes(spec) + spec.source.slice(at);
}

/**
 * Where a place in the module is in the source, both counted from 1; undefined where it is in what was put before it.
 * Authors are told places in what they wrote.
 */
export function wgslSourcePlace(
  spec: WgslSpec,
  line: number,
  column: number,
): { readonly line: number; readonly column: number } | undefined {
  const own = line - (wgslHeader(spec).split("\n").length - 1);
  if (own < 1) return undefined;
  const [entry] = withoutComments(spec.source).matchAll(ENTRY);
  const before = spec.source.slice(0, entry?.index ?? 0).split("\n");
  const added = entryAttributes(spec).length;
  const isBehind = own === before.length && column > before.at(-1)!.length + added;
  return { line: own, column: isBehind ? column - added : column };
}

export function wgslLayout(spec: WgslSpec): KernelLayout {
  const words: UniformWord[] = dimensionNames(spec).map((name) => ({ u32: name }));
  for (const [index, { shape }] of spec.inputs.entries())
    if (shape.length === 0) words.push({ input: index });
  while (words.length === 0 || words.length % UNIFORM_ALIGN_WORDS !== 0) words.push({ u32: "0" });
  return {
    uniform: words,
    bindings: tensorBindings(spec),
    entryPoint: ENTRY_POINT,
    workgroups: spec.workgroup.count,
  };
}

/** Inputs in their order, scalars left out, then outputs. */
export function tensorBindings({
  inputs,
  outputs,
}: Pick<KernelSpec, "inputs" | "outputs">): KernelLayout["bindings"] {
  const arrays = inputs.flatMap(({ shape }, input) => (shape.length === 0 ? [] : [{ input }]));
  return [...arrays, ...outputs.map((_, output) => ({ output }))];
}

function wgslHeader(spec: WgslSpec): string {
  const scalars = spec.inputs.filter(({ shape }) => shape.length === 0);
  const fields = [
    ...dimensionNames(spec).map((name) => `${name}: u32`),
    ...scalars.map(({ name, type }) => `${name}: ${type}`),
  ];
  const tensors = tensorBindings(spec).map(({ input, output }, index) => {
    const tensor = input === undefined ? spec.outputs[output!]! : spec.inputs[input]!;
    const access = input === undefined ? "read_write" : "read";
    const type = `array<${elementOf(tensor)}>`;
    return `@group(0) @binding(${index + 1}) var<storage, ${access}> ${tensor.name}: ${type};`;
  });
  return [
    `struct Dims { ${(fields.length === 0 ? ["none: u32"] : fields).join(", ")} }`,
    "@group(0) @binding(0) var<uniform> dims: Dims;",
    ...tensors,
    "",
  ].join("\n");
}

function elementOf({ type, atomic }: Tensor): string {
  const element = type === "bytes" ? "u32" : type;
  return atomic === true ? `atomic<${element}>` : element;
}

function entryAttributes({ workgroup }: WgslSpec): string {
  return `@compute @workgroup_size(${workgroup.size.join(", ")}) `;
}

/** `at` is counted in UTF-16 units of the source. */
function wrongSource(source: string, at: number, reason: string): KernelError {
  const lines = source.slice(0, at).split("\n");
  const [line, column] = [lines.length, lines.at(-1)!.length + 1];
  return new KernelError(KernelErrorCode.invalid, `${reason} (line ${line}, column ${column})`, {
    reason,
    line,
    column,
  });
}
