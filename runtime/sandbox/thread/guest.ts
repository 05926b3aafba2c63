/** What runs the packets of one program on one thread, whatever the program is made of. */
import { FaultCode } from "../../../packets/faults.ts";
import { fromAt } from "../../../packets/packet.ts";
import { emptyOutcome, faultOutcome, yieldedOutcome } from "../process/protocol.ts";
import type { ProgramImage } from "../process/protocol.ts";
import { CsvRows, encodeScan, namedSeparator } from "../../program/csv-rows.ts";
import type { ReaderSpec, TextEncoding } from "../../program/readers.ts";
import { Exchange, META_NUMBERS } from "./exchange.ts";
import type { GuestFrame } from "./frame-input.ts";
import { GuestIsolate } from "./guest-isolate.ts";
import type { GuestRealm } from "./guest-isolate.ts";

export interface Guest {
  /** Where its frames are put. */
  readonly exchange: Exchange;
  /** How its input is decoded; undefined where it takes bytes. */
  readonly encoding: TextEncoding | undefined;
  /** It must not be used again: it has run out of memory, or does not answer any more. */
  readonly broken: boolean;
  /** Runs a frame and returns its outcome (protocol.ts), which has fewer packets where one of several broke it. */
  run(frame: GuestFrame): Uint8Array<ArrayBuffer>;
  dispose(): void;
}

/** `realm` gives one with so many bytes of memory, where the program needs one. Throws LoadFailure. */
export function openGuest(
  image: ProgramImage,
  code: string,
  realm: (memoryBytes: number) => GuestRealm,
): Guest {
  const { entry, description } = image;
  if (entry === "scan") return new RowScan(description.reader);
  return GuestIsolate.open(image, code, realm(description.limits.memoryBytes));
}

/** What a frame comes to that its guest cannot begin with: only a packet that is alone is to blame. */
export function refusedOutcome(packets: number, code: FaultCode, reason: string): Uint8Array<ArrayBuffer> {
  return packets === 1 ? faultOutcome(code, reason) : emptyOutcome();
}

/** Finds where rows of a CSV begin in each packet's bytes, whatever the program is, and yields scans (csv-rows.ts). */
class RowScan implements Guest {
  readonly exchange: Exchange = new Exchange();
  readonly encoding = undefined;
  readonly broken = false;
  readonly #reader: ReaderSpec;

  constructor(reader: ReaderSpec) {
    this.#reader = reader;
  }

  run({ packets, bytes }: GuestFrame): Uint8Array<ArrayBuffer> {
    const reader = this.#reader;
    // Other readers have no rows to be found.
    if (reader.kind !== "csv") return yieldedOutcome(Array<Uint8Array>(packets).fill(new Uint8Array(0)));
    const { numbers, packets: frame } = this.exchange;
    const input = bytes === undefined ? this.exchange.input : new Uint8Array(bytes);
    const scans: Uint8Array[] = [];
    for (let index = 0; index < packets; index++) {
      const at = index * META_NUMBERS;
      const start = numbers[at]!;
      const end = start + numbers[at + 1]!;
      const rowsAt = start + numbers[at + 3]!;
      const rows = new CsvRows(reader, namedSeparator(reader, input.subarray(start, rowsAt)));
      const scanner = rows.scan(numbers[at + 2]! - fromAt(frame, index));
      scanner.push(input.subarray(rowsAt, end));
      scans.push(encodeScan(scanner.result()));
    }
    return yieldedOutcome(scans);
  }

  dispose(): void {
    // It holds nothing.
  }
}
