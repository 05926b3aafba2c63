/** A root on its way here, into a store: what of it is here, what is lacking, and what came. */
import { decompressAside } from "../../packets/codec.ts";
import { isRefOf, refAt, refKey } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { REF_BYTES, Op } from "../../packets/layout.ts";
import { CALL_DEPTH_MAX } from "../../packets/limits.ts";
import { atOf, fromAt, lengthAt, opAt, refOf } from "../../packets/packet.ts";
import { PatchKind } from "../../packets/patch.ts";
import { Stream } from "../../packets/stream-reader.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { PatchReceiver } from "../../runtime/stream/patch/receive-patches.ts";
import { turnOver } from "../../runtime/turns.ts";
import { TRANSFER_LACKING_MAX } from "../limits.ts";
import { ByteRanges, invalidTransfer } from "./replication/byte-ranges.ts";
import { DataForm, decodeRows } from "./replication/messages.ts";
import type { DataHead } from "./replication/messages.ts";
import type { PlacedData } from "./replication/receiver.ts";

/** Where chunks come to. */
export interface ReceivingStore {
  /** Of bases, and of what was kept. */
  readonly source: ChunkSource;
  /** One byte (0 or 1) per 32-byte ref: which chunks are here, in their right bytes. */
  has(refs: Uint8Array): Promise<Uint8Array>;
  /** Keeps chunks that were verified: `source` has them when it resolves. */
  keep(chunks: readonly { readonly ref: Ref; readonly bytes: Uint8Array }[]): Promise<void>;
}

/** What of a root is here. */
export interface Presence {
  readonly ranges: ByteRanges;
  /** The first of what is not, in order. */
  readonly missing: readonly Ref[];
}

/** Goes down what is here of a root. Rejects with PFS_PACKET_INVALID, PFS_STREAM_INVALID, and as reading its streams does. */
export async function presenceOf(
  store: Pick<ReceivingStore, "source" | "has">,
  root: Ref,
  missingMax: number,
  signal: AbortSignal,
): Promise<Presence> {
  const ranges = new ByteRanges();
  const missing: Ref[] = [];
  const met = new Set<string>();
  const visit = async (ref: Ref, start: number, depth: number): Promise<void> => {
    if (met.has(refKey(ref)) || missing.length >= missingMax) return;
    met.add(refKey(ref));
    if ((await store.has(ref))[0] !== 1) {
      missing.push(ref);
      return;
    }
    const [bytes] = await store.source.read([ref], signal);
    const { frame, count } = Stream.parse(bytes!);
    const there = await chunksThere(frame, count, (refs) => store.has(refs));
    for (let index = 0; index < count && missing.length < missingMax; index++) {
      await turnOver();
      signal.throwIfAborted();
      const at = start + atOf(frame, index);
      const op = opAt(frame, index);
      if (op === Op.CALL && depth < CALL_DEPTH_MAX)
        await visit(refOf(frame, index), at - fromAt(frame, index), depth + 1);
      else if (there[index] === 1) ranges.add(at, at + lengthAt(frame, index));
      else if (op === Op.COPY && !met.has(refKey(refOf(frame, index)))) {
        met.add(refKey(refOf(frame, index)));
        missing.push(refOf(frame, index));
      }
    }
  };
  await visit(root, 0, 0);
  return { ranges, missing };
}

/** A byte (0 or 1) for each packet: whether the bytes that it yields are here. */
async function chunksThere(
  frame: Uint8Array,
  count: number,
  has: ReceivingStore["has"],
): Promise<Uint8Array> {
  const there = new Uint8Array(count);
  const copies: number[] = [];
  for (let index = 0; index < count; index++) {
    const op = opAt(frame, index);
    if (op === Op.COPY) copies.push(index);
    else if (op !== Op.CALL) there[index] = 1;
  }
  const refs = new Uint8Array(copies.length * REF_BYTES);
  copies.forEach((index, row) => refs.set(refOf(frame, index), row * REF_BYTES));
  const found = refs.byteLength === 0 ? refs : await has(refs);
  copies.forEach((index, row) => (there[index] = found[row]!));
  return there;
}

