/**
 * The writers that are open, and what gc must leave alone because of them: chunks written since a writer began, and
 * older ones that it found present. What a writer protected stays protected until a running gc is done, even when the
 * writer is closed before.
 */
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { WRITER_REFS_MAX } from "../../limits.ts";
import { RefSet } from "../maintenance/ref-set.ts";

export interface OpenWriter {
  readonly id: number;
  /** Every chunk at or behind this place is protected. */
  readonly place: number;
  /** What it writes is kept as it is. */
  readonly isTemporary: boolean;
  /** Chunks before it that are protected too; undefined when they became too many and all are. */
  refs: RefSet | undefined;
  /** When it last relied on something; counted by `OpenWriters.touch`. */
  reliedAt: number;
  /** Something that it relied on was lost after it had been told that it is there. */
  failure: Error | undefined;
}

export class OpenWriters {
  readonly #open: Map<number, OpenWriter> = new Map();
  #lingering: OpenWriter[] = [];
  #holds = false;
  #nextId = -1;
  #clock = 0;

  /** Numbers that are given are greater than zero. */
  open(place: number, isTemporary = false, id: number = this.#nextId--): OpenWriter {
    const refs = new RefSet();
    const writer: OpenWriter = { id, place, isTemporary, refs, reliedAt: 0, failure: undefined };
    this.#open.set(id, writer);
    return writer;
  }

  /** Throws PFS_STORE_CLOSED. */
  get(id: number): OpenWriter {
    const writer = this.#open.get(id);
    if (writer === undefined) throw new StoreError(StoreErrorCode.closed, "the writer is closed");
    return writer;
  }

  close(id: number): void {
    const writer = this.#open.get(id);
    if (writer === undefined) return;
    this.#open.delete(id);
    if (this.#holds) this.#lingering.push(writer);
  }

  /** The writer relies on the chunk at `place`. */
  rely(writer: OpenWriter, ref: Uint8Array, place: number): void {
    this.touch(writer);
    if (place >= writer.place || writer.refs === undefined) return;
    writer.refs.add(ref);
    if (writer.refs.size > WRITER_REFS_MAX) writer.refs = undefined;
  }

  /** The writer relies on what was written so far. */
  touch(writer: OpenWriter): void {
    writer.reliedAt = ++this.#clock;
  }

  /** Something to compare `reliedAt` with: what happens later is larger. */
  get clock(): number {
    return this.#clock;
  }

  /** What was written and not yet durable is lost: every writer that has relied on anything since `clock` fails from now on. */
  failSince(clock: number, failure: Error): void {
    for (const writer of this.#open.values()) if (writer.reliedAt > clock) writer.failure ??= failure;
  }

  isProtected(ref: Uint8Array, place: number): boolean {
    const protects = (writer: OpenWriter): boolean =>
      place >= writer.place || writer.refs === undefined || writer.refs.has(ref);
    for (const writer of this.#open.values()) if (protects(writer)) return true;
    return this.#lingering.some(protects);
  }

  /** While a gc runs, writers that close go on protecting. */
  hold(): void {
    this.#holds = true;
  }

  release(): void {
    this.#holds = false;
    this.#lingering = [];
  }
}
