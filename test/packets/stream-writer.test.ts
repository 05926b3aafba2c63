import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { refToHex, sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { hasCode } from "../../packets/errors.ts";
import { Op } from "../../packets/layout.ts";
import { decodePacket, opAt } from "../../packets/packet.ts";
import { CUT_PACKETS_MAX, CUT_PACKETS_MIN } from "../../packets/stream-level.ts";
import { DATA_STREAM_BYTES_MAX, StreamWriter, dataStream } from "../../packets/stream-writer.ts";
import { Shelf } from "./execute.ts";
import { seededBytes } from "./seed.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

/** `count` refs that name nothing. */
function manyRefs(seed: string, count: number): Ref[] {
  const bytes = seededBytes(seed, count * 32);
  return Array.from({ length: count }, (_, index) => bytes.subarray(index * 32, index * 32 + 32));
}

function copyAll(refs: readonly Ref[]): (writer: StreamWriter) => void {
  return (writer) => refs.forEach((ref) => writer.copy(ref, 0, 65_536));
}

function rootOf(pieces: (writer: StreamWriter) => void): string {
  return refToHex(new Shelf().write(pieces).root);
}

describe("a small stream", () => {
  test("is one chunk: its packets and a HALT with the total", () => {
    const shelf = new Shelf();
    const chunk = shelf.put(text("hello world"));
    const summary = shelf.write((writer) => {
      writer.data(text("<"));
      writer.copy(chunk, 6, 5);
      writer.fill(text("!"), 3);
    });
    expect(summary).toMatchObject({ length: 9, packets: 4, streams: 1 });
    const bytes = shelf.get(summary.root);
    expect(sha256(bytes)).toEqual(summary.root);
    expect(decodePacket(bytes, 1)).toMatchObject({ op: Op.COPY, at: 1, length: 5, from: 6, ref: chunk });
    expect(decodePacket(bytes, 3)).toMatchObject({ op: Op.HALT, flags: 0, at: 3, length: 9 });
    expect(Buffer.from(shelf.execute(summary.root)).toString()).toBe("<world!!!");
  });

  test("of nothing is a HALT alone", () => {
    const shelf = new Shelf();
    const summary = shelf.write((writer) => {
      writer.data(text(""));
      writer.fill(text("x"), 0);
    });
    expect(summary).toMatchObject({ length: 0, packets: 1, streams: 1 });
    expect(shelf.execute(summary.root)).toHaveLength(0);
  });

  test("keeps the digest of the whole where one is given", () => {
    const shelf = new Shelf();
    const digest = sha256(text("abc"));
    const { root } = shelf.write((writer) => writer.data(text("abc")), { digest });
    expect(shelf.stream(root).digest).toEqual(digest);
    expect(shelf.stream(shelf.write((writer) => writer.data(text("abc"))).root).digest).toBeUndefined();
  });
});

describe("pieces that continue each other are one packet", () => {
  const [ref, other] = manyRefs("pieces", 2) as [Ref, Ref];
  const packets = (pieces: (writer: StreamWriter) => void): number => new Shelf().write(pieces).packets - 1;

  test("literals, 32 bytes a packet, however they arrive", () => {
    const bytes = seededBytes("literal", 100);
    const whole = rootOf((writer) => writer.data(bytes));
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 100 }), { maxLength: 9 }), (cuts) => {
        const sorted = [0, ...cuts.toSorted((a, b) => a - b), 100];
        const parts = (writer: StreamWriter): void =>
          sorted.forEach((cut, index) => writer.data(bytes.subarray(cut, sorted[index + 1] ?? cut)));
        expect(rootOf(parts)).toBe(whole);
      }),
    );
    expect(packets((writer) => writer.data(bytes))).toBe(4);
  });

  test("and few of them are the one chunk that is written of them at once", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        expect(refToHex(sha256(dataStream(bytes)))).toBe(rootOf((writer) => writer.data(bytes)));
      }),
    );
    for (let seed = 0; seed < 8; seed++) {
      const bytes = seededBytes(`most ${seed}`, DATA_STREAM_BYTES_MAX);
      expect(refToHex(sha256(dataStream(bytes)))).toBe(rootOf((writer) => writer.data(bytes)));
    }
  });

  test("fills of the same pattern", () => {
    const zero = new Uint8Array(1);
    const one = rootOf((writer) => writer.fill(zero, 100));
    expect(rootOf((writer) => [60, 40].forEach((length) => writer.fill(zero, length)))).toBe(one);
    expect(rootOf((writer) => writer.fill(new Uint8Array(32), 100))).toBe(one);
    const pair = rootOf((writer) => writer.fill(text("ab"), 9));
    expect(rootOf((writer) => [4, 5].forEach((length) => writer.fill(text("abab"), length)))).toBe(pair);
    expect(packets((writer) => [3, 3].forEach((length) => writer.fill(text("ab"), length)))).toBe(2);
    expect(packets((writer) => ["ab", "ac"].forEach((pattern) => writer.fill(text(pattern), 2)))).toBe(2);
  });

  test("reads of neighbouring bytes", () => {
    const whole = rootOf((writer) => writer.copy(ref, 5, 30));
    const halves = rootOf((writer) => {
      writer.copy(ref, 5, 10);
      writer.copy(ref, 15, 0);
      writer.copy(ref, 15, 20);
    });
    expect(halves).toBe(whole);
    expect(packets((writer) => [0, 11].forEach((from) => writer.copy(ref, from, 10)))).toBe(2);
    expect(packets((writer) => [0, 10].forEach((from) => writer.call(ref, from, 10)))).toBe(1);
    expect(packets((writer) => [ref, other].forEach((one, i) => writer.copy(one, i * 10, 10)))).toBe(2);
  });

  test("not when the caller changes the ref's buffer afterwards", () => {
    const buffer = Buffer.from(ref);
    const reused = rootOf((writer) => {
      writer.copy(buffer, 0, 10);
      buffer.set(other);
      writer.copy(buffer, 10, 10);
    });
    const separate = rootOf((writer) => [ref, other].forEach((one, i) => writer.copy(one, i * 10, 10)));
    expect(reused).toBe(separate);
  });
});

