/**
 * Strikes: what an executor got wrong that another one then got right. They fade by half in STRIKE_HALF_LIFE_MS, so that a
 * machine that was ill once is as good as any other later; an executor that has more than STRIKES_MAX of them gets no more
 * packets of that kind of program. It is barred, by name and not by connection, until somebody lets it in again.
 */
import { STRIKES_MAX, STRIKE_ACCOUNTS_MAX, STRIKE_APART_MS, STRIKE_HALF_LIFE_MS } from "../limits.ts";
import { LaneEnd, StrikeReason } from "./actions.ts";
import type { ExecutorState, GroupState, Miss, ProgramState, State } from "./state.ts";

/** An executor gets no packets of programs of this kind. */
export interface Bar {
  readonly kind: string;
  /** What most of the strikes were for. */
  readonly reason: StrikeReason;
}

interface Account {
  /** As it was at `at`; it has faded since then. */
  count: number;
  at: number;
  readonly byReason: Map<StrikeReason, number>;
  isBarred: boolean;
}

export class Strikes {
  /** By executor and then by kind of program; those that were struck last stand last. */
  readonly #accounts = new Map<string, Map<string, Account>>();

  /**
   * One strike more at `now` milliseconds. What comes within STRIKE_APART_MS of the last one is the same incident. Returns
   * whether the executor has more than STRIKES_MAX now.
   */
  add(executor: string, kind: string, reason: StrikeReason, now: number): boolean {
    const account = this.#accountOf(executor, kind, now);
    if (account.count === 0 || now - account.at >= STRIKE_APART_MS) {
      account.count = faded(account, now) + 1;
      account.at = now;
      account.byReason.set(reason, (account.byReason.get(reason) ?? 0) + 1);
    }
    return faded(account, now) > STRIKES_MAX;
  }

  bar(executor: string, kind: string): Bar {
    const account = this.#accounts.get(executor)!.get(kind)!;
    account.isBarred = true;
    return { kind, reason: mainReason(account) };
  }

  barsOf(executor: string): Bar[] {
    const bars: Bar[] = [];
    for (const [kind, account] of this.#accounts.get(executor) ?? []) {
      if (account.isBarred) bars.push({ kind, reason: mainReason(account) });
    }
    return bars;
  }

  /** Forgets all strikes of the executor. */
  forgive(executor: string): void {
    this.#accounts.delete(executor);
  }

  #accountOf(executor: string, kind: string, now: number): Account {
    const kinds = this.#accounts.get(executor) ?? new Map<string, Account>();
    this.#accounts.delete(executor);
    this.#accounts.set(executor, kinds);
    let account = kinds.get(kind);
    if (account === undefined) {
      account = { count: 0, at: now, byReason: new Map(), isBarred: false };
      kinds.set(kind, account);
    }
    if (this.#accounts.size > STRIKE_ACCOUNTS_MAX) this.#accounts.delete(this.#leastMissed());
    return account;
  }

  /** Of the executors that are not barred the one that was struck longest ago, or of all if there are none. */
  #leastMissed(): string {
    const [oldest] = this.#accounts.keys();
    for (const [executor, kinds] of this.#accounts) {
      if (![...kinds.values()].some(({ isBarred }) => isBarred)) return executor;
    }
    return oldest!;
  }
}

function faded({ count, at }: Account, now: number): number {
  return count * 2 ** ((at - now) / STRIKE_HALF_LIFE_MS);
}

function mainReason({ byReason }: Account): StrikeReason {
  const [first] = [...byReason].sort(([, a], [, b]) => b - a);
  return first![0];
}

/** What the end of a lane says of its executor. */
export function blame(
  state: State,
  program: ProgramState,
  { id, name }: ExecutorState,
  end: LaneEnd,
  now: number,
): void {
  if (end === LaneEnd.offended) strike(state, name, program.kind, StrikeReason.answer, now);
  if (end === LaneEnd.resultless) strike(state, name, program.kind, StrikeReason.result, now);
  // What it answered were no answers.
  if (end === LaneEnd.offended || end === LaneEnd.resultless)
    for (const { witnessed } of state.groups.values()) witnessed.delete(name);
  if (end !== LaneEnd.failed && end !== LaneEnd.refused) return;
  const isDisproved = [...program.loadedBy].some((other) => other !== id);
  if (isDisproved) strike(state, name, program.kind, StrikeReason.load, now);
  else program.failedLoads.set(id, end === LaneEnd.refused);
}

/**
 * An executor answered a packet whose input another one did not get. Whoever lies answers anything, at once, and would have
 * honest ones barred that way: so it is a strike only when the job is over, unless the witness was found out before.
 */
export function witness({ witnessed }: GroupState, by: string, miss: Miss): void {
  const misses = witnessed.get(by) ?? [];
  witnessed.set(by, misses);
  const isKnown = misses.some(({ executor, kind }) => executor === miss.executor && kind === miss.kind);
  if (!isKnown) misses.push(miss);
}

/** The job is over: what is left of what executors said of each other is believed. */
export function believe(state: State, { witnessed }: GroupState, now: number): void {
  for (const { executor, kind } of [...witnessed.values()].flat())
    strike(state, executor, kind, StrikeReason.input, now);
}

/**
 * One strike of an executor, by name: also of one that has left. The last one of a kind is not barred, since something is
 * better than nothing.
 */
export function strike(state: State, name: string, kind: string, reason: StrikeReason, now: number): void {
  const { executors, programs, strikes, actions } = state;
  if (strikes.barsOf(name).some((bar) => bar.kind === kind)) return;
  if (!strikes.add(name, kind, reason, now)) return;
  const isAlone = ![...executors.values()].some(
    (other) => other.name !== name && other.slotsByKind.has(kind) && !other.barred.has(kind),
  );
  if (isAlone) return;
  const bar = strikes.bar(name, kind);
  for (const executor of executors.values()) {
    if (executor.name !== name) continue;
    executor.barred.add(kind);
    for (const lane of executor.lanes.values()) {
      const program = programs.get(lane.program)!;
      if (program.kind !== kind) continue;
      lane.isBarred = true;
      program.weight = 0;
      for (const { tasks } of program.batches) tasks.queue.dropHome(executor.id);
    }
    actions.push({ kind: "barred", executor: executor.id, programKind: kind, reason: bar.reason });
  }
  state.shun();
}
