/**
 * The real scheduler among simulated executors. Everything that must hold at any moment is checked at every step; what
 * must hold in the end, the tests say.
 */
import {
  EXECUTOR_SLOT_BYTES_MAX,
  LANE_IN_FLIGHT_MAX,
  SCHEDULE_TICK_MS,
  SEND_PACKETS_MAX,
} from "../../runtime/limits.ts";
import { Decision, LaneEnd, Outcome } from "../../runtime/schedule/actions.ts";
import type { Action } from "../../runtime/schedule/actions.ts";
import { Scheduler } from "../../runtime/schedule/scheduler.ts";
import { assert } from "./assert.ts";
import { SimulatedClock } from "./clock.ts";
import { Lie, Node } from "./node.ts";
import type { Answer, Character, Work } from "./node.ts";
import { Random } from "./random.ts";

export interface SimulatedBatch {
  readonly id: number;
  readonly program: number;
  readonly costs: Float64Array;
  readonly bytes: Float64Array;
  readonly accepted: Uint8Array;
  /** The lane whose answer was accepted, by task. */
  readonly makers: Int32Array;
  /** Results that nobody has tried to read yet, and that are nowhere. */
  unread: number;
  lost: number;
  /** Tasks whose answer is a failure that they need not have had. */
  failed: number;
  isDone: boolean;
  doneAt: number;
  stuck: string;
  onDone: () => void;
}

/** What a lie is to the scheduler, where it is an answer. */
const OUTCOMES: Partial<Record<Lie, Outcome>> = {
  [Lie.fault]: Outcome.elsewhere,
  [Lie.input]: Outcome.inputMissing,
  [Lie.stranger]: Outcome.final,
  [Lie.result]: Outcome.final,
};

/** Until somebody reads a result, at most. */
const READ_MS = 2_000;
/** How long a node is away that leaves in order to come back, on average. */
const AWAY_MS = 200;

interface Lane {
  readonly node: Node;
  readonly executor: number;
  isReady: boolean;
}

export class SchedulerWorld {
  readonly clock: SimulatedClock = new SimulatedClock();
  readonly random: Random;
  /** Of all programs. */
  readonly #kind: string;
  readonly scheduler: Scheduler = new Scheduler(0);
  readonly batches: Map<number, SimulatedBatch> = new Map();
  /** Input bytes that executors had to fetch. */
  movedBytes = 0;
  readonly #nodes = new Map<number, Node>();
  readonly #lanes = new Map<number, Lane>();
  /** By batch: which node holds a task's bytes. */
  readonly #holders = new Map<number, readonly (Node | undefined)[]>();
  #made = 0;
  #isOver = false;