describe("a long stream", () => {
  const refs = manyRefs("long", 100_000);

  test("is a tree whose sub-streams are cut by what they hold", () => {
    const shelf = new Shelf();
    const summary = shelf.write(copyAll(refs));
    expect(summary).toMatchObject({ length: refs.length * 65_536, streams: shelf.size });
    const top = shelf.stream(summary.root);
    let at = 0;
    for (let index = 0; index < top.count; index++) {
      const call = decodePacket(top.frame, index);
      const child = shelf.stream(call.ref);
      expect(call).toMatchObject({ op: Op.CALL, at, from: 0, length: child.length });
      if (index < top.count - 1) expect(child.count).toBeGreaterThanOrEqual(CUT_PACKETS_MIN);
      expect(child.count).toBeLessThanOrEqual(CUT_PACKETS_MAX);
      for (let packet = 0; packet < child.count; packet++) expect(opAt(child.frame, packet)).toBe(Op.COPY);
      at += child.length;
    }
    const average = refs.length / top.count;
    expect(average).toBeGreaterThan(700);
    expect(average).toBeLessThan(1400);
    expect(summary.packets).toBe(refs.length + 2 * top.count + 1);
  });

  test.each([
    ["replaced", (list: Ref[]) => list.splice(50_000, 1, manyRefs("new", 1)[0]!)],
    ["removed", (list: Ref[]) => list.splice(50_000, 1)],
    ["inserted", (list: Ref[]) => list.splice(50_000, 0, ...manyRefs("new", 3))],
    ["added at the front", (list: Ref[]) => list.unshift(...manyRefs("new", 1))],
    ["added at the end", (list: Ref[]) => list.push(...manyRefs("new", 1))],
  ])("shares all but a few sub-streams with a version in which chunks are %s", (_what, edit) => {
    const shelf = new Shelf();
    shelf.write(copyAll(refs));
    const before = shelf.size;
    const edited = [...refs];
    edit(edited);
    shelf.write(copyAll(edited));
    expect(shelf.size - before).toBeLessThanOrEqual(4);
  });

  test("of equal packets is cut too, and stored once", () => {
    const shelf = new Shelf();
    const ref = refs[0]!;
    const summary = shelf.write((writer) => {
      for (let index = 0; index < 20_000; index++) writer.copy(ref, 0, 1000);
    });
    expect(summary.length).toBe(20_000_000);
    expect(shelf.size).toBeLessThanOrEqual(3);
  });

  test("of more sub-streams than one stream holds gets another level", () => {
    const shelf = new Shelf();
    const small = manyRefs("deep", 4096);
    const summary = shelf.write((writer) => {
      for (let round = 0; round < 180; round++) {
        for (const [index, ref] of small.entries()) writer.copy(ref, (index + round) % 7, 1 + round);
      }
    });
    const top = shelf.stream(summary.root);
    const middle = shelf.stream(decodePacket(top.frame, 0).ref);
    const leaf = shelf.stream(decodePacket(middle.frame, 0).ref);
    expect([opAt(top.frame, 0), opAt(middle.frame, 0), opAt(leaf.frame, 0)]).toEqual([
      Op.CALL,
      Op.CALL,
      Op.COPY,
    ]);
    expect(top.count).toBeGreaterThan(1);
  });
});

