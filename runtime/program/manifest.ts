/**
 * What a program declares, and the manifest chunk, which says all that a lane needs to know of a program. Its keys stand in
 * one order, so that the same program with the same arguments has one ref everywhere and results can be remembered by it.
 */
import * as v from "valibot";
import { sameBytes } from "../../packets/digest.ts";
import { messageOf } from "../../packets/errors.ts";
import { CHUNK_BYTES_MAX, NAME_BYTES_MAX } from "../../packets/limits.ts";
import { JobError, JobErrorCode, SandboxError, SandboxErrorCode } from "../errors.ts";
import {
  KERNELS_MAX,
  PROGRAM_ARGS_DEPTH_MAX,
  PROGRAM_FILES_MAX,
  PROGRAM_LIMITS_DEFAULT,
  PROGRAM_LIMITS_MAX,
  PROGRAM_LIMITS_MIN,
} from "../limits.ts";
import type {
  InspectedProgram,
  Manifest,
  ManifestFile,
  ProgramDescription,
  ProgramLimits,
} from "./program.ts";
import { parseKernel } from "./kernel/declaration.ts";
import type { Kernel } from "./kernel/kernel.ts";
import { readerSchema } from "./readers.ts";

function limit(name: keyof ProgramLimits): v.OptionalSchema<v.GenericSchema<number>, number> {
  const [least, most] = [PROGRAM_LIMITS_MIN[name], PROGRAM_LIMITS_MAX[name]];
  const message = `limits.${name} is a whole number from ${least} to ${most}`;
  return v.optional(
    v.pipe(v.number(message), v.safeInteger(message), v.minValue(least, message), v.maxValue(most, message)),
    PROGRAM_LIMITS_DEFAULT[name],
  );
}

const described = {
  reader: readerSchema,
  yields: v.optional(
    v.picklist(["value", "groups", "bytes"], 'yields is "value", "groups" or "bytes"'),
    "value",
  ),
  hasCombine: v.boolean(),
  hasReduce: v.boolean(),
  hasTop: v.boolean(),
  limits: v.optional(
    v.object(
      {
        timeMs: limit("timeMs"),
        memoryBytes: limit("memoryBytes"),
        outputBytes: limit("outputBytes"),
        logBytes: limit("logBytes"),
      },
      "limits is an object",
    ),
    {},
  ),
};

const NO_OBJECT = "the program's declaration is not an object";

const kernels: v.GenericSchema<unknown, readonly Kernel[]> = v.pipe(
  v.array(
    v.pipe(
      v.unknown(),
      v.rawTransform(({ dataset, addIssue, NEVER }) => {
        try {
          return parseKernel(dataset.value);
        } catch (error) {
          addIssue({ message: messageOf(error) });
          return NEVER;
        }
      }),
    ),
  ),
  v.minLength(1, "a program has kernels, or says nothing of any"),
  v.maxLength(KERNELS_MAX, `a program has at most ${KERNELS_MAX} kernels`),
  v.check(
    (all) => new Set(all.map(({ name }) => name)).size === all.length,
    "two kernels of the program have one name",
  ),
);

const description: v.GenericSchema<unknown, ProgramDescription> = v.object(
  { ...described, kernels: v.exactOptional(kernels) },
  NO_OBJECT,
);

/** Of declarations, no more is looked at here than that there are not too many. */
const inspection: v.GenericSchema<unknown, InspectedProgram> = v.object(
  {
    ...described,
    declared: v.exactOptional(
      v.pipe(
        v.array(
          v.looseObject({ inputs: v.array(v.unknown()), outputs: v.array(v.unknown()), hasCpu: v.boolean() }),
        ),
        v.maxLength(KERNELS_MAX, `a program has at most ${KERNELS_MAX} kernels`),
      ),
    ),
  },
  NO_OBJECT,
);

const root = v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "a root is 64 hexadecimal digits"));

/** What a program may call a file that it is given: as a property is called that needs no quotes. */
const FILE_NAME = /^[A-Za-z_$][\w$]{0,63}$/;

/** Why a program cannot have a file by this name, or null. */
export function invalidFileName(name: string): string | null {
  if (!FILE_NAME.test(name)) return "it is 1 to 64 letters, digits, _ and $, and does not begin with a digit";
  return name in Object.prototype ? "every object has a property of that name" : null;
}

