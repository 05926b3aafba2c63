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
const STAGE = /@\s*compute\b/g;
const SIZE = /@\s*workgroup_size\s*\(([^)]*)\)/g;
/** What an entry may have before it: its attributes, in any order. */
const OWN_ATTRIBUTES = /(?:@\s*compute\s*|@\s*workgroup_size\s*\([^)]*\)\s*){2}$/;
const REFUSED: readonly (readonly [RegExp, string])[] = [
  [/@\s*(?:group|binding)\b/, "inputs and outputs are declared already, by their names"],
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

/**
 * The source with line ends and without what a text may not have. Its entry may have its attributes itself, so that editors
 * take it for what it is. Throws PFS_KERNEL_INVALID {reason, line, column}.
 */
export function checkWgslSource(source: string, workgroup: WgslSpec["workgroup"]): string {
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
  const [entry, second] = code.matchAll(ENTRY);
  if (entry === undefined) throw wrongSource(text, 0, "it has no function main");
  if (second !== undefined) throw wrongSource(text, second.index, "it has more than one function main");
  checkAttributes(text, code, entry.index, workgroup);
  return text;
}

function checkAttributes(text: string, code: string, entry: number, { size }: WgslSpec["workgroup"]): void {
  const [stages, sizes] = [[...code.matchAll(STAGE)], [...code.matchAll(SIZE)]];
  const [attribute] = [...stages, ...sizes];
  if (attribute === undefined) return;
  if (stages.length !== 1 || sizes.length !== 1 || !hasAttributes(code, entry))
    throw wrongSource(
      text,
      attribute.index,
      "only main has attributes, @compute and @workgroup_size, or neither",
    );
  const given = sizes[0]![1]!.split(",").map((each) => each.trim());
  while (given.length < size.length) given.push("1");
  if (given.join() !== size.join())
    throw wrongSource(
      text,
      sizes[0]!.index,
      `its workgroup is declared as one of ${size.join(", ")} threads`,
    );
}

function hasAttributes(code: string, entry: number): boolean {
  return OWN_ATTRIBUTES.test(code.slice(0, entry));
}

/** The module, in whose lines the source's stand in their order, behind those of `wgslHeader`. */
export function wgslModule(spec: WgslSpec): string {
  const { at, attributes } = entryOf(spec);
  return wgslHeader(spec) + spec.source.slice(0, at) + attributes + spec.source.slice(at);
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
  const { at, attributes } = entryOf(spec);
  const before = spec.source.slice(0, at).split("\n");
  const added = attributes.length;
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

/** Where its entry begins, and the attributes that it lacks. */
function entryOf({ source, workgroup }: WgslSpec): { readonly at: number; readonly attributes: string } {
  const code = withoutComments(source);
  const [entry] = code.matchAll(ENTRY);
  const at = entry?.index ?? 0;
  const attributes = hasAttributes(code, at) ? "" : `@compute @workgroup_size(${workgroup.size.join(", ")}) `;
  return { at, attributes };
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
