/** What every Executor must do, wherever it runs: on this machine or behind a wire. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { sha256 } from "../../packets/digest.ts";
import type { Ref } from "../../packets/digest.ts";
import { FaultCode } from "../../packets/faults.ts";
import { Flag, Op } from "../../packets/layout.ts";
import { encodeFrame } from "../../packets/packet.ts";
import type { Packet, PacketFields } from "../../packets/packet.ts";
import type { Executor, Lane } from "../../runtime/contracts/executor.ts";
import { CSV_START, decodeScan } from "../../runtime/program/csv-rows.ts";
import type { Entry, Manifest } from "../../runtime/program/program.ts";
import { Collector } from "./collector.ts";
import { ZERO_REF, exec, execStream, seededBytes } from "./exec-packets.ts";

/** An executor, and the ways to give it what it works on and to read what it made. */
export interface ExecutorHarness {
  readonly executor: Executor;
  /** Stores a file where the executor can read it; its root. */
  putFile(bytes: Uint8Array): Promise<Ref>;
  putChunk(bytes: Uint8Array): Promise<Ref>;
  /** Stores a program's code and manifest; the manifest's ref. */
  putProgram(source: string, options?: ProgramOptions): Promise<Ref>;
  /** A chunk or the output of a stream that the executor made. */
  readChunk(ref: Ref): Promise<Uint8Array>;
  readStream(root: Ref): Promise<Uint8Array>;
  /** The bytes of a name in the executor's own catalog. */
  readName(name: string): Promise<Uint8Array>;
  close(): Promise<void>;
}

interface SharedLane {
  readonly lane: Lane;
  readonly collector: Collector;
  /** Packets so far; the next one's `at`. */
  sent: number;
}

export interface ProgramOptions {
  readonly name?: string;
  readonly entry?: Entry;
  readonly args?: unknown;
  readonly files?: Manifest["files"];
}

const never = new AbortController().signal;

/** Echoes its bytes. */
export const ECHO = `export default { input: { kind: "bytes" }, yields: "bytes", map: (bytes, { write }) => write(bytes) }`;
/** Echoes the lines that start in the split. */
const LINES = `export default { input: { kind: "blocks" }, yields: "bytes", map: (bytes, { write }) => write(bytes) }`;
/** Does what the first byte of its input says. */
const MOODY = `export default {
  input: { kind: "bytes" },
  yields: "bytes",
  map(bytes, { write }) {
    if (bytes[0] === 1) throw new Error("boom at " + bytes[1]);
    if (bytes[0] === 2) console.log("log of", bytes[1]);
    write(bytes.subarray(1));
  },
}`;

