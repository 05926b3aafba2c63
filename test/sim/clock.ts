/** Simulated time: what is due, in order. Things due at the same moment happen in the order they were asked for. */
interface Due {
  readonly at: number;
  readonly turn: number;
  readonly run: () => void;
}

export class SimulatedClock {
  now = 0;
  #turn = 0;
  readonly #heap: Due[] = [];

  after(milliseconds: number, run: () => void): void {
    const due = { at: this.now + Math.max(0, milliseconds), turn: this.#turn++, run };
    let index = this.#heap.push(due) - 1;
    while (index > 0) {
      const parent = (index - 1) >>> 1;
      if (!isBefore(due, this.#heap[parent]!)) break;
      this.#heap[index] = this.#heap[parent]!;
      index = parent;
    }
    this.#heap[index] = due;
  }

  /** Lets the next thing happen; false when there is none. */
  step(): boolean {
    const first = this.#heap[0];
    if (first === undefined) return false;
    const last = this.#heap.pop()!;
    if (this.#heap.length > 0) this.#sink(last);
    this.now = first.at;
    first.run();
    return true;
  }

  #sink(due: Due): void {
    const heap = this.#heap;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, due)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = due;
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.turn < b.turn);
}
