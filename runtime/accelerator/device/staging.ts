/**
 * How bytes get to the GPU and back: through rings of buffers that both sides may touch in turns. A ring of four of 16 MiB
 * moved 9 GB/s to an H200, `writeBuffer` 2.7; fewer or smaller ones wait for each other.
 *
 *   mapped: filled here ──▶ unmapped: copied by the GPU ──▶ mapped again
 */
import { GPU_RING_BUFFERS, GPU_RING_BUFFER_BYTES, GPU_WRITE_BYTES_MAX } from "../../limits.ts";

interface Slot {
  readonly buffer: GPUBuffer;
  /** Resolves when it may be filled. */
  mapped: Promise<void>;
}

/** Bytes on their way to the GPU, of one transfer at a time. */
export class UploadRing {
  readonly #device: GPUDevice;
  readonly #slots: Slot[] = [];
  #next = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** Fills the buffer from its beginning: the bytes that are pushed, and zeros up to a multiple of four. */
  begin(target: GPUBuffer): Upload {
    return new Upload(this.#device, target, () => this.#take());
  }

  async #take(): Promise<Slot> {
    let slot = this.#slots[this.#next];
    if (slot === undefined) {
      const usage = GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC;
      const buffer = this.#device.createBuffer({
        size: GPU_RING_BUFFER_BYTES,
        usage,
        mappedAtCreation: true,
      });
      slot = { buffer, mapped: Promise.resolve() };
      this.#slots.push(slot);
    }
    this.#next = (this.#next + 1) % GPU_RING_BUFFERS;
    await slot.mapped;
    return slot;
  }
}

/** To be ended, or given up, before the next one of its ring begins. */
export class Upload {
  readonly #device: GPUDevice;
  readonly #target: GPUBuffer;
  readonly #take: () => Promise<Slot>;
  #slot: Slot | undefined;
  #memory: Uint8Array = new Uint8Array(0);
  #filled = 0;
  /** Of the target, before what is in the slot. */
  #offset = 0;

  constructor(device: GPUDevice, target: GPUBuffer, take: () => Promise<Slot>) {
    this.#device = device;
    this.#target = target;
    this.#take = take;
  }