const files: v.GenericSchema<unknown, Readonly<Record<string, ManifestFile>>> = v.pipe(
  v.record(
    v.pipe(
      v.string(),
      v.check((name) => invalidFileName(name) === null, "the name of a file is no name of a property"),
    ),
    v.strictObject({ root, length: v.pipe(v.number(), v.safeInteger(), v.minValue(0)) }),
  ),
  v.check((given) => {
    const count = Object.keys(given).length;
    return count > 0 && count <= PROGRAM_FILES_MAX;
  }, `a program has 1 to ${PROGRAM_FILES_MAX} files, or none`),
  // One spelling, whoever named them in which order.
  v.transform((given) => Object.fromEntries(Object.entries(given).toSorted(([a], [b]) => (a < b ? -1 : 1)))),
);

/** All but the arguments, which are any JSON value. */
const head = v.strictObject({
  version: v.literal(1),
  kind: v.picklist(["js", "kernel"]),
  name: v.pipe(v.string(), v.nonEmpty(), v.maxBytes(NAME_BYTES_MAX)),
  code: root,
  entry: v.picklist(["map", "merge", "finish", "order", "scan", "estimate"]),
  description,
  engine: v.exactOptional(v.picklist(["gpu", "cpu"])),
  files: v.exactOptional(files),
});

/** The manifest's chunk. Throws PFS_PROGRAM_INVALID when it is not what `parseManifest` takes. */
export function encodeManifest({ args, ...rest }: Manifest): Uint8Array {
  // The schema writes keys in its own order. The arguments stand in it as what they are: as text in text they would grow.
  const text = JSON.stringify(validHead(rest)).slice(0, -1);
  const bytes = new TextEncoder().encode(`${text},"args":${sameJson(args)}}`);
  if (bytes.byteLength > CHUNK_BYTES_MAX)
    throw invalid(`${bytes.byteLength} bytes are more than a chunk holds`);
  return bytes;
}

/** Reads a manifest's chunk. Throws PFS_PROGRAM_INVALID {reason}. */
export function parseManifest(bytes: Uint8Array): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw invalid("it is not JSON");
  }
  if (typeof value !== "object" || value === null || !Object.hasOwn(value, "args")) {
    throw invalid("it has no arguments");
  }
  const { args, ...rest } = value as { readonly args: unknown };
  const parsed = { ...validHead(rest), args: jsonText(args) };
  // One spelling: keys that mean nothing, or another order, would give one program several refs.
  if (!sameBytes(encodeManifest(parsed), bytes)) throw invalid("it is not written as it must be");
  return parsed;
}

function validHead(value: unknown): Omit<Manifest, "args"> {
  const result = v.safeParse(head, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue);
  throw invalid(path === null ? issue.message : `${path}: ${issue.message}`);
}

/** How deep arrays and objects stand within each other in JSON text. */
export function jsonDepth(text: string): number {
  let depth = 0;
  let deepest = 0;
  let isInString = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === '"') isInString = !isInString;
    else if (isInString) at += character === "\\" ? 1 : 0;
    else if (character === "[" || character === "{") deepest = Math.max(deepest, ++depth);
    else if (character === "]" || character === "}") depth--;
  }
  return deepest;
}

/** The text in the one spelling that `JSON.stringify` has for what it says. */
function sameJson(text: string): string {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid("args: arguments are JSON text");
  }
  if (jsonDepth(text) > PROGRAM_ARGS_DEPTH_MAX) throw tooDeep();
  return jsonText(value);
}

function jsonText(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch {
    throw tooDeep();
  }
}

/** A description in JSON text. Throws PFS_PROGRAM_INVALID {reason}. */
export function parseDescription(json: string): ProgramDescription {
  return parsed(json, description);
}

/** What the guest says of a program that it has looked into, in JSON text. Throws PFS_PROGRAM_INVALID {reason}. */
export function parseInspection(json: string): InspectedProgram {
  return parsed(json, inspection);
}

function parsed<Value>(json: string, schema: v.GenericSchema<unknown, Value>): Value {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw invalidProgram("its declaration cannot be read");
  }
  if (typeof value === "object" && value !== null && "reason" in value) {
    throw invalidProgram(String(value.reason).slice(0, 2048));
  }
  const result = v.safeParse(schema, value, { abortEarly: true });
  if (!result.success) throw invalidProgram(result.issues[0].message);
  return result.output;
}

export function invalidProgram(reason: string, cause?: unknown): SandboxError {
  const message = `the program does not load: ${reason}`;
  return new SandboxError(SandboxErrorCode.invalidProgram, message, { reason }, { cause });
}

function tooDeep(): JobError {
  return invalid(`args: they are nested more than ${PROGRAM_ARGS_DEPTH_MAX} deep`);
}

function invalid(reason: string): JobError {
  return new JobError(JobErrorCode.invalidProgram, `the program's manifest is invalid: ${reason}`, {
    reason,
  });
}
