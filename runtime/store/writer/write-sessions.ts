/**
 * The write sessions that are open, and what gc must leave alone because of them: chunks written since a session began, and
 * older ones that it found present. What a session protected stays protected until a running gc is done, even when the
 * session is closed before.
 */
import { StoreError, StoreErrorCode } from "../../errors.ts";
import { SESSION_REFS_MAX } from "../../limits.ts";
import { RefSet } from "../maintenance/ref-set.ts";

export interface Session {
  readonly id: number;
  /** Every chunk at or behind this place is protected. */
  readonly place: number;
  /** Chunks before it that are protected too; undefined when they became too many and all are. */
  refs: RefSet | undefined;
  /** When it last relied on something; counted by `Sessions.relied`. */
  reliedAt: number;
  /** Something that it relied on was lost after it had been told that it is there. */
  failure: Error | undefined;
}

export class Sessions {
  readonly #open: Map<number, Session> = new Map();
  #lingering: Session[] = [];
  #holds = false;
  #nextId = 1;
  #clock = 0;

  open(place: number): Session {
    const id = this.#nextId++;
    const session: Session = { id, place, refs: new RefSet(), reliedAt: 0, failure: undefined };
    this.#open.set(id, session);
    return session;
  }

  /** Throws PFS_STORE_CLOSED. */
  get(id: number): Session {
    const session = this.#open.get(id);
    if (session === undefined) throw new StoreError(StoreErrorCode.closed, "the write session is closed");
    return session;
  }

  close(id: number): void {
    const session = this.#open.get(id);
    if (session === undefined) return;
    this.#open.delete(id);
    if (this.#holds) this.#lingering.push(session);
  }

  /** The session relies on the chunk at `place`. */
  rely(session: Session, ref: Uint8Array, place: number): void {
    this.touch(session);
    if (place >= session.place || session.refs === undefined) return;
    session.refs.add(ref);
    if (session.refs.size > SESSION_REFS_MAX) session.refs = undefined;
  }

  /** The session relies on what was written so far. */
  touch(session: Session): void {
    session.reliedAt = ++this.#clock;
  }

  /** Something to compare `reliedAt` with: what happens later is larger. */
  get clock(): number {
    return this.#clock;
  }

  /** What was written and not yet durable is lost: every session that has relied on anything since `clock` fails from now on. */
  failSince(clock: number, failure: Error): void {
    for (const session of this.#open.values()) if (session.reliedAt > clock) session.failure ??= failure;
  }

  isProtected(ref: Uint8Array, place: number): boolean {
    const protects = (session: Session): boolean =>
      place >= session.place || session.refs === undefined || session.refs.has(ref);
    for (const session of this.#open.values()) if (protects(session)) return true;
    return this.#lingering.some(protects);
  }

  /** While a gc runs, sessions that close go on protecting. */
  hold(): void {
    this.#holds = true;
  }

  release(): void {
    this.#holds = false;
    this.#lingering = [];
  }
}
