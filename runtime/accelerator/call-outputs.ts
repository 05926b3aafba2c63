/** What comes of a call's outputs: into memory of the caller's, or into a file at a place of the caller's. Nothing more than they have. */
import { read, write } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { promisify } from "node:util";
import type { KernelOutput } from "../contracts/kernels.ts";

const readAt = promisify(read);
const writeAt = promisify(write);

export class CallOutputs {
  readonly #expected: number;
  readonly #place: KernelOutput | undefined;
  #memory: Uint8Array<ArrayBuffer> | undefined;
  #received = 0;
  #work: Promise<void> = Promise.resolve();
  #file: Promise<FileHandle> | undefined;

  constructor(bytes: number, place: KernelOutput | undefined) {
    this.#expected = bytes;
    this.#place = place;
  }

  /** Takes what follows. False where that is more than there can be. */
  add(bytes: Uint8Array): boolean {
    const at = this.#take(bytes.byteLength);
    if (at === undefined) return false;
    if (this.#memory === undefined) this.#after((file) => this.#write(file, bytes, at));
    else this.#memory.set(bytes, at);
    return true;
  }

  /** The same of bytes that stand in a file; `copied` is called when they may be changed there, whatever came of it. */
  addFrom(descriptor: number, position: number, bytes: number, copied: () => void): boolean {
    const at = this.#take(bytes);
    if (at === undefined) return false;
    this.#after(async (file) => {
      try {
        const memory = this.#memory?.subarray(at, at + bytes) ?? Buffer.allocUnsafeSlow(bytes);
        await fill(descriptor, memory, position);
        if (this.#memory === undefined) await this.#write(file, memory, at);
      } finally {
        copied();
      }
    });
    return true;
  }

  /** The outputs, where they were not put elsewhere. Rejects where they are not whole, or cannot be put there. */
  async finish(): Promise<Uint8Array | undefined> {
    try {
      await this.#work;
      if (this.#received !== this.#expected) throw new Error("a kernel's outputs are not whole");
      return this.#memory;
    } finally {
      await this.close();
    }
  }

  get isWhole(): boolean {
    return this.#received === this.#expected;
  }

  /** Resolves when nothing is written any more. */
  async close(): Promise<void> {
    await this.#work.catch(() => undefined);
    const file = await this.#file?.catch(() => undefined);
    this.#file = undefined;
    await file?.close().catch(() => undefined);
  }

  /** Where so many bytes go; undefined where they are too many. */
  #take(bytes: number): number | undefined {
    const at = this.#received;
    if (at + bytes > this.#expected) return undefined;
    if (this.#place === undefined) this.#memory ??= new Uint8Array(this.#expected);
    this.#received += bytes;
    return at;
  }

  #after(work: (file: FileHandle | undefined) => Promise<void>): void {
    if (this.#place !== undefined) this.#file ??= open(this.#place.path, "r+");
    const file = this.#file;
    this.#work = this.#work.then(async () => await work(await file));
    // Whoever finishes or closes it hears of it.
    this.#work.catch(() => undefined);
  }

  async #write(file: FileHandle | undefined, bytes: Uint8Array, at: number): Promise<void> {
    const { offset } = this.#place!;
    for (let done = 0; done < bytes.byteLength;)
      done += (await writeAt(file!.fd, bytes, done, bytes.byteLength - done, offset + at + done))
        .bytesWritten;
  }
}

async function fill(descriptor: number, memory: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < memory.byteLength;) {
    const { bytesRead } = await readAt(descriptor, memory, done, memory.byteLength - done, position + done);
    if (bytesRead === 0) throw new Error("a kernel's outputs are not where they were said to be");
    done += bytesRead;
  }
}
