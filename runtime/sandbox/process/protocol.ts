/**
 * What a node and the threads of its executor process say to each other, each thread over a pipe of its own, and the bytes
 * that it is said in: messages of a header and a body.
 *
 *   OFFSET SIZE HEADER
 *   0      4    kind
 *   4      4    call    which call this asks or answers
 *   8      2    word    a lane, or a thread's index; nothing in answers to calls
 *   10     2    packets of a run
 *   12     4    length  bytes of the body
 *
 *   kind          body
 *   inspect    ▶  the module's text, UTF-8
 *   load       ▶  a program image: the length of its JSON text, the text, and the module's text
 *   run        ▶  n × 5 float64 of extents, n × 64 bytes of packets, then their inputs, if they are few bytes
 *   unload     ▶  nothing, and there is no answer
 *   compile    ▶  an array of GpuJsSource as JSON
 *   start      ▶  nothing: the thread whose index the word is shall start. Said on the process's own pipe, as is its answer
 *   ready      ◀  what the system calls the thread of that index, 4 bytes; the first thread starts without being asked
 *   described  ◀  ProgramDescription as JSON
 *   loaded     ◀  nothing: the answer to load
 *   invalid    ◀  why the program does not load, as text: the answer to inspect, load or compile
 *   compiled   ◀  an array of GpuJsModule as JSON
 *   ran        ◀  a frame's outcome
 *
 * and while it runs a frame, what questions.ts says.
 *
 * Where a packet's input is, in a run:
 *
 *   0  offset  where the input stands in the shared memory, or among the inputs that came with the packets; or LAZY_OFFSET
 *   1  length  its bytes, prefix and tail included
 *   2  place   where the first byte behind the prefix stands in its file: what `context.offset` counts from
 *   3  prefix  bytes at the beginning that are the file's first, and no records: what stands before the rows of a CSV
 *   4  tail    bytes at the end in which no record begins: what the last records overlap
 *
 * What became of a frame, written by the guest, passed on untouched, and read by the node:
 *
 *   OFFSET     SIZE OUTCOME
 *   0          4    c, packets that have an answer: the first c of the frame
 *   4          4    l, packets of these that logged something
 *   8          4c   how many bytes each of the c yielded
 *   8+4c       8l   index of a packet, and the bytes of its log
 *   8+4c+8l    c    statuses
 *   …               the logs, then the outputs, back to back
 *
 * The executor process is not believed: the node bounds each length before the body is taken, and checks each outcome.
 */
import { FaultCode } from "../../../packets/faults.ts";
import { readInteger32, writeInteger32 } from "../../../packets/integer.ts";
import { PACKET_BYTES } from "../../../packets/layout.ts";
import { PROGRAM_LIMITS_MAX } from "../../limits.ts";
import type { Entry, ProgramDescription } from "../../program/program.ts";
import type { GpuJsSource } from "../../program/kernel/gpujs.ts";
import type { TextEncoding } from "../../program/readers.ts";
import type { SpareMemory } from "../../spare-memory.ts";

/** A multiple of eight, so that what is behind it can be read as numbers where it lies. */
export const HEADER_BYTES = 16;

/** The body of `ready`. */
export const READY_BYTES = 4;
const WORDS = 0x1_0000;

export const MessageKind = {
  inspect: 1,
  load: 2,
  run: 3,
  unload: 4,
  ready: 5,
  described: 6,
  loaded: 7,
  invalid: 8,
  ran: 9,
  start: 10,
  call: 11,
  computed: 12,
  read: 13,
  answer: 14,
  compile: 15,
  compiled: 16,
} as const;
export type MessageKind = (typeof MessageKind)[keyof typeof MessageKind];

export interface Message {
  readonly kind: number;
  readonly call: number;
  readonly word: number;
  readonly packets: number;
  readonly body: Uint8Array<ArrayBuffer>;
}

export interface MessageHeader {
  readonly kind: number;
  readonly call: number;
  readonly word: number;
  readonly packets: number;
  /** Bytes of the body. */
  readonly length: number;
}

/** Writes a header into the first HEADER_BYTES of `bytes`. */
export function writeHeader(
  bytes: Uint8Array,
  kind: MessageKind,
  call: number,
  word: number,
  packets: number,
  length: number,
): void {
  writeInteger32(bytes, 0, kind);
  writeInteger32(bytes, 4, call);
  writeInteger32(bytes, 8, word + packets * WORDS);
  writeInteger32(bytes, 12, length);
}

