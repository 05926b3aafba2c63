/**
 * The loop over a frame's packets. It gathers statuses, lengths, logs and outputs, and keeps them in such an order that
 * a frame which is stopped anywhere still hands out what its finished packets yielded.
 */
import type { PacketLog } from "./console.ts";
import type { RunEntry } from "./entries.ts";
import type { Faults } from "./faults.ts";
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";
import type { Promises } from "./promises.ts";
import type { Randomness } from "./random.ts";
import type { Place } from "./readers.ts";
import type { TextCodec } from "./text-codec.ts";
import type { ExchangeLayout } from "../thread/exchange.ts";
import type { TextEncoding } from "../../program/readers.ts";

export interface FrameLoopTools {
  readonly codec: TextCodec;
  readonly faults: Faults;
  readonly output: Output;
  readonly log: PacketLog;
  readonly random: Randomness;
  readonly promises: Promises;
  /** Told of each packet that begins, by its index. */
  readonly inPacket: (index: number) => void;
  /** FaultCode. */
  readonly threw: number;
  /** Per packet. */
  readonly outputBytes: number;
  readonly faultTextMax: number;
  /** Where a frame ends early. */
  readonly frameOutputBytes: number;
  readonly frameLogBytes: number;
  /** Of the input, where it is text. */
  readonly encoding: TextEncoding | undefined;
  /** FaultCode. */
  readonly badRecord: number;
  readonly exchange: SharedArrayBuffer;
  readonly exchangeLayout: ExchangeLayout;
}

/** An outcome (protocol.ts), or how many bytes of the exchange it is. */
export type Yielded = ArrayBuffer | number;

/** The input of a frame: see Prelude.run. */
export interface FrameInput {
  readonly frame: number;
  readonly packets: number;
  readonly text: string | undefined;
  readonly bytes: ArrayBuffer | undefined;
}

export interface FrameLoop {
  readonly place: Place;
  /** The program yields something outside of its map: the packet fails. */
  readonly late: (sentence: string) => never;
  /** Both: see Prelude. */
  run(input: FrameInput, runEntry: RunEntry): Yielded | boolean;
  resume(rejection: string | undefined): Yielded | boolean;
  collect(frame: number): Yielded;
}

