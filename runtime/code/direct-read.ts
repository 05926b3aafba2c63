/**
 * Runs packet code over chunks where they lie: what stands next to each other in a segment is read by one call, straight
 * into the memory that the program runs in. A chunk's hash is checked the first time. Whatever is not as it should be is
 * left to those who read chunks in the ordinary way, and tell others of damage.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { Codec, decompress, discardPlain } from "../../packets/codec.ts";
import { decodeCode } from "../../packets/code/format.ts";
import { encodeState } from "../../packets/code/state.ts";
import type { RecordFault } from "../../packets/code/interpreter.ts";
import { isRefOf, refAt } from "../../packets/digest.ts";
import { CODE_RUN_BYTES, READ_GAP_BYTES_MAX } from "../limits.ts";
import type { Workspace } from "./workspace.ts";
import { CARRY_BYTES, RangeRun } from "./range-run.ts";
import type { CodeRange } from "./range-run.ts";

/** The pieces that a range of a file is made of, and where the chunks stand that they are of: rows of parallel lists. */
export interface DirectPlan {
  /** The byte of the file that the first piece begins with. */
  readonly start: number;
  /** Of each piece: where it begins in its chunk, and its bytes. */
  readonly from: Float64Array;
  readonly take: Float64Array;
  /** Of its chunk: what tells places apart, which of the files, where in it, and how it is kept. */
  readonly place: Float64Array;
  readonly file: Uint32Array;
  readonly offset: Float64Array;
  readonly storedBytes: Uint32Array;
  readonly plainBytes: Uint32Array;
  readonly codec: Uint8Array;
  /** n × 32 bytes, and whether it was verified: it is written down here. */
  readonly refs: Uint8Array;
  readonly isVerified: Uint8Array;
  readonly files: readonly string[];
}

/** A packet that maps a range; `code` are the 32 bytes. */
export interface DirectWork {
  readonly code: Uint8Array;
  readonly range: CodeRange;
  readonly plan: DirectPlan;
}

/**
 * The state, or the record that no program takes. Otherwise the range has to be read in the ordinary way: because its last line
 * goes on behind what the plan has of it, or (undefined) because chunks are not as they should be.
 */
export type DirectOutcome =
  | { readonly state: Uint8Array }
  | { readonly fault: RecordFault }
  | { readonly isUnfinished: true }
  | undefined;

/** May be left for some time wherever it yields, after at most a chunk or CODE_RUN_BYTES. Throws defects only. */
export function* runDirect(
  { code: bytes, range, plan }: DirectWork,
  workspace: Workspace,
): Generator<void, DirectOutcome> {
  const code = decodeCode(bytes);
  const kernel = workspace.kernel(bytes, code, range.length);
  const run = new RangeRun(code, kernel, workspace.memory, range);
  if (run.wanted.start !== plan.start) throw new Error("the plan is of another range");
  const reader = new RunReader(plan, workspace);
  try {
    for (let first = 0; first < plan.take.length && !run.isDone;) {
      const end = runEnd(plan, first);
      if (!reader.read(first, end, run)) return undefined;
      first = end;
      yield;
    }
  } finally {
    reader.close();
  }
  if (!run.isDone) return { isUnfinished: true };
  return run.fault === undefined ? { state: encodeState(code, kernel.state) } : { fault: run.fault };
}

/** Behind the last of the pieces from `first` on that one call reads. */
function runEnd({ file, offset, storedBytes, codec }: DirectPlan, first: number): number {
  const start = offset[first]!;
  let end = first + 1;
  for (; end < offset.length; end++) {
    const before = offset[end - 1]! + storedBytes[end - 1]!;
    const behind = offset[end]! + storedBytes[end]!;
    const isNext = file[end] === file[first] && codec[end] === codec[first];
    if (!isNext || offset[end]! < before || offset[end]! > before + READ_GAP_BYTES_MAX) break;
    if (behind - start > CODE_RUN_BYTES) break;
  }
  return end;
}

class RunReader {
  readonly #plan: DirectPlan;
  readonly #workspace: Workspace;
  #file = -1;
  #descriptor = -1;

  constructor(plan: DirectPlan, workspace: Workspace) {
    this.#plan = plan;
    this.#workspace = workspace;
  }

  /** Pieces that stand next to each other. False when they cannot be had so. */
  read(first: number, end: number, run: RangeRun): boolean {
    const { offset, storedBytes, codec, from, take } = this.#plan;
    const start = offset[first]!;
    const length = offset[end - 1]! + storedBytes[end - 1]! - start;
    const isPlain = codec[first] === Codec.plain;
    const { memory } = this.#workspace;
    const target = isPlain ? memory : this.#workspace.packed;
    const base = isPlain ? CARRY_BYTES : 0;
    if (!this.#fill(first, target, base, length, start)) return false;
    for (let piece = first; piece < end && !run.isDone; piece++) {
      const at = base + offset[piece]! - start;
      const chunkAt = isPlain ? at : this.#unpack(target.subarray(at, at + storedBytes[piece]!), piece);
      if (chunkAt < 0 || !this.#verify(piece, chunkAt)) return false;
      run.push(chunkAt + from[piece]!, take[piece]!);
    }
    return true;
  }

  /** Decompresses a chunk into the memory; where it is there, or -1. */
  #unpack(packed: Uint8Array, piece: number): number {
    const { codec, plainBytes } = this.#plan;
    const plain = decompress(packed, codec[piece]!, plainBytes[piece]!);
    if (plain === undefined) return -1;
    this.#workspace.memory.set(plain, CARRY_BYTES);
    discardPlain(plain, codec[piece]!);
    return CARRY_BYTES;
  }

  close(): void {
    if (this.#descriptor >= 0) closeSync(this.#descriptor);
    this.#descriptor = -1;
  }

  #fill(piece: number, target: Uint8Array, at: number, length: number, position: number): boolean {
    try {
      this.#open(this.#plan.file[piece]!);
      return readSync(this.#descriptor, target, at, length, position) === length;
    } catch {
      // Moved by gc, or lost: whoever reads in the ordinary way finds out.
      return false;
    }
  }

  #open(file: number): void {
    if (file === this.#file) return;
    this.close();
    this.#file = -1;
    this.#descriptor = openSync(this.#plan.files[file]!, "r");
    this.#file = file;
  }

  #verify(piece: number, at: number): boolean {
    const { isVerified, refs, plainBytes } = this.#plan;
    if (isVerified[piece] === 1) return true;
    const chunk = this.#workspace.memory.subarray(at, at + plainBytes[piece]!);
    if (!isRefOf(refAt(refs, piece), chunk)) return false;
    isVerified[piece] = 1;
    return true;
  }
}