test("sub-streams are emitted before what calls them, each in a buffer of its own", () => {
  const seen = new Set<string>();
  const buffers = new Set<ArrayBuffer>();
  const writer = new StreamWriter((ref, bytes) => {
    if (opAt(bytes, 0) === Op.CALL) {
      for (let index = 0; opAt(bytes, index) === Op.CALL; index++) {
        expect(seen.has(refToHex(decodePacket(bytes, index).ref))).toBe(true);
      }
    }
    expect(bytes.byteLength).toBe(bytes.buffer.byteLength);
    seen.add(refToHex(ref));
    buffers.add(bytes.buffer);
  });
  copyAll(manyRefs("emitted", 10_000))(writer);
  expect(refToHex(writer.finish().root)).toBe([...seen].at(-1));
  expect(buffers.size).toBe(seen.size);
});

describe("refuses", () => {
  const ref = manyRefs("refused", 1)[0]!;
  const writer = (): StreamWriter => new StreamWriter(() => {});

  test("pieces that no packet can hold", () => {
    expect(() => writer().copy(ref, 1, 1024 * 1024)).toThrow(RangeError);
    expect(() => writer().copy(ref.subarray(1), 0, 1)).toThrow(RangeError);
    expect(() => writer().call(ref, -1, 1)).toThrow(RangeError);
    expect(() => writer().call(ref, 2 ** 53, 1)).toThrow(RangeError);
    expect(() => writer().fill(new Uint8Array(0), 1)).toThrow(RangeError);
    expect(() => writer().fill(new Uint8Array(33), 1)).toThrow(RangeError);
    expect(() => writer().fill(new Uint8Array(1), 0.5)).toThrow(RangeError);
  });

  test("more than 2^53 - 1 bytes", () => {
    const full = writer();
    full.fill(new Uint8Array(1), Number.MAX_SAFE_INTEGER);
    expect(() => full.data(text("x"))).toThrow(expect.objectContaining({ code: "PFS_STREAM_OVER_LIMIT" }));
    expect(hasCode(new Error("x"), "PFS_STREAM_OVER_LIMIT")).toBe(false);
    expect(full.finish().length).toBe(Number.MAX_SAFE_INTEGER);
  });

  test("anything after the end", () => {
    const finished = writer();
    finished.finish();
    expect(() => finished.data(text("x"))).toThrow("finished");
    expect(() => finished.finish()).toThrow("finished");
  });
});
