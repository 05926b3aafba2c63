/** The manifests of a program's entries, written where executors can read them. */
import { refAt, refToHex } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { writeChunks } from "../stream/ingest.ts";
import type { Entry, ProgramDescription } from "../program/program.ts";
import type { ChunkSink } from "../contracts/chunks.ts";

import { encodeManifest } from "../program/manifest.ts";

/** A program with its arguments. */
export interface ProgramSpec {
  /** The program's, for people. */
  readonly name: string;
  /** Root of the bundle's stream, which is stored already. */
  readonly code: Ref;
  readonly description: ProgramDescription;
  /** JSON text. */
  readonly args: string;
}

/** The manifest's bytes: what tells one program with its arguments from another. */
export function manifestBytes({ name, code, description, args }: ProgramSpec, entry: Entry): Uint8Array {
  return encodeManifest({
    version: 1,
    kind: "js",
    name,
    code: refToHex(code),
    entry,
    description,
    args,
  });
}

/** The refs of the entries' manifests, in their order. Rejects with PFS_PROGRAM_INVALID, or with what the sink rejects with. */
export async function writeManifests(
  sink: ChunkSink,
  spec: ProgramSpec,
  entries: readonly Entry[],
): Promise<Ref[]> {
  const refs = await writeChunks(
    sink,
    entries.map((entry) => manifestBytes(spec, entry)),
  );
  return entries.map((_, index) => refAt(refs, index));
}
