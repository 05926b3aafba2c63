/** Checks what a program's module declares. It comes out of a sandbox or from a peer, so nothing of it is believed. */
import * as v from "valibot";
import { SandboxError, SandboxErrorCode } from "../errors.ts";
import {
  PROGRAM_LIMITS_DEFAULT,
  PROGRAM_LIMITS_MAX,
  PROGRAM_LIMITS_MIN,
  READER_COLUMN_NAME_MAX,
  READER_COLUMNS_MAX,
  RECORD_BYTES_MAX,
} from "../limits.ts";
import { rowBytes } from "./columns.ts";
import type { ProgramDescription, ProgramLimits } from "./program.ts";

const READERS = ["bytes", "blocks", "lines", "json-lines", "csv", "columns"];
const TYPES = ["u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64"] as const;

const column = v.object({
  name: v.pipe(
    v.string("a column's name is a string"),
    v.nonEmpty("a column has no name"),
    v.maxLength(READER_COLUMN_NAME_MAX, "a column's name is too long"),
  ),
  type: v.picklist(TYPES, `a column's type is one of ${TYPES.join(", ")}`),
});

const reader = v.variant(
  "kind",
  [
    v.object({
      kind: v.literal("bytes"),
      size: v.exactOptional(
        v.pipe(
          v.number("input.size is a number of bytes"),
          v.safeInteger("input.size is a whole number"),
          v.minValue(1, "input.size is 1 at least"),
          v.maxValue(RECORD_BYTES_MAX, `input.size is at most ${RECORD_BYTES_MAX}`),
        ),
      ),
    }),
    v.object({ kind: v.literal("blocks") }),
    v.object({ kind: v.literal("lines") }),
    v.object({ kind: v.literal("json-lines") }),
    v.object({
      kind: v.literal("csv"),
      separator: v.pipe(
        v.string("input.separator is a string"),
        v.regex(/^[^"\r\n]$/u, "input.separator is one character and no quote or line end"),
      ),
      header: v.boolean("input.header is true or false"),
    }),
    v.object({
      kind: v.literal("columns"),
      fields: v.pipe(
        v.array(column, "input.fields is an array"),
        v.nonEmpty("input has no columns"),
        v.maxLength(READER_COLUMNS_MAX, `input has more than ${READER_COLUMNS_MAX} columns`),
        v.check(
          (fields) => new Set(fields.map(({ name }) => name)).size === fields.length,
          "a column is named twice",
        ),
        v.check(
          (fields) => rowBytes({ fields }) <= RECORD_BYTES_MAX,
          `a row has at most ${RECORD_BYTES_MAX} bytes`,
        ),
      ),
    }),
  ],
  `input is a reader: ${READERS.join(", ")}`,
);

function limit(name: keyof ProgramLimits): v.OptionalSchema<v.GenericSchema<number>, number> {
  const [least, most] = [PROGRAM_LIMITS_MIN[name], PROGRAM_LIMITS_MAX[name]];
  const message = `limits.${name} is a whole number from ${least} to ${most}`;
  return v.optional(
    v.pipe(v.number(message), v.safeInteger(message), v.minValue(least, message), v.maxValue(most, message)),
    PROGRAM_LIMITS_DEFAULT[name],
  );
}

export const description: v.GenericSchema<unknown, ProgramDescription> = v.object(
  {
    reader,
    yields: v.optional(
      v.picklist(["value", "groups", "bytes"], 'yields is "value", "groups" or "bytes"'),
      "value",
    ),
    hasCombine: v.boolean(),
    hasReduce: v.boolean(),
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
  },
  "the program's declaration is not an object",
);

/** The description in JSON text that the guest made. Throws PFS_PROGRAM_INVALID {reason}. */
export function parseDescription(json: string): ProgramDescription {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw invalidProgram("its declaration cannot be read");
  }
  if (typeof value === "object" && value !== null && "reason" in value) {
    throw invalidProgram(String(value.reason).slice(0, 2048));
  }
  const result = v.safeParse(description, value, { abortEarly: true });
  if (!result.success) throw invalidProgram(result.issues[0].message);
  return result.output;
}

export function invalidProgram(reason: string): SandboxError {
  return new SandboxError(SandboxErrorCode.invalidProgram, `the program does not load: ${reason}`, {
    reason,
  });
}
