/**
 * Kernels as their authors declare them and as manifests have them. Nothing of either is believed: names, shapes and sizes are
 * bounded, sources are validated, and whatever follows from them is made again and compared.
 */
import * as v from "valibot";
import type { ErrorData } from "../../../packets/errors.ts";
import { KernelError, KernelErrorCode } from "../../errors.ts";
import {
  KERNEL_GPU_SHARE_DEFAULT,
  KERNEL_GPU_SHARE_MIN,
  KERNEL_DIMENSION_MAX,
  KERNEL_INPUTS_MAX,
  KERNEL_JS_SOURCE_BYTES_MAX,
  KERNEL_LIMITS_DEFAULT,
  KERNEL_LIMITS_MAX,
  KERNEL_MODULE_BYTES_MAX,
  KERNEL_NAME_CHARACTERS_MAX,
  KERNEL_RANK_MAX,
  KERNEL_SIZE_CHARACTERS_MAX,
  KERNEL_TENSORS_MAX,
  KERNEL_UNIFORM_WORDS_MAX,
  KERNEL_WGSL_SOURCE_BYTES_MAX,
  KERNEL_WHOLE_MAX,
  KERNEL_WORKGROUP_DEPTH_MAX,
  KERNEL_WORKGROUP_THREADS_MAX,
} from "../../limits.ts";
import { dimensionNames } from "./binding.ts";
import type { Kernel, KernelLimits, KernelSpec, Tensor } from "./kernel.ts";
import { gpuJsLayout, gpuJsWgsl } from "./gpujs.ts";
import { jsOperations } from "./js-cost.ts";
import { inexactness } from "./js-exact.ts";
import { printJs } from "./js-print.ts";
import { parseJsSource } from "./js-source.ts";
import { parseSize } from "./sizes.ts";
import { checkWgslSource, wgslLayout, wgslModule } from "./wgsl.ts";

/** WGSL has sizes of workgroups along three axes; those that are not said are 1. */
type Three<T> = readonly [T, T, T];

const NAME = /^[A-Za-z][A-Za-z0-9_]*$/;
const NAME_MESSAGE =
  "a name is made of a-z, A-Z, 0-9 and _, begins with a letter, and no object has it by itself";
/** What modules in WGSL have themselves. */
const WGSL_NAMES = new Set(["dims", "Dims", "main"]);

const kernelName = v.pipe(
  v.string("a kernel's name is a text"),
  v.nonEmpty("a kernel's name is not empty"),
  v.maxLength(
    KERNEL_NAME_CHARACTERS_MAX,
    `a kernel's name has at most ${KERNEL_NAME_CHARACTERS_MAX} characters`,
  ),
  // oxlint-disable-next-line no-control-regex
  v.regex(/^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]*$/, "a kernel's name is a line of text"),
);
const name = v.pipe(
  v.string("a name is a text"),
  v.maxLength(KERNEL_NAME_CHARACTERS_MAX, `a name has at most ${KERNEL_NAME_CHARACTERS_MAX} characters`),
  v.regex(NAME, NAME_MESSAGE),
  v.check((text) => !(text in {}), NAME_MESSAGE),
);
const size = whole("a dimension", 1, KERNEL_DIMENSION_MAX);
const tensor = v.strictObject(
  {
    name,
    type: v.picklist(["f32", "i32", "u32", "bytes"], 'a type is "f32", "i32", "u32" or "bytes"'),
    shape: v.pipe(
      v.array(v.union([size, name], "a dimension is a whole number or a name"), "a shape is an array"),
      v.maxLength(KERNEL_RANK_MAX, `a shape has at most ${KERNEL_RANK_MAX} dimensions`),
    ),
    atomic: v.exactOptional(v.boolean("atomic is true or false")),
  },
  "an input or output is what f32(), i32(), u32() or bytes() gives",
);
const agreement = v.union(
  [v.literal("exact"), v.strictObject({ relL2: tolerance("result.relL2"), abs: tolerance("result.abs") })],
  'result is "exact" or { relL2, abs }',
);
const expression = v.pipe(
  v.string("a size is a text or a whole number"),
  v.maxLength(KERNEL_SIZE_CHARACTERS_MAX, `a size has at most ${KERNEL_SIZE_CHARACTERS_MAX} characters`),
);
const sized = v.union(
  [v.pipe(whole("a size", 0, Number.MAX_SAFE_INTEGER), v.transform(String)), expression],
  "a size is a text or a whole number",
);
const threads = whole("the size of a workgroup", 1, KERNEL_WORKGROUP_THREADS_MAX);
const trips = byName(whole("a maxTrip", 1, KERNEL_WHOLE_MAX), "maxTrip is an object of whole numbers");
const share = v.pipe(
  v.number("gpu is a number"),
  v.minValue(KERNEL_GPU_SHARE_MIN, `gpu is at least ${KERNEL_GPU_SHARE_MIN}`),
  v.maxValue(1, "gpu is at most 1"),
);

