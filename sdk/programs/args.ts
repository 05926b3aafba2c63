/** A program's arguments, as whoever starts it gives them: a JSON value that arrives as it is. */
import { messageOf } from "../../packets/errors.ts";
import { formatBytes } from "../../runtime/format.ts";
import { PROGRAM_ARGS_BYTES_MAX, PROGRAM_ARGS_DEPTH_MAX } from "../../runtime/limits.ts";
import { jsonDepth } from "../../runtime/program/manifest.ts";
import { UsageError } from "../errors.ts";

/** Throws PFS_USAGE for arguments that JSON does not carry as they are, and for more of them than a program can be given. */
export function checkArgs(args: unknown): void {
  let text: string;
  try {
    text = JSON.stringify(
      args ?? null,
      function (this: Readonly<Record<string, unknown>>, key, value: unknown) {
        const reason = unlikeJson(this[key]);
        if (reason !== undefined)
          throw new TypeError(key === "" ? reason : `its ${JSON.stringify(key)} is ${reason}`);
        return value;
      },
    );
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep();
    throw new UsageError(`args must be a JSON value: ${messageOf(error)}`);
  }
  if (jsonDepth(text) > PROGRAM_ARGS_DEPTH_MAX) throw tooDeep();
  const bytes = Buffer.byteLength(text);
  if (bytes <= PROGRAM_ARGS_BYTES_MAX) return;
  throw new UsageError(
    `args are more than ${formatBytes(PROGRAM_ARGS_BYTES_MAX)} of JSON: store what is large as a file`,
    { bytes, max: PROGRAM_ARGS_BYTES_MAX },
  );
}

function tooDeep(): UsageError {
  return new UsageError(
    `args are nested more than ${PROGRAM_ARGS_DEPTH_MAX} deep: give what has so many levels as a list`,
    { max: PROGRAM_ARGS_DEPTH_MAX },
  );
}

/** What a value is, where JSON would make another one of it. Properties that are undefined are left out, as everywhere. */
function unlikeJson(value: unknown): string | undefined {
  if (typeof value === "number")
    return Number.isFinite(value) && !Object.is(value, -0)
      ? undefined
      : `${Object.is(value, -0) ? "-0" : value}`;
  if (typeof value === "bigint" || typeof value === "function" || typeof value === "symbol")
    return `a ${typeof value}`;
  if (typeof value !== "object" || value === null || Array.isArray(value)) return undefined;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || prototype === Object.prototype ? undefined : "an instance of a class";
}
