/** What stands where in a root's file, in order, as far as its streams are here. */
import { refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { Op } from "../../packets/layout.ts";
import { opAt } from "../../packets/packet.ts";
import { WHOLE_LIMITS, checkCall, checkPlan } from "../../packets/plan.ts";
import { Stream } from "../../packets/stream-reader.ts";
import { TURN_STEP_PACKETS } from "../../runtime/limits.ts";
import { turnOver } from "../../runtime/turns.ts";
import { FILE_STREAMS_CACHED } from "../limits.ts";
import { lackingOf, placeOf, rootOf } from "./received-root.ts";
import type { Lacking, StreamPlace } from "./received-root.ts";

export type RootPlace =
  /** A chunk, or a stream that is not here and stands for all below it. */
  | { readonly kind: "chunk" | "stream"; readonly lacking: Lacking }
  /** Bytes that the packet at `index` yields itself, from its `skip`-th on. */
  | {
      readonly kind: "literal";
      readonly frame: Uint8Array;
      readonly index: number;
      readonly skip: number;
      readonly from: number;
      readonly end: number;
    };

export interface PlacesOptions {
  readonly signal: AbortSignal;
  /** What is of no interest, and not gone down to. */
  readonly isDone?: (from: number, end: number) => boolean;
}

interface Level {
  readonly stream: Stream;
  /** Where its first byte would stand, and what is needed of it. */
  readonly place: StreamPlace;
  index: number;
}

export class RootPlaces {
  readonly root: Ref;
  readonly #read: (ref: Ref) => Promise<Uint8Array | undefined>;
  /** The streams that were used last. */
  readonly #streams = new Map<string, Stream>();

  constructor(root: Ref, read: (ref: Ref) => Promise<Uint8Array | undefined>) {
    this.root = root;
    this.#read = read;
  }

  /**
   * A stream of the root; undefined where it is not here. Rejects with PFS_PACKET_INVALID and PFS_STREAM_INVALID where it is none,
   * and as reading does.
   */
  async stream(ref: Ref): Promise<Stream | undefined> {
    const key = refKey(ref);
    let stream = this.#streams.get(key);
    if (stream === undefined) {
      const bytes = await this.#read(ref);
      if (bytes === undefined) return undefined;
      stream = Stream.parse(bytes);
    }
    this.#streams.delete(key);
    this.#streams.set(key, stream);
    if (this.#streams.size > FILE_STREAMS_CACHED) this.#streams.delete(this.#streams.keys().next().value!);
    return stream;
  }

  /**
   * All places in order. Rejects as `stream` does, with PFS_STREAM_NOT_PLAIN, PFS_STREAM_OVER_LIMIT, and PFS_STREAM_INVALID for what
   * calls more than is there.
   */
  async *all({ signal, isDone = () => false }: PlacesOptions): AsyncGenerator<RootPlace, void, undefined> {
    const top = await this.stream(this.root);
    if (top === undefined) {
      yield { kind: "stream", lacking: rootOf(this.root) };
      return;
    }
    checkPlan(top, WHOLE_LIMITS, 0);
    const levels: Level[] = [{ stream: top, place: rootOf(this.root), index: 0 }];
    for (let steps = 1; levels.length > 0; steps++) {
      if (steps % TURN_STEP_PACKETS === 0) {
        await turnOver();
        signal.throwIfAborted();
      }
      const level = levels.at(-1)!;
      const { stream, place } = level;
      const index = level.index++;
      if (index >= stream.count) {
        levels.pop();
        continue;
      }
      const { frame } = stream;
      const op = opAt(frame, index);
      const { from, end } = placeOf(frame, index, place);
      if (op === Op.NOP || from >= end || isDone(from, end)) continue;
      const lacking = lackingOf(frame, index, place);
      if (op === Op.COPY) yield { kind: "chunk", lacking };
      else if (op === Op.CALL) {
        const callee = await this.stream(lacking.ref);
        if (callee === undefined) {
          yield { kind: "stream", lacking };
          continue;
        }
        checkCall(frame, index, callee, levels.length, WHOLE_LIMITS);
        levels.push({ stream: callee, place: lacking, index: 0 });
      } else yield { kind: "literal", frame, index, skip: from - lacking.start, from, end };
    }
  }
}