export function readHeader(bytes: Uint8Array): MessageHeader {
  return {
    kind: readInteger32(bytes, 0),
    call: readInteger32(bytes, 4),
    word: readInteger32(bytes, 8) % WORDS,
    packets: readInteger32(bytes, 8) >>> 16,
    length: readInteger32(bytes, 12),
  };
}

/** How many bytes the body of a message may have; a negative number refuses it. */
export type BodyLimit = (kind: number, call: number) => number;

/** Puts messages together from the pieces that a pipe brings. Each body is a buffer of its own. */
export class MessageReader {
  readonly #limit: BodyLimit;
  readonly #take: (message: Message) => void;
  readonly #bytes = new Uint8Array(HEADER_BYTES);
  #headerBytes = 0;
  #header: MessageHeader | undefined;
  #body: Uint8Array<ArrayBuffer> | undefined;
  #bodyBytes = 0;
  readonly #memory: SpareMemory | undefined;

  /** What is given back to `memory` after use, bodies are read into. */
  constructor(limit: BodyLimit, take: (message: Message) => void, memory?: SpareMemory) {
    this.#limit = limit;
    this.#take = take;
    this.#memory = memory;
  }

  /** Returns false when a header announces more than it may: nothing behind it can be read. */
  push(piece: Uint8Array): boolean {
    let at = 0;
    while (at < piece.byteLength || this.#body?.byteLength === 0) {
      if (this.#body === undefined) {
        const bytes = Math.min(HEADER_BYTES - this.#headerBytes, piece.byteLength - at);
        this.#bytes.set(piece.subarray(at, at + bytes), this.#headerBytes);
        this.#headerBytes += bytes;
        at += bytes;
        if (this.#headerBytes < HEADER_BYTES) return true;
        const header = readHeader(this.#bytes);
        if (header.length > this.#limit(header.kind, header.call)) return false;
        this.#header = header;
        this.#body = this.#memory?.take(header.length) ?? new Uint8Array(header.length);
        this.#bodyBytes = 0;
      }
      const body = this.#body;
      const bytes = Math.min(body.byteLength - this.#bodyBytes, piece.byteLength - at);
      body.set(piece.subarray(at, at + bytes), this.#bodyBytes);
      this.#bodyBytes += bytes;
      at += bytes;
      if (this.#bodyBytes === body.byteLength) this.#deliver(body);
    }
    return true;
  }

  #deliver(body: Uint8Array<ArrayBuffer>): void {
    this.#body = undefined;
    this.#headerBytes = 0;
    const { kind, call, word, packets } = this.#header!;
    this.#take({ kind, call, word, packets, body });
  }
}

/**
 * The descriptors that an executor process is started with, beside the three that every process has: the pipe that tells it
 * when its node is gone, the shared memory, and the pipes of its threads from there on.
 */
export const PROCESS_PIPE_DESCRIPTOR = 3;
export const SHARED_MEMORY_DESCRIPTOR = 4;
export const THREAD_PIPES_DESCRIPTOR = 5;

/** Numbers per packet that say where its input is. */
export const EXTENT_NUMBERS = 5;

/** The offset of an input that does not come along, since nobody may need to look at it: a block's. */
export const LAZY_OFFSET = -1;

/** What came in a run. */
export interface RunBody {
  readonly extents: Float64Array;
  readonly frame: Uint8Array;
  /** Absent where the inputs are in the shared memory. */
  readonly inputs: Uint8Array | undefined;
}

/** The body begins at a multiple of eight bytes of its buffer. What is returned are views. */
export function readRun({ packets, body }: Message): RunBody {
  const extents = new Float64Array(body.buffer, body.byteOffset, packets * EXTENT_NUMBERS);
  const inputsAt = extents.byteLength + packets * PACKET_BYTES;
  const inputs = inputsAt < body.byteLength ? body.subarray(inputsAt) : undefined;
  return { extents, frame: body.subarray(extents.byteLength, inputsAt), inputs };
}

/** A program as an executor process gets it, beside the module's text. */
export interface ProgramImage {
  readonly name: string;
  readonly entry: Entry;
  /** What its kernels are stays with the node, which a guest asks who computes them. */
  readonly description: ProgramDescription & { readonly kernels?: never };
  /** How many kernels it has; absent where it has none. */
  readonly kernels?: number;
  /** JSON text. */
  readonly args: string;
  /** How its input is decoded; absent where it takes bytes. */
  readonly encoding?: TextEncoding;
  /** Stored files that it is given, in the order in which the node counts them. */
  readonly files?: readonly GivenFile[];
  /** By the order of its kernels, those that GPU.js computes; null for the others. Absent where there are none. */
  readonly computed?: readonly (GpuJsSource | null)[];
}

/** A stored file beside the input. */
export interface GivenFile {
  readonly name: string;
  readonly length: number;
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

export interface FrameOutcome {
  /** 0, or the FaultCode of a packet that failed. One for each of the `completed` packets. */
  readonly statuses: Uint8Array;
  /** Where each of the `completed` packets' bytes stand in `output`: its result, or its fault (parseFault). */
  readonly offsets: Uint32Array;
  readonly lengths: Uint32Array;
  readonly output: Uint8Array;
  /** What packets logged, by their index in the frame. */
  readonly logs: readonly { readonly index: number; readonly text: string }[];
  /** Packets that have an answer. When it is less than the frame has, the rest must run one packet a frame. */
  readonly completed: number;
}

const HEAD_BYTES = 8;
const NO_OUTPUT = new Uint8Array(0);
const STATUS_MAX: number = Math.max(...Object.values(FaultCode));

/** The bytes that an outcome of `packets` packets can have, when their outputs have `outputBytes` and logs `logBytes`. */
export function outcomeBytesMax(packets: number, outputBytes: number, logBytes: number): number {
  return HEAD_BYTES + packets * 13 + outputBytes + logBytes;
}

/**
 * What a packet that failed has instead of a result: a line with the byte of its input that it failed at, empty where
 * nothing is known, and the text of its fault.
 */
export interface Fault {
  readonly text: string;
  readonly place?: number;
}

/** Never throws: what the guest wrote may be anything. */
export function parseFault(bytes: Uint8Array): Fault {
  const whole = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
  const lineEnd = whole.indexOf("\n");
  const text = whole.slice(lineEnd + 1);
  const line = whole.slice(0, Math.max(0, lineEnd));
  return /^\d{1,15}$/.test(line) ? { text, place: Number(line) } : { text };
}

/** One packet's fault. */
export function faultOutcome(code: FaultCode, text: string): Uint8Array<ArrayBuffer> {
  const message = Buffer.from(`\n${text}`);
  const bytes = new Uint8Array(HEAD_BYTES + 5 + message.byteLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 1, true);
  view.setUint32(HEAD_BYTES, message.byteLength, true);
  bytes[HEAD_BYTES + 4] = code;
  bytes.set(message, HEAD_BYTES + 5);
  return bytes;
}

/** Packets that did well and logged nothing, with what each of them yielded. */
export function yieldedOutcome(results: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const head = Buffer.alloc(HEAD_BYTES + results.length * 5);
  head.writeUInt32LE(results.length, 0);
  results.forEach((result, index) => head.writeUInt32LE(result.byteLength, HEAD_BYTES + index * 4));
  return new Uint8Array(Buffer.concat([head, ...results]));
}

/** No packet has an answer. */
export function emptyOutcome(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(HEAD_BYTES);
}

/** Reads the outcome of a frame of `packets` packets; undefined when it is not one. `output` is a view. */
export function decodeOutcome(bytes: Uint8Array, packets: number): FrameOutcome | undefined {
  if (bytes.byteLength < HEAD_BYTES) return undefined;
  const completed = readInteger32(bytes, 0);
  const logCount = readInteger32(bytes, 4);
  if (completed > packets || logCount > completed) return undefined;
  const logsAt = HEAD_BYTES + completed * 4;
  const statusesAt = logsAt + logCount * 8;
  const textAt = statusesAt + completed;
  if (textAt > bytes.byteLength) return undefined;
  const statuses = bytes.subarray(statusesAt, textAt);
  for (let index = 0; index < completed; index++) if (statuses[index]! > STATUS_MAX) return undefined;
  const logs: { index: number; text: string }[] = [];
  let at = textAt;
  for (let entry = logsAt; entry < statusesAt; entry += 8) {
    const index = readInteger32(bytes, entry);
    const length = readInteger32(bytes, entry + 4);
    if (index >= completed || at + length > bytes.byteLength) return undefined;
    logs.push({ index, text: Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString() });
    at += length;
  }
  const output = at === bytes.byteLength ? NO_OUTPUT : bytes.subarray(at);
  const offsets = new Uint32Array(completed);
  const lengths = new Uint32Array(completed);
  let end = 0;
  for (let index = 0; index < completed; index++) {
    const length = readInteger32(bytes, HEAD_BYTES + index * 4);
    if (length > PROGRAM_LIMITS_MAX.outputBytes) return undefined;
    offsets[index] = end;
    lengths[index] = length;
    end += length;
  }
  if (end !== output.byteLength) return undefined;
  return { statuses, offsets, lengths, output, logs, completed };
}
