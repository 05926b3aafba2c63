/**
 * An executor that is not there: it takes simulated time for packets and misbehaves as its character says. What it does
 * with a packet is known, so that a test can say what should have come of it.
 */
import type { SimulatedClock } from "./clock.ts";
import type { Random } from "./random.ts";

export interface Character {
  /** Packets at once. */
  readonly workers: number;
  /** Its time for a packet, as a multiple of the packet's cost. */
  readonly slowness: number;
  /** Time to load a program, and how often that fails. */
  readonly loadMs: number;
  readonly loadFails: number;
  /** Longest way of a message. Messages overtake each other. */
  readonly networkMs: number;
  /** How often a packet is taken and never answered. 1: a black hole. */
  readonly swallows: number;
  /** How often a packet fails here that would run elsewhere. */
  readonly fails: number;
  /** How often a frame of answers comes twice. */
  readonly repeats: number;
  /** Bytes of an input that are not here, a millisecond. */
  readonly fetchBytes: number;
  /** What it may do in place of answering, and how often it does. */
  readonly lies: readonly Lie[];
  readonly liesOften: number;
}

/** All but a wrong value: that is found out only by whoever does the work again. */
export const Lie = {
  /** It says that it failed, or that the input is missing. */
  fault: "fault",
  input: "input",
  /** It says nothing. */
  silence: "silence",
  /** It answers packets that it was never given. */
  stranger: "stranger",
  /** It sends what is no answer. */
  offence: "offence",
  /** It says that its lane is lost. */
  loss: "loss",
  /** It gives a result that is nowhere, which whoever reads it finds out. */
  result: "result",
  /** It leaves with all that it has, and joins again. */
  leave: "leave",
  /** It does not load a program, which is to blame for it as it says; what it loads, it runs. */
  refusal: "refusal",
} as const;
export type Lie = (typeof Lie)[keyof typeof Lie];

export const HONEST: Character = {
  workers: 2,
  slowness: 1,
  loadMs: 20,
  loadFails: 0,
  networkMs: 1,
  swallows: 0,
  fails: 0,
  repeats: 0,
  fetchBytes: Infinity,
  lies: [],
  liesOften: 0,
};

export interface Work {
  readonly lane: number;
  readonly batch: number;
  readonly task: number;
  /** Milliseconds on an executor of slowness 1. */
  readonly cost: number;
  /** Input bytes that have to be fetched first. */
  readonly foreignBytes: number;
}

export interface Answer extends Work {
  readonly fails: boolean;
  readonly lie: Lie | undefined;
}

const FRAME_MS = 5;

export class Node {
  readonly name: string;
  readonly character: Character;
  /** Milliseconds of slots that it spent for each batch. */
  readonly spent: Map<number, number> = new Map();
  readonly #clock: SimulatedClock;
  readonly #random: Random;
  readonly #answer: (answers: readonly Answer[]) => void;
  #queue: Work[] = [];
  #busy = 0;
  #outbox: Answer[] = [];
  #life = 0;

  constructor(
    name: string,
    character: Character,
    clock: SimulatedClock,
    random: Random,
    answer: (answers: readonly Answer[]) => void,
  ) {
    this.name = name;
    this.character = character;
    this.#clock = clock;
    this.#random = random;
    this.#answer = answer;
  }

  take(work: readonly Work[]): void {
    const life = this.#life;
    this.#travel(() => {
      if (life !== this.#life) return;
      this.#queue.push(...work);
      this.#work();
    });
  }

  /** Forgets everything; answers that are under way arrive all the same. */
  die(): void {
    this.#life++;
    this.#queue = [];
    this.#outbox = [];
    this.#busy = 0;
  }

  dropLane(lane: number): void {
    this.#queue = this.#queue.filter((work) => work.lane !== lane);
  }

  #work(): void {
    while (this.#busy < this.character.workers) {
      const work = this.#queue.shift();
      if (work === undefined) return;
      if (this.#random.chance(this.character.swallows)) continue;
      this.#busy++;
      const life = this.#life;
      const { slowness, fetchBytes } = this.character;
      const ms = work.cost * slowness + work.foreignBytes / fetchBytes;
      this.#clock.after(ms, () => {
        if (life !== this.#life) return;
        this.#busy--;
        this.spent.set(work.batch, (this.spent.get(work.batch) ?? 0) + ms);
        this.#post({ ...work, fails: this.#random.chance(this.character.fails), lie: this.#lie() });
        this.#work();
      });
    }
  }

  /** Whether it refuses the program that it is told to load. */
  refuses(): boolean {
    const { lies, liesOften } = this.character;
    return lies.includes(Lie.refusal) && this.#random.chance(liesOften);
  }

  #lie(): Lie | undefined {
    const { liesOften } = this.character;
    const lies = this.character.lies.filter((lie) => lie !== Lie.refusal);
    if (lies.length === 0 || !this.#random.chance(liesOften)) return undefined;
    return lies[this.#random.integer(0, lies.length - 1)];
  }

  #post(answer: Answer): void {
    if (this.#outbox.push(answer) > 1) return;
    this.#clock.after(FRAME_MS, () => {
      const answers = this.#outbox;
      this.#outbox = [];
      if (answers.length === 0) return;
      this.#travel(() => this.#answer(answers));
      if (this.#random.chance(this.character.repeats)) this.#travel(() => this.#answer(answers));
    });
  }

  #travel(arrive: () => void): void {
    this.#clock.after(this.#random.between(0, this.character.networkMs), arrive);
  }
}
