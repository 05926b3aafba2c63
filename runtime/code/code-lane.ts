/** A program of packet code on this machine. A lane holds its 32 bytes and what waits to be run, and nothing else. */
import { codeFor, decodeCode, Stage } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { codeText } from "../../packets/code/text.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { lengthAt, packetCount } from "../../packets/packet.ts";
import type { StoreWriter } from "../contracts/chunks.ts";
import type { Lane, LaneListener } from "../contracts/executor.ts";
import { LaneError, LaneErrorCode } from "../errors.ts";
import { LANE_PACKETS_MAX } from "../limits.ts";
import { writeKeptStream } from "../stream/ingest.ts";
import { answerTo } from "./code-answers.ts";
import type { Outcome } from "./code-answers.ts";

export interface CodeLaneOptions {
  /** The 32 bytes. */
  readonly code: Uint8Array;
  readonly listener: LaneListener;
  readonly openWriter: () => Promise<StoreWriter>;
  /** The lane has packets to be run. */
  readonly ready: () => void;
  /** Called once, when nothing of it is left. */
  readonly closed: () => void;
}

/** The packet at `index` of a frame. */
export interface CodeWork {
  readonly frame: Uint8Array;
  readonly index: number;
}

export class CodeLane implements Lane {
  readonly code: Code;
  readonly bytes: Uint8Array;
  readonly #options: CodeLaneOptions;
  /** As jobs call it: by what maps, whichever stage this is. */
  readonly #name: string;
  readonly #abort = new AbortController();
  #frames: Uint8Array[] = [];
  #index = 0;
  #unanswered = 0;
  #waitingBytes = 0;
  #writer: Promise<StoreWriter> | undefined;
  #running = new Set<Promise<unknown>>();
  #answers: Uint8Array[] = [];
  #closing: Promise<void> | undefined;

  /** Throws PFS_CODE_INVALID. */
  constructor(options: CodeLaneOptions) {
    this.#options = options;
    this.bytes = Uint8Array.from(options.code);
    this.code = decodeCode(this.bytes);
    this.#name = codeText(codeFor(this.bytes, Stage.MAP));
  }

  /** Aborted when nobody waits for its answers any more. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  exec(frame: Uint8Array): void {
    if (this.signal.aborted) return;
    const packets = this.#unanswered + packetCount(frame);
    if (packets > LANE_PACKETS_MAX) {
      const text = `${packets} packets are in flight, a lane takes ${LANE_PACKETS_MAX}`;
      return this.lose(new LaneError(LaneErrorCode.laneOverfull, text, { packets, max: LANE_PACKETS_MAX }));
    }
    this.#unanswered = packets;
    if (frame.byteLength > 0) this.#frames.push(frame);
    for (let index = 0; index < packetCount(frame); index++) this.#waitingBytes += lengthAt(frame, index);
    this.#options.ready();
  }

  /** The packet that is to run next; undefined where none waits. */
  next(): CodeWork | undefined {
    const [frame] = this.#frames;
    if (frame === undefined) return undefined;
    const index = this.#index++;
    this.#waitingBytes -= lengthAt(frame, index);
    if (this.#index === packetCount(frame)) {
      this.#frames.shift();
      this.#index = 0;
    }
    return { frame, index };
  }

  get hasWork(): boolean {
    return this.#frames.length > 0;
  }

  /** Bytes of the packets that wait to be run. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** Packets that wait to be run. */
  get waiting(): number {
    return this.#frames.reduce((sum, frame) => sum + packetCount(frame), -this.#index);
  }

  /** Runs a packet of the lane's by `run`, and answers it. Never rejects: a defect loses the lane. */
  async work({ frame, index }: CodeWork, run: () => Promise<Outcome>): Promise<void> {
    const answered = this.#answer(frame, index, run);
    this.#running.add(answered);
    try {
      await answered;
    } catch (error) {
      this.lose(error);
    } finally {
      this.#running.delete(answered);
    }
  }

  async #answer(frame: Uint8Array, index: number, run: () => Promise<Outcome>): Promise<void> {
    const outcome = await run();
    if (this.signal.aborted) return;
    const answer = await answerTo(frame, index, outcome, this.#name, () => this.#sink());
    if (this.signal.aborted) return;
    this.#unanswered--;
    // Those that come right after each other go together.
    if (this.#answers.push(answer) === 1) setImmediate(() => this.#deliver());
  }

  #deliver(): void {
    const answers = new Uint8Array(this.#answers.length * PACKET_BYTES);
    for (const [index, answer] of this.#answers.entries()) answers.set(answer, index * PACKET_BYTES);
    this.#answers = [];
    if (!this.signal.aborted) this.#options.listener.returned(answers, true);
  }

  async keep(name: string, returns: Uint8Array): Promise<Ref> {
    if (this.signal.aborted) throw new LaneError(LaneErrorCode.laneClosed, "the lane is closed");
    const writer = await this.#sink();
    const { root, length } = await writeKeptStream(writer, returns);
    await writer.bind({ name, root, length });
    return root;
  }

  /** The lane cannot go on: whoever has it is told. */
  lose(error: unknown): void {
    if (this.signal.aborted) return;
    const known =
      error instanceof PacketfsError
        ? error
        : new LaneError(LaneErrorCode.laneBroken, `the lane is lost: ${String(error)}`, {}, { cause: error });
    void this.close();
    this.#options.listener.lost(known);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#frames = [];
    this.#waitingBytes = 0;
    this.#abort.abort(new LaneError(LaneErrorCode.laneClosed, "the lane is closed"));
    await Promise.allSettled(this.#running);
    // What it could not open, it need not close.
    await (await this.#writer?.catch(() => undefined))?.close();
    this.#options.closed();
  }

  #sink(): Promise<StoreWriter> {
    this.#writer ??= this.#options.openWriter();
    return this.#writer;
  }
}
