import { zstdCompressSync } from "node:zlib";
import { describe, expect, test } from "vitest";
import { sha256 } from "../../packets/digest.ts";
import { Op, PACKET_BYTES } from "../../packets/layout.ts";
import {
  PATCH_BYTES_MAX,
  PATCH_DICTIONARY_BYTES_MAX,
  PATCH_PART_BYTES_MAX,
  PATCH_RANGES_MAX,
} from "../../packets/limits.ts";
import { encodeFrame, requirePacket } from "../../packets/packet.ts";
import type { PacketFields } from "../../packets/packet.ts";
import { packPackets, unpackPackets } from "../../packets/packed-packets.ts";
import {
  PatchKind,
  compressPart,
  decodePart,
  discardPart,
  encodePart,
  readChunkPatch,
  readPatchHead,
  readStreamPatch,
  writeChunkPatch,
  writeStreamPatch,
} from "../../packets/patch.ts";
import type { Patch, PatchPart } from "../../packets/patch.ts";
import { StreamWriter } from "../../packets/stream-writer.ts";
import { Random, seededBytes } from "./seed.ts";

const NONE = new Uint8Array(0);
const REF = sha256(Uint8Array.of(1));
const ROOT = sha256(Uint8Array.of(2));

/** The one stream of COPYs of chunks with these numbers. */
function streamOf(numbers: readonly number[]): Uint8Array {
  let bytes: Uint8Array = NONE;
  const writer = new StreamWriter((_ref, stream) => (bytes = stream));
  for (const number of numbers)
    writer.copy(sha256(Buffer.from(`chunk ${number}`)), 0, 60_000 + (number % 97));
  writer.finish();
  return bytes;
}

describe("packed packets", () => {
  test("are those that were packed, whatever they are", async () => {
    const random = new Random(1);
    const integer = (): number => random.pick([0, 1, 64, 65_536, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 7]);
    for (let round = 0; round < 50; round++) {
      const packets = Array.from({ length: 1 + random.below(40) }, (): PacketFields => {
        const op = random.pick([Op.COPY, Op.CALL, Op.HALT, Op.EXEC, Op.NOP]);
        if (op === Op.NOP) return { op };
        if (op === Op.HALT) return { op, at: integer(), length: integer() };
        if (op === Op.CALL) return { op, at: integer(), length: 1 + integer(), from: integer(), ref: REF };
        const lane = op === Op.EXEC ? 1 + random.below(65_535) : 0;
        return {
          op,
          lane,
          at: integer(),
          length: 1 + random.below(1000),
          from: random.below(1000),
          ref: ROOT,
        };
      });
      const frame = encodeFrame(packets);
      packets.forEach((_packet, index) => requirePacket(frame, index));
      const dictionary = round % 2 === 0 ? NONE : encodeFrame(packets.toReversed());
      const packed = await packPackets(frame, dictionary);
      expect(await unpackPackets(packed, packets.length, dictionary)).toEqual(frame);
      expect(await unpackPackets(packed, packets.length + 1, dictionary)).toBeUndefined();
      expect(await unpackPackets(packed, packets.length - 1, dictionary)).toBeUndefined();
    }
  });

  test("cost next to nothing where they are the reader's, in another place", async () => {
    const numbers = Array.from({ length: 200 }, (_, index) => index);
    const old = streamOf(numbers);
    const moved = streamOf([1000, ...numbers.slice(0, 150), 1001, ...numbers.slice(150)]);
    const packed = await packPackets(moved, old);
    // Two refs that are new.
    expect(packed.byteLength).toBeLessThan(200);
    expect((await packPackets(moved)).byteLength).toBeGreaterThan(200 * 32);
    expect(await unpackPackets(packed, moved.byteLength / PACKET_BYTES, old)).toEqual(moved);
  });
});

