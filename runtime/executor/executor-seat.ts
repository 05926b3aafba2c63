/**
 * The executor process of a lane, replaced when it ends:
 *
 *   starting ──▶ seated ──▶ starting …      the process ended, and another takes its place
 *      │           │
 *      ▼           ▼
 *     lost       closed
 */
import { hasCode } from "../../packets/errors.ts";
import { PoolError, PoolErrorCode, SandboxErrorCode } from "../errors.ts";
import { IDLE_DEATHS_MAX } from "../limits.ts";
import { startWith } from "./process-start.ts";
import type { Tenancy } from "./tenant-processes.ts";
import { WindowSpace } from "./window-space.ts";

/** One process with the lane's program in it. */
export interface Seat {
  readonly process: Tenancy;
  readonly space: WindowSpace;
  /** Whether frames may be sent to it. A call that failed can tell that it died before the process's end is known. */
  alive: boolean;
  /** Frames that were ever sent to it. */
  framesSent: number;
  /** Packets that it was sent and has not answered. What a dead one had in flight stays counted. */
  packetsInFlight: number;
}

export interface SeatEvents {
  /** A process is there, with the program loaded. */
  seated(seat: Seat): void;
  /** The process ended by itself or was ended; another is being started. */
  ended(seat: Seat, reason: string, detail: string): void;
  /** None stays alive. Nothing follows. */
  lost(error: unknown): void;
}

export class ExecutorSeat {
  readonly #take: () => Promise<Tenancy>;
  readonly #load: (process: Tenancy) => Promise<void>;
  readonly #events: SeatEvents;
  #seat: Seat | undefined;
  /** A process that is not seated yet. */
  #coming: Tenancy | undefined;
  #deaths = 0;
  #closed = false;
  #starting: Promise<void> = Promise.resolve();

  constructor(take: () => Promise<Tenancy>, load: (process: Tenancy) => Promise<void>, events: SeatEvents) {
    this.#take = take;
    this.#load = load;
    this.#events = events;
  }

  /** The process that frames may be sent to now, if there is one. */
  get current(): Seat | undefined {
    return this.#seat?.alive ? this.#seat : undefined;
  }

  /** Takes the first process. Rejects when the program does not load. */
  async open(): Promise<void> {
    await this.#start();
  }

  /** Something got done: deaths before this do not count any more. */
  progressed(): void {
    this.#deaths = 0;
  }

  /** Ends the process, whatever it is doing. */
  async close(): Promise<void> {
    this.#closed = true;
    const seat = this.#seat;
    this.#seat = undefined;
    await this.#coming?.close();
    if (seat !== undefined) await endProcess(seat);
    await this.#starting;
  }

  async #start(): Promise<void> {
    const { process } = await startWith(
      this.#take,
      (coming) => (this.#closed ? coming.close() : this.#load(coming)),
      (coming) => (this.#coming = coming),
    );
    this.#coming = undefined;
    const space = new WindowSpace(process.window);
    const seat: Seat = { process, space, alive: true, framesSent: 0, packetsInFlight: 0 };
    if (this.#closed) return endProcess(seat);
    this.#seat = seat;
    void process.ended.then(({ reason, detail }) => this.#ended(seat, reason, detail));
    this.#events.seated(seat);
  }

  #ended(seat: Seat, reason: string, detail: string): void {
    seat.alive = false;
    seat.space.close();
    if (this.#seat !== seat) return;
    this.#seat = undefined;
    this.#events.ended(seat, reason, detail);
    this.#starting = this.#replace();
  }

  /** Never rejects. */
  async #replace(): Promise<void> {
    while (!this.#closed) {
      try {
        if (++this.#deaths > IDLE_DEATHS_MAX) throw tooManyDeaths();
        return await this.#start();
      } catch (error) {
        if (mayComeUp(error)) continue;
        if (!this.#closed) this.#events.lost(error);
        return;
      }
    }
  }
}

/** Whether another try can help: the process did not start, or ended when nobody wanted it to. */
function mayComeUp(error: unknown): boolean {
  if (hasCode(error, SandboxErrorCode.startFailed)) return true;
  return hasCode(error, SandboxErrorCode.ended) && error.data["reason"] !== "closed";
}

async function endProcess(seat: Seat): Promise<void> {
  seat.space.close();
  await seat.process.close();
}

function tooManyDeaths(): PoolError {
  const reason = `${IDLE_DEATHS_MAX} executor processes ended one after the other and nothing got done`;
  return new PoolError(PoolErrorCode.laneBroken, `the lane is lost: ${reason}`, { reason });
}
