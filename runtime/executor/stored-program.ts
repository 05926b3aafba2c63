/** What a LOAD names: the manifest chunk, and the code that it names in turn. */
import { refFromHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { JobError, JobErrorCode } from "../errors.ts";
import { parseManifest } from "../program/manifest.ts";
import { PROGRAM_CODE_BYTES_MAX } from "../limits.ts";
import type { Manifest } from "../program/program.ts";
import type { InputSource } from "../stream/inputs.ts";

export interface StoredProgram {
  readonly manifest: Manifest;
  /** The bundle: one ES module, UTF-8. */
  readonly code: Uint8Array;
}

/** Rejects with PFS_PROGRAM_INVALID, PFS_CHUNK_MISSING, and what else reading chunks and streams rejects with. */
export async function readProgram(
  ref: Ref,
  inputs: InputSource,
  signal: AbortSignal,
): Promise<StoredProgram> {
  const [chunk] = await inputs.chunks([ref], signal);
  const manifest = parseManifest(chunk!);
  const stream = await inputs.stream(refFromHex(manifest.code)!, signal);
  if (stream.length > PROGRAM_CODE_BYTES_MAX) {
    const reason = `its code has ${stream.length} bytes, more than ${PROGRAM_CODE_BYTES_MAX}`;
    throw new JobError(JobErrorCode.invalidProgram, `the program cannot be loaded: ${reason}`, { reason });
  }
  return { manifest, code: await stream.read(0, stream.length) };
}
