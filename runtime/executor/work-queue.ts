/**
 * What a lane runs next: suspects before all, one at a time with nothing beside them; then packets that must run one a
 * frame; then the others in frames as large as they turned out to be quick.
 */
import { PACKET_BYTES } from "../../packets/layout.ts";
import { packetCount } from "../../packets/packet.ts";
import { RUN_INPUT_BYTES_MAX } from "../limits.ts";
import { afterDeath, isSuspect } from "./kill-ledger.ts";
import type { Circumstances, Trial, Verdict } from "./kill-ledger.ts";
import { PacketQueue } from "./packet-queue.ts";
import { RunPace } from "./run-pace.ts";

/** Packets that go in one frame; `trial` where it is one packet that must. */
export interface Work {
  readonly frame: Uint8Array;
  readonly trial?: Trial;
}

export type Fault = Verdict & { readonly kind: "fault" } & { readonly packet: Uint8Array };

export class WorkQueue {
  readonly pace: RunPace;
  readonly #packets = new PacketQueue();
  readonly #singles: Trial[] = [];
  readonly #suspects: Trial[] = [];
  #suspectRuns = false;

  /** `limitMs` is the time limit of a packet. */
  constructor(limitMs: number) {
    this.pace = new RunPace(limitMs);
  }

  add(frame: Uint8Array): void {
    this.#packets.push(frame);
  }

  /** Work that may begin beside `flights` others, or undefined when there is none now. */
  next(flights: number): Work | undefined {
    if (this.#suspectRuns) return undefined;
    if (this.#suspects.length > 0) {
      if (flights > 0) return undefined;
      this.#suspectRuns = true;
      return workOf(this.#suspects.shift()!);
    }
    const single = this.#singles.shift();
    if (single !== undefined) return workOf(single);
    if (this.#packets.count === 0) return undefined;
    return { frame: this.#packets.take(this.pace.packets, RUN_INPUT_BYTES_MAX) };
  }

  /** The work that `next` gave is over, however it went. */
  over({ trial }: Work): void {
    if (trial !== undefined && isSuspect(trial)) this.#suspectRuns = false;
  }

  /** Packets of `work` that did not run and are as innocent as before: they come next again. */
  putBack(frame: Uint8Array, { trial }: Work): void {
    if (trial === undefined) this.#packets.unshift(frame);
    else if (isSuspect(trial)) this.#suspects.unshift(trial);
    else this.#singles.unshift(trial);
  }

  /** Lets each of the packets run in a frame of its own. */
  separate(frame: Uint8Array): void {
    for (const packet of packetsOf(frame)) this.#singles.push({ packet, deaths: [] });
  }

  /** The process died while these packets of `work` were in flight. Those that are not tried again are returned. */
  died(frame: Uint8Array, { trial }: Work, circumstances: Circumstances): Fault[] {
    this.pace.reset();
    const faults: Fault[] = [];
    for (const packet of packetsOf(frame)) {
      const verdict = afterDeath(trial ?? { packet, deaths: [] }, circumstances);
      if (verdict.kind === "retry") this.#suspects.push(verdict.trial);
      else faults.push({ ...verdict, packet });
    }
    return faults;
  }

  clear(): void {
    this.#packets.clear();
    this.#singles.length = 0;
    this.#suspects.length = 0;
  }
}

function workOf(trial: Trial): Work {
  return { frame: trial.packet, trial };
}

function* packetsOf(frame: Uint8Array): Generator<Uint8Array> {
  for (let index = 0; index < packetCount(frame); index++) {
    // A copy: the frame it came in need not live as long.
    yield frame.slice(index * PACKET_BYTES, (index + 1) * PACKET_BYTES);
  }
}
