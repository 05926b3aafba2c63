/**
 * Packets as people read them, one line each:
 *
 *     0  DATA    at 0                       6 bytes  "hello\n"
 *     1  FILL    at 6                   1,024 bytes  of 0x00
 *     2  COPY    at 1,030              65,536 bytes  from 0 of chunk 2cf24dba5fb0…
 *     3  CALL    at 66,566        268,435,456 bytes  from 0 of stream 486ea46224d1…
 *     4  HALT    after 4 packets  268,502,022 bytes  in all
 *
 * A malformed packet is a line too, since looking at damaged streams is what this is for.
 */
import { codeText } from "./code/text.ts";
import { refToHex } from "./digest.ts";
import { faultErrorCode } from "./faults.ts";
import { Flag, OP_NAMES, Op } from "./layout.ts";
import { atOf, flagsAt, fromAt, laneAt, lengthAt, opAt, refOf } from "./packet.ts";
import { invalidPacket } from "./validate.ts";

/** A packet for `--json`: `index`, `op` and whatever fields its op gives a meaning to, refs and inline bytes as hex. */
export type PacketJson = Readonly<Record<string, string | number | boolean>>;

/** A line of a file below 1 GB takes 80 columns. */
const INDEX_WIDTH = 5;
const OP_WIDTH = 7;
const PLACE_WIDTH = 15;
const LENGTH_WIDTH = 17;
const REF_DIGITS = 12;

/** One line for the packet at `index`, without a line end. Refs are shown by their first `refDigits` hexadecimal digits. */
export function disassemble(frame: Uint8Array, index: number, refDigits: number = REF_DIGITS): string {
  const number = String(index).padStart(INDEX_WIDTH);
  const reason = invalidPacket(frame, index);
  if (reason !== null) return `${number}  INVALID ${reason}`;
  const op = opAt(frame, index);
  const length = lengthAt(frame, index);
  const flags = flagsAt(frame, index);
  const open = op === Op.HALT && (flags & Flag.OPEN) !== 0;
  const counted = op !== Op.NOP && op !== Op.LOAD && !open;
  const columns = [
    number,
    OP_NAMES[op]!.padEnd(OP_WIDTH - 1),
    place(frame, index, op).padEnd(PLACE_WIDTH),
    (counted ? amount(length, "byte") : "").padStart(LENGTH_WIDTH),
    source(frame, index, op, refDigits),
  ];
  return columns.join("  ").trimEnd();
}

/** The packet at `index` as an object; of a malformed one it says why it is `invalid`. */
export function packetToJson(frame: Uint8Array, index: number): PacketJson {
  const reason = invalidPacket(frame, index);
  if (reason !== null) return { index, invalid: reason };
  const op = opAt(frame, index);
  const flags = flagsAt(frame, index);
  const head = { index, op: OP_NAMES[op]! };
  const at = atOf(frame, index);
  const length = lengthAt(frame, index);
  const from = fromAt(frame, index);
  const lane = laneAt(frame, index);
  const ref = refToHex(refOf(frame, index));
  const bytes = (count: number): string => ref.slice(0, count * 2);
  const inline = (flags & Flag.INLINE) !== 0;
  const target = (flags & Flag.STREAM) !== 0 ? { stream: ref } : { chunk: ref };
  switch (op) {
    case Op.NOP:
      return head;
    case Op.DATA:
      return { ...head, at, length, bytes: bytes(length) };
    case Op.FILL:
      return { ...head, at, length, pattern: bytes(flags) };
    case Op.COPY:
      return { ...head, at, length, from, chunk: ref };
    case Op.CALL:
      return { ...head, at, length, from, stream: ref };
    case Op.LOAD:
      return inline
        ? { ...head, lane, code: ref, text: codeText(refOf(frame, index)) }
        : { ...head, lane, program: ref };
    case Op.EXEC:
      return { ...head, lane, task: at, length, from, ...target, whole: (flags & Flag.WHOLE) !== 0 };
    case Op.RETURN:
      return { ...head, lane, task: at, length, ...(inline ? { bytes: bytes(length) } : target) };
    case Op.FAULT:
      return {
        ...head,
        lane,
        task: at,
        code: faultErrorCode(from),
        length,
        ...(inline ? { bytes: bytes(length) } : { chunk: ref }),
      };
    case Op.HALT:
      if ((flags & Flag.OPEN) !== 0) return { ...head, packets: at, open: true };
      return {
        ...head,
        packets: at,
        length,
        ...((flags & Flag.DIGEST) !== 0 ? { digest: ref } : {}),
        ...((flags & Flag.TREE) !== 0 ? { tree: true } : {}),
      };
  }
}

