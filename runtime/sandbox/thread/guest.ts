/** What runs the packets of one program on one thread, whatever the program is made of. */
import { FaultCode } from "../../../packets/faults.ts";
import { emptyOutcome, faultOutcome, yieldedOutcome } from "../process/protocol.ts";
import type { ProgramImage } from "../process/protocol.ts";
import type { TextEncoding } from "../../program/readers.ts";
import { META_NUMBERS } from "./frame-input.ts";
import type { StagedFrame } from "./frame-input.ts";
import { GuestIsolate } from "./guest-isolate.ts";

export interface Guest {
  /** How its input is decoded; undefined where it takes bytes. */
  readonly encoding: TextEncoding | undefined;
  /** It must not be used again: it has run out of memory, or does not answer any more. */
  readonly broken: boolean;
  /** Runs a frame and returns its outcome (protocol.ts), which has fewer packets where one of several broke it. */
  run(frame: StagedFrame): Uint8Array<ArrayBuffer>;
  dispose(): void;
}

/** Throws LoadFailure. */
export function openGuest(image: ProgramImage, code: string): Guest {
  return image.entry === "scan" ? new QuoteScan() : GuestIsolate.open(image, code);
}

/** What a frame comes to that its guest cannot begin with: only a packet that is alone is to blame. */
export function refusedOutcome(packets: number, code: FaultCode, reason: string): Uint8Array<ArrayBuffer> {
  return packets === 1 ? faultOutcome(code, reason) : emptyOutcome();
}

/** Counts the quotes in each packet's bytes, whatever the program is: their number tells where records of a CSV begin. */
class QuoteScan implements Guest {
  readonly encoding = undefined;
  readonly broken = false;

  run({ packets, meta, bytes }: StagedFrame): Uint8Array<ArrayBuffer> {
    const QUOTE = 0x22;
    const layout = new Float64Array(meta, 0, packets * META_NUMBERS);
    const input = new Uint8Array(bytes ?? new ArrayBuffer(0));
    const counts: string[] = [];
    for (let at = 0; at < layout.length; at += META_NUMBERS) {
      const start = layout[at]!;
      const end = start + layout[at + 1]!;
      let count = 0;
      for (let index = start; index < end; index++) if (input[index] === QUOTE) count++;
      counts.push(String(count));
    }
    return yieldedOutcome(counts);
  }

  dispose(): void {
    // It holds nothing.
  }
}