/** A chunk or stream that is lacking: where its first byte would stand, and what of it is needed there. */
interface Lacking {
  readonly isStream: boolean;
  readonly start: number;
  readonly from: number;
  readonly end: number;
}

export class ReceivedRoot {
  readonly #store: ReceivingStore;
  readonly #signal: AbortSignal;
  readonly #patches: PatchReceiver;
  readonly #bases: ReadonlySet<string>;
  readonly #lacking = new Map<string, Lacking>();

  constructor(store: ReceivingStore, root: Ref, bases: readonly Ref[], signal: AbortSignal) {
    this.#store = store;
    this.#signal = signal;
    this.#patches = new PatchReceiver(store.source, root, bases, signal);
    this.#bases = new Set(bases.map(refKey));
    this.#lacking.set(refKey(root), { isStream: true, start: 0, from: 0, end: 0 });
  }

  /** Rejects with PFS_PATCH_INVALID, and others, where nothing can be made of it. */
  async place(data: DataHead, body: Uint8Array): Promise<PlacedData> {
    const result = { chunks: 0, plainBytes: 0, patchedChunks: 0, compressedChunks: 0 };
    const wrong: Ref[] = [];
    const covered: { from: number; end: number }[] = [];
    const kept: { ref: Ref; bytes: Uint8Array }[] = [];
    const isPatch = data.form !== DataForm.stored;
    for await (const { ref, bytes } of isPatch ? this.#unpatched(data, body) : this.#unpacked(data, body)) {
      this.#signal.throwIfAborted();
      const lacking = this.#lacking.get(refKey(ref));
      if (lacking === undefined) continue;
      if (bytes === undefined) {
        wrong.push(ref);
        continue;
      }
      result.chunks++;
      result.plainBytes += bytes.byteLength;
      if (isPatch && this.#bases.size > 0) result.patchedChunks++;
      else if (body.byteLength < bytes.byteLength) result.compressedChunks++;
      kept.push({ ref, bytes });
      this.#lacking.delete(refKey(ref));
      if (lacking.isStream) covered.push(...(await this.#stream(Stream.parse(bytes), lacking.start)));
      else covered.push({ from: lacking.from, end: lacking.end });
    }
    await this.#store.keep(kept);
    return { ...result, wrong, covered };
  }

  async *#unpatched(
    { form, packets }: DataHead,
    body: Uint8Array,
  ): AsyncGenerator<{ ref: Ref; bytes: Uint8Array | undefined }> {
    const kind = form === DataForm.streams ? PatchKind.streams : PatchKind.chunks;
    yield* this.#patches.chunks({ kind, packets, body });
  }

  async *#unpacked(
    { packets }: DataHead,
    body: Uint8Array,
  ): AsyncGenerator<{ ref: Ref; bytes: Uint8Array | undefined }> {
    const { refs, storedBytes, plainBytes, codec } = decodeRows(packets, body.byteLength);
    let at = 0;
    for (const [row, stored] of storedBytes.entries()) {
      const ref = refAt(refs, row);
      const bytes = await decompressAside(body.subarray(at, at + stored), codec[row]!, plainBytes[row]!);
      at += stored;
      yield { ref, bytes: bytes !== undefined && isRefOf(ref, bytes) ? bytes : undefined };
    }
  }

  /** What it names is lacking from now on, unless it is here. Returns the bytes that are. */
  async #stream({ frame, count }: Stream, start: number): Promise<{ from: number; end: number }[]> {
    const there = await chunksThere(frame, count, (refs) => this.#store.has(refs));
    const covered: { from: number; end: number }[] = [];
    for (let index = 0; index < count; index++) {
      const from = start + atOf(frame, index);
      const end = from + lengthAt(frame, index);
      const op = opAt(frame, index);
      if (there[index] === 1) covered.push({ from, end });
      else if (op === Op.COPY || op === Op.CALL) {
        const key = refKey(refOf(frame, index));
        if (this.#lacking.has(key)) continue;
        if (this.#lacking.size >= TRANSFER_LACKING_MAX)
          throw invalidTransfer("too much is lacking at a time");
        this.#lacking.set(key, { isStream: op === Op.CALL, start: from - fromAt(frame, index), from, end });
      }
    }
    return covered;
  }
}
