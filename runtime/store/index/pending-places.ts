/**
 * Chunks that this process has written and that are not in the index yet, so that they can be read at once. Kept as the
 * blocks they came in; they are looked into only when somebody asks for a chunk that the index does not know.
 */
import { refAt, refKey } from "../../../packets/digest.ts";
import type { ChunkRow } from "./chunk-index.ts";
import { PLACE_NUMBERS } from "../writer/writer-protocol.ts";

interface Answer {
  readonly refs: Uint8Array;
  readonly places: Float64Array;
}

export class PendingPlaces {
  /** Answers that nobody has looked into yet. */
  #answers: Answer[] = [];
  readonly #rows: Map<string, ChunkRow> = new Map();

  /** Refs and places as a write answers them. */
  add(refs: Uint8Array, places: Float64Array): void {
    if (places.length > 0) this.#answers.push({ refs, places });
  }

  find(ref: Uint8Array): ChunkRow | undefined {
    for (const answer of this.#answers) this.#unpack(answer);
    this.#answers = [];
    return this.#rows.get(refKey(ref));
  }

  /** Everything before `place` is in the index now. */
  committed(place: number): void {
    this.#answers = this.#answers.filter(({ places }) => places[places.length - PLACE_NUMBERS + 1]! >= place);
    for (const [key, row] of this.#rows) if (row.place < place) this.#rows.delete(key);
  }

  #unpack({ refs, places }: Answer): void {
    for (let at = 0; at < places.length; at += PLACE_NUMBERS) {
      const [index, place, storedBytes, plainBytes, codec] = places.subarray(at, at + PLACE_NUMBERS);
      const row = { place: place!, storedBytes: storedBytes!, plainBytes: plainBytes!, codec: codec! };
      this.#rows.set(refKey(refAt(refs, index!)), { ...row, isDamaged: false });
    }
  }
}
