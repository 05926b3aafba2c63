/**
 * The manifest chunk, which says all that a lane needs to know of a program. Its keys stand in one order, so that the
 * same program with the same arguments has the same ref everywhere and results can be remembered by it.
 */
import * as v from "valibot";
import { sameBytes } from "../../packets/digest.ts";
import { CHUNK_BYTES_MAX, NAME_BYTES_MAX } from "../../packets/limits.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { description } from "./description.ts";
import type { Manifest, ReaderSpec } from "./program.ts";

const manifest = v.strictObject({
  version: v.literal(1),
  kind: v.literal("js"),
  name: v.pipe(v.string(), v.nonEmpty(), v.maxBytes(NAME_BYTES_MAX)),
  code: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, "a root is 64 hexadecimal digits")),
  entry: v.picklist(["map", "merge", "finish", "scan"]),
  description,
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
  const parsed = validManifest(value);
  // One spelling: keys that mean nothing, or another order, would give one program several refs.
  if (!sameBytes(encodeManifest(parsed), bytes)) throw invalid("it is not written as it must be");
  return parsed;
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