const declared = v.strictObject(
  {
    name: v.optional(kernelName),
    kind: v.picklist(["js", "wgsl"], 'kind is "js" or "wgsl"'),
    inputs: v.pipe(
      v.array(tensor, "inputs are an object of tensors"),
      v.maxLength(KERNEL_INPUTS_MAX, `a kernel has at most ${KERNEL_INPUTS_MAX} inputs`),
    ),
    outputs: v.pipe(
      v.array(tensor, "outputs are an object of tensors"),
      v.minLength(1, "a kernel has an output"),
      v.maxLength(KERNEL_TENSORS_MAX, `a kernel has at most ${KERNEL_TENSORS_MAX} outputs`),
    ),
    source: v.string("a kernel's source is a function or a text"),
    constants: v.optional(
      byName(
        v.pipe(v.number("a constant is a number"), v.finite("a constant is finite")),
        "constants is an object of numbers",
      ),
      {},
    ),
    maxTrip: v.optional(trips, {}),
    result: agreement,
    hasCpu: v.boolean(),
    workgroup: v.optional(
      v.strictObject(
        {
          size: v.union(
            [
              v.pipe(
                v.strictTuple([threads]),
                v.transform(([x]): Three<number> => [x, 1, 1]),
              ),
              v.pipe(
                v.strictTuple([threads, threads]),
                v.transform(([x, y]): Three<number> => [x, y, 1]),
              ),
              v.strictTuple([threads, threads, threads]),
            ],
            "workgroup.size is one to three whole numbers",
          ),
          count: v.union(
            [
              v.pipe(
                v.strictTuple([sized]),
                v.transform(([x]): Three<string> => [x, "1", "1"]),
              ),
              v.pipe(
                v.strictTuple([sized, sized]),
                v.transform(([x, y]): Three<string> => [x, y, "1"]),
              ),
              v.strictTuple([sized, sized, sized]),
            ],
            "workgroup.count is one to three sizes",
          ),
        },
        "workgroup is { size, count }",
      ),
    ),
    operations: v.optional(sized),
    limits: v.optional(
      v.strictObject({ gpuMs: limit("gpuMs"), gpuBytes: limit("gpuBytes") }, "limits is { gpuMs, gpuBytes }"),
      {},
    ),
    gpu: v.optional(share, KERNEL_GPU_SHARE_DEFAULT),
  },
  "a kernel's declaration is an object with kind, inputs, output, source and result",
);

const gpuJsModule = v.object({
  wgsl: v.string(),
  params: v.object({
    arrayArgs: v.array(v.object({ name: v.string(), index: v.number(), dimsOffset: v.number() })),
    scalarArgs: v.array(v.object({ name: v.string(), index: v.number(), offset: v.number() })),
    byteLength: v.number(),
  }),
  workgroupSize: v.array(v.number()),
});

type Declared = v.InferOutput<typeof declared>;

/**
 * What is declared, validated. `position` names kernels whose author does not. Throws PFS_KERNEL_INVALID {kernel, reason}, with line
 * and column where it is the source that is wrong.
 */
