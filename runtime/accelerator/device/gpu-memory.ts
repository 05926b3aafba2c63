/**
 * The GPU's memory as calls use it: buffers that are used again, since making large ones is slow, and inputs that stay for
 * the next call that reads the same bytes, those that were used last the longest.
 */
import { GPU_BUFFER_BYTES_MIN, GPU_RESIDENT_INPUTS_MAX } from "../../limits.ts";

/** An input that is in memory. Nothing is written to its buffer as long as it is. */
export interface ResidentInput {
  readonly key: string;
  readonly buffer: GPUBuffer;
  users: number;
}

/** Sizes between two powers of two: so much of a buffer is never used at most. */
const STEPS = 8;

export class GpuMemory {
  readonly #device: GPUDevice;
  readonly #bufferBytesMax: number;
  readonly #dropped: (keys: readonly string[]) => void;
  /** By size. */
  readonly #spare = new Map<number, GPUBuffer[]>();
  /** By key, the one that was used last at the end. */
  readonly #resident = new Map<string, ResidentInput>();
  #bytes = 0;
  #budget: number;

  /** `dropped` is told the keys of inputs that are in memory no longer. */
  constructor(device: GPUDevice, budget: number, dropped: (keys: readonly string[]) => void) {
    this.#device = device;
    this.#bufferBytesMax = device.limits.maxBufferSize;
    this.#budget = budget;
    this.#dropped = dropped;
  }

  /** A buffer of at least so many bytes, with anything in it. Undefined where there is no room for it. */
  async take(bytes: number): Promise<GPUBuffer | undefined> {
    const rounded = sizeFor(bytes, this.#bufferBytesMax);
    const spare = this.#spare.get(rounded)?.pop();
    if (spare !== undefined) return spare;
    this.#shrink(this.#budget - rounded);
    for (;;) {
      const size = this.#bytes + rounded <= this.#budget ? rounded : bytes;
      if (this.#bytes + size > this.#budget) return undefined;
      const buffer = await this.#create(size);
      if (buffer !== undefined) return buffer;
      // The system has less than it was thought to have.
      if (!this.#free()) return undefined;
    }
  }

  /** Nothing will be done with it behind what was submitted by now. */
  give(buffer: GPUBuffer): void {
    const { size } = buffer;
    const spare = this.#spare.get(size);
    if (spare === undefined) this.#spare.set(size, [buffer]);
    else spare.push(buffer);
  }

  /** The input of this name, if it is in memory; to be released. */
  acquire(key: string): ResidentInput | undefined {
    const resident = this.#resident.get(key);
    if (resident === undefined) return undefined;
    this.#resident.delete(key);
    this.#resident.set(key, resident);
    resident.users++;
    return resident;
  }

  has(key: string): boolean {
    return this.#resident.has(key);
  }

  /** What is in the buffer stays under this name; to be released. */
  keep(key: string, buffer: GPUBuffer): ResidentInput {
    const resident = { key, buffer, users: 1 };
    this.#resident.set(key, resident);
    if (this.#resident.size > GPU_RESIDENT_INPUTS_MAX) this.#freeResident();
    return resident;
  }

  release(resident: ResidentInput): void {
    resident.users--;
  }

  /** What is over the budget is given up, as far as nobody uses it, and else when nobody does. */
  resize(budget: number): void {
    this.#budget = budget;
    this.shrink();
  }

  shrink(): void {
    this.#shrink(this.#budget);
  }

  #shrink(bytes: number): void {
    while (this.#bytes > bytes && this.#free());
  }

  /** Gives up one buffer, spare ones first. False where all are in use. */
  #free(): boolean {
    for (const [size, buffers] of this.#spare) {
      const buffer = buffers.pop();
      if (buffer === undefined) continue;
      buffer.destroy();
      this.#bytes -= size;
      return true;
    }
    return this.#freeResident();
  }

  /** Gives up the input that nobody has used for longest. False where all are in use. */
  #freeResident(): boolean {
    for (const [key, { buffer, users }] of this.#resident) {
      if (users > 0) continue;
      this.#resident.delete(key);
      this.#bytes -= buffer.size;
      buffer.destroy();
      this.#dropped([key]);
      return true;
    }
    return false;
  }

  async #create(size: number): Promise<GPUBuffer | undefined> {
    const device = this.#device;
    // What is being made counts, for others who ask meanwhile.
    this.#bytes += size;
    device.pushErrorScope("out-of-memory");
    device.pushErrorScope("validation");
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const buffer = device.createBuffer({ size, usage });
    const errors = await Promise.all([device.popErrorScope(), device.popErrorScope()]);
    if (errors.every((error) => error === null)) return buffer;
    this.#bytes -= size;
    return undefined;
  }
}

/** The size of buffers that so many bytes are put into. */
function sizeFor(bytes: number, max: number): number {
  const least = Math.max(bytes, GPU_BUFFER_BYTES_MIN);
  const step = 2 ** Math.max(2, Math.floor(Math.log2(least))) / STEPS;
  return Math.max(bytes, Math.min(Math.ceil(least / step) * step, max - (max % 4)));
}
