/**
 * A program of packet code on this machine, and one of the lanes that it is loaded in. A machine may have 65,535 of these, so
 * a lane holds its slot and what waits to be run; the program is shared, and all else is made when there is a packet.
 */
import { codeFor, decodeCode, Stage } from "../../packets/code/format.ts";
import type { Code } from "../../packets/code/format.ts";
import { codeText } from "../../packets/code/text.ts";
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { PacketfsError } from "../../packets/errors.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import { lengthAt, packetCount } from "../../packets/packet.ts";
import type { StoreWriter } from "../contracts/chunks.ts";
import type { Lane, LaneListener } from "../contracts/executor.ts";
import type { Engine } from "../contracts/kernels.ts";
import { LaneError, LaneErrorCode } from "../errors.ts";
import type { LaneSlot } from "../lane-slots.ts";
import { LANE_PACKETS_MAX } from "../limits.ts";
import { KernelUses } from "../program/kernel/uses.ts";
import type { UsedCall } from "../program/kernel/uses.ts";
import { writeKeptStream } from "../stream/ingest.ts";
import type { StreamInput } from "../stream/inputs.ts";
import { answerTo } from "./code-answers.ts";
import type { Outcome } from "./code-answers.ts";
import { RowKernel, hasRowKernel } from "./row-kernel.ts";

/** What lanes of the same 32 bytes share. */
export class CodeProgram {
  readonly bytes: Uint8Array;
  /** What it is known by: its bytes, as the key of a map. */
  readonly key: string;
  readonly code: Code;
  /** As jobs call it: by what maps, whichever stage this is. */
  readonly name: string;
  /** Lanes that it is loaded in. */
  lanes = 0;
  #rowKernel: RowKernel | undefined;

  /** Throws PFS_CODE_INVALID. */
  constructor(bytes: Uint8Array) {
    this.bytes = Uint8Array.from(bytes);
    this.key = refKey(this.bytes);
    this.code = decodeCode(this.bytes);
    this.name = codeText(codeFor(this.bytes, Stage.MAP));
  }

  /** What a GPU runs of it, if it can. */
  get rowKernel(): RowKernel | undefined {
    if (this.#rowKernel === undefined && hasRowKernel(this.code)) this.#rowKernel = new RowKernel(this.code);
    return this.#rowKernel;
  }
}

/** What lanes are in. */
export interface CodeLanes {
  openWriter(): Promise<StoreWriter>;
  /** The lane has packets to be run. */
  ready(lane: CodeLane): void;
  /** Called once, when nothing of the lane is left. */
  closed(lane: CodeLane): void;
}

export interface CodeLoad {
  readonly program: CodeProgram;
  readonly engine: Engine | undefined;
  readonly slot: LaneSlot;
}

/** Of a lane that has none, as most of them. Nothing is ever put into it. */
const NO_FRAMES: Uint8Array[] = [];

/** The packet at `index` of a frame. */
export interface CodeWork {
  readonly frame: Uint8Array;
  readonly index: number;
}

export class CodeLane implements Lane {
  readonly program: CodeProgram;
  /** What shall compute its ranges; undefined where that is to be chosen. */
  readonly engine: Engine | undefined;
  readonly slot: LaneSlot;
  /** Whether it is among those whose turn comes. */
  isQueued = false;
  /** The file that it reads ranges of, as long as it has packets. */
  stream: StreamInput | undefined;
  readonly #lanes: CodeLanes;
  readonly #listener: LaneListener;
  /** There as long as it has packets. */
  #abort: AbortController | undefined;
  #frames: Uint8Array[] = NO_FRAMES;
  #index = 0;
  #writer: Promise<StoreWriter> | undefined;
  #running = 0;
  #answers: Uint8Array[] = NO_FRAMES;
  /** Made when there is something to say of them. */
  #uses: KernelUses | undefined;
  #isClosed = false;
  #closing: Promise<void> | undefined;
  /** Called when nothing of it runs any more and it is being closed. */
  #ended: (() => void) | undefined;

  constructor(lanes: CodeLanes, loaded: CodeLoad, listener: LaneListener) {
    this.#lanes = lanes;
    this.program = loaded.program;
    this.engine = loaded.engine;
    this.slot = loaded.slot;
    this.#listener = listener;
  }

