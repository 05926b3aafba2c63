/**
 * The runner that lanes of one program and tenant share: their packets go in frames together, each with a number of its lane,
 * by which its answer finds the way back.
 */
import { LANES_MAX } from "../../packets/limits.ts";
import { PACKET_BYTES } from "../../packets/layout.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import { atOf, laneAt, packetCount, renumberPacket } from "../../packets/packet.ts";
import type { KernelUse } from "../contracts/kernels.ts";
import { RUN_PACKETS_MAX } from "../limits.ts";
import type { FrameOutcome } from "../sandbox/process/executor-process.ts";
import type { Refusal } from "./frame-inputs.ts";
import type { LanesOfProgram, LocalLane } from "./local-lane.ts";
import type { PacketRunner, RunnerListener } from "./packet-runner.ts";
import { LaneWriter } from "./results.ts";
import type { RunnerHolder } from "./runner-places.ts";

/** A lane's way to the runner and back. */
export class Route {
  /** What its packets are called on the way, 1 to 65,535. */
  readonly number: number;
  /** What they were called before, and are afterwards. */
  readonly said: number;
  /** Undefined once it is closed: nobody waits for what is still under way. */
  lane: LocalLane | undefined;
  inFlight = 0;
  readonly #left: (route: Route) => Promise<void>;

  constructor(number: number, said: number, lane: LocalLane, left: (route: Route) => Promise<void>) {
    this.number = number;
    this.said = said;
    this.lane = lane;
    this.#left = left;
  }

  /** Whether all of these packets call the lane as it was called when it came. */
  fits(frame: Uint8Array): boolean {
    for (let index = 0; index < packetCount(frame); index++)
      if (laneAt(frame, index) !== this.said) return false;
    return true;
  }

  /** Its lane is closed. Resolves when nothing of the runner is left, if that was the last. */
  leave(): Promise<void> {
    this.lane = undefined;
    return this.#left(this);
  }
}

export class SharedRunner implements RunnerListener, RunnerHolder {
  readonly #program: LanesOfProgram;
  readonly #ended: () => void;
  readonly #writer: LaneWriter;
  readonly #routes = new Map<number, Route>();
  /** One for all routes, of which there are as many as lanes. */
  readonly #leave = (route: Route): Promise<void> => this.#left(route);
  #runner: PacketRunner | undefined;
  #resting: Promise<void> | undefined;
  readonly #gather = new Uint8Array(RUN_PACKETS_MAX * PACKET_BYTES);
  #gathered = 0;
  #lanes = 0;
  #inFlight = 0;
  #last = 0;

  /** `ended` is called when it is no longer to be used: it is lost, or the last of its lanes is closed. */
  constructor(program: LanesOfProgram, ended: () => void) {
    this.#program = program;
    this.#ended = ended;
    this.#writer = new LaneWriter(() => program.openWriter());
  }