/** Where the output goes, or who computes it. */
function place(frame: Uint8Array, index: number, op: Op): string {
  const at = atOf(frame, index);
  switch (op) {
    case Op.NOP:
      return "";
    case Op.LOAD:
      return `lane ${laneAt(frame, index)}`;
    case Op.EXEC:
    case Op.RETURN:
    case Op.FAULT:
      return `lane ${laneAt(frame, index)} task ${grouped(at)}`;
    case Op.HALT:
      return `after ${amount(at, "packet").trimEnd()}`;
    default:
      return `at ${grouped(at)}`;
  }
}

/** Where the bytes come from, or what they are. */
function source(frame: Uint8Array, index: number, op: Op, refDigits: number): string {
  const flags = flagsAt(frame, index);
  const ref = refOf(frame, index);
  const hex = refToHex(ref);
  const name = refDigits < hex.length ? `${hex.slice(0, refDigits)}…` : hex;
  const range = `from ${grouped(fromAt(frame, index))} of`;
  const kind = op === Op.CALL || (flags & Flag.STREAM) !== 0 ? "stream" : "chunk";
  const inline = (flags & Flag.INLINE) !== 0;
  switch (op) {
    case Op.NOP:
      return "";
    case Op.DATA:
      return readableBytes(ref.subarray(0, lengthAt(frame, index)));
    case Op.FILL:
      return `of ${readableBytes(ref.subarray(0, flags))}`;
    case Op.COPY:
      return `${range} chunk ${name}`;
    case Op.CALL:
      return `${range} stream ${name}`;
    case Op.LOAD:
      return inline ? `packet code ${codeText(ref)}` : `program ${name}`;
    case Op.EXEC:
      return `${range} ${kind} ${name}${(flags & Flag.WHOLE) !== 0 ? ", whole records" : ""}`;
    case Op.RETURN:
      return inline ? readableBytes(ref.subarray(0, lengthAt(frame, index))) : `in ${kind} ${name}`;
    case Op.FAULT: {
      const text = inline ? readableBytes(ref.subarray(0, lengthAt(frame, index))) : `in chunk ${name}`;
      return `${faultErrorCode(fromAt(frame, index))}: ${text}`;
    }
    case Op.HALT:
      if ((flags & Flag.OPEN) !== 0) return "length not known yet";
      return (
        ((flags & Flag.TREE) !== 0 ? "in all, a directory" : "in all") +
        ((flags & Flag.DIGEST) !== 0 ? `, SHA-256 ${name}` : "")
      );
  }
}

/** Mostly text: a quoted string in which whatever is not printable ASCII is escaped. Otherwise hexadecimal. */
function readableBytes(bytes: Uint8Array): string {
  const hex = refToHex(bytes);
  const characters = Array.from(bytes, (byte, index) =>
    readableByte(byte, hex.slice(index * 2, index * 2 + 2)),
  );
  const escaped = characters.filter((character) => character.startsWith("\\x"));
  return escaped.length * 2 > bytes.length ? `0x${hex}` : `"${characters.join("")}"`;
}

const ESCAPES: ReadonlyMap<number, string> = new Map([
  [0x09, "\\t"],
  [0x0a, "\\n"],
  [0x0d, "\\r"],
  [0x22, '\\"'],
  [0x5c, "\\\\"],
]);

function readableByte(byte: number, hex: string): string {
  const printable = byte >= 0x20 && byte < 0x7f;
  return ESCAPES.get(byte) ?? (printable ? String.fromCharCode(byte) : `\\x${hex}`);
}

/** "1,048,576": thousands apart, as the command line has them, so that sizes can be compared at a glance. */
function grouped(value: number): string {
  return String(value).replace(/\B(?=(\d{3})+$)/g, ",");
}

/** "1 byte " is as wide as "1 bytes" would be, so that the columns hold. */
function amount(count: number, unit: string): string {
  return `${grouped(count)} ${unit}${count === 1 ? " " : "s"}`;
}
