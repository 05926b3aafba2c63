/**
 * The 65,535 slots of a machine, which the lanes of all its executors share: who has each, and what its packets took. A slot is
 * a few numbers, so that a machine can have all of them.
 *
 *   take ──▶ loading ──▶ idle ◀──▶ running        until it is freed
 *                          ▲          ▲
 *                          └▶ resting ┘
 */
import { LANES_MAX } from "../packets/limits.ts";
import type { ProgramKind, Tenant } from "./contracts/executor.ts";
import type { LaneInfo, LaneState, LaneUse, LanesInfo } from "./contracts/lanes.ts";
import { LaneError, LaneErrorCode } from "./errors.ts";

/** One lane's slot: its lane counts in it, and says in it how it is. */
export class LaneSlot {
  /** 1 to 65,535. */
  readonly number: number;
  /** What its executor is for, until the program was read. */
  kind: ProgramKind;
  readonly tenant: Tenant | undefined;
  readonly #openedAt: number;
  /** The program's name for people. */
  program = "";
  isLoaded = false;
  isResting = false;
  inFlight = 0;
  packets = 0;
  faults = 0;
  cpuMs = 0;
  inputBytes = 0;
  outputBytes = 0;

  constructor(number: number, kind: ProgramKind, tenant: Tenant | undefined, now: number) {
    this.number = number;
    this.kind = kind;
    this.tenant = tenant;
    this.#openedAt = now;
  }

  get state(): LaneState {
    if (!this.isLoaded) return "loading";
    if (this.inFlight > 0) return "running";
    return this.isResting ? "resting" : "idle";
  }

  info(now: number): LaneInfo {
    const { number: lane, kind, program, tenant, state, inFlight } = this;
    const ageMs = Math.round(now - this.#openedAt);
    return {
      lane,
      kind,
      program,
      ...(tenant === undefined ? {} : { tenant }),
      state,
      inFlight,
      ageMs,
      ...useOf(this),
    };
  }
}

export class LaneSlots {
  readonly #slots = new Map<number, LaneSlot>();
  readonly #now: () => number;
  #last = 0;
  /** What lanes used that are closed. */
  #past: LaneUse = useOf({ packets: 0, faults: 0, cpuMs: 0, inputBytes: 0, outputBytes: 0 });

  /** `now`: milliseconds of a monotonic clock. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** A slot that is free, none that was freed lately. Throws PFS_LANES_FULL. */
  take(kind: ProgramKind, tenant: Tenant | undefined): LaneSlot {
    if (this.#slots.size === LANES_MAX) {
      throw new LaneError(LaneErrorCode.lanesFull, `all ${LANES_MAX} lanes are taken`, { max: LANES_MAX });
    }
    do this.#last = (this.#last % LANES_MAX) + 1;
    while (this.#slots.has(this.#last));
    const slot = new LaneSlot(this.#last, kind, tenant, this.#now());
    this.#slots.set(slot.number, slot);
    return slot;
  }

  /** Once for each slot. */
  free(slot: LaneSlot): void {
    if (this.#slots.get(slot.number) !== slot) return;
    this.#slots.delete(slot.number);
    this.#past = sum(this.#past, slot);
  }

  get use(): LaneUse {
    let use = this.#past;
    for (const slot of this.#slots.values()) use = sum(use, slot);
    return use;
  }

  /** At most so many lanes. */
  info(lanesMax: number): LanesInfo {
    const now = this.#now();
    const slots = lanesMax === 0 ? [] : [...this.#slots.values()].sort(byUse).slice(0, lanesMax);
    return { open: this.#slots.size, use: this.use, lanes: slots.map((slot) => slot.info(now)) };
  }
}

function byUse(a: LaneSlot, b: LaneSlot): number {
  const running = Number(b.inFlight > 0) - Number(a.inFlight > 0);
  return running || b.cpuMs - a.cpuMs || a.number - b.number;
}

function useOf({ packets, faults, cpuMs, inputBytes, outputBytes }: LaneUse): LaneUse {
  return { packets, faults, cpuMs, inputBytes, outputBytes };
}

function sum(a: LaneUse, b: LaneUse): LaneUse {
  return {
    packets: a.packets + b.packets,
    faults: a.faults + b.faults,
    cpuMs: a.cpuMs + b.cpuMs,
    inputBytes: a.inputBytes + b.inputBytes,
    outputBytes: a.outputBytes + b.outputBytes,
  };
}
