/**
 * The event loop, shared by whatever computes on it. Work that may be long, because somebody else's file or program says how
 * long, asks from time to time whether the turn is over, and goes on in a later turn of the loop when it is:
 *
 *   turn   │ messages, timers, files │ work, TURN_WORK_MS at most │ messages, … │ the next work │ …
 *
 * Of the work that waits, that of the share which has used least goes on first, as in the completely fair scheduler of
 * Linux. So turns are as short with a hundred requests that compute as with one, whoever computes much waits for those who
 * compute little, and nobody is passed over for ever.
 */
import { AsyncLocalStorage, AsyncResource } from "node:async_hooks";
import { TURN_WORK_MS } from "./limits.ts";

const shares = new AsyncLocalStorage<Share>();

/** Those who are served alike: each peer of a node has a share of its time. */
export class Share {
  /** Milliseconds of work so far, on a clock that all shares have in common. */
  used = 0;
  /** What is done in its name. It is made once: that costs many times what it costs to enter it, which each message does. */
  readonly scope: AsyncResource = shares.run(this, () => new AsyncResource("Share"));
}

interface Waiting {
  readonly share: Share;
  readonly resolve: () => void;
}

/** Of everything that was begun in nobody's name. */
const common = new Share();

// A thread has one event loop, and so one row of those that wait for it.
const waiting: Waiting[] = [];
/** When work began in this turn of the loop, and when somebody asked last; in the process's monotonic milliseconds. */
let began: number | undefined;
let asked = 0;
/** What the share had used that was served last: one that was idle does not make up for it. */
let clock = 0;

/** Does work, and whatever it starts, in the name of the share. */
export function inShare<Result>(share: Share, work: () => Result): Result {
  return share.scope.runInAsyncScope(work);
}

/** Undefined as long as this turn has time left for work; otherwise what to wait for before working on. */
export function turnOver(): Promise<void> | undefined {
  const now = performance.now();
  const share = shares.getStore() ?? common;
  if (began === undefined) begin(now);
  else share.used += now - asked;
  asked = now;
  if (now - began! < TURN_WORK_MS) return undefined;
  share.used = Math.max(share.used, clock - TURN_WORK_MS);
  return new Promise((resolve) => waiting.push({ share, resolve }));
}

/** Does the work to its end, in as many turns as it takes: it may be left for a while wherever it yields. */
export async function inTurns<Result>(work: Iterator<void, Result>): Promise<Result> {
  for (;;) {
    const over = turnOver();
    if (over !== undefined) await over;
    const { done, value } = work.next();
    if (done === true) return value;
  }
}

function begin(now: number): void {
  began = now;
  setImmediate(end);
}

function end(): void {
  began = undefined;
  const next = takeNext();
  if (next === undefined) return;
  clock = Math.max(clock, next.share.used);
  asked = performance.now();
  begin(asked);
  next.resolve();
}

/** The one that waits longest of the share that has used least. */
function takeNext(): Waiting | undefined {
  let least = 0;
  for (let index = 1; index < waiting.length; index++) {
    if (waiting[index]!.share.used < waiting[least]!.share.used) least = index;
  }
  return waiting.splice(least, 1)[0];
}
