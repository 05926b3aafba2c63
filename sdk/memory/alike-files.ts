/**
 * What this machine has that a file is like, by what is remembered of others: the one that was at its path, those of its name, and those
 * whose names differ from it in numbers alone. Where bytes of them are is asked in the order of what finding them there costs: files that
 * are as they were and whose streams are kept, copies of those that were fetched, what was stored; and last files that have to be read.
 */
import { basename } from "node:path";
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { HeldFile } from "../../runtime/stream/execute.ts";
import type { ClientMemory } from "./client-memory.ts";
import { seeFile } from "./file-index.ts";
import type { KnownPlace } from "./file-index.ts";

/** Files with one root that are looked at, and roots of files that are alike. */
const PLACES_MAX = 3;
const ALIKE_MAX = 6;

export interface AlikeRoot {
  readonly root: Ref;
  /** Where it may be. */
  readonly places: readonly KnownPlace[];
}

/** Roots that a file at `path` with this name may be like, the likeliest first. Takes no time. */
export function alikeRoots({ files }: ClientMemory, path: string, name: string | undefined): AlikeRoot[] {
  const here = files.placeAt(path);
  const named = files.placesLike(name ?? basename(path), ALIKE_MAX);
  const roots = new Map<string, Ref>();
  for (const { root } of here === undefined ? named : [here, ...named]) roots.set(refKey(root), root);
  return [...roots.values()].map((root) => placesOf(files, root));
}

export function placesOf(files: ClientMemory["files"], root: Ref): AlikeRoot {
  return { root, places: files.placesOf(root, PLACES_MAX) };
}

/** A file with this root, without reading one. Rejects with the signal's reason alone. */
export async function openKnown(
  { copies }: ClientMemory,
  { root, places }: AlikeRoot,
  signal: AbortSignal | undefined,
): Promise<HeldFile | undefined> {
  for (const place of places) {
    if (!place.isSettled || !(await isAsItWas(place))) continue;
    const held = await copies.at(place.path, root, signal);
    if (held !== undefined) return held;
  }
  return await copies.copyOf(root, signal);
}

/** A file that may have this root, which is read to know. Rejects with the signal's reason alone. */
export async function openRead(
  { places }: AlikeRoot,
  signal: AbortSignal | undefined,
): Promise<HeldFile | undefined> {
  for (const place of places) {
    if (!(await isAsItWas(place))) continue;
    const held = await HeldFile.open(place.path, { signal }).catch(() => undefined);
    signal?.throwIfAborted();
    if (held !== undefined) return held;
  }
  return undefined;
}

async function isAsItWas({ path, mark }: KnownPlace): Promise<boolean> {
  return (await seeFile(path))?.mark === mark;
}
