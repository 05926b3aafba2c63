import { describe, expect, it } from "vitest";
import { sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { Flag } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { StreamWriter } from "../../../packets/stream-writer.ts";
import type { PacketFields } from "../../../packets/packet.ts";
import { InputSource } from "../../../runtime/stream/inputs.ts";
import { InputStage } from "../../../runtime/executor/input-staging.ts";
import type { StagedFrame } from "../../../runtime/executor/input-staging.ts";
import { CARRIED_INPUT_BYTES_MAX } from "../../../runtime/limits.ts";
import { InputBuffer } from "../../../runtime/executor/input-buffer.ts";
import type { Entry } from "../../../runtime/program/program.ts";
import type { ReaderSpec } from "../../../runtime/program/readers.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import type { ChunkSource } from "../../../runtime/contracts/chunks.ts";
import { ZERO_REF, atsOf, exec, execStream, seededBytes } from "../../suites/exec-packets.ts";
import { MemoryChunks } from "./memory-chunks.ts";
import { inOnePiece } from "../store/store-fixture.ts";

const LANE_INPUT_BYTES = 8 * 1024 * 1024;
const never = new AbortController().signal;

/** A stage over chunks in memory, and what it put into its buffer. */
class Bench {
  readonly chunks: MemoryChunks = new MemoryChunks();
  /** Calls of the buffer's `write`. */
  writes = 0;
  readonly #memory = new Uint8Array(LANE_INPUT_BYTES);
  readonly #space: InputBuffer;
  readonly #stage: InputStage;
  #next = 64;

  constructor(
    reader: ReaderSpec = { kind: "bytes" },
    signal: AbortSignal = never,
    source?: ChunkSource,
    entry: Entry = "map",
  ) {
    const limits = { timeMs: 1, memoryBytes: 1, outputBytes: 1, logBytes: 1 };
    const description = {
      reader,
      yields: "value",
      hasCombine: false,
      hasReduce: false,
      hasTop: false,
      limits,
    } as const;
    this.#stage = new InputStage(new InputSource(source ?? this.chunks), { entry, description }, signal);
    this.#space = new InputBuffer({
      path: undefined,
      hold: () => () => undefined,
      alloc: (bytes) => {
        if (this.#next + bytes > LANE_INPUT_BYTES) return undefined;
        this.#next += bytes;
        return this.#next - bytes;
      },
      free: () => undefined,
      write: async (offset, bytes) => {
        this.writes++;
        // Whoever changes bytes while they are being written is found out.
        await new Promise((resolve) => setImmediate(resolve));
        this.#memory.set(bytes, offset);
      },
    });
  }

  async put(bytes: Uint8Array): Promise<Ref> {
    return (await ingest(this.chunks, inOnePiece(bytes))).root;
  }

  async stage(packets: readonly PacketFields[]): Promise<StagedFrame> {
    return await this.#stage.stage(encodeFrame(packets), this.#space);
  }

  /** What a staged packet finds in the buffer: its prefix, its records, and where these stand in the input. */
  input({ extents, inputs }: StagedFrame, index: number): { prefix: string; text: string; position: number } {
    const [offset, bytes, position, prefixBytes] = extents.subarray(
      index * 5,
      index * 5 + 5,
    ) as unknown as number[];
    const text = Buffer.from((inputs ?? this.#memory).subarray(offset, offset! + bytes!));
    return {
      prefix: text.subarray(0, prefixBytes).toString(),
      text: text.subarray(prefixBytes).toString(),
      position: position!,
    };
  }
}

function bytesOf(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

describe("InputStage", () => {
  it("gives packets that name the same bytes the same place, and writes once a frame, or not at all", async () => {
    const bench = new Bench();
    const ref = bench.chunks.put(bytesOf("abcdef"));
    const other = bench.chunks.put(bytesOf("ghi"));
    const long = bench.chunks.put(seededBytes(CARRIED_INPUT_BYTES_MAX, 1));
    const carried = await bench.stage([exec(0, long, 0, CARRIED_INPUT_BYTES_MAX)]);
    expect([carried.inputs?.byteLength, bench.writes]).toEqual([CARRIED_INPUT_BYTES_MAX, 0]);
    const ranges = [
      [long, 0, CARRIED_INPUT_BYTES_MAX],
      [ref, 1, 2],
      [ref, 1, 2],
      [ref, 1, 2],
      [other, 1, 2],
      [ref, 1, 2],
      [ZERO_REF, 0, 0],
      [other, 0, 3],
    ] as const;
    const staged = await bench.stage(
      ranges.map(([chunk, from, length], at) => exec(at, chunk, from, length)),
    );
    const inputs = ranges.slice(1).map((_, index) => bench.input(staged, index + 1));
    expect(inputs.map(({ text }) => text)).toEqual(["bc", "bc", "bc", "hi", "bc", "", "ghi"]);
    expect(inputs.map(({ position }) => position)).toEqual([1, 1, 1, 1, 1, 0, 0]);
    expect(staged.extents[5]).toBe(staged.extents[15]);
    expect(staged.extents[5]).not.toBe(staged.extents[25]);
    expect([bench.writes, bench.chunks.reads]).toEqual([1, 2]);
  });

  it("reads small ranges of a stream ahead, not one by one", async () => {
    const bench = new Bench();
    const bytes = seededBytes(200_000, 1);
    const root = await bench.put(bytes);
    bench.chunks.reads = 0;
    const packets = Array.from({ length: 1000 }, (_, at) => execStream(at, root, at * 200, 200));
    const staged = await bench.stage(packets);
    for (const at of packets.keys()) {
      const expected = Buffer.from(bytes.subarray(at * 200, at * 200 + 200)).toString();
      expect(bench.input(staged, at)).toEqual({ prefix: "", text: expected, position: at * 200 });
    }
    expect(bench.chunks.reads).toBeLessThan(10);
  });

  it("gives neighbours in a stream their own bytes, whatever stands between them", async () => {
    const bench = new Bench();
    const bytes = seededBytes(10_000, 3).map((byte) => 97 + (byte % 26));
    const other = seededBytes(10_000, 5).map((byte) => 65 + (byte % 26));
    const [root, rest] = [await bench.put(bytes), await bench.put(other)];
    const chunk = bench.chunks.put(bytesOf("chunk"));
    const staged = await bench.stage([
      execStream(0, root, 0, 100),
      execStream(1, root, 100, 50),
      execStream(2, root, 9_900, 101),
      execStream(3, root, 150, 50),
      execStream(4, root, 150, 50),
      exec(5, chunk, 0, 5),
      execStream(6, root, 200, 0),
      execStream(7, root, 200, 70),
      execStream(8, rest, 270, 30),
      execStream(9, rest, 300, 30),
      execStream(10, root, 330, 30),
      execStream(11, root, 100, 260),
      execStream(12, root, 360, 9_640),
    ]);
    expect(atsOf(staged.frame)).toEqual([0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    const of = (from: Uint8Array, start: number, end: number): string =>
      Buffer.from(from.subarray(start, end)).toString();
    expect([...staged.frame.keys()].slice(0, 12).map((index) => bench.input(staged, index).text)).toEqual([
      of(bytes, 0, 100),
      of(bytes, 100, 150),
      of(bytes, 150, 200),
      of(bytes, 150, 200),
      "chunk",
      "",
      of(bytes, 200, 270),
      of(other, 270, 300),
      of(other, 300, 330),
      of(bytes, 330, 360),
      of(bytes, 100, 360),
      of(bytes, 360, 10_000),
    ]);
    expect(staged.refused.map(({ code }) => code)).toEqual([FaultCode.invalidRange]);
  });

  it("takes what stands in a stream itself, and still holds the whole to a digest that it has", async () => {
    const bench = new Bench();
    const results = seededBytes(1000, 4).map((byte) => 97 + (byte % 26));
    const rootWith = (digest?: Ref): Ref => {
      const writer = new StreamWriter((_ref, bytes) => bench.chunks.put(bytes));
      writer.data(results);
      return writer.finish(digest === undefined ? {} : { digest }).root;
    };
    const [plain, right, wrong] = [rootWith(), rootWith(sha256(results)), rootWith(sha256(bytesOf("other")))];
    const staged = await bench.stage([
      execStream(0, plain, 0, 1000),
      execStream(1, plain, 40, 60),
      execStream(2, right, 0, 1000),
      execStream(3, wrong, 0, 1000),
      execStream(4, plain, 900, 101),
    ]);
    expect(atsOf(staged.frame)).toEqual([0, 1, 2]);
    const text = Buffer.from(results).toString();
    expect([0, 1, 2].map((index) => bench.input(staged, index).text)).toEqual([
      text,
      text.slice(40, 100),
      text,
    ]);
    expect(staged.refused.map(({ code }) => code)).toEqual([FaultCode.wrongDigest, FaultCode.invalidRange]);
  });

  it("leaves out packets whose input is not there, and says why", async () => {
    const bench = new Bench();
    const ref = bench.chunks.put(bytesOf("abc"));
    const missing = sha256(bytesOf("missing"));
    const staged = await bench.stage([
      exec(0, missing, 0, 3),
      exec(1, missing, 0, 3),
      exec(2, ref, 0, 3),
      exec(3, ref, 2, 2),
      execStream(4, missing, 0, 1),
      exec(5, ref, 1, 1),
    ]);
    expect(atsOf(staged.frame)).toEqual([2, 5]);
    expect([bench.input(staged, 0).text, bench.input(staged, 1).text]).toEqual(["abc", "b"]);
    expect(staged.refused.map(({ packet }) => atsOf(packet)[0])).toEqual([0, 1, 3, 4]);
    const { inputMissing, invalidRange } = FaultCode;
    const codes = [inputMissing, inputMissing, invalidRange, inputMissing];
    expect(staged.refused.map(({ code }) => code)).toEqual(codes);
    expect(staged.refused[2]!.detail).toBe("it reads to byte 4 of an input of 3 bytes");
  });

  it("finds the records of a split, with the header that they need", async () => {
    const bench = new Bench({ kind: "csv", separator: ",", header: true });
    const text = 'name,note\nada,"one\ntwo"\nbob,x\n';
    const root = await bench.put(bytesOf(text));
    const bob = text.indexOf("bob");
    const staged = await bench.stage([
      execStream(0, root, 0, 12),
      execStream(1, root, 10, 4),
      execStream(2, root, bob, text.length - bob, Flag.WHOLE),
    ]);
    expect(staged.refused).toEqual([]);
    expect([0, 1, 2].map((index) => bench.input(staged, index))).toEqual([
      { prefix: "", text: 'name,note\nada,"one\ntwo"\n', position: 0 },
      { prefix: "name,note\n", text: 'ada,"one\ntwo"\n', position: 10 },
      { prefix: "name,note\n", text: "bob,x\n", position: bob },
    ]);
  });

  it("takes ranges of chunks as they are, and those of streams where no map reads them", async () => {
    for (const entry of ["merge", "map"] as const) {
      const bench = new Bench({ kind: "lines" }, never, undefined, entry);
      const ref = bench.chunks.put(bytesOf("one\ntwo\n"));
      const root = await bench.put(bytesOf("one\ntwo\n"));
      const staged = await bench.stage([exec(0, ref, 1, 4), execStream(1, root, 1, 4)]);
      const texts = [bench.input(staged, 0).text, bench.input(staged, 1).text];
      expect(texts).toEqual(["ne\nt", entry === "merge" ? "ne\nt" : "two\n"]);
    }
  });

  it("writes an input that is too large for memory piece by piece, records and all", async () => {
    const bench = new Bench({ kind: "csv", separator: ",", header: true });
    const header = "a,b\n";
    const row = `${"x".repeat(70)},"${"y\n".repeat(20)}"\n`;
    const text = header + row.repeat(20_000);
    const root = await bench.put(bytesOf(text));
    const from = header.length + row.length * 101;
    const length = row.length * 15_000 - 7;
    const staged = await bench.stage([execStream(0, root, from, length)]);
    const { prefix, text: records, position } = bench.input(staged, 0);
    expect(prefix).toBe(header);
    expect(position).toBe(header.length + row.length * 101);
    expect(records === row.repeat(15_000)).toBe(true);
    expect(bench.writes).toBeGreaterThan(5);
  });

  it("leaves packets for the next frame when headers make this one too large", async () => {
    const bench = new Bench({ kind: "csv", separator: ",", header: true });
    const text = `${"h".repeat(20_000)}\n${"1\n".repeat(1000)}`;
    const root = await bench.put(bytesOf(text));
    const packets = Array.from({ length: 200 }, (_, at) => execStream(at, root, 20_001 + at * 2, 2));
    const staged = await bench.stage(packets);
    const taken = atsOf(staged.frame);
    expect(taken.length).toBeGreaterThan(10);
    expect(taken.length).toBeLessThan(40);
    expect([...taken, ...atsOf(staged.rest)]).toEqual([...packets.keys()]);
  });

  it("refuses what is more than the whole buffer", async () => {
    const bench = new Bench();
    const root = await bench.put(new Uint8Array(LANE_INPUT_BYTES));
    const staged = await bench.stage([execStream(0, root, 0, LANE_INPUT_BYTES)]);
    expect(staged.frame.byteLength).toBe(0);
    expect(staged.refused).toMatchObject([{ code: FaultCode.memoryLimit }]);
  });

  it("rejects with the signal's reason, and with what is nobody's input's fault", async () => {
    const abort = new AbortController();
    const bench = new Bench(undefined, abort.signal);
    const root = await bench.put(seededBytes(3_000_000, 2));
    abort.abort(new Error("enough"));
    await expect(bench.stage([execStream(0, root, 0, 3_000_000)])).rejects.toThrow("enough");
    const broken = new Bench(undefined, never, { read: () => Promise.reject(new TypeError("a defect")) });
    await expect(broken.stage([exec(0, root, 0, 1)])).rejects.toThrow("a defect");
    await expect(broken.stage([execStream(0, root, 0, 1)])).rejects.toThrow("a defect");
  });
});