export function makeFrameLoop(p: Primordials, tools: FrameLoopTools): FrameLoop {
  const { codec, faults, output, log, random, promises, encoding, exchange } = tools;
  const { packetsAt, inputAt, inputBytes, outcomeAt, outcomeBytes } = tools.exchangeLayout;
  const isWide = encoding === "utf-16le" || encoding === "utf-16be";
  const META = 8;
  const NO_BYTES = new p.Uint8Array(0);
  // So few are copied one by one sooner than a view of them is made. V8 has no buffer for them, unless a program asks for it.
  const LOOP_BYTES_MAX = 64;
  const layout = new p.Float64Array(exchange, 0, packetsAt / 8);
  const words = new p.Uint32Array(exchange, packetsAt, (inputAt - packetsAt) / 4);
  const smallInput = new p.Uint8Array(exchange, inputAt, inputBytes);
  const smallOutcome = new p.Uint8Array(exchange, outcomeAt, outcomeBytes);
  const smallOutcomeNumbers = new p.Uint32Array(exchange, outcomeAt, outcomeBytes / 4);
  // Text of this length has come since garbage was last collected. V8 does not count what text from outside takes.
  const GARBAGE_UNITS = 16777216;
  let garbage = 0;
  let frame = 0;
  let count = 0;
  /** The packet that runs, or would be the next to run. */
  let next = 0;
  let running = false;
  /** The packet has run, and what its promises have still to do comes before the next begins. */
  let pending = false;
  let runEntry: RunEntry;
  let statuses = new p.Uint8Array(0);
  let lengths = new p.Uint32Array(0);
  let logs: { readonly index: number; readonly text: string; readonly bytes: number }[] = [];
  let logCount = 0;
  let logBytes = 0;
  /** The bytes of the frame's packets. */
  let source: Uint8Array<ArrayBufferLike> = smallInput;
  /** Where they came with the frame: to be let go of with it. */
  let buffer: ArrayBuffer | undefined;
  let hasText = false;
  let text = "";
  // What to go back to when a packet does not finish.
  let startOutput = 0;
  let startLogs = 0;
  let startLogBytes = 0;
  // Where the record is. UTF-8 that is not ASCII is measured from the record that was last asked for.
  let position = 0;
  /** Whether the packet failed where its text ends. */
  let endsWrong = false;
  let countedUnits = 0;
  let countedBytes = 0;

  /** The bytes that the packet's first `units` units of text were made of. */
  function bytesBefore(units: number): number {
    if (units < countedUnits) countedUnits = countedBytes = 0;
    countedBytes += place.bytesBetween(countedUnits, units);
    countedUnits = units;
    return countedBytes;
  }

  const place: Place = {
    move(recordPosition) {
      position = recordPosition;
    },
    offset() {
      if (position < 0) return -1;
      const at = next * META;
      const prefixBytes = layout[at + 3]!;
      const bytes = bytesBefore(position);
      // What stands in a prefix stands at the beginning of the file.
      return bytes < prefixBytes ? bytes : layout[at + 2]! + bytes - prefixBytes;
    },
    bytesBetween(from, to) {
      const at = next * META;
      if (encoding === undefined || layout[at + 1] === layout[at + 5]) return to - from;
      if (isWide) return (to - from) * 2;
      const start = layout[at]!;
      return codec.encodedLength(p.slice(text, start + from, start + to));
    },
    isCut() {
      return layout[next * META + 6]! >= 0;
    },
    endOfText(reach) {
      const at = next * META;
      if (layout[at + 6]! < 0 || (reach !== undefined && reach <= layout[at + 7]!)) return;
      endsWrong = true;
      faults.fail(
        tools.badRecord,
        isWide
          ? "the text ends in the middle of a character"
          : "the bytes are not UTF-8: name their encoding, or read them as bytes",
      );
    },
  };

  /** The line before a fault's text (FrameOutcome): where it happened. */
  function faultPlace(): string {
    const at = endsWrong ? layout[next * META + 6]! : place.offset();
    return at < 0 ? "\n" : `${at}\n`;
  }

  function bytesOf(start: number, length: number): Uint8Array<ArrayBuffer> {
    if (count === 1 && buffer !== undefined) return source as Uint8Array<ArrayBuffer>;
    // A program may write into its bytes, and must not find the next packet's beside them, nor the exchange.
    const own = new p.Uint8Array(length);
    if (length <= LOOP_BYTES_MAX) {
      for (let index = 0; index < length; index++) own[index] = source[start + index]!;
    } else if (buffer === undefined) p.bytesSet(own, new p.Uint8Array(exchange, inputAt + start, length));
    else p.bytesSet(own, new p.Uint8Array(buffer, start, length));
    return own;
  }

  function beginPacket(): void {
    startOutput = output.length();
    startLogs = logCount;
    startLogBytes = logBytes;
    faults.clear();
    log.begin();
    random.begin(words, next * 16 + 4);
    promises.begin();
    tools.inPacket(next);
    output.begin(tools.outputBytes);
    countedUnits = 0;
    countedBytes = 0;
    position = -1;
    endsWrong = false;
    running = true;
  }

  function finishPacket(): void {
    const code = faults.code();
    if (code !== 0) {
      output.cut(startOutput);
      output.begin(tools.faultTextMax * 4);
      output.text(faultPlace() + faults.text());
    }
    statuses[next] = code;
    lengths[next] = output.length() - startOutput;
    const logged = log.text();
    if (logged !== "") {
      const bytes = codec.encodedLength(logged);
      logs[logCount++] = { index: next, text: logged, bytes };
      logBytes += bytes;
    }
    next++;
    running = false;
  }

  /** Forgets what the packet that was stopped did. */
  function undoPacket(): void {
    output.cut(startOutput);
    logCount = startLogs;
    logBytes = startLogBytes;
  }

  function run(input: FrameInput, entry: RunEntry): Yielded | boolean {
    const { packets } = input;
    running = false;
    pending = false;
    runEntry = entry;
    frame = input.frame;
    count = packets;
    next = 0;
    logs = [];
    logCount = 0;
    logBytes = 0;
    output.reset();
    statuses = new p.Uint8Array(packets);
    lengths = new p.Uint32Array(packets);
    text = input.text ?? "";
    buffer = input.bytes;
    source = buffer === undefined ? smallInput : new p.Uint8Array(buffer);
    hasText = input.text !== undefined;
    return runPackets();
  }

  function resume(rejection: string | undefined): Yielded | boolean {
    if (!pending) return false;
    pending = false;
    if (rejection !== undefined) faults.reject(rejection);
    finishPacket();
    return runPackets();
  }

  function runPackets(): Yielded | boolean {
    while (next < count && output.length() < tools.frameOutputBytes && logBytes < tools.frameLogBytes) {
      const at = next * META;
      const start = layout[at]!;
      const length = layout[at + 1]!;
      beginPacket();
      try {
        // One that did not come along lies nowhere.
        const isStaged = start >= 0;
        const bytes = hasText || !isStaged ? NO_BYTES : bytesOf(start, length);
        const end = start + length;
        const prefixBytes = layout[at + 3]!;
        runEntry({
          text,
          start,
          end,
          bytes,
          byteLength: length,
          prefixBytes,
          tail: layout[at + 4]!,
          packet: next,
          isStaged,
        });
      } catch (error) {
        faults.caught(error);
      }
      pending = promises.mayBeMade();
      if (pending) return true;
      finishPacket();
    }
    endFrame();
    return pack();
  }

  function endFrame(): void {
    source = smallInput;
    if (buffer !== undefined) p.bufferDetach(buffer);
    buffer = undefined;
    garbage += text.length;
    text = "";
    if (garbage < GARBAGE_UNITS) return;
    garbage = 0;
    p.collectGarbage();
  }

  function collect(wanted: number): Yielded {
    if (wanted !== frame) return new p.ArrayBuffer(8);
    if (running) undoPacket();
    return pack();
  }

  function late(sentence: string): never {
    return faults.fail(tools.threw, sentence);
  }

  /** The outcome's bytes: protocol.ts says what stands where. */
  function pack(): Yielded {
    const statusesAt = 8 + next * 4 + logCount * 8;
    const total = statusesAt + next + logBytes + output.length();
    const result = total <= outcomeBytes ? undefined : new p.ArrayBuffer(total);
    const numbers = result === undefined ? smallOutcomeNumbers : new p.Uint32Array(result, 0, statusesAt / 4);
    const bytes: Uint8Array = result === undefined ? smallOutcome : new p.Uint8Array(result);
    numbers[0] = next;
    numbers[1] = logCount;
    for (let index = 0; index < next; index++) {
      numbers[2 + index] = lengths[index]!;
      bytes[statusesAt + index] = statuses[index]!;
    }
    let at = statusesAt + next;
    for (let index = 0; index < logCount; index++) {
      const entry = logs[index]!;
      numbers[2 + next + index * 2] = entry.index;
      numbers[3 + next + index * 2] = entry.bytes;
      at = codec.encode(entry.text, bytes, at);
    }
    output.copyTo(bytes, at);
    return result ?? total;
  }

  return { place, late, run, resume, collect };
}
