/** Listens to a lane and remembers what it was told. */
import { invalidPacket } from "../../packets/validate.ts";
import { atOf, decodePacket, packetCount } from "../../packets/packet.ts";
import type { Packet } from "../../packets/packet.ts";
import type { PacketfsError } from "../../packets/errors.ts";
import type { LaneListener } from "../../runtime/contracts/executor.ts";

export class Collector implements LaneListener {
  /** By `at`. */
  readonly answers: Map<number, Packet> = new Map();
  readonly logs: { readonly at: number; readonly text: string }[] = [];
  readonly notes: string[] = [];
  error: PacketfsError | undefined;
  /** What no listener may see: a packet answered twice, a malformed one, anything after the end. */
  readonly offences: string[] = [];
  readonly #waiting = new Set<() => void>();

  returned(given: Uint8Array): void {
    const frame = given.slice();
    if (this.error !== undefined) this.offences.push("answers after lost");
    for (let index = 0; index < packetCount(frame); index++) {
      const reason = invalidPacket(frame, index);
      if (reason !== null) this.offences.push(`malformed answer: ${reason}`);
      const at = atOf(frame, index);
      if (this.answers.has(at)) this.offences.push(`packet ${at} was answered twice`);
      this.answers.set(at, decodePacket(frame, index));
    }
    this.#changed();
  }

  logged(at: number, text: string): void {
    this.logs.push({ at, text });
  }

  noted(text: string): void {
    this.notes.push(text);
    this.#changed();
  }

  lost(error: PacketfsError): void {
    if (this.error !== undefined) this.offences.push("lost twice");
    this.error = error;
    this.#changed();
  }

  /** Resolves once `count` packets are answered; rejects when the lane is lost before. */
  async answered(count: number): Promise<void> {
    await this.until(() => this.answers.size >= count || this.error !== undefined);
    if (this.answers.size < count) throw this.error!;
  }

  /** Resolves once the condition holds. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  answer(at: number): Packet {
    const answer = this.answers.get(at);
    if (answer === undefined) throw new Error(`packet ${at} has no answer`);
    return answer;
  }

  #changed(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
