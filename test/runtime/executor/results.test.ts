import { describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { sha256 } from "../../../packets/digest.ts";
import { Flag, Op } from "../../../packets/layout.ts";
import { decodePacket, encodeFrame, packetCount } from "../../../packets/packet.ts";
import { Stream } from "../../../packets/stream-reader.ts";
import { writeKeptStream } from "../../../runtime/stream/ingest.ts";
import { ResultStore } from "../../../runtime/executor/results.ts";
import type { FrameOutcome } from "../../../runtime/sandbox/process/executor-process.ts";
import type { Manifest } from "../../../runtime/program/program.ts";
import { atsOf, emptyFrame } from "../../suites/exec-packets.ts";
import { MemoryChunks } from "./memory-chunks.ts";

const manifest: Manifest = {
  version: 1,
  kind: "js",
  name: "sum",
  code: "00".repeat(32),
  entry: "map",
  description: {
    reader: { kind: "lines" },
    yields: "value",
    hasCombine: false,
    hasReduce: false,
    hasTop: false,
    limits: { timeMs: 1000, memoryBytes: 1 << 26, outputBytes: 1 << 24, logBytes: 1024 },
  },
  args: "null",
};

function outcomeOf(outputs: readonly (Uint8Array | { code: number; text: string })[]): FrameOutcome {
  const parts = outputs.map((output) => (output instanceof Uint8Array ? output : Buffer.from(output.text)));
  const lengths = Uint32Array.from(parts, (part) => part.byteLength);
  let end = 0;
  return {
    statuses: Uint8Array.from(outputs, (output) => (output instanceof Uint8Array ? 0 : output.code)),
    offsets: lengths.map((length) => (end += length) - length),
    lengths,
    output: Buffer.concat(parts),
    logs: [],
    completed: outputs.length,
  };
}

function bytesOf(length: number, seed: number): Uint8Array {
  return Uint8Array.from({ length }, (_, index) => (index * 31 + seed * 7919) >>> 3);
}

describe("ResultStore", () => {
  it("answers with inline bytes, chunks and streams, by their size", async () => {
    const chunks = new MemoryChunks();
    const sizes = [0, 1, 32, 33, 1024 * 1024, 1024 * 1024 + 1];
    const outputs = sizes.map((size, index) => bytesOf(size, index));
    const frame = emptyFrame(sizes.length, 1000);
    const answers = await new ResultStore(chunks, manifest).answers(frame, outcomeOf(outputs));
    expect(packetCount(answers)).toBe(sizes.length);
    sizes.forEach((size, index) => {
      const answer = decodePacket(answers, index);
      expect(answer).toMatchObject({ op: Op.RETURN, at: 1000 + index, lane: 1, length: size, from: 0 });
      if (size <= 32) {
        expect(answer.flags).toBe(Flag.INLINE);
        expect(answer.ref.slice(0, size)).toEqual(outputs[index]);
      } else if (size <= 1024 * 1024) {
        expect(answer.flags).toBe(0);
        expect(answer.ref.slice()).toEqual(sha256(outputs[index]!));
        expect(chunks.get(answer.ref)).toEqual(outputs[index]);
      } else {
        expect(answer.flags).toBe(Flag.STREAM);
        expect(Stream.parse(chunks.get(answer.ref)).length).toBe(size);
      }
    });
    expect(atsOf(frame)).toEqual(atsOf(answers));
  });

  it("answers with a stream of buckets where partial results of groups stand in several", async () => {
    const groups: Manifest = { ...manifest, description: { ...manifest.description, yields: "groups" } };
    const buckets = [`{"k":["${"a".repeat(50)}"]}\n{}\n\n`, "\n", `${"b".repeat(1024 * 1024)}\n\n`, "\n"];
    const chunks = new MemoryChunks();
    const outputs = [Buffer.from(buckets.join("")), Buffer.from(`${"c".repeat(40)}\n`)];
    const answers = await new ResultStore(chunks, groups).answers(emptyFrame(2), outcomeOf(outputs));
    const { flags, ref, length } = decodePacket(answers, 0);
    const stream = Stream.parse(chunks.get(ref));
    expect([flags, length, stream.length]).toEqual([Flag.STREAM, outputs[0]!.length, outputs[0]!.length]);
    expect(buckets.map((_, index) => decodePacket(stream.frame, index))).toMatchObject([
      { op: Op.COPY, length: buckets[0]!.length },
      { op: Op.COPY, length: 1 },
      { op: Op.CALL, length: buckets[2]!.length },
      { op: Op.COPY, length: 1 },
    ]);
    expect(Buffer.from(chunks.get(decodePacket(stream.frame, 0).ref)).toString()).toBe(buckets[0]);
    // One bucket is a chunk, as any other result; and only partial results stand in buckets.
    expect(decodePacket(answers, 1).flags).toBe(0);
    const finished = await new ResultStore(chunks, { ...groups, entry: "finish" }).answers(
      emptyFrame(1),
      outcomeOf(outputs.slice(0, 1)),
    );
    expect(Stream.parse(chunks.get(decodePacket(finished, 0).ref)).count).not.toBe(buckets.length);
  });

  it("writes the chunks of a frame in one call", async () => {
    const chunks = new MemoryChunks();
    const outputs = Array.from({ length: 1000 }, (_, index) => bytesOf(40, index));
    await new ResultStore(chunks, manifest).answers(emptyFrame(1000), outcomeOf(outputs));
    expect(chunks.writes).toBe(1);
  });

  it("answers each frame as if no other had been in the same memory", async () => {
    const results = new ResultStore(new MemoryChunks(), manifest);
    const buffers = new Set<ArrayBufferLike>();
    for (const size of [32, 0, 7]) {
      for (const count of [1024, 700]) {
        const outputs = Array.from({ length: count }, (_, index) => bytesOf(size, index));
        const frame = emptyFrame(count, size * 1000);
        const answers = await results.answers(frame, outcomeOf(outputs));
        expect(atsOf(answers)).toEqual(atsOf(frame));
        for (const [index, output] of outputs.entries()) {
          const { length, ref } = decodePacket(answers, index);
          expect(Buffer.compare(ref.subarray(0, length), output)).toBe(0);
        }
        buffers.add(answers.buffer);
        results.recycle(answers);
      }
    }
    expect(buffers.size).toBe(1);
  });

  it("answers only what was completed", async () => {
    const outcome = outcomeOf([bytesOf(3, 1), bytesOf(3, 2)]);
    const answers = await new ResultStore(new MemoryChunks(), manifest).answers(emptyFrame(5), outcome);
    expect(atsOf(answers)).toEqual([0, 1]);
  });

  it("names program and packet in a fault, with the program's own text bounded", async () => {
    const chunks = new MemoryChunks();
    const results = new ResultStore(chunks, manifest);
    const texts = ["Error: boom", "é".repeat(100_000)];
    const outcome = outcomeOf(texts.map((text) => ({ code: FaultCode.threw, text })));
    const answers = await results.answers(emptyFrame(2, 7), outcome);
    const first = decodePacket(answers, 0);
    expect(first).toMatchObject({ op: Op.FAULT, at: 7, from: FaultCode.threw, flags: 0 });
    const text = Buffer.from(chunks.get(first.ref)).toString();
    expect(text).toBe('program "sum" failed on packet 7: Error: boom');
    expect(first.length).toBe(text.length);
    const second = chunks.get(decodePacket(answers, 1).ref);
    expect(second.byteLength).toBeLessThanOrEqual(4096);
    expect(Buffer.from(second).toString().endsWith("é")).toBe(true);
  });

  it("says what limit a packet ran into", async () => {
    const chunks = new MemoryChunks();
    const frame = emptyFrame(1, 3);
    const codes = [
      FaultCode.timeLimit,
      FaultCode.memoryLimit,
      FaultCode.quarantined,
      FaultCode.outputLimit,
      FaultCode.stalled,
    ] as const;
    const refusals = codes.map((code) => ({ packet: frame, code, detail: "details" }));
    const answers = await new ResultStore(chunks, manifest).faults(refusals);
    const texts = codes.map((code, index) => {
      const fault = decodePacket(answers, index);
      expect(fault).toMatchObject({ op: Op.FAULT, at: 3, from: code });
      return Buffer.from(chunks.get(fault.ref)).toString();
    });
    expect(texts[0]).toMatch(
      /^program "sum" failed on packet 3: ran longer than its limit of 1s of CPU time: details$/,
    );
    expect(texts[1]).toMatch(/needed more memory than its limit of 67\.1 MB: details$/);
    expect(texts[2]).toMatch(/ended its executor process twice/);
    expect(texts[3]).toMatch(/yielded more than its limit of 16\.8 MB: details$/);
    expect(texts[4]).toMatch(/used little of its 1s of CPU time: details$/);
  });
});

describe("writeKeptStream", () => {
  it("strings results together in their order", async () => {
    const chunks = new MemoryChunks();
    const outputs = [bytesOf(3, 1), bytesOf(0, 0), bytesOf(500, 2), bytesOf(2 ** 20 + 5, 3), bytesOf(32, 4)];
    const returns = await new ResultStore(chunks, manifest).answers(emptyFrame(5), outcomeOf(outputs));
    const summary = await writeKeptStream(chunks, returns);
    expect(summary.length).toBe(3 + 500 + 2 ** 20 + 5 + 32);
    const stream = Stream.parse(chunks.get(summary.root));
    const ops = Array.from({ length: stream.count }, (_, index) => decodePacket(stream.frame, index).op);
    expect(ops).toEqual([Op.DATA, Op.COPY, Op.CALL, Op.DATA]);
  });

  it("makes a stream of no bytes out of nothing", async () => {
    const chunks = new MemoryChunks();
    const { root, length } = await writeKeptStream(chunks, new Uint8Array(0));
    expect(length).toBe(0);
    expect(Stream.parse(chunks.get(root)).length).toBe(0);
  });

  it("refuses what is no RETURN", async () => {
    const good = encodeFrame([
      { op: Op.RETURN, lane: 1, flags: Flag.INLINE, length: 1, ref: new Uint8Array([1]) },
    ]);
    const flipped = good.slice();
    flipped[40] = 1;
    const large = encodeFrame([{ op: Op.RETURN, lane: 1, length: 2 ** 20 + 1, ref: sha256(good) }]);
    for (const frame of [good.subarray(1), flipped, emptyFrame(1), large]) {
      await expect(writeKeptStream(new MemoryChunks(), frame)).rejects.toMatchObject({
        code: "PFS_PACKET_INVALID",
      });
    }
  });
});
