/**
 * A lane on this machine. There may be 65,535 of them, so one is no more than its slot, its program and who hears of its
 * answers. What runs its packets is a runner of its own, as long as there are few of those, and otherwise one that it shares
 * with other lanes of the same program and tenant: no packet leaves anything behind for the next, so that cannot be seen.
 *
 *   resting ──▶ runner of its own ──▶ resting      others need the place, and it has had no packets for a while
 *      └─────▶ shared runner, a few packets at a time
 */
import type { Ref } from "../../packets/digest.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { atOf, laneAt, lengthAt, lengthSum, packetCount } from "../../packets/packet.ts";
import type { StoreWriter } from "../contracts/chunks.ts";
import type { Lane, LaneListener } from "../contracts/executor.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import { LaneError, LaneErrorCode } from "../errors.ts";
import type { LaneSlot } from "../lane-slots.ts";
import { LANE_PACKETS_MAX, SHARED_LANE_PACKETS_MAX } from "../limits.ts";
import type { FrameOutcome } from "../sandbox/process/executor-process.ts";
import { writeKeptStream } from "../stream/ingest.ts";
import type { Refusal } from "./frame-inputs.ts";
import type { PacketRunner, RunnerListener } from "./packet-runner.ts";
import { LaneWriter } from "./results.ts";
import type { RunnerPlaces } from "./runner-places.ts";
import type { Route, SharedRunner } from "./shared-runner.ts";

/** What lanes of one program and tenant have in common. */
export interface LanesOfProgram {
  /** Opens a writer for results of the program. */
  openWriter(): Promise<StoreWriter>;
  /** A runner of whoever listens, which is not started. */
  newRunner(listener: RunnerListener, writer: LaneWriter): PacketRunner;
  /** The one for all lanes that have none. */
  shared(): SharedRunner;
  readonly places: RunnerPlaces;
  /** Called once, when everything that the lane held is free again. */
  closed(lane: LocalLane): void;
}

/** Of a lane that has none, as most of them. Nothing is ever put into it. */
const NO_FRAMES: Uint8Array[] = [];

export class LocalLane implements Lane, RunnerListener {
  readonly slot: LaneSlot;
  readonly #program: LanesOfProgram;
  readonly #listener: LaneListener;
  #own: PacketRunner | undefined;
  /** What it is called in the shared runner, once it has been there. */
  #route: Route | undefined;
  /** Packets that wait until the shared runner has answered others. */
  #frames: Uint8Array[] = NO_FRAMES;
  #writer: LaneWriter | undefined;
  /** Runners of its own that are being closed. */
  #resting: Promise<void> | undefined;
  #isClosed = false;
  #closing: Promise<void> | undefined;

  constructor(program: LanesOfProgram, slot: LaneSlot, listener: LaneListener) {
    this.#program = program;
    this.slot = slot;
    this.#listener = listener;
    slot.isResting = true;
  }

  /** Loads the program for it. Rejects when it does not load or the signal fires before it did; it is closed then. */
  async open(signal: AbortSignal): Promise<void> {
    this.#program.places.takeAnyway();
    const runner = this.#beginOwn();
    try {
      await runner.open(signal);
    } catch (error) {
      await this.close();
      throw error;
    }
    this.#becameIdle();
  }

