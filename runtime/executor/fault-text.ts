/** The sentence that a FAULT carries: which program, which packet, what happened. */
import { FaultCode } from "../../packets/faults.ts";
import { FAULT_MESSAGE_BYTES_MAX } from "../limits.ts";
import type { Manifest } from "../program/program.ts";

/** `text` is the program's own, or the runtime's for a packet that did not run to its end. At most FAULT_MESSAGE_BYTES_MAX. */
export function faultText(manifest: Manifest, at: number, code: number, text: string): Uint8Array {
  const reason = text === "" ? reasonOf(manifest, code) : text;
  const bytes = new TextEncoder().encode(`program "${manifest.name}" failed on packet ${at}: ${reason}`);
  if (bytes.byteLength <= FAULT_MESSAGE_BYTES_MAX) return bytes;
  let end = FAULT_MESSAGE_BYTES_MAX;
  // Not in the middle of a character.
  while ((bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.slice(0, end);
}

/** What a code means where the program has not said it itself. */
export function reasonOf({ description: { limits } }: Manifest, code: number): string {
  switch (code) {
    case FaultCode.timeLimit:
      return `ran longer than its limit of ${limits.timeMs} ms`;
    case FaultCode.memoryLimit:
      return `needed more memory than its limit of ${limits.memoryBytes} bytes`;
    case FaultCode.outputLimit:
      return `yielded more than its limit of ${limits.outputBytes} bytes`;
    case FaultCode.quarantined:
      return "ended its executor process twice, the second time while it ran alone";
    case FaultCode.inputMissing:
      return "its input cannot be read";
    case FaultCode.badRecord:
      return "its input is not what the program's reader takes";
    default:
      return "it has no answer";
  }
}
