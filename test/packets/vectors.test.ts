/** The bytes that every implementation of SPEC.md agrees on; test/vectors/reference.py made them. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { Chunker } from "../../packets/chunker.ts";
import { refToHex } from "../../packets/digest.ts";
import { ENVELOPE_BYTES, decodeEnvelope, encodeEnvelope } from "../../packets/envelope.ts";
import type { Envelope } from "../../packets/envelope.ts";
import { OP_NAMES, Op } from "../../packets/layout.ts";
import type { OpName } from "../../packets/layout.ts";
import { decodePacket, encodePacket } from "../../packets/packet.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import { invalidPacket } from "../../packets/validate.ts";
import { seededBytes } from "./seed.ts";

function vectors<Shape>(name: string): Shape {
  return JSON.parse(readFileSync(new URL(`../vectors/${name}.json`, import.meta.url), "utf8")) as Shape;
}

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

interface PacketVectors {
  valid: ({ op: OpName; ref: string; packet: string } & Record<
    "flags" | "lane" | "at" | "length" | "from",
    number
  >)[];
  invalid: { reason: string; packet: string }[];
}

describe("packets", () => {
  const { valid, invalid } = vectors<PacketVectors>("packets");

  test.each(valid)("$op $packet", ({ op, ref, packet, ...fields }) => {
    expect(hexOf(encodePacket({ op: Op[op], ...fields, ref: bytesOf(ref) }))).toBe(packet);
    const expected = { op: Op[op], ...fields, ref: bytesOf(ref.padEnd(64, "0")) };
    expect(decodePacket(bytesOf(packet))).toEqual(expected);
  });

  test("there is one for every op", () => {
    expect(new Set(valid.map(({ op }) => op))).toEqual(new Set(OP_NAMES));
  });

  test.each(invalid)("$reason: $packet", ({ reason, packet }) => {
    expect(invalidPacket(bytesOf(packet), 0)).toBe(reason);
  });
});

describe("envelopes", () => {
  type EnvelopeVector = Omit<Envelope, "trace"> & { trace: string; envelope: string };

  test.each(vectors<EnvelopeVector[]>("envelopes"))("$envelope", ({ trace, envelope, ...fields }) => {
    const full: Envelope = { ...fields, trace: bytesOf(trace) };
    expect(hexOf(encodeEnvelope(full))).toBe(envelope);
    expect(decodeEnvelope(bytesOf(envelope))).toEqual(full);
    expect(envelope).toHaveLength(ENVELOPE_BYTES * 2);
  });
});

interface ChunkerVector {
  seed: string;
  bytes: number;
  minBytes: number;
  averageBytes: number;
  maxBytes: number;
  salt: string | null;
  ends: number[];
}

test.each(vectors<ChunkerVector[]>("chunker"))(
  "chunks of $bytes bytes, $averageBytes on average, salt $salt",
  ({ seed, bytes, ends, salt, ...parameters }) => {
    const chunker = new Chunker(salt === null ? parameters : { ...parameters, salt: bytesOf(salt) });
    const input = seededBytes(seed, bytes);
    const found: number[] = [];
    for (let start = 0; start < bytes; start = found.at(-1)!) {
      found.push(chunker.cut(input, start, bytes, true));
    }
    expect(found).toEqual(ends);
  },
);

type Piece =
  | ["data", string]
  | ["fill", string, number]
  | ["copy", string, number, number]
  | ["call", string, number, number];
type StreamVector = { name: string; root: string; length: number; packets: number; streams: number } & (
  | { pieces: Piece[] }
  | { seed: string; chunks: number }
);

function writePiece(writer: StreamWriter, piece: Piece): void {
  const bytes = bytesOf(piece[1]);
  if (piece[0] === "data") writer.data(bytes);
  else if (piece[0] === "fill") writer.fill(bytes, piece[2]);
  else writer[piece[0]](bytes, piece[2], piece[3]);
}

test.each(vectors<StreamVector[]>("streams"))("the stream of $name", (vector) => {
  const writer = new StreamWriter(() => {});
  if ("pieces" in vector) vector.pieces.forEach((piece) => writePiece(writer, piece));
  else {
    const refs = seededBytes(vector.seed, vector.chunks * 32);
    for (let index = 0; index < vector.chunks; index++) {
      writer.copy(refs.subarray(index * 32, index * 32 + 32), 0, 65_536 - (index % 7));
    }
  }
  const { root, ...summary } = writer.finish();
  const { length, packets, streams } = vector;
  expect({ root: refToHex(root), ...summary }).toEqual({ root: vector.root, length, packets, streams });
});
