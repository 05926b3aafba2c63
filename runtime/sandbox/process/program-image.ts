/** A program as an executor process gets it: the length of the JSON text, what it is told, and the module's text. */
import type { Entry, ProgramDescription } from "../../program/program.ts";

export interface ProgramImage {
  readonly name: string;
  readonly entry: Entry;
  readonly description: ProgramDescription;
  /** JSON text. */
  readonly args: string;
  /** What evaluating the module may take. */
  readonly loadTimeMs: number;
}

const LENGTH_BYTES = 4;

export function encodeImage(image: ProgramImage, code: Uint8Array): Uint8Array {
  const text = Buffer.from(JSON.stringify(image));
  const bytes = new Uint8Array(LENGTH_BYTES + text.byteLength + code.byteLength);
  new DataView(bytes.buffer).setUint32(0, text.byteLength, true);
  bytes.set(text, LENGTH_BYTES);
  bytes.set(code, LENGTH_BYTES + text.byteLength);
  return bytes;
}

export function decodeImage(bytes: Uint8Array): { image: ProgramImage; code: string } {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const behind = LENGTH_BYTES + whole.readUInt32LE(0);
  const image = JSON.parse(whole.toString("utf8", LENGTH_BYTES, behind)) as ProgramImage;
  return { image, code: whole.toString("utf8", behind) };
}
