/** A program that answers with the byte that it reads, over a file whose bytes are their places: each answer says what was asked. */
import { Op } from "../../packets/layout.ts";
import { decodePacket, encodeFrame } from "../../packets/packet.ts";
import type { Ref } from "../../packets/digest.ts";
import type { LoadedProgram, PacketFS } from "../../sdk/index.ts";

export class Places implements AsyncDisposable {
  readonly program: LoadedProgram;
  readonly #ref: Ref;
  readonly #count: number;

  private constructor(program: LoadedProgram, ref: Ref, count: number) {
    this.program = program;
    this.#ref = ref;
    this.#count = count;
  }

  /** Stores a file of `count` ≤ 256 bytes, and loads the program. */
  static async load(pfs: PacketFS, count: number): Promise<Places> {
    await pfs.put(
      new Uint8Array(count).map((_, index) => index),
      { name: "places" },
    );
    let ref = new Uint8Array(0);
    for await (const { frame } of pfs.packets("places")) ref = decodePacket(frame, 0).ref.slice();
    const program = await pfs.load({
      source: `import { bytes, defineProgram } from "packetfs";
        export default defineProgram({ input: bytes(), yields: "bytes", map: (record, { write }) => write(record) });`,
    });
    return new Places(program, ref, count);
  }

  /** Packets that ask for a byte each, from `first` on and from the beginning again behind the last. */
  frame(first: number, packets: number): Uint8Array {
    const exec = { op: Op.EXEC, lane: 1, length: 1, ref: this.#ref };
    return encodeFrame(
      Array.from({ length: packets }, (_, index) => ({ ...exec, from: (first + index) % this.#count })),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.program.close();
  }
}
