/** A root on its way to somebody: what they lack, in messages of a transfer. */
import { Codec, Compressor } from "../../packets/codec.ts";
import type { Ref } from "../../packets/digest.ts";
import { PatchKind } from "../../packets/patch.ts";
import type { ChunkSource } from "../../runtime/contracts/chunks.ts";
import { readEach } from "../../runtime/read-each.ts";
import { patches } from "../../runtime/stream/patch/send-patches.ts";
import type { SentPatch } from "../../runtime/stream/patch/send-patches.ts";
import { BULK_BODY_BYTES_MAX, TRANSFER_PATCH_BYTES } from "../limits.ts";
import { DataForm, encodeRows } from "./replication/messages.ts";
import type { FileRequest } from "./replication/messages.ts";
import type { DataUnit, Reread } from "./replication/sender.ts";

/** What is lacking of a root, told in messages; and chunks of it, as they are. */
export class SentRoot {
  readonly #source: ChunkSource;
  readonly #signal: AbortSignal;
  readonly #patches: AsyncGenerator<SentPatch, void, undefined>;
  readonly #compressor: Compressor = new Compressor();
  /** Chunks of a patch that is too long for a message. */
  #left: Ref[] = [];

  /** `bases` are those of the receiver that are here, too. */
  constructor(
    source: ChunkSource,
    root: Ref,
    bases: readonly Ref[],
    resume: FileRequest["resume"] | undefined,
    signal: AbortSignal,
  ) {
    this.#source = source;
    this.#signal = signal;
    this.#patches = patches(source, root, bases, {
      signal,
      messageBytes: TRANSFER_PATCH_BYTES,
      ...(resume === undefined ? {} : { isThere: (from, end) => resume.covers(from, end) }),
    });
  }

  /** The next message; undefined where there is none. Rejects as `patches` does. */
  async next(): Promise<DataUnit<Uint8Array> | undefined> {
    if (this.#left.length === 0) {
      const next = await this.#patches.next();
      if (next.done === true) return undefined;
      const patch = next.value;
      if (patch.body.byteLength <= BULK_BODY_BYTES_MAX) return unitOf(patch);
      this.#left = [...patch.refs];
    }
    const ref = this.#left.shift()!;
    const [bytes] = await this.#source.read([ref], this.#signal);
    return await this.#stored(ref, bytes!);
  }

  /** The first of these chunks, read again, or that it is not here. */
  async reread([ref]: readonly Ref[]): Promise<Reread<Uint8Array>> {
    const [bytes] = await readEach(this.#source, [ref!], this.#signal);
    return bytes instanceof Uint8Array
      ? { done: 1, unit: await this.#stored(ref!, bytes), lost: [] }
      : { done: 1, unit: undefined, lost: [ref!] };
  }

  async close(): Promise<void> {
    await this.#patches.return();
  }

  async #stored(ref: Ref, plain: Uint8Array): Promise<DataUnit<Uint8Array>> {
    const { codec, bytes } = await this.#compressor.compressAside(plain);
    // A message's body is given away, and what was read may be somebody else's too.
    const body = codec === Codec.plain ? plain.slice() : bytes;
    const rows = {
      refs: ref,
      storedBytes: Uint32Array.of(body.byteLength),
      plainBytes: Uint32Array.of(plain.byteLength),
      codec: Uint8Array.of(codec),
    };
    return {
      form: DataForm.stored,
      packets: encodeRows(rows),
      body,
      bodyBytes: body.byteLength,
      chunks: 1,
      plainBytes: plain.byteLength,
      patchedChunks: 0,
      compressedChunks: body.byteLength < plain.byteLength ? 1 : 0,
    };
  }
}

function unitOf({ kind, packets, body, chunks, plainBytes, patchedChunks }: SentPatch): DataUnit<Uint8Array> {
  return {
    form: kind === PatchKind.streams ? DataForm.streams : DataForm.chunks,
    packets,
    body,
    bodyBytes: body.byteLength,
    chunks,
    plainBytes,
    patchedChunks,
    compressedChunks: body.byteLength < plainBytes ? chunks - patchedChunks : 0,
  };
}