  get cpuMs(): number {
    return this.slot.cpuMs;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  exec(frame: Uint8Array): void {
    if (this.isClosed) return;
    const count = packetCount(frame);
    const packets = this.slot.inFlight + count;
    if (packets > LANE_PACKETS_MAX) {
      const text = `${packets} packets are in flight, a lane takes ${LANE_PACKETS_MAX}`;
      return this.lose(new LaneError(LaneErrorCode.laneOverfull, text, { packets, max: LANE_PACKETS_MAX }));
    }
    if (count === 0) return;
    this.slot.inFlight = packets;
    if (this.#frames.length === 0) this.#frames = [frame];
    else this.#frames.push(frame);
    this.#lanes.ready(this);
  }

  /** The packet that is to run next; undefined where none waits. */
  next(): CodeWork | undefined {
    const [frame] = this.#frames;
    if (frame === undefined) return undefined;
    const index = this.#index++;
    if (this.#index === packetCount(frame)) {
      if (this.#frames.length === 1) this.#frames = NO_FRAMES;
      else this.#frames.shift();
      this.#index = 0;
    }
    return { frame, index };
  }

  get hasWork(): boolean {
    return this.#frames.length > 0;
  }

  /**
   * Runs a packet of the lane's by `run`, whose signal is aborted when nobody waits for the answer any more, and answers it.
   * Never rejects: a defect loses the lane.
   */
  async work({ frame, index }: CodeWork, run: (signal: AbortSignal) => Promise<Outcome>): Promise<void> {
    this.#running++;
    try {
      this.#abort ??= new AbortController();
      const outcome = await run(this.#abort.signal);
      if (!this.isClosed) await this.#answer(frame, index, outcome);
    } catch (error) {
      this.lose(error);
    }
    if (--this.#running > 0) return;
    if (!this.hasWork) {
      this.#abort = undefined;
      this.stream = undefined;
    }
    this.#ended?.();
  }

  /** For whoever watches the job. */
  note(text: string): void {
    if (!this.isClosed) this.#listener.noted(text);
  }

  /** A call for a packet that is answered next. */
  measured(call: UsedCall): void {
    this.#uses ??= new KernelUses();
    this.#uses.add(call);
  }

  async #answer(frame: Uint8Array, index: number, outcome: Outcome): Promise<void> {
    const answer = await answerTo(frame, index, outcome, this.program.name, () => this.#sink());
    if (this.isClosed) return;
    const { slot } = this;
    slot.inFlight--;
    slot.packets++;
    slot.inputBytes += lengthAt(frame, index);
    if ("fault" in outcome) slot.faults++;
    else slot.outputBytes += outcome.bytes.byteLength;
    // Those that come right after each other go together.
    if (this.#answers.length > 0) return void this.#answers.push(answer);
    this.#answers = [answer];
    setImmediate(() => this.#deliver());
  }

  #deliver(): void {
    const [first] = this.#answers;
    let answers = first!;
    if (this.#answers.length > 1) {
      answers = new Uint8Array(this.#answers.length * PACKET_BYTES);
      for (const [index, answer] of this.#answers.entries()) answers.set(answer, index * PACKET_BYTES);
    }
    this.#answers = NO_FRAMES;
    if (this.isClosed) return;
    if (this.#uses !== undefined) this.#listener.measured?.(this.#uses.take());
    this.#uses = undefined;
    this.#listener.returned(answers, true);
  }

  async keep(name: string, returns: Uint8Array): Promise<Ref> {
    if (this.isClosed) throw new LaneError(LaneErrorCode.laneClosed, "the lane is closed");
    const writer = await this.#sink();
    const { root, length } = await writeKeptStream(writer, returns);
    await writer.bind({ name, root, length });
    return root;
  }

  /** The lane cannot go on: whoever has it is told. */
  lose(error: unknown): void {
    if (this.isClosed) return;
    const known =
      error instanceof PacketfsError
        ? error
        : new LaneError(LaneErrorCode.laneBroken, `the lane is lost: ${String(error)}`, {}, { cause: error });
    // Whoever closes it too is told why that fails.
    this.close().catch(() => undefined);
    this.#listener.lost(known);
  }

  close(): Promise<void> {
    this.#isClosed = true;
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#frames = NO_FRAMES;
    this.#abort?.abort(new LaneError(LaneErrorCode.laneClosed, "the lane is closed"));
    if (this.#running > 0) await new Promise<void>((resolve) => (this.#ended = resolve));
    try {
      // What it could not open, it need not close.
      if (this.#writer !== undefined) await (await this.#writer.catch(() => undefined))?.close();
    } finally {
      this.#lanes.closed(this);
    }
  }

  #sink(): Promise<StoreWriter> {
    this.#writer ??= this.#lanes.openWriter();
    return this.#writer;
  }
}