  /** They may be changed once it has resolved. */
  async push(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength;) {
      await this.#open();
      const part = bytes.subarray(at, at + this.#memory.byteLength - this.#filled);
      this.#memory.set(part, this.#filled);
      this.#filled += part.byteLength;
      at += part.byteLength;
      if (this.#filled === this.#memory.byteLength) this.#submit();
    }
  }

  /** Everything that was pushed will be there for what is submitted from now on. */
  end(): void {
    if (this.#slot === undefined) return;
    const padded = Math.ceil(this.#filled / 4) * 4;
    this.#memory.fill(0, this.#filled, padded);
    this.#filled = padded;
    this.#submit();
  }

  async #open(): Promise<void> {
    if (this.#slot !== undefined) return;
    this.#slot = await this.#take();
    this.#memory = new Uint8Array(this.#slot.buffer.getMappedRange());
    this.#filled = 0;
  }

  #submit(): void {
    const { buffer } = this.#slot!;
    buffer.unmap();
    if (this.#filled > 0) {
      const encoder = this.#device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, this.#target, this.#offset, this.#filled);
      this.#device.queue.submit([encoder.finish()]);
    }
    this.#offset += this.#filled;
    const mapped = buffer.mapAsync(GPUMapMode.WRITE);
    // Where the device is lost, everything ends.
    mapped.catch(() => undefined);
    this.#slot!.mapped = mapped;
    this.#slot = undefined;
  }
}

/** Writes a few bytes at once, which is faster so; zeros up to a multiple of four. */
export function writeFew(device: GPUDevice, target: GPUBuffer, bytes: Uint8Array): boolean {
  if (bytes.byteLength > GPU_WRITE_BYTES_MAX) return false;
  if (bytes.byteLength === 0) return true;
  const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
  padded.set(bytes);
  device.queue.writeBuffer(target, 0, padded);
  return true;
}

/** What is read back together: of a buffer, `bytes` (a multiple of four) from `from` on. */
export interface Download {
  readonly buffer: GPUBuffer;
  readonly from: number;
  readonly bytes: number;
}

export class DownloadRing {
  readonly #device: GPUDevice;
  readonly #spare: GPUBuffer[] = [];
  readonly #waiting: ((buffer: GPUBuffer) => void)[] = [];
  #made = 0;

  constructor(device: GPUDevice) {
    this.#device = device;
  }

  /** One that a first part is copied to. */
  async take(): Promise<GPUBuffer> {
    return this.#takeSpare() ?? (await new Promise((resolve) => this.#waiting.push(resolve)));
  }

  #takeSpare(): GPUBuffer | undefined {
    const spare = this.#spare.pop();
    if (spare !== undefined || this.#made === GPU_RING_BUFFERS) return spare;
    this.#made++;
    const usage = GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST;
    return this.#device.createBuffer({ size: GPU_RING_BUFFER_BYTES, usage });
  }

  /**
   * Hands the parts over in their order, each of which fits into a buffer of the ring; they are no longer there when `take` has
   * resolved. The first part is on its way to `first` already, if there is one, which is given back.
   */
  async read(
    parts: readonly Download[],
    take: (bytes: Uint8Array) => Promise<void>,
    first?: GPUBuffer,
  ): Promise<void> {
    const under: { readonly buffer: GPUBuffer; readonly mapped: Promise<void> }[] = [];
    const begin = (buffer: GPUBuffer): void => {
      const mapped = buffer.mapAsync(GPUMapMode.READ);
      // Where the device is lost, everything ends.
      mapped.catch(() => undefined);
      under.push({ buffer, mapped });
    };
    if (first !== undefined) begin(first);
    let next = under.length;
    try {
      for (const { bytes } of parts) {
        while (next < parts.length && under.length < GPU_RING_BUFFERS) {
          // Whoever has one waits for no other, or several downloads might wait for each other.
          const buffer = under.length === 0 ? await this.take() : this.#takeSpare();
          if (buffer === undefined) break;
          const encoder = this.#device.createCommandEncoder();
          copyPart(encoder, parts[next++]!, buffer);
          this.#device.queue.submit([encoder.finish()]);
          begin(buffer);
        }
        const { buffer, mapped } = under[0]!;
        await mapped;
        await take(new Uint8Array(buffer.getMappedRange(0, bytes)));
        under.shift();
        this.#give(buffer);
      }
    } finally {
      for (const { buffer, mapped } of under) {
        await mapped.catch(() => undefined);
        this.#give(buffer);
      }
    }
  }

  /** One that was taken, and that nothing is read from. */
  giveBack(buffer: GPUBuffer): void {
    this.#give(buffer);
  }

  #give(buffer: GPUBuffer): void {
    if (buffer.mapState === "mapped") buffer.unmap();
    const next = this.#waiting.shift();
    if (next === undefined) this.#spare.push(buffer);
    else next(buffer);
  }
}

/** Parts of these downloads that each fit into a buffer of the ring. */
export function partsOf(downloads: readonly Download[]): Download[] {
  return downloads.flatMap(({ buffer, from, bytes }) =>
    Array.from({ length: Math.ceil(bytes / GPU_RING_BUFFER_BYTES) }, (_, index) => {
      const begin = index * GPU_RING_BUFFER_BYTES;
      return { buffer, from: from + begin, bytes: Math.min(GPU_RING_BUFFER_BYTES, bytes - begin) };
    }),
  );
}

export function copyPart(encoder: GPUCommandEncoder, { buffer, from, bytes }: Download, to: GPUBuffer): void {
  encoder.copyBufferToBuffer(buffer, from, to, 0, bytes);
}