export function kernelSpec(declaration: unknown, position = 0): KernelSpec {
  const result = v.safeParse(declared, declaration, { abortEarly: true });
  const given = declaredName(declaration) ?? `kernel ${position + 1}`;
  if (!result.success) {
    const [issue] = result.issues;
    throw invalid(given, reasonOf(issue, v.getDotPath(issue)));
  }
  try {
    return specOf(result.output, given);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const { reason = error.message, ...place } = error.data;
    throw invalid(given, String(reason), place);
  }
}

/** What is wrong at a place in a declaration. What is missing there, or is too much, is all that needs to be said of it. */
function reasonOf({ type, expected, message }: v.BaseIssue<unknown>, path: string | null): string {
  if (path === null) return message;
  if (type === "strict_object")
    return expected === "never" ? `${message}; nothing is called ${path}` : `it has no ${path}`;
  return `${message} (at ${path})`;
}

/** A kernel in WGSL, which has all that a GPU needs in itself. */
export function wgslKernel(spec: KernelSpec): Kernel {
  const { workgroup } = spec;
  if (workgroup === undefined) throw invalid(spec.name, "it has no workgroup");
  return { ...spec, wgsl: wgslModule({ ...spec, workgroup }), layout: wgslLayout({ ...spec, workgroup }) };
}

/** A kernel in JavaScript with what GPU.js made of it. Throws PFS_KERNEL_INVALID where that is not what it makes of such a kernel. */
export function jsKernel(spec: KernelSpec, made: unknown): Kernel {
  const result = v.safeParse(gpuJsModule, made);
  if (!result.success) throw invalid(spec.name, "GPU.js made nothing of it that can be read");
  return { ...spec, wgsl: gpuJsWgsl(spec, result.output), layout: gpuJsLayout(spec) };
}

/**
 * A kernel as a manifest has it. Throws PFS_KERNEL_INVALID unless it is one that `kernelSpec` gives, with the layout that
 * follows from it; and in WGSL with the module that does. What GPU.js made of another is not known here, and not believed:
 * WebGPU checks it, bounds it, and its process ends when it takes too long.
 */
export function parseKernel(value: unknown): Kernel {
  if (typeof value !== "object" || value === null) throw invalid("kernel", "it is no object");
  const { wgsl, layout: _, ...rest } = value as Readonly<Record<string, unknown>>;
  const parsed = kernelSpec(rest);
  if (typeof wgsl !== "string" || wgsl.length > KERNEL_MODULE_BYTES_MAX)
    throw invalid(parsed.name, `its module is no text of at most ${KERNEL_MODULE_BYTES_MAX} characters`);
  const made = parsed.kind === "js" ? { ...parsed, wgsl, layout: gpuJsLayout(parsed) } : wgslKernel(parsed);
  if (made.wgsl !== wgsl) throw invalid(parsed.name, "its module is not the one of its source");
  // One spelling: whatever else it says, or says in another order, does not follow from it.
  if (JSON.stringify(made) !== JSON.stringify(value))
    throw invalid(parsed.name, "it is not written as it must be");
  return made;
}

function specOf(parsed: Declared, given: string): KernelSpec {
  const { kind, inputs, outputs, maxTrip, result, hasCpu, workgroup, limits, gpu } = parsed;
  const sizes = checkNames(parsed);
  checkTensors(parsed);
  if (kind === "wgsl" && !hasCpu)
    throw wrong("it is in WGSL and has no cpu, without which it computes nothing where there is no GPU");
  const { source, operations: counted } = sourceOf(parsed);
  const operations = parsed.operations ?? counted;
  for (const text of [operations, ...(workgroup?.count ?? [])]) {
    const unknown = parseSize(text).names.find((each) => !sizes.has(each));
    if (unknown !== undefined)
      throw wrong(`the size ${JSON.stringify(text)} has the name ${unknown}, which is no dimension`);
  }
  return {
    name: given,
    kind,
    inputs,
    outputs,
    source,
    maxTrip: Object.fromEntries(Object.entries(maxTrip).toSorted(([a], [b]) => (a < b ? -1 : 1))),
    result,
    hasCpu,
    ...(workgroup === undefined ? {} : { workgroup }),
    operations,
    limits,
    gpu,
  };
}