describe("a patch", () => {
  test("of streams brings them back", async () => {
    const old = streamOf([1, 2, 3, 4, 5, 6]);
    const streams = [streamOf([1, 2, 9, 3]), streamOf([]), streamOf([4, 5, 6])];
    const range = { root: ROOT, from: 5, length: 1000 };
    const patch = await writeStreamPatch(streams, [range], old);
    const head = readPatchHead(patch);
    expect(head.dictionary.map(({ from, length }) => [from, length])).toEqual([[5, 1000]]);
    expect((await readStreamPatch(patch, head, old)).map(({ frame }) => Buffer.from(frame))).toEqual(
      streams.map((stream) => Buffer.from(stream)),
    );
    await expect(readStreamPatch(patch, head, NONE)).rejects.toMatchObject({ code: "PFS_PATCH_INVALID" });
  });

  test("of chunks brings its parts back, and parts bring the chunks", async () => {
    const old = seededBytes("old", 300_000);
    const plain = Buffer.concat([
      old.subarray(100_000, 200_000),
      seededBytes("new", 50),
      old.subarray(0, 100_000),
    ]);
    const frame = encodePart(plain, old)!;
    expect(frame.byteLength).toBeLessThan(200);
    const random = seededBytes("random", 1000);
    expect(await compressPart(random)).toBe(random);
    expect(encodePart(random, old)).toBeUndefined();
    const parts: PatchPart[] = [
      {
        refs: [sha256(plain.subarray(0, 1000)), sha256(plain.subarray(1000))],
        lengths: [1000, plain.byteLength - 1000],
        dictionary: [
          { root: ROOT, from: 7, length: 100_000 },
          { root: REF, from: 0, length: 200_000 },
        ],
        frame,
      },
      { refs: [sha256(random)], lengths: [1000], dictionary: [], frame: random },
    ];
    const patch = await writeChunkPatch(parts, [], NONE);
    const read = await readChunkPatch(patch, readPatchHead(patch), NONE);
    expect(read.map((part) => ({ ...part, frame: Buffer.from(part.frame) }))).toEqual(
      parts.map((part) => ({ ...part, frame: Buffer.from(part.frame) })),
    );
    expect(Buffer.from(decodePart(read[0]!, old)!)).toEqual(plain);
    expect(Buffer.from(decodePart(read[1]!, NONE)!)).toEqual(Buffer.from(random));
    expect(Buffer.from(decodePart(read[0]!, old.subarray(1)) ?? NONE)).not.toEqual(plain);
    // It is given away, and what is short would share its memory with others.
    expect(patch.body.buffer.byteLength).toBe(patch.body.byteLength);
  });

  test("has a part as its difference where little is new, and else as what is smaller", async () => {
    const range = { root: ROOT, from: 0, length: 200_000 };
    const old = seededBytes("old", range.length);
    const part = (plain: Uint8Array, frame: Uint8Array): PatchPart => ({
      refs: [sha256(plain)],
      lengths: [plain.byteLength],
      dictionary: [range],
      frame,
    });
    const moved = Buffer.from(old.map((byte, index) => (index % 50 === 0 ? byte + 3 : byte)));
    const shuffled = Buffer.concat(
      Array.from({ length: 4000 }, (_, index) => old.subarray((index * 7919) % 199_000).subarray(0, 20)),
    );
    for (const [plain, isDifference] of [
      [moved, true],
      [shuffled, false],
    ] as const) {
      const frame = encodePart(plain, old)!;
      expect(frame[0] === 0).toBe(isDifference);
      const decoded = decodePart(part(plain, frame), old)!;
      expect(Buffer.compare(decoded, plain)).toBe(0);
      discardPart(decoded);
      expect(decoded.byteLength).toBe(0);
    }
    // Of zeros and a few bytes: as short as it says, or nothing.
    for (const frame of [Uint8Array.of(0), Uint8Array.of(0, 1, 2, 3)])
      expect(decodePart(part(moved, frame), old)).toBeUndefined();
    const other = encodePart(moved, old)!;
    expect(decodePart(part(moved.subarray(1), other), old)).toBeUndefined();
    expect(decodePart(part(moved, other), old.subarray(0, 100_000))).toBeUndefined();
  });

  test("frees no memory that others share", async () => {
    const old = seededBytes("old", 60_000);
    // Shorter than what a Buffer has memory of its own for.
    const plain = Buffer.from(old.subarray(0, 20_000));
    const frame = encodePart(plain, old)!;
    const part = {
      refs: [sha256(plain)],
      lengths: [plain.byteLength],
      dictionary: [{ root: ROOT, from: 0, length: old.byteLength }],
      frame,
    };
    const decoded = decodePart(part, old)!;
    discardPart(decoded);
    expect(decoded.byteLength === 0 || Buffer.compare(decoded, plain) === 0).toBe(true);
    expect(Buffer.from("still here").toString()).toBe("still here");
  });

  test("that asks for more than it may, or says what is not so, is none", async () => {
    const chunk: PacketFields = { op: Op.COPY, length: 10, ref: REF };
    const call = (length: number, at = 10): PacketFields => ({ op: Op.CALL, at, length, ref: ROOT });
    const halt = (at: number, length: number): PacketFields => ({ op: Op.HALT, at, length });
    const large = Array.from({ length: PATCH_BYTES_MAX / PATCH_PART_BYTES_MAX + 1 }, () => [
      { op: Op.COPY, length: PATCH_PART_BYTES_MAX, ref: REF },
      halt(1, 0),
    ]).flat();
    const greedy = Array.from({ length: 65 }, () => [
      chunk,
      call(PATCH_DICTIONARY_BYTES_MAX),
      halt(2, 1),
    ]).flat();
    const lists: [string, PacketFields[], number][] = [
      ["a part without chunks", [halt(0, 0)], 0],
      ["a part without chunks", [call(5, 0), halt(1, 0)], 0],
      ["a HALT is missing", [chunk], 0],
      ["a HALT is missing", [chunk, call(5), { op: Op.NOP }], 0],
      ["a HALT has flags", [chunk, { ...halt(1, 10), flags: 1, ref: REF }], 10],
      ["a HALT counts other packets", [chunk, halt(2, 10)], 10],
      ["a chunk that does not begin at its beginning", [{ ...chunk, from: 1 }, halt(1, 10)], 10],
      ["a gap or an overlap", [chunk, { ...chunk, at: 9 }, halt(2, 10)], 10],
      ["a gap or an overlap", [chunk, call(5, 11), halt(2, 10)], 10],
      [
        "a part is too long",
        [{ ...chunk, length: PATCH_PART_BYTES_MAX }, { ...chunk, at: PATCH_PART_BYTES_MAX }, halt(2, 10)],
        10,
      ],
      ["a dictionary is too long", [chunk, call(PATCH_DICTIONARY_BYTES_MAX + 1), halt(2, 10)], 10],
      [
        "a dictionary is too long",
        [
          chunk,
          ...Array.from({ length: PATCH_RANGES_MAX + 1 }, (_, index) => call(1, 10 + index)),
          halt(PATCH_RANGES_MAX + 2, 10),
        ],
        10,
      ],
      ["a frame is too long", [chunk, halt(1, 11)], 11],
      ["a frame is too long", [chunk, halt(1, 10)], 9],
      ["a frame is empty", [chunk, call(5), halt(2, 0)], 0],
      ["bytes behind its last frame", [chunk, halt(1, 10)], 11],
      ["its chunks are too long together", large, 0],
      ["its dictionaries are too long together", greedy, 65],
    ];
    for (const [reason, list, bytes] of lists) {
      const packed = await packPackets(encodeFrame(list));
      const packets = encodeFrame([halt(list.length, packed.byteLength)]);
      const patch: Patch = {
        kind: PatchKind.chunks,
        packets,
        body: Buffer.concat([packed, new Uint8Array(bytes)]),
      };
      await expect(readChunkPatch(patch, readPatchHead(patch), NONE), reason).rejects.toMatchObject({
        code: "PFS_PATCH_INVALID",
        data: { reason },
      });
    }
  });

  test("whose packets do not say what it is, is none", async () => {
    const stream = streamOf([1]);
    const good = await writeStreamPatch([stream], [], NONE);
    const [packets, body] = [2, good.body];
    const halt = { op: Op.HALT, at: packets, length: body.byteLength };
    const call: PacketFields = { op: Op.CALL, length: 9, ref: ROOT };
    const { chunks, streams } = PatchKind;
    const heads: [string, PacketFields[], Uint8Array, typeof chunks | typeof streams][] = [
      ["its packets are no packets", [], body, streams],
      [
        "its dictionary has too many ranges",
        [...Array.from({ length: 9 }, (_, at) => ({ ...call, at: at * 9 })), halt],
        body,
        streams,
      ],
      ["a HALT is missing", [call], body, streams],
      ["it goes on behind its HALT", [halt, halt], body, streams],
      ["a list of 0 packets", [{ ...halt, at: 0 }], body, streams],
      ["a list of 65537 packets", [{ ...halt, at: 65_537 }], body, streams],
      ["a list of 4097 packets", [{ ...halt, at: 4097 }], body, chunks],
      ["its list is longer than its body", [halt], body.subarray(1), streams],
      ["bytes behind the streams", [halt], Buffer.concat([body, NONE, Buffer.from("x")]), streams],
    ];
    for (const [reason, fields, bytes, kind] of heads) {
      const head = (): unknown => readPatchHead({ kind, packets: encodeFrame(fields), body: bytes });
      expect(head, reason).toThrow(expect.objectContaining({ data: { reason } }) as Error);
    }
    const open = await packPackets(stream.subarray(0, PACKET_BYTES));
    const endless = {
      kind: streams,
      packets: encodeFrame([{ ...halt, at: 1, length: open.byteLength }]),
      body: open,
    };
    await expect(readStreamPatch(endless, readPatchHead(endless), NONE)).rejects.toMatchObject({
      data: { reason: "its last stream has no end" },
    });
  });

  test("of a few bytes makes no more than it says", async () => {
    const bomb = zstdCompressSync(new Uint8Array(64 * 1024 * 1024));
    const part = { refs: [REF], lengths: [100_000], dictionary: [], frame: bomb };
    expect(decodePart(part, NONE)).toBeUndefined();
    expect(await unpackPackets(bomb, 1000)).toBeUndefined();
    expect(decodePart({ ...part, frame: seededBytes("no frame", 100) }, NONE)).toBeUndefined();
  });
});
