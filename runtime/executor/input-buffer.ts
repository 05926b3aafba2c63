/**
 * The free space of an executor process's shared memory, waited for: inputs are staged as far as it reaches and no further.
 * Who asked first is served first, so that a large input is not overtaken for ever by small ones.
 */

/** Memory that inputs are written to. */
export interface InputMemory {
  /** A file that it is, for other processes to write to; undefined where there is none. */
  readonly path: string | undefined;
  /** Keeps the path the memory's, until what is returned is called. */
  hold(): () => void;
  /** An offset, or undefined when there is no room now. */
  alloc(bytes: number): number | undefined;
  free(offset: number): void;
  write(offset: number, bytes: Uint8Array): Promise<void>;
  /**
   * Whether there is no room because others use the memory too; `freed` is called once when they gave some of it back. Absent
   * where nobody else does.
   */
  awaitOthers?(bytes: number, freed: () => void): boolean;
}

interface Waiter {
  readonly bytes: number;
  readonly resolve: (offset: number | undefined) => void;
  readonly reject: (error: ProcessGone) => void;
}

/** The process that read from the memory ended: what was staged for it is staged again for the next. */
export class ProcessGone extends Error {
  override readonly name: string = "ProcessGone";
}

export class InputBuffer {
  readonly #memory: InputMemory;
  readonly #waiters: Waiter[] = [];
  #extents = 0;
  #closed = false;

  constructor(memory: InputMemory) {
    this.#memory = memory;
  }

  /**
   * Resolves with an offset once there is room, or with undefined when even the empty memory has too little. Rejects with
   * ProcessGone.
   */
  alloc(bytes: number): Promise<number | undefined> {
    if (this.#closed) return Promise.reject(new ProcessGone());
    const { promise, resolve, reject } = Promise.withResolvers<number | undefined>();
    this.#waiters.push({ bytes, resolve, reject });
    this.#serve();
    return promise;
  }

  /** The same where there is room now, whoever waits: what is for a frame that runs must not wait for those behind it. */
  allocNow(bytes: number): number | undefined {
    if (this.#closed) return undefined;
    const offset = this.#memory.alloc(bytes);
    if (offset !== undefined) this.#extents++;
    return offset;
  }

  /** See InputMemory. */
  get path(): string | undefined {
    return this.#memory.path;
  }

  hold(): () => void {
    return this.#memory.hold();
  }

  /** Rejects with ProcessGone when the process had ended by then, whatever the reason that writing failed for. */
  async write(offset: number, bytes: Uint8Array): Promise<void> {
    try {
      if (!this.#closed) return await this.#memory.write(offset, bytes);
    } catch (error) {
      if (!this.#closed) throw error;
    }
    throw new ProcessGone();
  }

  free(offset: number): void {
    if (this.#closed) return;
    this.#memory.free(offset);
    this.#extents--;
    this.#serve();
  }

  /** The process ended: nothing is waited for any more. */
  close(): void {
    this.#closed = true;
    for (const { reject } of this.#waiters.splice(0)) reject(new ProcessGone());
  }

  #mustWait(bytes: number): boolean {
    return this.#memory.awaitOthers?.(bytes, () => this.#serve()) === true;
  }

  #serve(): void {
    for (let next = this.#waiters[0]; next !== undefined; next = this.#waiters[0]) {
      const offset = this.#memory.alloc(next.bytes);
      if (offset === undefined && (this.#extents > 0 || this.#mustWait(next.bytes))) return;
      if (offset !== undefined) this.#extents++;
      this.#waiters.shift();
      next.resolve(offset);
    }
  }
}