/** Returns names that sizes may have: of dimensions, and of whole scalars. */
function checkNames({ kind, inputs, outputs, maxTrip }: Declared): ReadonlySet<string> {
  const dimensions = dimensionNames({ inputs, outputs });
  const names = [...inputs, ...outputs].map((each) => each.name);
  const all = [...dimensions, ...names];
  const twice = all.find((each, index) => all.indexOf(each) !== index);
  if (twice !== undefined) throw wrong(`two of its inputs, outputs and dimensions are called ${twice}`);
  const taken = kind === "wgsl" ? all.find((each) => WGSL_NAMES.has(each)) : undefined;
  if (taken !== undefined) throw wrong(`${taken} is what a module in WGSL calls something else`);
  const scalars = inputs.filter(({ shape, type }) => shape.length === 0 && type !== "f32");
  const sizes = new Set([...dimensions, ...scalars.map((each) => each.name)]);
  const unknown = Object.keys(maxTrip).find((each) => !sizes.has(each));
  if (unknown !== undefined)
    throw wrong(`maxTrip has ${unknown}, which is no dimension and no whole number among its inputs`);
  if (dimensions.length + inputs.length + 16 > KERNEL_UNIFORM_WORDS_MAX)
    throw wrong("it has too many dimensions and inputs");
  return sizes;
}

function checkTensors({ kind, inputs, outputs, workgroup }: Declared): void {
  const arrays = [...inputs.filter(({ shape }) => shape.length > 0), ...outputs];
  if (arrays.length > KERNEL_TENSORS_MAX)
    throw wrong(
      `it has ${arrays.length} inputs and outputs that are no numbers, and ${KERNEL_TENSORS_MAX} are the most`,
    );
  const scalar = outputs.find(({ shape }) => shape.length === 0);
  if (scalar !== undefined)
    throw wrong(`its ${scalar.name} has no dimensions: an output of one number is one of [1]`);
  const bytes = inputs.find(({ shape, type }) => shape.length === 0 && type === "bytes");
  if (bytes !== undefined) throw wrong(`its input ${bytes.name} is bytes without a dimension`);
  for (const each of inputs)
    if (each.atomic !== undefined) throw wrong(`its input ${each.name} is atomic, as only outputs are`);
  for (const { name: called, type, atomic } of outputs) {
    if (atomic === true && (kind === "js" || type === "f32" || type === "bytes"))
      throw wrong(`its ${called} is atomic, as only i32 and u32 are, in WGSL`);
  }
  if (kind === "js" && outputs.length > 1) throw wrong('a kernel of kind "js" has one output');
  const unfit = kind === "js" ? [...inputs, ...outputs].find(({ type }) => type === "bytes") : undefined;
  if (unfit !== undefined) throw wrong(`${unfit.name} is of bytes, which only kernels in WGSL have`);
  if (kind === "js") {
    if (workgroup !== undefined) throw wrong("only kernels in WGSL say what their workgroups are");
    return;
  }
  if (workgroup === undefined)
    throw wrong('a kernel in WGSL says what its workgroup is: { size: [64], count: ["n / 64"] }');
  const [x, y, z] = workgroup.size;
  if (x * y * z > KERNEL_WORKGROUP_THREADS_MAX || z > KERNEL_WORKGROUP_DEPTH_MAX)
    throw wrong(
      `a workgroup has at most ${KERNEL_WORKGROUP_THREADS_MAX} threads, and ${KERNEL_WORKGROUP_DEPTH_MAX} along z`,
    );
}

