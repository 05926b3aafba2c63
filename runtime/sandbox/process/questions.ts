/**
 * What a thread of an executor process asks its node while it runs a frame, for which it stands still, and what it is answered:
 *
 *   kind       body
 *   call     ◀  who computes a kernel: the length of a JSON text (KernelQuestion), the text, and the inputs that come along
 *   computed ◀  nothing, and there is no answer: what a call was left to the program for is done
 *   read     ◀  bytes of a block: its origin, the first byte and how many, three float64
 *   answer   ▶  an answer
 *
 *   OFFSET SIZE ANSWER
 *   0      4    what it is (AnswerKind)
 *   4      4    the FaultCode of a fault
 *   8      8    bytes, a float64: of all outputs of a kernel; or of what was read, which may be less than was asked for
 *   16     8    where they stand in the shared memory, a float64
 *   24          those that are here, or the text of a fault
 *
 * What an origin is: a packet by its place in the frame, the n-th stored file by -1 - n, or HELD_ORIGIN. Outputs, and inputs that
 * come along, stand back to back, each at a multiple of four bytes.
 */
import { readInteger32, writeInteger32 } from "../../../packets/integer.ts";
import type { FaultCode } from "../../../packets/faults.ts";
import { MessageKind } from "./protocol.ts";

/** Those kinds of messages that are questions. */
export const QuestionKind: Pick<typeof MessageKind, "call" | "computed" | "read"> = MessageKind;

export function isQuestion(kind: number): boolean {
  return kind === QuestionKind.call || kind === QuestionKind.computed || kind === QuestionKind.read;
}

/** A call of a kernel, as the guest asks for it. */
export interface KernelQuestion {
  /** Index in the frame of the packet that runs. */
  readonly packet: number;
  /** Index among the kernels of the program. */
  readonly kernel: number;
  readonly dimensions: Readonly<Record<string, number>>;
  /** By the kernel's order: bytes that come along, or those of a block. */
  readonly inputs: readonly InputPlace[];
}

export interface InputPlace {
  /** Absent where the bytes come along. */
  readonly origin?: number;
  readonly from?: number;
  readonly length: number;
}

/** Of what a call has computed and had no room for: it is read as a block is, until the next call. */
export const HELD_ORIGIN = -0x8000_0000;

export const AnswerKind = {
  /** The program shall compute it itself, and say when it has. */
  compute: 0,
  here: 1,
  shared: 2,
  held: 3,
  fault: 4,
} as const;
export type AnswerKind = (typeof AnswerKind)[keyof typeof AnswerKind];

const BYTES_AT = 8;
const PLACE_AT = 16;
export const ANSWER_HEAD_BYTES = 24;

/** Bytes behind an answer's head: more go another way. */
export const ANSWER_BYTES_MAX: number = 1024 * 1024;

export type NodeAnswer =
  | { readonly kind: typeof AnswerKind.compute }
  | { readonly kind: typeof AnswerKind.here; readonly bytes: Uint8Array }
  | { readonly kind: typeof AnswerKind.shared; readonly length: number; readonly offset: number }
  | { readonly kind: typeof AnswerKind.held; readonly length: number }
  | { readonly kind: typeof AnswerKind.fault; readonly code: FaultCode; readonly text: string };

export function encodeAnswer(answer: NodeAnswer): Uint8Array {
  const behind =
    answer.kind === AnswerKind.here
      ? answer.bytes
      : answer.kind === AnswerKind.fault
        ? Buffer.from(answer.text)
        : undefined;
  const bytes = new Uint8Array(ANSWER_HEAD_BYTES + (behind?.byteLength ?? 0));
  const view = new DataView(bytes.buffer);
  writeInteger32(bytes, 0, answer.kind);
  if (answer.kind === AnswerKind.fault) writeInteger32(bytes, 4, answer.code);
  const length = "length" in answer ? answer.length : (behind?.byteLength ?? 0);
  view.setFloat64(BYTES_AT, length, true);
  if (answer.kind === AnswerKind.shared) view.setFloat64(PLACE_AT, answer.offset, true);
  if (behind !== undefined) bytes.set(behind, ANSWER_HEAD_BYTES);
  return bytes;
}

/** The thread believes its node. Bytes are a view. */
export function decodeAnswer(body: Uint8Array): NodeAnswer {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const kind = readInteger32(body, 0) as AnswerKind;
  const length = view.getFloat64(BYTES_AT, true);
  switch (kind) {
    case AnswerKind.compute:
      return { kind };
    case AnswerKind.here:
      return { kind, bytes: body.subarray(ANSWER_HEAD_BYTES) };
    case AnswerKind.shared:
      return { kind, length, offset: view.getFloat64(PLACE_AT, true) };
    case AnswerKind.held:
      return { kind, length };
    case AnswerKind.fault:
      return {
        kind,
        code: readInteger32(body, 4) as FaultCode,
        text: Buffer.from(body.subarray(ANSWER_HEAD_BYTES)).toString(),
      };
  }
}

export interface BlockRange {
  readonly origin: number;
  readonly from: number;
  readonly length: number;
}

export const READ_QUESTION_BYTES = 24;

export function encodeRead({ origin, from, length }: BlockRange): Uint8Array {
  const bytes = new Uint8Array(READ_QUESTION_BYTES);
  const view = new DataView(bytes.buffer);
  for (const [index, value] of [origin, from, length].entries()) view.setFloat64(index * 8, value, true);
  return bytes;
}

/** Undefined for what is none. */
export function decodeRead(body: Uint8Array): BlockRange | undefined {
  if (body.byteLength !== READ_QUESTION_BYTES) return undefined;
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const [origin, from, length] = [
    view.getFloat64(0, true),
    view.getFloat64(8, true),
    view.getFloat64(16, true),
  ];
  const whole = Number.isSafeInteger(origin) && Number.isSafeInteger(from) && Number.isSafeInteger(length);
  return whole && from >= 0 && length > 0 ? { origin, from, length } : undefined;
}

/** A call's JSON text, and the bytes that come with it; undefined for what is none. What is returned is a view. */
export function decodeCall(
  body: Uint8Array,
): { readonly question: KernelQuestion; readonly values: Uint8Array } | undefined {
  if (body.byteLength < 4) return undefined;
  const end = 4 + readInteger32(body, 0);
  if (end > body.byteLength) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body.buffer, body.byteOffset + 4, end - 4).toString());
  } catch {
    return undefined;
  }
  return isKernelQuestion(value) ? { question: value, values: body.subarray(end) } : undefined;
}

function isKernelQuestion(value: unknown): value is KernelQuestion {
  if (!isObject(value)) return false;
  const { packet, kernel, dimensions, inputs } = value;
  return (
    isIndex(packet) &&
    isIndex(kernel) &&
    isObject(dimensions) &&
    Object.values(dimensions).every(isIndex) &&
    Array.isArray(inputs) &&
    inputs.every(isPlace)
  );
}

function isPlace(value: unknown): boolean {
  if (!isObject(value)) return false;
  const { origin, from, length } = value;
  if (!isIndex(length)) return false;
  return origin === undefined ? from === undefined : Number.isSafeInteger(origin) && isIndex(from);
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null;
}

function isIndex(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
