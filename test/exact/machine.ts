/** Runs packets of a program in isolates of this process, with a prelude of the test's choosing. */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Op } from "../../packets/layout.ts";
import { encodeFrame } from "../../packets/packet.ts";
import { parseInspection } from "../../runtime/program/manifest.ts";
import { inputEncoding } from "../../runtime/program/readers.ts";
import type { Entry, InspectedProgram } from "../../runtime/program/program.ts";
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

/** What the packet of a split reads. */
export interface PacketInput {
  readonly bytes: Uint8Array;
  readonly place?: number;
  readonly prefix?: number;
  readonly tail?: number;
  readonly ref?: number;
}

/** What came of it: its status, what it yielded or its fault, and what it logged. */
export interface PacketResult {
  readonly status: number;
  readonly bytes: Uint8Array;
  readonly log: string | undefined;
}

/** An answer as one text: the status, and what was yielded. */
export type Answer = string;

/** Where inputs stand, as they do in the memory that a node shares with its executors. */
export class Inputs {
  readonly #directory: string = mkdtempSync(join(tmpdir(), "packetfs-exact-"));
  readonly #file: number = openSync(join(this.#directory, "inputs"), "w+");
  readonly #reader: InputReader = new InputReader(this.#file);

  run(guest: GuestIsolate, packets: readonly Packet[]): Answer[] {
    const inputs = packets.map(({ input, ref }) => ({ bytes: Buffer.from(input), ref }));
    return this.results(guest, inputs).map(
      ({ status, bytes }) => `${status}:${Buffer.from(bytes).toString("latin1")}`,
    );
  }

  /** Runs the packets as one frame, and those that it does not answer alone, as a lane does it. */
  results(guest: GuestIsolate, packets: readonly PacketInput[]): PacketResult[] {
    if (packets.length === 0) return [];
    const extents = new Float64Array(packets.length * EXTENT_NUMBERS);
    let end = 0;
    for (const [index, { bytes, place = 0, prefix = 0, tail = 0 }] of packets.entries()) {
      if (bytes.byteLength > 0) writeSync(this.#file, bytes, 0, bytes.byteLength, end);
      extents.set([end, bytes.byteLength, place, prefix, tail], index * EXTENT_NUMBERS);
      end += bytes.byteLength;
    }
    const frame = encodeFrame(
      packets.map(({ bytes, ref = 0 }, at) => ({
        op: Op.EXEC,
        lane: 1,
        at,
        length: bytes.byteLength,
        ref: new Uint8Array(32).fill(ref),
      })),
    );
    const outcome = decodeOutcome(guest.run(this.#reader.stage(extents, frame, guest)), packets.length)!;
    const { completed, statuses, offsets, lengths, output, logs } = outcome;
    const texts = new Map(logs.map(({ index, text }) => [index, text]));
    const results = Array.from({ length: completed }, (_, index) => ({
      status: statuses[index]!,
      bytes: output.subarray(offsets[index], offsets[index]! + lengths[index]!),
      log: texts.get(index),
    }));
    if (completed < packets.length && packets.length === 1) throw new Error("a packet has no answer");
    return [...results, ...packets.slice(completed).flatMap((packet) => this.results(guest, [packet]))];
  }

  close(): void {
    closeSync(this.#file);
    rmSync(this.#directory, { recursive: true });
  }
}

const MEMORY_BYTES = PROGRAM_LIMITS_DEFAULT.memoryBytes;
const descriptions = new Map<string, InspectedProgram>();

/** A program in an isolate of its own. */
export function openProgram(source: string, entry: Entry, args: unknown, prelude?: string): GuestIsolate {
  const code = Buffer.from(programCode(source)).toString();
  let description = descriptions.get(source);
  if (description === undefined) {
    const realm = new GuestRealm(MEMORY_BYTES);
    const looked = new GuestIsolate(inspectionImage(), code, realm);
    description = parseInspection(looked.inspect());
    // As executors do: what holds here holds in isolates that were given compiled code.
    realm.keepCompiled();
    looked.dispose();
    descriptions.set(source, description);
  }
  const encoding = inputEncoding(entry, description);
  const image = {
    ...inspectionImage(),
    entry,
    description,
    args: JSON.stringify(args),
    ...(encoding === undefined ? {} : { encoding }),
  };
  const guest = new GuestIsolate(
    image,
    code,
    new GuestRealm(description.limits.memoryBytes, { source: prelude }),
  );
  guest.load();
  return guest;
}