  /** Begins with a runner before there are packets, if there is a place for one. */
  prepare(): void {
    if (!this.#program.places.takeFree()) return;
    this.#beginOwn().start();
    this.#becameIdle();
  }

  get cpuMs(): number {
    return this.slot.cpuMs;
  }

  exec(frame: Uint8Array): void {
    if (this.#isClosed || frame.byteLength === 0) return;
    const { slot } = this;
    const packets = slot.inFlight + packetCount(frame);
    if (packets > LANE_PACKETS_MAX) return this.lost(overfull(packets));
    if (slot.inFlight === 0 && this.#own !== undefined) this.#program.places.busy(this);
    slot.inFlight = packets;
    if (this.#own !== undefined) return this.#own.exec(frame);
    if (this.#frames.length === 0) this.#frames = [frame];
    else this.#frames.push(frame);
    this.#send();
  }

  async keep(name: string, returns: Uint8Array): Promise<Ref> {
    if (this.#isClosed) throw new LaneError(LaneErrorCode.laneClosed, "the lane is closed");
    // What others wrote for it is to be durable too.
    if (this.#route !== undefined) await this.#program.shared().flush();
    return this.#sink().use(async (writer) => {
      const { root, length } = await writeKeptStream(writer, returns);
      await writer.bind({ name, root, length });
      return root;
    });
  }

  /** Gives back what runs its packets, of which there are none. */
  rest(): void {
    const own = this.#own;
    if (own === undefined) return;
    this.#own = undefined;
    this.slot.isResting = true;
    this.#program.places.give(this);
    // Nobody waits for anything from it: whatever fails there has nobody to be told to.
    const closing = own.close().catch(() => undefined);
    this.#resting = Promise.all([this.#resting, closing]).then(() => undefined);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#isClosed = true;
    this.#frames = NO_FRAMES;
    this.rest();
    await this.#route?.leave();
    await this.#resting;
    await this.#writer?.close();
    this.#program.closed(this);
  }

  /** Sends on what waits, as much as may go. */
  #send(): void {
    const { places } = this.#program;
    if (this.#own === undefined && places.take()) this.#beginOwn().start();
    while (this.#frames.length > 0) {
      if (this.#own !== undefined) {
        for (const frame of this.#frames) this.#own.exec(frame);
        this.#frames = NO_FRAMES;
        return;
      }
      const frame = this.#frames[0]!;
      const shared = this.#program.shared();
      const route = (this.#route ??= shared.join(this, laneAt(frame, 0)));
      const packets = Math.min(packetCount(frame), SHARED_LANE_PACKETS_MAX - (route?.inFlight ?? 0));
      if (packets === 0) return;
      // A view of so few bytes takes more memory than they do.
      const isAll = packets === packetCount(frame);
      const part = isAll ? frame : frame.subarray(0, packets * PACKET_BYTES);
      if (route?.fits(part) !== true) {
        // The shared runner knows the lane by no number, or by one where its packets call it by several.
        places.takeAnyway();
        this.#beginOwn().start();
        continue;
      }
      shared.exec(route, part);
      if (!isAll) this.#frames[0] = frame.subarray(packets * PACKET_BYTES);
      else if (this.#frames.length === 1) this.#frames = NO_FRAMES;
      else this.#frames.shift();
    }
  }

  #beginOwn(): PacketRunner {
    const runner = this.#program.newRunner(this, this.#sink());
    this.#own = runner;
    this.slot.isResting = false;
    return runner;
  }

  #sink(): LaneWriter {
    this.#writer ??= new LaneWriter(() => this.#program.openWriter());
    return this.#writer;
  }

  #becameIdle(): void {
    if (this.#own !== undefined && this.slot.inFlight === 0) this.#program.places.idle(this);
  }

  used(_frame: Uint8Array, cpuMs: number): void {
    this.slot.cpuMs += cpuMs;
  }

  measured(_frame: Uint8Array, uses: readonly KernelUse[]): void {
    if (!this.#isClosed) this.#listener.measured?.(uses);
  }

  ran(frame: Uint8Array, outcome: FrameOutcome): void {
    this.slot.inputBytes += lengthSum(frame, outcome.completed);
    for (let index = 0; index < outcome.completed; index++) this.#yielded(index, outcome);
  }

  ranPacket(frame: Uint8Array, index: number, outcome: FrameOutcome): void {
    this.slot.inputBytes += lengthAt(frame, index);
    this.#yielded(index, outcome);
  }

  #yielded(index: number, { statuses, lengths }: FrameOutcome): void {
    const { slot } = this;
    if (statuses[index] === 0) slot.outputBytes += lengths[index]!;
    else slot.faults++;
  }

  refused(packets: readonly Refusal[]): void {
    this.slot.faults += packets.length;
  }

  logged(frame: Uint8Array, index: number, text: string): void {
    if (!this.#isClosed) this.#listener.logged(atOf(frame, index), text);
  }

  returned(answers: Uint8Array): void {
    if (this.#isClosed) return;
    const { slot } = this;
    const packets = packetCount(answers);
    slot.inFlight -= packets;
    slot.packets += packets;
    this.#listener.returned(answers, true);
    if (this.#isClosed) return;
    if (slot.inFlight === 0) this.#becameIdle();
    else if (this.#frames.length > 0) this.#send();
  }

  noted(text: string): void {
    if (!this.#isClosed) this.#listener.noted(text);
  }

  lost(error: PacketfsError): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#listener.lost(error);
    // What closing could still report has no listener any more.
    this.close().catch(() => undefined);
  }
}

function overfull(packets: number): LaneError {
  return new LaneError(
    LaneErrorCode.laneOverfull,
    `${packets} packets are in flight, a lane takes ${LANE_PACKETS_MAX}`,
    { packets, max: LANE_PACKETS_MAX },
  );
}
