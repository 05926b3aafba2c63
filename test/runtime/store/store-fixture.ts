/** Directories that go away after a test, bytes of every kind, and the shortest ways in and out of a store. */
import { createCipheriv, createHash } from "node:crypto";
import { EventEmitter } from "node:events";
import { closeSync, openSync, readdirSync, statSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Ref } from "../../../packets/digest.ts";
import { execute } from "../../../runtime/stream/execute.ts";
import type { ExecuteOptions } from "../../../runtime/stream/execute.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import type { Ingested } from "../../../runtime/stream/ingest.ts";
import type { Store } from "../../../runtime/store/store.ts";
import type { EventMap, Events } from "../../../runtime/contracts/events.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

export async function temporaryDirectory(): Promise<TemporaryDirectory> {
  const path = await mkdtemp(join(tmpdir(), "packetfs-store-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Appends to a file until nothing is left of its disk for anybody. */
export function fillDisk(path: string): void {
  const file = openSync(path, "a");
  for (let bytes = 65_536; bytes >= 1; bytes = Math.floor(bytes / 2)) {
    try {
      for (;;) writeSync(file, randomBytes("ballast", bytes));
    } catch {
      // A smaller piece may still fit.
    }
  }
  closeSync(file);
}

/** Bytes that look random, the same in every run, at the speed of AES. */
export function randomBytes(seed: string, length: number): Uint8Array<ArrayBuffer> {
  const key = createHash("sha256").update(seed).digest();
  const cipher = createCipheriv("aes-256-ctr", key, Buffer.alloc(16));
  return Uint8Array.from(cipher.update(Buffer.alloc(length)));
}

/** Lines of text that compress. */
export function textBytes(length: number): Uint8Array<ArrayBuffer> {
  const text = Buffer.alloc(length);
  for (let at = 0, line = 0; at < length; line++) at += text.write(`line ${line} of a log\n`, at);
  return Uint8Array.from(text);
}

export async function* inOnePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

export async function* inPieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.byteLength; at += size) yield bytes.subarray(at, at + size);
}

/** Stores bytes under a name. */
export async function put(store: Store, name: string, bytes: Uint8Array): Promise<Ingested> {
  await using writer = await store.openWriter();
  const ingested = await ingest(writer, inPieces(bytes, 300_000));
  await writer.bind({ name, root: ingested.root, length: ingested.length });
  return ingested;
}

export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece);
  return Buffer.concat(parts);
}

export function readAll(source: ChunkSource, root: Ref, options?: ExecuteOptions): Promise<Buffer> {
  return collect(execute(source, root, options));
}

/** The names that a store lists. */
export async function namesOf(store: Store, prefix?: string, after?: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of store.catalog.list(prefix, after)) names.push(name);
  return names;
}

/** Something for a store to tell what it found wrong, and what it told. */
export function repairNotes(): { readonly events: Events; readonly notes: readonly string[] } {
  const events: Events = new EventEmitter<EventMap>();
  const notes: string[] = [];
  events.on("repair", ({ text }) => notes.push(text));
  return { events, notes };
}

/** The bytes of a name. */
export async function get(store: Store, name: string): Promise<Buffer> {
  const record = await store.catalog.resolve(name);
  if (record === undefined) throw new Error(`no ${name}`);
  return readAll(store, record.root);
}

/** Every file below a directory, with its size. */
export function filesIn(directory: string): Record<string, number> {
  const files: Record<string, number> = {};
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    files[path.slice(directory.length + 1)] = statSync(path).size;
  }
  return files;
}

/** The only segment of a small store. */
export function segmentOf(directory: string): string {
  const [segment, ...others] = readdirSync(join(directory, "segments"));
  if (segment === undefined || others.length > 0) throw new Error("not one segment");
  return join(directory, "segments", segment);
}

/** The error that a promise rejects with. */
export async function failure(work: Promise<unknown>): Promise<Error & { code?: string; data?: object }> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  throw new Error("it did not fail");
}
