/**
 * The manifest chunk, which says all that a lane needs to know of a program. Its keys stand in one order, so that the
 * same program with the same arguments has the same ref everywhere and results can be remembered by it.
 */
import * as v from "valibot";
import { CHUNK_BYTES_MAX, NAME_BYTES_MAX } from "../../packets/limits.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { PROGRAM_LIMITS_MAX, PROGRAM_LIMITS_MIN, RECORD_BYTES_MAX } from "../limits.ts";
import type { Manifest, ProgramLimits, ReaderSpec } from "../sandbox/program.ts";
import { rowBytes } from "./record-borders.ts";

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));

function limit(name: keyof ProgramLimits): v.GenericSchema<unknown, number> {
  const { [name]: least } = PROGRAM_LIMITS_MIN;
  const { [name]: most } = PROGRAM_LIMITS_MAX;
  return v.pipe(v.number(), v.safeInteger(), v.minValue(least), v.maxValue(most));
}

const column = v.strictObject({
  name: v.pipe(v.string(), v.nonEmpty()),
  type: v.picklist(["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"]),
});

const reader = v.variant("kind", [
  v.strictObject({
    kind: v.literal("bytes"),
    size: v.exactOptional(v.pipe(count, v.maxValue(RECORD_BYTES_MAX))),
  }),
  v.strictObject({ kind: v.literal("blocks") }),
  v.strictObject({ kind: v.literal("lines") }),
  v.strictObject({ kind: v.literal("json-lines") }),
  v.strictObject({
    kind: v.literal("csv"),
    separator: v.pipe(
      v.string(),
      v.regex(/^[^"\r\n]$/u, "a separator is one character and no quote or line end"),
    ),
    header: v.boolean(),
  }),
  v.strictObject({
    kind: v.literal("columns"),
    fields: v.pipe(
      v.array(column),
      v.nonEmpty(),
      v.check(
        (fields) => new Set(fields.map(({ name }) => name)).size === fields.length,
        "a column is named twice",
      ),
      v.check((fields) => rowBytes({ kind: "columns", fields }) <= RECORD_BYTES_MAX, "a row is too long"),
    ),
  }),
]);

const manifest = v.strictObject({
  version: v.literal(1),
  kind: v.literal("js"),
  name: v.pipe(v.string(), v.nonEmpty(), v.maxBytes(NAME_BYTES_MAX)),
  code: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "a root is 64 hexadecimal digits")),
  entry: v.picklist(["map", "merge", "finish", "scan"]),
  description: v.strictObject({
    reader,
    yields: v.picklist(["value", "groups", "bytes"]),
    hasCombine: v.boolean(),
    hasReduce: v.boolean(),
    limits: v.strictObject({
      timeMs: limit("timeMs"),
      memoryBytes: limit("memoryBytes"),
      outputBytes: limit("outputBytes"),
      logBytes: limit("logBytes"),
    }),
  }),
  args: v.pipe(v.string(), v.check(isJson, "arguments are JSON text")),
});

/** The manifest's chunk. Throws PFS_PROGRAM_INVALID when it is not what `parseManifest` takes. */
export function encodeManifest(value: Manifest): Uint8Array {
  const { version, kind, name, code, entry, description, args } = validManifest(value);
  const { yields, hasCombine, hasReduce } = description;
  const { timeMs, memoryBytes, outputBytes, logBytes } = description.limits;
  const limits = { timeMs, memoryBytes, outputBytes, logBytes };
  const ordered: Manifest = {
    version,
    kind,
    name,
    code,
    entry,
    description: { reader: orderedReader(description.reader), yields, hasCombine, hasReduce, limits },
    args,
  };
  const bytes = new TextEncoder().encode(JSON.stringify(ordered));
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
  return validManifest(value);
}

function validManifest(value: unknown): Manifest {
  const result = v.safeParse(manifest, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const path = v.getDotPath(issue);
  throw invalid(path === null ? issue.message : `${path}: ${issue.message}`);
}

function orderedReader(spec: ReaderSpec): ReaderSpec {
  switch (spec.kind) {
    case "bytes":
      return spec.size === undefined ? { kind: spec.kind } : { kind: spec.kind, size: spec.size };
    case "csv":
      return { kind: spec.kind, separator: spec.separator, header: spec.header };
    case "columns":
      return { kind: spec.kind, fields: spec.fields.map(({ name, type }) => ({ name, type })) };
    default:
      return { kind: spec.kind };
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function invalid(reason: string): JobError {
  return new JobError(JobErrorCode.invalidProgram, `the program's manifest is invalid: ${reason}`, {
    reason,
  });
}
