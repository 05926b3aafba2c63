/** Puts outputs into the window that the node reads (output-window.ts), slot by slot. */
import { writeSync } from "node:fs";
import { GPU_WINDOW_SLOTS, GPU_WINDOW_SLOT_BYTES } from "../../limits.ts";
import { GPU_WINDOW_DESCRIPTOR } from "../protocol.ts";

export class WindowWriter {
  readonly #free: number[] = Array.from(
    { length: GPU_WINDOW_SLOTS },
    (_, slot) => slot * GPU_WINDOW_SLOT_BYTES,
  );
  readonly #waiting: ((at: number) => void)[] = [];

  /** Where there is room for a slot's bytes, once there is. */
  async take(): Promise<number> {
    return this.#free.pop() ?? (await new Promise((resolve) => this.#waiting.push(resolve)));
  }

  /** The node has what was there. */
  give(at: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free.push(at);
    else next(at);
  }

  /** Throws as the system does where it has no memory for it. */
  write(bytes: Uint8Array, at: number): void {
    for (let done = 0; done < bytes.byteLength;)
      done += writeSync(GPU_WINDOW_DESCRIPTOR, bytes, done, bytes.byteLength - done, at + done);
  }
}