  constructor(seed: number, kind = "js") {
    this.random = new Random(seed);
    this.#kind = kind;
    const tick = (): void => {
      if (this.#isOver) return;
      this.scheduler.tick(this.clock.now);
      this.#perform();
      this.clock.after(SCHEDULE_TICK_MS, tick);
    };
    this.clock.after(SCHEDULE_TICK_MS, tick);
  }

  addNode(character: Character): Node {
    const name = `node ${++this.#made}`;
    const node = new Node(name, character, this.clock, this.random, (answers) => this.#returned(answers));
    this.join(node);
    return node;
  }

  join(node: Node): void {
    if ([...this.#nodes.values()].includes(node)) return;
    const { name, character } = node;
    const id = this.scheduler.join({ name, capacity: { [this.#kind]: character.workers } }, this.clock.now);
    this.#nodes.set(id, node);
    for (const batch of this.batches.values()) this.#locate(batch, id, node);
    this.#perform();
  }

  /** The node's machine is gone, until it joins again. */
  kill(node: Node): void {
    node.die();
    for (const [id, other] of this.#nodes) {
      if (other !== node) continue;
      this.#nodes.delete(id);
      this.scheduler.leave(id, this.clock.now);
    }
    for (const [id, lane] of this.#lanes) if (lane.node === node) this.#lanes.delete(id);
    this.#perform();
  }

  /** One lane of the node is gone, the machine is not. */
  loseLane(node: Node): void {
    for (const [id, lane] of this.#lanes) {
      if (lane.node !== node || !lane.isReady) continue;
      this.#dropLane(id);
      this.scheduler.laneLost(id, this.clock.now);
      break;
    }
    this.#perform();
  }

  addBatch(
    costs: Float64Array,
    bytes: Float64Array,
    options: { readonly group?: number; readonly weight?: number; readonly program?: number } = {},
    holders: readonly (Node | undefined)[] = [],
  ): SimulatedBatch {
    const program = options.program ?? this.scheduler.openProgram(this.#kind);
    const { group = program, weight = 1 } = options;
    const id = this.scheduler.addBatch({ program, group, weight, bytes: bytes.slice() }, this.clock.now);
    const accepted = new Uint8Array(costs.length);
    const batch: SimulatedBatch = {
      id,
      program,
      costs,
      bytes,
      accepted,
      makers: new Int32Array(costs.length),
      unread: 0,
      lost: 0,
      failed: 0,
      isDone: false,
      doneAt: 0,
      stuck: "",
      onDone: () => {},
    };
    this.batches.set(id, batch);
    this.#holders.set(id, holders);
    for (const [executor, node] of this.#nodes) this.#locate(batch, executor, node);
    this.scheduler.release(id, this.clock.now);
    this.#perform();
    return batch;
  }

  cancel(batch: SimulatedBatch): void {
    this.batches.delete(batch.id);
    this.scheduler.removeBatch(batch.id, this.clock.now);
    this.#perform();
  }

  closeProgram(program: number): void {
    this.scheduler.closeProgram(program);
    this.#perform();
  }

  /** Runs until `isOver` says so; false when it does not within `milliseconds` of simulated time. */
  run(isOver: () => boolean, milliseconds: number): boolean {
    const end = this.clock.now + milliseconds;
    while (!isOver()) if (this.clock.now > end || !this.clock.step()) return false;
    this.#isOver = true;
    return true;
  }

  #locate(batch: SimulatedBatch, executor: number, node: Node): void {
    const holders = this.#holders.get(batch.id) ?? [];
    if (!holders.includes(node)) return;
    const held = batch.bytes.map((bytes, task) => (holders[task] === node ? bytes : 0));
    this.scheduler.located(batch.id, executor, held);
  }

  #returned(answers: readonly Answer[]): void {
    const byBatch = Map.groupBy(answers, ({ lane, batch }) => `${lane} ${batch}`);
    for (const group of byBatch.values()) this.#take(group);
    this.#perform();
    for (const { lane, lie } of answers) this.#betray(lane, lie);
    this.#perform();
  }

  /** Answers of one lane to packets of one batch. */
  #take(group: readonly Answer[]): void {
    const { lane, batch } = group[0]!;
    const record = this.batches.get(batch);
    const said = group.filter(({ lie }) => lie === undefined || OUTCOMES[lie] !== undefined);
    const tasks = Uint32Array.from(said, ({ task, lie }) =>
      lie === Lie.stranger ? this.random.integer(0, record?.costs.length ?? 0) : task,
    );
    const outcomes = Uint8Array.from(said, ({ fails, lie }) =>
      lie === undefined ? (fails ? Outcome.elsewhere : Outcome.final) : OUTCOMES[lie]!,
    );
    const failures = outcomes.map((outcome) => (outcome === Outcome.final ? 0 : 1));
    this.scheduler.returned(lane, batch, tasks, outcomes, this.clock.now);
    let unread = 0;
    outcomes.forEach((decision, index) => {
      if (decision !== Decision.accepted) return;
      assert(record !== undefined, "an answer of a removed batch was accepted");
      const task = tasks[index]!;
      assert(++record.accepted[task]! === 1, `task ${task} was answered twice`);
      record.makers[task] = lane;
      record.failed += failures[index]!;
      if (said[index]!.lie === Lie.result) unread++;
    });
    if (unread === 0) return;
    record!.unread++;
    this.clock.after(this.random.between(0, READ_MS), () => {
      record!.unread--;
      this.#discredit(lane, record!);
    });
  }

  /** Somebody found that a result of the lane is nowhere: all that it made is made again. */
  #discredit(lane: number, batch: SimulatedBatch): void {
    this.#loseLane(lane, LaneEnd.resultless);
    const tasks: number[] = [];
    for (const [task, maker] of batch.makers.entries()) {
      if (maker !== lane || batch.accepted[task] === 0) continue;
      batch.accepted[task] = 0;
      tasks.push(task);
    }
    if (this.batches.has(batch.id) && tasks.length > 0) {
      batch.isDone = false;
      this.scheduler.redo(batch.id, this.clock.now, tasks);
    }
    this.#perform();
  }

  /** What a lie does to the lane, or to all of its node. */
  #betray(id: number, lie: Lie | undefined): void {
    const lane = this.#lanes.get(id);
    if (lane === undefined) return;
    if (lie === Lie.offence) this.#loseLane(id, LaneEnd.offended);
    if (lie === Lie.loss) this.#loseLane(id, LaneEnd.broken);
    if (lie !== Lie.leave) return;
    this.kill(lane.node);
    this.clock.after(this.random.exponential(AWAY_MS), () => this.join(lane.node));
  }

  #loseLane(id: number, end: LaneEnd): void {
    if (!this.#lanes.has(id)) return;
    this.#dropLane(id);
    this.scheduler.laneLost(id, this.clock.now, end);
    this.#perform();
  }

  #perform(): void {
    for (let actions = this.scheduler.takeActions(); actions.length > 0;) {
      for (const action of actions) this.#do(action);
      actions = this.scheduler.takeActions();
    }
  }

  #do(action: Action): void {
    switch (action.kind) {
      case "load":
        return this.#load(action.lane, action.executor);
      case "close":
        assert(this.#lanes.has(action.lane), "a lane is closed that is not open");
        return this.#dropLane(action.lane);
      case "send":
        return this.#send(action.lane, action.batch, action.tasks);
      case "lost":
        this.batches.get(action.batch)!.lost++;
        assert(++this.batches.get(action.batch)!.accepted[action.task]! === 1, "lost and answered");
        return;
      case "stuck":
        this.batches.get(action.batch)!.stuck = action.reason;
        return;
      case "done": {
        const batch = this.batches.get(action.batch)!;
        assert(!batch.isDone, "a batch is done twice");
        batch.isDone = true;
        batch.doneAt = this.clock.now;
        batch.onDone();
      }
    }
  }

  #load(lane: number, executor: number): void {
    const node = this.#nodes.get(executor);
    assert(node !== undefined, "a lane is loaded on an executor that is gone");
    this.#lanes.set(lane, { node, executor, isReady: false });
    this.clock.after(node.character.loadMs * this.random.between(0.5, 1.5), () => {
      const loaded = this.#lanes.get(lane);
      if (loaded === undefined) return;
      if (node.refuses()) this.#loseLane(lane, LaneEnd.refused);
      else if (this.random.chance(node.character.loadFails)) {
        this.#lanes.delete(lane);
        this.scheduler.laneLost(lane, this.clock.now);
      } else {
        loaded.isReady = true;
        this.scheduler.laneReady(lane, this.clock.now);
      }
      this.#perform();
    });
  }

  #send(id: number, batchId: number, tasks: Uint32Array): void {
    const lane = this.#lanes.get(id);
    const batch = this.batches.get(batchId);
    // A batch that is removed by one of the actions before this one takes its packets along.
    if (lane === undefined || batch === undefined) return;
    assert(lane.isReady, "packets for a lane that is not ready");
    assert(tasks.length <= SEND_PACKETS_MAX, "a frame is too long");
    assert(new Set(tasks).size === tasks.length, "a task twice in one frame");
    const { workers } = lane.node.character;
    const inFlight = this.scheduler.inFlight(lane.executor);
    const largest = batch.bytes.reduce((a, b) => Math.max(a, b), 0);
    assert(
      inFlight.packets <= Math.max(LANE_IN_FLIGHT_MAX, workers * 2) + this.#lanes.size,
      "too many packets",
    );
    assert(inFlight.bytes <= workers * EXECUTOR_SLOT_BYTES_MAX + largest * 2, "too many bytes in flight");
    const holders = this.#holders.get(batchId) ?? [];
    const work = Array.from(tasks, (task): Work => {
      const foreign = holders[task] === undefined || holders[task] === lane.node ? 0 : batch.bytes[task]!;
      this.movedBytes += foreign;
      return { lane: id, batch: batchId, task, cost: batch.costs[task]!, foreignBytes: foreign };
    });
    lane.node.take(work);
  }

  #dropLane(id: number): void {
    this.#lanes.get(id)?.node.dropLane(id);
    this.#lanes.delete(id);
  }
}
