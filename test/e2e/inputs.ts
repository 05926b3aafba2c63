/** Inputs that are the same in every run, and the plain computations that answers are compared with. */
import { createHash } from "node:crypto";
import type { GetOptions, PacketFS } from "../../sdk/index.ts";

export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** Whole numbers below 2³¹ (Lehmer). */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state;
  };
}

/** Bytes that do not repeat and do not compress. */
export function noise(length: number, seed: number): Buffer {
  const next = numbers(seed);
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4);
  // The low bits of neighbours are alike; two draws make one word.
  for (let at = 0; at < bytes.length; at += 4) bytes.writeInt32LE((next() << 15) ^ next(), at);
  return bytes.subarray(0, length);
}

/** Text of at least so many bytes: a few words often, many words seldom, and letters beyond ASCII. */
export function prose(length: number, seed: number): Buffer {
  const next = numbers(seed);
  const spaces = [" ", " ", " ", "\n", "\t", "  ", "\r\n"];
  const pieces: string[] = [];
  for (let size = 0; size < length;) {
    const draw = next();
    const rank = Math.floor(5000 ** ((draw % 100_003) / 100_003));
    const piece = `${rank % 7 === 0 ? "größe" : "word"}${rank}${spaces[draw % spaces.length]!}`;
    pieces.push(piece);
    size += piece.length;
  }
  return Buffer.from(pieces.join(""));
}

/** Each word with how often it occurs, sorted as results are. */
export function wordCounts(text: Uint8Array): [string, number][] {
  const counts = new Map<string, number>();
  for (const [word] of Buffer.from(text).toString().matchAll(/\S+/g)) {
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return [...counts].toSorted(([a], [b]) => (a < b ? -1 : 1));
}

/** A stored file, or a range of it. */
export async function bytesOf(pfs: PacketFS, file: string, range?: GetOptions["range"]): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of pfs.get(file, range === undefined ? {} : { range })) pieces.push(piece);
  return Buffer.concat(pieces);
}
