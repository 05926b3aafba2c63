/**
 * The loop over a frame's packets. It gathers statuses, lengths, logs and outputs, and keeps them in such an order that
 * a frame which is stopped anywhere still hands out what its finished packets yielded.
 */
import type { PacketLog } from "./console.ts";
import type { Place, RunEntry } from "./entries.ts";
import type { Faults } from "./faults.ts";
import type { Output } from "./output.ts";
import type { Primordials } from "./primordials.ts";
import type { Randomness } from "./random.ts";
import type { TextCodec } from "./text-codec.ts";

export interface FrameLoopTools {
  readonly codec: TextCodec;
  readonly faults: Faults;
  readonly output: Output;
  readonly log: PacketLog;
  readonly random: Randomness;
  /** Per packet. */
  readonly outputBytes: number;
  readonly faultTextMax: number;
  /** Where a frame ends early. */
  readonly frameOutputBytes: number;
  readonly frameLogBytes: number;
}

/** The input of a frame: see Prelude.run. */
export interface FrameInput {
  readonly frame: number;
  readonly packets: number;
  readonly meta: ArrayBuffer;
  readonly text: string | undefined;
  readonly bytes: ArrayBuffer | undefined;
}

export interface FrameLoop {
  readonly place: Place;
  run(input: FrameInput, runEntry: RunEntry): void;
  collect(frame: number, code: number, text: string): ArrayBuffer;
}

export function makeFrameLoop(p: Primordials, tools: FrameLoopTools): FrameLoop {
  const { codec, faults, output, log, random } = tools;
  const META = 6;
  const NO_BYTES = new p.ArrayBuffer(0);
  // Text of this length has come since garbage was last collected. V8 does not count what text from outside takes.
  const GARBAGE_UNITS = 16777216;
  let garbage = 0;
  let frame = 0;
  let count = 0;
  /** The packet that runs, or would be the next to run. */
  let next = 0;
  let running = false;
  let layout = new p.Float64Array(0);
  let statuses = new p.Uint8Array(0);
  let lengths = new p.Uint32Array(0);
  let logs: { readonly index: number; readonly text: string; readonly bytes: number }[] = [];
  let logCount = 0;
  let logBytes = 0;
  let memory = NO_BYTES;
  let source = new p.Uint8Array(memory);
  let measured = false;
  // What to go back to when a packet does not finish.
  let startOutput = 0;
  let startLogs = 0;
  let startLogBytes = 0;
  // Where the record is. Text that is not ASCII is measured in the bytes it was made of, by their line ends.
  let position = 0;
  let line = 0;
  let countedLine = 0;
  let countedByte = 0;

  const place: Place = {
    move(recordPosition, recordLine) {
      position = recordPosition;
      line = recordLine;
    },
    offset() {
      const at = next * META;
      let inPacket = position;
      if (measured) {
        const bytesAt = layout[at + 4]!;
        for (; countedLine < line; countedLine++) {
          countedByte = p.bytesIndexOf(source, 10, bytesAt + countedByte) + 1 - bytesAt;
        }
        inPacket = countedByte;
      }
      return layout[at + 2]! + inPacket - layout[at + 3]!;
    },
  };

  function bytesOf(start: number, length: number): Uint8Array<ArrayBuffer> {
    if (count === 1) return source;
    // A program may write into its bytes, and must not find the next packet's beside them.
    const own = new p.Uint8Array(length);
    p.bytesSet(own, new p.Uint8Array(memory, start, length));
    return own;
  }

  function beginPacket(words: Uint32Array): void {
    startOutput = output.length();
    startLogs = logCount;
    startLogBytes = logBytes;
    faults.clear();
    log.begin();
    random.begin(words, next * 16 + 4);
    output.begin(tools.outputBytes);
    countedLine = 0;
    countedByte = 0;
    position = 0;
    line = 0;
    running = true;
  }

  function finishPacket(): void {
    const code = faults.code();
    if (code !== 0) {
      output.cut(startOutput);
      output.begin(tools.faultTextMax * 4);
      output.text(faults.text());
    }
    statuses[next] = code;
    lengths[next] = output.length() - startOutput;
    const text = log.text();
    if (text !== "") {
      const bytes = codec.encodedLength(text);
      logs[logCount++] = { index: next, text, bytes };
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

  function run(input: FrameInput, runEntry: RunEntry): void {
    const { meta, packets } = input;
    running = false;
    frame = input.frame;
    count = packets;
    next = 0;
    logs = [];
    logCount = 0;
    logBytes = 0;
    output.reset();
    layout = new p.Float64Array(meta, 0, packets * META);
    const words = new p.Uint32Array(meta, packets * META * 8, packets * 16);
    statuses = new p.Uint8Array(packets);
    lengths = new p.Uint32Array(packets);
    const text = input.text ?? "";
    memory = input.bytes ?? NO_BYTES;
    source = new p.Uint8Array(memory);
    const hasText = input.text !== undefined;
    measured = hasText && input.bytes !== undefined;
    while (next < count) {
      const start = layout[next * META]!;
      const byteLength = layout[next * META + 1]!;
      beginPacket(words);
      try {
        const bytes = hasText ? source : bytesOf(start, byteLength);
        runEntry({ text, start, end: start + byteLength, bytes, byteLength });
      } catch (error) {
        faults.caught(error);
      }
      finishPacket();
      if (output.length() >= tools.frameOutputBytes || logBytes >= tools.frameLogBytes) break;
    }
    memory = NO_BYTES;
    source = new p.Uint8Array(memory);
    if (input.bytes !== undefined) p.bufferDetach(input.bytes);
    garbage += text.length;
    if (garbage < GARBAGE_UNITS) return;
    garbage = 0;
    p.collectGarbage();
  }

  function collect(wanted: number, code: number, text: string): ArrayBuffer {
    if (wanted !== frame) return new p.ArrayBuffer(8);
    if (running) undoPacket();
    if (running && code !== 0) {
      faults.clear();
      try {
        faults.fail(code, text);
      } catch {
        finishPacket();
      }
    }
    return pack();
  }

  /** The outcome's bytes: outcome.ts says what stands where. */
  function pack(): ArrayBuffer {
    const statusesAt = 8 + next * 4 + logCount * 8;
    const result = new p.ArrayBuffer(statusesAt + next + logBytes + output.length());
    const numbers = new p.Uint32Array(result, 0, statusesAt / 4);
    const bytes = new p.Uint8Array(result);
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
    return result;
  }

  return { place, run, collect };
}