  /**
   * A route for a lane whose packets call it `said`; undefined while there is no number for it: there are as many as lanes, and
   * those of closed lanes are taken as long as packets of theirs are under way.
   */
  join(lane: LocalLane, said: number): Route | undefined {
    if (this.#routes.size === LANES_MAX) return undefined;
    do this.#last = (this.#last % LANES_MAX) + 1;
    while (this.#routes.has(this.#last));
    const route = new Route(this.#last, said, lane, this.#leave);
    this.#routes.set(route.number, route);
    this.#lanes++;
    return route;
  }

  /** Runs packets of a lane, all of which fit its route. */
  exec(route: Route, frame: Uint8Array): void {
    const packets = packetCount(frame);
    route.inFlight += packets;
    if (this.#runner === undefined) {
      this.#program.places.takeAnyway();
      this.#runner = this.#program.newRunner(this, this.#writer);
      this.#runner.start();
    } else if (this.#inFlight === 0) this.#program.places.busy(this);
    this.#inFlight += packets;
    for (let index = 0; index < packets; index++) {
      const at = this.#gathered++;
      const packet = packets === 1 ? frame : frame.subarray(index * PACKET_BYTES, (index + 1) * PACKET_BYTES);
      this.#gather.set(packet, at * PACKET_BYTES);
      renumberPacket(this.#gather, at, route.number, atOf(this.#gather, at));
      if (this.#gathered === RUN_PACKETS_MAX) this.#pass();
      else if (this.#gathered === 1) queueMicrotask(() => this.#pass());
    }
  }

  /** Hands on what was gathered: packets of many lanes that come one right after the other go as one frame. */
  #pass(): void {
    if (this.#gathered === 0) return;
    const frame = this.#gather.slice(0, this.#gathered * PACKET_BYTES);
    this.#gathered = 0;
    this.#runner?.exec(frame);
  }

  /** Makes what it wrote durable. */
  flush(): Promise<void> {
    return this.#writer.use((writer) => writer.flush());
  }

  rest(): void {
    const runner = this.#runner;
    if (runner === undefined) return;
    this.#runner = undefined;
    this.#program.places.give(this);
    const closing = runner.close().catch(() => undefined);
    this.#resting = Promise.all([this.#resting, closing]).then(() => undefined);
  }

  async #close(): Promise<void> {
    this.#ended();
    this.rest();
    await this.#resting;
    await this.#writer.close();
  }

  async #left(route: Route): Promise<void> {
    if (route.inFlight === 0) this.#routes.delete(route.number);
    if (--this.#lanes === 0) await this.#close();
  }

  wanted(frame: Uint8Array): Uint8Array {
    const wanted: number[] = [];
    const packets = packetCount(frame);
    for (let index = 0; index < packets; index++) {
      const route = this.#routes.get(laneAt(frame, index))!;
      if (route.lane !== undefined) wanted.push(index);
      else this.#over(route, 1);
    }
    if (wanted.length === packets) return frame;
    const rest = new Uint8Array(wanted.length * PACKET_BYTES);
    for (const [at, index] of wanted.entries())
      rest.set(frame.subarray(index * PACKET_BYTES, (index + 1) * PACKET_BYTES), at * PACKET_BYTES);
    return rest;
  }

  #over(route: Route, packets: number): void {
    route.inFlight -= packets;
    if (route.inFlight === 0 && route.lane === undefined) this.#routes.delete(route.number);
    this.#inFlight -= packets;
    if (this.#inFlight === 0 && this.#runner !== undefined) this.#program.places.idle(this);
  }

  #laneOf(frame: Uint8Array, index: number): LocalLane | undefined {
    return this.#routes.get(laneAt(frame, index))?.lane;
  }

  /** Packets that ran together are all taken to have cost the same. */
  used(frame: Uint8Array, cpuMs: number): void {
    const packets = packetCount(frame);
    for (let index = 0; index < packets; index++) this.#laneOf(frame, index)?.used(frame, cpuMs / packets);
  }

  /** Which of a frame's packets called what is not known: it is told to the lane of the first that is still there. */
  measured(frame: Uint8Array, uses: readonly KernelUse[]): void {
    for (let index = 0; index < packetCount(frame); index++) {
      const lane = this.#laneOf(frame, index);
      if (lane !== undefined) return lane.measured(frame, uses);
    }
  }

  ran(frame: Uint8Array, outcome: FrameOutcome): void {
    for (let index = 0; index < outcome.completed; index++)
      this.#laneOf(frame, index)?.ranPacket(frame, index, outcome);
  }

  refused(packets: readonly Refusal[]): void {
    for (const refusal of packets) this.#laneOf(refusal.packet, 0)?.refused([refusal]);
  }

  logged(frame: Uint8Array, index: number, text: string): void {
    this.#laneOf(frame, index)?.logged(frame, index, text);
  }

  returned(answers: Uint8Array): void {
    const packets = packetCount(answers);
    for (let start = 0, end = 0; start < packets; start = end) {
      const route = this.#routes.get(laneAt(answers, start))!;
      for (end = start; end < packets && laneAt(answers, end) === route.number; end++)
        renumberPacket(answers, end, route.said, atOf(answers, end));
      const { lane } = route;
      this.#over(route, end - start);
      lane?.returned(answers.subarray(start * PACKET_BYTES, end * PACKET_BYTES));
    }
  }

  /** Told to all whose packets may have been concerned. */
  noted(text: string): void {
    for (const { lane, inFlight } of this.#routes.values()) if (inFlight > 0) lane?.noted(text);
  }

  lost(error: PacketfsError): void {
    this.#ended();
    for (const { lane } of this.#routes.values()) lane?.lost(error);
  }
}