/** The source in its one spelling, and what a call of it takes unless its author says so. */
function sourceOf(parsed: Declared): Pick<KernelSpec, "source" | "operations"> {
  const { kind, inputs, outputs, source, constants, maxTrip, result, workgroup } = parsed;
  const most = kind === "js" ? KERNEL_JS_SOURCE_BYTES_MAX : KERNEL_WGSL_SOURCE_BYTES_MAX;
  if (Buffer.byteLength(source) > most) throw wrong(`its source is longer than ${most} bytes`);
  if (kind === "wgsl") {
    if (Object.keys(constants).length > 0) throw wrong("a kernel in WGSL has its constants in its source");
    return { source: checkWgslSource(source, workgroup!), operations: elementsOf([...inputs, ...outputs]) };
  }
  const output = outputs[0]!;
  const dimensions = dimensionNames({ inputs, outputs });
  const both = dimensions.find((each) => Object.hasOwn(constants, each));
  if (both !== undefined) throw wrong(`${both} is a constant and a dimension`);
  const read = parseJsSource(source, { inputs, output, dimensions, constants, maxTrip });
  const inexact = result === "exact" ? inexactness(read.statements, inputs) : undefined;
  if (inexact !== undefined) throw read.wrong(inexact.at, inexact.reason);
  return {
    source: printJs(read.statements, inputs.length),
    operations: jsOperations(read.statements, inputs, output),
  };
}

/** Whether the operations of a kernel are those that we count, and not what its author says. */
export function isCounted(kernel: KernelSpec): boolean {
  if (kernel.kind !== "js") return false;
  const { wgsl: _wgsl, layout: _layout, operations, ...declaration } = kernel as Kernel;
  return kernelSpec(declaration).operations === operations;
}

/** How many elements tensors have. */
function elementsOf(tensors: readonly Tensor[]): string {
  return tensors.map(({ shape }) => (shape.length === 0 ? "1" : shape.join(" * "))).join(" + ");
}

function declaredName(declaration: unknown): string | undefined {
  const named = v.safeParse(v.looseObject({ name: kernelName }), declaration);
  return named.success ? named.output.name : undefined;
}

/** Values by name. The schema of records skips names that prototypes have: here none is skipped. */
function byName<Value>(
  value: v.GenericSchema<unknown, Value>,
  message: string,
): v.GenericSchema<unknown, Record<string, Value>> {
  return v.pipe(
    v.custom<object>((given) => typeof given === "object" && given !== null, message),
    v.check((given) => Object.keys(given).every((each) => v.is(name, each)), NAME_MESSAGE),
    v.record(name, value, message),
  );
}

function whole(what: string, least: number, most: number): v.GenericSchema<number> {
  const message = `${what} is a whole number from ${least} to ${most}`;
  return v.pipe(
    v.number(message),
    v.safeInteger(message),
    v.minValue(least, message),
    v.maxValue(most, message),
  );
}

function tolerance(what: string): v.GenericSchema<number> {
  const message = `${what} is a number from 0 up`;
  return v.pipe(v.number(message), v.finite(message), v.minValue(0, message));
}

function limit(called: keyof KernelLimits): v.OptionalSchema<v.GenericSchema<number>, number> {
  return v.optional(whole(`limits.${called}`, 1, KERNEL_LIMITS_MAX[called]), KERNEL_LIMITS_DEFAULT[called]);
}

function wrong(reason: string): KernelError {
  return new KernelError(KernelErrorCode.invalid, reason, { reason });
}

/** A kernel in a sentence: what has no name of its author's is called by its number. */
export function titleOf(kernel: string): string {
  return /^kernel [0-9]+$/.test(kernel) ? kernel : `the kernel ${kernel}`;
}

function invalid(kernel: string, reason: string, place: ErrorData = {}): KernelError {
  const { line, column } = place;
  const where = line === undefined ? "" : ` (line ${line}, column ${column})`;
  return new KernelError(KernelErrorCode.invalid, `${titleOf(kernel)} is wrong: ${reason}${where}`, {
    kernel,
    reason,
    ...place,
  });
}
