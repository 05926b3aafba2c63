/** Packet code as a program: what others are told of by a manifest follows from its 32 bytes. */
import { Records, Stage, decodeCode } from "../../packets/code/format.ts";
import { refToHex } from "../../packets/digest.ts";
import { PROGRAM_LIMITS_DEFAULT } from "../limits.ts";
import type { Entry, ProgramDescription } from "./program.ts";

/** The stage of packet code that does what an entry of other programs does; nothing scans for it, it has no groups to put in order, and no kernels. */
export const CODE_STAGES: Readonly<Record<Entry, Stage>> = {
  map: Stage.MAP,
  scan: Stage.MAP,
  estimate: Stage.MAP,
  merge: Stage.MERGE,
  finish: Stage.FINISH,
  order: Stage.FINISH,
};

/** Throws PFS_CODE_INVALID. */
export function describeCode(code: Uint8Array): ProgramDescription {
  const { records, rowBytes, separator } = decodeCode(code);
  return {
    reader:
      records === Records.ROWS
        ? { kind: "bytes", size: rowBytes }
        : { kind: "records", separator: refToHex(separator) },
    yields: "value",
    hasCombine: true,
    hasReduce: false,
    hasTop: false,
    limits: PROGRAM_LIMITS_DEFAULT,
  };
}
