/**
 * The executor process of a lane, replaced when it ends:
 *
 *   starting ──▶ started ──▶ starting …      the process ended, and another takes its place
 *      │           │
 *      ▼           ▼
 *     lost       closed
 */
import { hasCode } from "../../packets/errors.ts";
import { LaneError, LaneErrorCode, SandboxErrorCode } from "../errors.ts";
import { InputBuffer } from "./input-buffer.ts";
import { mayBeAccident, startWith } from "./shared-processes.ts";
import type { LaneProcess } from "./lane-process.ts";
import { IDLE_DEATHS_MAX } from "../limits.ts";

/** One process with the lane's program in it. */
export interface Running {
  readonly process: LaneProcess;
  readonly space: InputBuffer;
}

export interface SupervisionEvents {
  /** A process is there, with the program loaded. */
  started(running: Running): void;
  /** The process ended by itself or was ended; another is being started. */
  ended(running: Running, reason: string, detail: string): void;
  /** None stays alive. Nothing follows. */
  lost(error: unknown): void;
}

export class SupervisedProcess {
  readonly #take: () => Promise<LaneProcess>;
  readonly #load: (process: LaneProcess) => Promise<void>;
  readonly #events: SupervisionEvents;
  #running: Running | undefined;
  /** A process that is not started yet. */
  #coming: LaneProcess | undefined;
  #deaths = 0;
  #closed = false;
  #starting: Promise<void> = Promise.resolve();

  constructor(
    take: () => Promise<LaneProcess>,
    load: (process: LaneProcess) => Promise<void>,
    events: SupervisionEvents,
  ) {
    this.#take = take;
    this.#load = load;
    this.#events = events;
  }

  /** The process that frames may be sent to now, if there is one: not one that was ended, though its end is still to come. */
  get current(): Running | undefined {
    const running = this.#running;
    return running?.process.closed === false ? running : undefined;
  }

  /** Takes the first process. Rejects when the program does not load. */
  async open(): Promise<void> {
    const started = this.#start();
    this.#starting = started.catch(() => undefined);
    await started;
  }

  /** Something got done: deaths before this do not count any more. */
  progressed(): void {
    this.#deaths = 0;
  }

  /** Ends the process, whatever it is doing. */
  async close(): Promise<void> {
    this.#closed = true;
    const running = this.#running;
    this.#running = undefined;
    await this.#coming?.close();
    if (running !== undefined) await endProcess(running);
    await this.#starting;
  }

  async #start(): Promise<void> {
    const { process } = await startWith(
      this.#take,
      (coming) => (this.#closed ? coming.close() : this.#load(coming)),
      (coming) => (this.#coming = coming),
    );
    this.#coming = undefined;
    const space = new InputBuffer(process.memory);
    const running: Running = { process, space };
    if (this.#closed) return endProcess(running);
    this.#running = running;
    void process.ended.then(({ reason, detail }) => this.#ended(running, reason, detail));
    this.#events.started(running);
  }

  #ended(running: Running, reason: string, detail: string): void {
    running.space.close();
    if (this.#running !== running) return;
    this.#running = undefined;
    this.#events.ended(running, reason, detail);
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
  return hasCode(error, SandboxErrorCode.startFailed) || mayBeAccident(error);
}

async function endProcess(running: Running): Promise<void> {
  running.space.close();
  await running.process.close();
}

function tooManyDeaths(): LaneError {
  const reason = `${IDLE_DEATHS_MAX} executor processes ended one after the other and nothing got done`;
  return new LaneError(LaneErrorCode.laneBroken, `the lane is lost: ${reason}`, { reason });
}
