/** What lanes load the entries of a program by: a manifest for each, or packet code itself. */
import { codeFor } from "../../packets/code/format.ts";
import { refAt, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import type { ChunkSink } from "../contracts/chunks.ts";
import type { InlineCode, ProgramKind } from "../contracts/executor.ts";
import type { StoredProgram } from "../contracts/jobs.ts";
import { CODE_STAGES } from "../program/code.ts";
import { encodeManifest } from "../program/manifest.ts";
import type { Entry, ProgramDescription } from "../program/program.ts";
import { writeChunks } from "../stream/ingest.ts";

/** A program with its arguments, what it is made of, and what it says of itself. */
export interface ProgramSpec extends StoredProgram {
  readonly kind: ProgramKind;
  readonly description: ProgramDescription;
}

/**
 * Those of the entries, in their order; manifests are written. Rejects with PFS_CODE_INVALID for packet code, otherwise with
 * PFS_PROGRAM_INVALID and with what the sink rejects with.
 */
export async function programSources(
  sink: ChunkSink,
  spec: ProgramSpec,
  entries: readonly Entry[],
): Promise<(Ref | InlineCode)[]> {
  if (spec.kind === "code")
    return entries.map((entry) => ({ inline: codeFor(spec.code, CODE_STAGES[entry]), engine: spec.engine }));
  const manifests = entries.map((entry) => manifestOf(spec, entry));
  const refs = await writeChunks(sink, manifests);
  return manifests.map((_, index) => refAt(refs, index));
}

function manifestOf(spec: ProgramSpec, entry: Entry): Uint8Array {
  const { name, kind, code, description, engine, files = {}, args } = spec;
  const given = Object.entries(files).map(
    ([called, { root, length }]) => [called, { root: refToHex(root), length }] as const,
  );
  return encodeManifest({
    version: 1,
    kind,
    name,
    code: refToHex(code),
    entry,
    description,
    ...(engine === undefined ? {} : { engine }),
    ...(given.length === 0 ? {} : { files: Object.fromEntries(given) }),
    args,
  });
}
