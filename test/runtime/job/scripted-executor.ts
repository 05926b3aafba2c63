/**
 * An executor that computes nothing and does what a test tells it, for races that a real one shows once in a thousand
 * runs. Its results are chunks in a memory of its own, so that they are gone with it.
 */
import type { Ref } from "../../../packets/digest.ts";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import type { FaultCode } from "../../../packets/faults.ts";
import { Flag, INLINE_BYTES_MAX, Op } from "../../../packets/layout.ts";
import { decodePacket, encodePacket, packetCount } from "../../../packets/packet.ts";
import type { Packet, PacketFields } from "../../../packets/packet.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import { JobError, JobErrorCode } from "../../../runtime/errors.ts";
import { parseManifest } from "../../../runtime/program/manifest.ts";
import type { Capacity, Executor, Lane, LaneListener } from "../../../runtime/contracts/executor.ts";
import type { AcceleratorInfo } from "../../../runtime/contracts/kernels.ts";
import type { Entry } from "../../../runtime/program/program.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";

/** A packet that waits to be answered. */
export interface Waiting {
  readonly entry: Entry;
  readonly packet: Packet;
  readonly lane: ScriptedLane;
}

export interface Script {
  /** What to do with packets as they come; left alone they wait in `waiting`. */
  readonly taken?: (waiting: Waiting, executor: ScriptedExecutor) => void;
  /** Rejects to refuse a program. */
  readonly loaded?: (entry: Entry) => Promise<void>;
  readonly has?: (ref: Ref) => boolean;
  readonly keeps?: (name: string) => Promise<void>;
}

export class ScriptedExecutor implements Executor {
  readonly id: string;
  readonly label: string;
  readonly capacity: Capacity;
  readonly edition: string;
  isSuspect = false;
  readonly waiting: Waiting[] = [];
  readonly lanes: ScriptedLane[] = [];
  /** Its own chunks, by ref as hex. */
  readonly chunks: Map<string, Uint8Array> = new Map();
  /** Names in its own catalog. */
  readonly names: Map<string, Ref> = new Map();
  readonly script: Script;
  readonly #source: ChunkSource;

  readonly accelerator: AcceleratorInfo | undefined;

  /** With a GPU it runs programs whose results depend on that alone. */
  constructor(
    id: string,
    source: ChunkSource,
    script: Script = {},
    workers = 2,
    edition = "test",
    accelerator?: AcceleratorInfo,
  ) {
    this.id = id;
    this.label = `node ${id}`;
    this.capacity = accelerator === undefined ? { js: workers, kernel: workers } : { kernel: workers };
    this.edition = edition;
    this.accelerator = accelerator;
    this.script = script;
    this.#source = source;
  }

  async load(manifest: Ref, listener: LaneListener, signal: AbortSignal): Promise<Lane> {
    const [bytes] = await this.#source.read([manifest]);
    const { entry } = parseManifest(bytes!);
    await this.script.loaded?.(entry);
    signal.throwIfAborted();
    const lane = new ScriptedLane(this, entry, listener);
    this.lanes.push(lane);
    return lane;
  }

  async has(refs: Uint8Array): Promise<Uint8Array> {
    const count = refs.byteLength / 32;
    return Uint8Array.from({ length: count }, (_, index) => {
      return this.script.has?.(refs.subarray(index * 32, index * 32 + 32)) === true ? 1 : 0;
    });
  }

  put(bytes: Uint8Array): Ref {
    const ref = sha256(bytes);
    this.chunks.set(refToHex(ref), bytes);
    return ref;
  }

  /** Answers everything that waits. */
  answerAll(resultOf: (waiting: Waiting) => string): void {
    for (const waiting of this.waiting.splice(0)) waiting.lane.answer(waiting.packet, resultOf(waiting));
  }
}

export class ScriptedLane implements Lane {
  readonly entry: Entry;
  readonly listener: LaneListener;
  isClosed = false;
  readonly #executor: ScriptedExecutor;

  constructor(executor: ScriptedExecutor, entry: Entry, listener: LaneListener) {
    this.#executor = executor;
    this.entry = entry;
    this.listener = listener;
  }

  exec(frame: Uint8Array): void {
    for (let index = 0; index < packetCount(frame); index++) {
      const { ref, ...packet } = decodePacket(frame, index);
      const waiting = { entry: this.entry, packet: { ...packet, ref: ref.slice() }, lane: this };
      this.#executor.waiting.push(waiting);
      this.#executor.script.taken?.(waiting, this.#executor);
    }
  }

  async keep(name: string, returns: Uint8Array): Promise<Ref> {
    await this.#executor.script.keeps?.(name);
    const writer = new StreamWriter((_ref, bytes) => void this.#executor.put(bytes));
    for (let index = 0; index < packetCount(returns); index++) {
      const { ref, length } = decodePacket(returns, index);
      writer.copy(ref, 0, length);
    }
    const { root } = writer.finish();
    this.#executor.names.set(name, root);
    return root;
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }

  /** A RETURN for the packet: in the answer itself up to 32 bytes, otherwise as a chunk of the executor's own. */
  answer({ at }: Packet, text: string): void {
    const bytes = new TextEncoder().encode(text);
    const length = bytes.byteLength;
    const isInline = length <= INLINE_BYTES_MAX;
    const ref = isInline ? bytes : this.#executor.put(bytes);
    this.say({ op: Op.RETURN, flags: isInline ? Flag.INLINE : 0, lane: 1, at, length, ref });
  }

  fault({ at }: Packet, code: FaultCode, text = ""): void {
    const ref = new TextEncoder().encode(text);
    this.say({ op: Op.FAULT, flags: Flag.INLINE, lane: 1, at, from: code, length: ref.byteLength, ref });
  }

  say(fields: PacketFields): void {
    this.listener.returned(encodePacket(fields));
  }

  lose(): void {
    this.isClosed = true;
    this.listener.lost(new JobError(JobErrorCode.nodeLost, "the node is gone"));
  }
}