export function describeExecutor(name: string, open: () => Promise<ExecutorHarness>): void {
  describe(name, () => {
    let harness: ExecutorHarness;
    let executor: Executor;
    /** Lanes that several tests use: loading one takes a process. */
    const shared = new Map<string, Promise<SharedLane>>();

    beforeAll(async () => {
      harness = await open();
      executor = harness.executor;
    });
    afterAll(async () => {
      for (const entry of shared.values()) await (await entry).lane.close();
      await harness.close();
    });

    async function load(program: string, options?: ProgramOptions): Promise<SharedLane> {
      const collector = new Collector();
      const lane = await executor.load(await harness.putProgram(program, options), collector, never);
      return { lane, collector, sent: 0 };
    }

    async function withLane<T>(
      program: string,
      use: (lane: Lane, collector: Collector) => Promise<T>,
      options?: ProgramOptions,
    ): Promise<T> {
      const { lane, collector } = await load(program, options);
      try {
        return await use(lane, collector);
      } finally {
        await lane.close();
        expect(collector.offences).toEqual([]);
      }
    }

    function share(program: string, options: ProgramOptions = {}): Promise<SharedLane> {
      const key = program + JSON.stringify(options);
      const lane = shared.get(key) ?? load(program, options);
      shared.set(key, lane);
      return lane;
    }

    /** The answers to the packets, in their order. Their `at` is chosen here. */
    async function run(
      program: string,
      packets: readonly PacketFields[],
      options?: ProgramOptions,
    ): Promise<Packet[]> {
      const entry = await share(program, options);
      const { lane, collector, sent: first } = entry;
      entry.sent += packets.length;
      lane.exec(encodeFrame(packets.map((packet, index) => ({ ...packet, at: first + index }))));
      const isDone = (): boolean => packets.every((_, index) => collector.answers.has(first + index));
      await collector.until(() => collector.error !== undefined || isDone());
      expect(collector.offences).toEqual([]);
      return packets.map((_, index) => collector.answer(first + index));
    }

    async function bytesOf(answer: Packet): Promise<Uint8Array> {
      if (answer.op !== Op.RETURN) throw new Error(`packet ${answer.at} failed: ${await textOf(answer)}`);
      if (answer.flags & Flag.INLINE) return Uint8Array.from(answer.ref.subarray(0, answer.length));
      const isStream = (answer.flags & Flag.STREAM) !== 0;
      const bytes = await (isStream ? harness.readStream(answer.ref) : harness.readChunk(answer.ref));
      expect(bytes.byteLength).toBe(answer.length);
      return bytes;
    }

    async function textOf(fault: Packet): Promise<string> {
      const inline = (fault.flags & Flag.INLINE) !== 0;
      const bytes = inline ? fault.ref.slice(0, fault.length) : await harness.readChunk(fault.ref);
      return new TextDecoder().decode(bytes);
    }

    /** What the packets yield, in their order. */
    async function outputs(
      program: string,
      packets: readonly PacketFields[],
      options?: ProgramOptions,
    ): Promise<Uint8Array[]> {
      return Promise.all((await run(program, packets, options)).map(bytesOf));
    }

    it("says who it is", () => {
      expect(executor.id).not.toBe("");
      expect(executor.label).not.toBe("");
      expect(Math.min(...Object.values(executor.capacity))).toBeGreaterThanOrEqual(1);
    });

    it("runs a program over ranges of a chunk and of a stream", async () => {
      const bytes = seededBytes(300_000, 1);
      const chunk = await harness.putChunk(bytes);
      const root = await harness.putFile(bytes);
      const ranges = [
        [0, 300_000],
        [0, 0],
        [1, 32],
        [299_999, 1],
        [70_000, 33],
        [0, 1],
      ] as const;
      const packets = ranges.flatMap(([from, length]) => [
        exec(0, chunk, from, length),
        execStream(0, root, from, length),
      ]);
      const results = await outputs(ECHO, packets);
      ranges.forEach(([from, length], index) => {
        const expected = bytes.subarray(from, from + length);
        expect(sha256(results[index * 2]!)).toEqual(sha256(expected));
        expect(sha256(results[index * 2 + 1]!)).toEqual(sha256(expected));
      });
    });

    it("gives each record to the split that it starts in", async () => {
      const text = [...Array(4000).keys()].map((line) => `${line} ${"x".repeat(line % 97)}\n`).join("");
      const bytes = new TextEncoder().encode(text);
      const root = await harness.putFile(bytes);
      const cuts = [...Array(60).keys()].map((index) => (index * 7919 * 31) % bytes.byteLength);
      const borders = [0, ...cuts, bytes.byteLength].sort((a, b) => a - b);
      const packets = borders
        .slice(1)
        .map((end, index) => execStream(0, root, borders[index]!, end - borders[index]!));
      const results = await outputs(LINES, packets);
      expect(Buffer.concat(results).equals(bytes)).toBe(true);
      for (const result of results) expect(result.byteLength === 0 || result.at(-1) === 10).toBe(true);
    });

    it("returns results of any size", async () => {
      const sizes = [0, 1, 32, 33, 100_000, 1024 * 1024, 1024 * 1024 + 1, 5 * 1024 * 1024];
      const file = seededBytes(sizes.at(-1)!, 2);
      const root = await harness.putFile(file);
      const packets = sizes.map((size) => execStream(0, root, 0, size));
      const results = await outputs(ECHO, packets);
      sizes.forEach((size, index) => expect(sha256(results[index]!)).toEqual(sha256(file.subarray(0, size))));
    });

    it("answers each of 10,000 packets once, with the right bytes", async () => {
      const count = 10_000;
      const bytes = seededBytes(count * 8, 3);
      const root = await harness.putFile(bytes);
      const frames = Array.from({ length: 10 }, (_, frame) =>
        Array.from({ length: 1000 }, (_, index) => execStream(0, root, (frame * 1000 + index) * 8, 8)),
      );
      const answers = (await Promise.all(frames.map((packets) => run(ECHO, packets)))).flat();
      const wrong = answers.filter(({ op, length, ref }, index) => {
        const expected = bytes.subarray(index * 8, index * 8 + 8);
        return op !== Op.RETURN || Buffer.compare(ref.subarray(0, length), expected) !== 0;
      });
      expect(wrong).toEqual([]);
      expect(answers.length).toBe(count);
    });

    it("passes arguments on, and runs each entry", async () => {
      const SUM = `export default {
        input: { kind: "lines" },
        map: (line, { args }) => Number(line) * args.factor,
        combine: (a, b) => a + b,
        reduce: (sum) => ({ sum }),
      }`;
      const root = await harness.putFile(new TextEncoder().encode("1\n2\n3\n"));
      const [partial] = await outputs(SUM, [execStream(0, root, 0, 6)], { args: { factor: 10 } });
      const chunk = await harness.putChunk(Buffer.concat([partial!, partial!]));
      const { byteLength } = partial!;
      const [merged] = await outputs(SUM, [exec(0, chunk, 0, byteLength * 2)], { entry: "merge" });
      const whole = await harness.putFile(merged!);
      const [finished] = await outputs(SUM, [execStream(0, whole, 0, merged!.byteLength)], {
        entry: "finish",
      });
      expect(JSON.parse(new TextDecoder().decode(finished))).toEqual({ sum: 120 });
      const quotes = await harness.putFile(new TextEncoder().encode('sep=;\na;"b\n";c\nd\n'));
      const csv = SUM.replace("lines", 'csv", separator: ",", header: true, x: "');
      const [scanned] = await outputs(csv, [execStream(0, quotes, 4, 6)], { entry: "scan" });
      // The file's row begins at its byte 6, which ends within quotes at byte 10.
      expect(decodeScan(scanned!, 6)![CSV_START]).toEqual({ end: 4, first: 2 });
    });

    it("fails the packet whose program throws, by name, and no other", async () => {
      const inputs = Array.from(
        { length: 50 },
        (_, index) => new Uint8Array([index % 10 === 3 ? 1 : 0, index]),
      );
      const root = await harness.putFile(Buffer.concat(inputs));
      const packets = inputs.map((_, index) => execStream(0, root, index * 2, 2));
      const answers = await run(MOODY, packets, { name: "moody" });
      for (const [index, answer] of answers.entries()) {
        if (index % 10 !== 3) {
          expect(await bytesOf(answer)).toEqual(new Uint8Array([index]));
          continue;
        }
        expect(answer).toMatchObject({ op: Op.FAULT, from: FaultCode.threw });
        const text = await textOf(answer);
        expect(text).toContain('"moody"');
        expect(text).toContain(`packet ${answer.at}`);
        expect(text).toContain(`boom at ${index}`);
      }
    });

    it("passes on what packets log", async () => {
      const root = await harness.putFile(new Uint8Array([2, 7, 0, 8, 2, 9]));
      const packets = [0, 1, 2].map((index) => execStream(0, root, index * 2, 2));
      const [first, , third] = await run(MOODY, packets, { name: "moody" });
      const { logs } = (await share(MOODY, { name: "moody" })).collector;
      const texts = logs.toSorted((a, b) => a.at - b.at);
      expect(texts).toMatchObject([{ at: first!.at }, { at: third!.at }]);
      expect(texts[0]!.text).toContain("log of 7");
      expect(texts[1]!.text).toContain("log of 9");
    });

    it("fails packets whose input cannot be read, and no other", async () => {
      const chunk = await harness.putChunk(new Uint8Array([1, 2, 3]));
      const root = await harness.putFile(new Uint8Array([4, 5, 6]));
      const nowhere = sha256(new TextEncoder().encode("nobody has this"));
      const bad = [
        exec(0, nowhere, 0, 3),
        execStream(0, nowhere, 0, 3),
        exec(0, chunk, 1, 3),
        execStream(0, root, 3, 1),
        // Three bytes are no stream.
        execStream(0, chunk, 0, 3),
      ];
      const good = [exec(0, chunk, 0, 3), execStream(0, root, 0, 3)];
      const answers = await run(ECHO, [...bad, ...good]);
      const { inputMissing, invalidRange, invalidStream } = FaultCode;
      const codes = [inputMissing, inputMissing, invalidRange, invalidRange, invalidStream];
      for (const [index, answer] of answers.slice(0, bad.length).entries()) {
        expect(answer).toMatchObject({ op: Op.FAULT, from: codes[index] });
        expect(await textOf(answer)).toContain(`packet ${answer.at}`);
      }
      const read = await Promise.all(answers.slice(bad.length).map(bytesOf));
      expect(read.map((bytes) => [...bytes])).toEqual([
        [1, 2, 3],
        [4, 5, 6],
      ]);
    });

    it("fails a packet whose records are not what the reader says", async () => {
      const ROWS = `export default {
        input: { kind: "columns", fields: [{ name: "x", type: "u32" }] }, map: () => 1, combine: (a, b) => a + b,
      }`;
      const root = await harness.putFile(new Uint8Array(10));
      const [whole, cut] = await run(ROWS, [execStream(0, root, 0, 8), execStream(0, root, 8, 2)]);
      expect(whole!.op).toBe(Op.RETURN);
      expect(cut).toMatchObject({ op: Op.FAULT, from: FaultCode.badRecord });
    });

    it("keeps results under a name, in the order given, after the lane is closed", async () => {
      const file = seededBytes(2_500_000, 4);
      const root = await harness.putFile(file);
      const ranges = [
        [0, 20],
        [20, 0],
        [20, 1_000],
        [1_020, 1_500_000],
        [1_501_020, 998_980],
      ] as const;
      const kept = await withLane(ECHO, async (lane, collector) => {
        lane.exec(encodeFrame(ranges.map(([from, length], at) => execStream(at, root, from, length))));
        await collector.answered(ranges.length);
        return lane.keep("kept", encodeFrame(ranges.map((_, at) => collector.answer(at))));
      });
      expect(sha256(await harness.readName("kept"))).toEqual(sha256(file));
      expect(sha256(await harness.readStream(kept))).toEqual(sha256(file));
    });

    it("refuses programs and manifests that are none", async () => {
      const program = await harness.putProgram(ECHO);
      const listener = new Collector();
      const manifest = await harness.readChunk(program);
      const broken = await harness.putChunk(manifest.subarray(1));
      await expect(executor.load(broken, listener, never)).rejects.toMatchObject({
        code: "PFS_PROGRAM_INVALID",
      });
      const elsewhere = JSON.parse(new TextDecoder().decode(manifest)) as { code: string };
      elsewhere.code = Buffer.from(
        await harness.putFile(new TextEncoder().encode("not ( a program")),
      ).toString("hex");
      const unparsable = await harness.putChunk(new TextEncoder().encode(JSON.stringify(elsewhere)));
      await expect(executor.load(unparsable, listener, never)).rejects.toMatchObject({
        code: "PFS_PROGRAM_INVALID",
      });
      const missing = executor.load(sha256(new Uint8Array(1)), listener, never);
      await expect(missing).rejects.toMatchObject({ code: "PFS_CHUNK_MISSING" });
      expect(listener.error).toBeUndefined();
    });

    it("gives up loading when it is told to", async () => {
      const program = await harness.putProgram(ECHO);
      const reason = new Error("not wanted any more");
      const aborted = AbortSignal.abort(reason);
      await expect(executor.load(program, new Collector(), aborted)).rejects.toBe(reason);
      const later = new AbortController();
      const loading = executor.load(program, new Collector(), later.signal);
      later.abort(reason);
      await expect(loading).rejects.toBe(reason);
    });

    it("answers packets wherever in a buffer they stand, and with the lanes that they had", async () => {
      const chunk = await harness.putChunk(new Uint8Array([9, 8]));
      const { lane, collector, sent } = await share(ECHO);
      const frame = encodeFrame([exec(sent, chunk, 0, 1), { ...exec(sent + 1, chunk, 0, 1), lane: 65_535 }]);
      for (let at = 0; at < 2; at++) {
        const buffer = new Uint8Array(65);
        buffer.set(frame.subarray(at * 64, at * 64 + 64), 1);
        lane.exec(buffer.subarray(1));
      }
      await collector.until(() => collector.error !== undefined || collector.answers.has(sent + 1));
      await collector.until(() => collector.error !== undefined || collector.answers.has(sent));
      expect(collector.answer(sent)).toMatchObject({ op: Op.RETURN, lane: 1 });
      expect(collector.answer(sent + 1)).toMatchObject({ op: Op.RETURN, lane: 65_535 });
      expect(collector.offences).toEqual([]);
      (await share(ECHO)).sent += 2;
    });

    it("says nothing more once a lane is closed, and leaves the others alone", async () => {
      const root = await harness.putFile(seededBytes(64_000, 5));
      const frame = encodeFrame(Array.from({ length: 1000 }, (_, at) => execStream(at, root, at * 64, 64)));
      await withLane(ECHO, async (lane, collector) => {
        const other = new Collector();
        const closing = await executor.load(await harness.putProgram(ECHO), other, never);
        for (let round = 0; round < 5; round++) closing.exec(frame);
        lane.exec(frame);
        await Promise.all([closing.close(), closing.close()]);
        const { size } = other.answers;
        closing.exec(frame);
        await collector.answered(1000);
        expect(other.answers.size).toBe(size);
        expect(other.error).toBeUndefined();
        await expect(closing.keep("late", new Uint8Array(0))).rejects.toMatchObject({
          code: "PFS_LANE_CLOSED",
        });
      });
    });

    it("knows which chunks are there", async () => {
      const there = await harness.putChunk(new Uint8Array([1, 9, 9, 1]));
      const refs = Buffer.concat([there, ZERO_REF, there]);
      expect([...(await executor.has(refs))]).toEqual([1, 0, 1]);
    });
  });
}
