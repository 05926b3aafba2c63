/** Runs packets of a program in isolates of this process, with a prelude of the test's choosing. */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Op } from "../../packets/layout.ts";
import { encodeFrame } from "../../packets/packet.ts";
import { parseDescription } from "../../runtime/program/manifest.ts";
import type { Entry, ProgramDescription } from "../../runtime/program/program.ts";
import { decodeOutcome, EXTENT_NUMBERS } from "../../runtime/sandbox/process/protocol.ts";
import { InputReader } from "../../runtime/sandbox/thread/frame-input.ts";
import { GuestIsolate, GuestRealm, inspectionImage } from "../../runtime/sandbox/thread/guest-isolate.ts";
import { PROGRAM_LIMITS_DEFAULT } from "../../runtime/limits.ts";
import { programCode } from "../program-code.ts";

/** A packet: what it runs, over which bytes, and what it says that it reads. */
export interface Packet {
  readonly entry: Entry;
  readonly input: string;
  readonly ref: number;
}

/** An answer as one text: the status, and what was yielded. */
export type Answer = string;

/** Where inputs stand, as they do in the memory that a node shares with its executors. */
export class Inputs {
  readonly #directory: string = mkdtempSync(join(tmpdir(), "packetfs-exact-"));
  readonly #file: number = openSync(join(this.#directory, "inputs"), "w+");
  readonly #reader: InputReader = new InputReader(this.#file);

  run(guest: GuestIsolate, packets: readonly Packet[]): Answer[] {
    const extents = new Float64Array(packets.length * EXTENT_NUMBERS);
    let end = 0;
    for (const [index, { input }] of packets.entries()) {
      const bytes = Buffer.from(input);
      if (bytes.byteLength > 0) writeSync(this.#file, bytes, 0, bytes.byteLength, end);
      extents.set([end, bytes.byteLength, 0, 0, 0], index * EXTENT_NUMBERS);
      end += bytes.byteLength;
    }
    const frame = encodeFrame(
      packets.map(({ input, ref }, at) => ({
        op: Op.EXEC,
        lane: 1,
        at,
        length: Buffer.byteLength(input),
        ref: new Uint8Array(32).fill(ref),
      })),
    );
    const outcome = decodeOutcome(
      guest.run(this.#reader.stage(extents, frame, guest.encoding)),
      packets.length,
    )!;
    const { completed, statuses, offsets, lengths, output } = outcome;
    const answers = Array.from({ length: completed }, (_, index) => {
      const bytes = output.subarray(offsets[index], offsets[index]! + lengths[index]!);
      return `${statuses[index]}:${Buffer.from(bytes).toString("latin1")}`;
    });
    // What is left runs alone, as a lane does it.
    if (completed < packets.length && packets.length === 1) throw new Error("a packet has no answer");
    return [...answers, ...packets.slice(completed).flatMap((packet) => this.run(guest, [packet]))];
  }

  close(): void {
    closeSync(this.#file);
    rmSync(this.#directory, { recursive: true });
  }
}

const MEMORY_BYTES = PROGRAM_LIMITS_DEFAULT.memoryBytes;
const descriptions = new Map<string, ProgramDescription>();

/** A program in an isolate of its own. */
export function openProgram(source: string, entry: Entry, args: unknown, prelude?: string): GuestIsolate {
  const code = Buffer.from(programCode(source)).toString();
  let description = descriptions.get(source);
  if (description === undefined) {
    const realm = new GuestRealm(MEMORY_BYTES);
    const looked = new GuestIsolate(inspectionImage(), code, realm);
    description = parseDescription(looked.inspect());
    // As executors do: what holds here holds in isolates that were given compiled code.
    realm.keepCompiled();
    looked.dispose();
    descriptions.set(source, description);
  }
  const image = {
    ...inspectionImage(),
    entry,
    description,
    args: JSON.stringify(args),
    encoding: "utf-8",
  } as const;
  const guest = new GuestIsolate(image, code, new GuestRealm(description.limits.memoryBytes, prelude));
  guest.load();
  return guest;
}
