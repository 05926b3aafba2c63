/** Packet code over chunks where they lie: the same answers, and nothing that is not as it should be is believed. */
import { closeSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Codec } from "../../../packets/codec.ts";
import { decodeCode } from "../../../packets/code/format.ts";
import { refAt } from "../../../packets/digest.ts";
import { interpret } from "../../../packets/code/interpreter.ts";
import { encodeState } from "../../../packets/code/state.ts";
import { CompiledModules, Workspace } from "../../../runtime/code/workspace.ts";
import { LaneSlots } from "../../../runtime/lane-slots.ts";
import { CodeThreads } from "../../../runtime/code/code-threads.ts";
import { DirectPlans } from "../../../runtime/code/direct-plan.ts";
import { runDirect } from "../../../runtime/code/direct-read.ts";
import type { DirectOutcome, DirectPlan, DirectWork } from "../../../runtime/code/direct-read.ts";
import { Store } from "../../../runtime/store/store.ts";
import { InputSource } from "../../../runtime/stream/inputs.ts";
import type { StreamInput } from "../../../runtime/stream/inputs.ts";
import { ingest, writeChunks } from "../../../runtime/stream/ingest.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { randomFrom } from "../../packets/code/random-code.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { PacketFields } from "../../../packets/packet.ts";
import { seededBytes } from "../../suites/exec-packets.ts";
import { inOnePiece, temporaryDirectory } from "../store/store-fixture.ts";

const SOURCES = [
  'count("\\n")',
  'match("ab")',
  "lines()",
  "lines().max()",
  'lines("ne").filter(contains("x")).sum()',
  'rows(7).filter("u16@1", ">", 9999).sum("u32@3")',
  "histogram()",
  "crc32()",
];
const never = new AbortController().signal;

/** Text that is kept compressed, between noise that is not. */
const file = Buffer.concat([
  seededBytes(250_000, 1),
  Buffer.from("a line of text\n".repeat(12_000)),
  seededBytes(150_001, 2),
  Buffer.from("x".repeat(60_000)),
]);
const whole = file.subarray(0, file.byteLength - (file.byteLength % 7));

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: Store;
let stream: StreamInput;
const workspace = new Workspace(new CompiledModules());

beforeAll(async () => {
  directory = await temporaryDirectory();
  store = await Store.open(directory.path);
  await using writer = await store.openWriter();
  const { root } = await ingest(writer, inOnePiece(whole));
  await writer.bind({ name: "file", root, length: whole.byteLength });
  stream = await new InputSource(store).stream(root, never);
});

afterAll(async () => {
  await store.close();
  await directory[Symbol.asyncDispose]();
});

async function workOf(
  source: string,
  from: number,
  length: number,
  plans = new DirectPlans(store),
): Promise<DirectWork> {
  const code = parseCode(source).packetCode;
  const range = { from, length, total: whole.byteLength };
  const plan = await plans.plan(decodeCode(code), stream, range);
  expect(plan).toBeDefined();
  return { code, range, plan: plan! };
}

function run(work: DirectWork): DirectOutcome {
  const steps = runDirect(work, workspace);
  for (;;) {
    const { done, value } = steps.next();
    if (done === true) return value;
  }
}

function isUnfinished(outcome: DirectOutcome): boolean {
  return outcome !== undefined && "isUnfinished" in outcome;
}

function expected({ code: bytes, range }: DirectWork): unknown {
  const code = decodeCode(bytes);
  const result = interpret(code, whole, range.from, range.length);
  return "reason" in result ? { fault: result } : { state: encodeState(code, result) };
}

describe("ranges of a file whose chunks are kept in several ways", () => {
  test.each(SOURCES)("%s", async (source) => {
    const random = randomFrom(source.length);
    const work = await workOf(source, 0, whole.byteLength);
    expect(new Set(work.plan.codec)).toEqual(new Set([Codec.plain, Codec.zstd]));
    expect(run(work)).toEqual(expected(work));
    for (let count = 0; count < 3; count++) {
      const from = random(whole.byteLength);
      const part = await workOf(source, from, 1 + random(whole.byteLength - from));
      // What was verified once is not verified again.
      for (let times = 0; times < 2; times++) {
        const outcome = run(part);
        // A line that goes on for long behind its range is read in the ordinary way.
        if (isUnfinished(outcome)) expect(source).toContain("lines");
        else expect(outcome).toEqual(expected(part));
      }
    }
  });

  test("in threads", async () => {
    let ready = 0;
    const both = Promise.withResolvers<void>();
    const threads = new CodeThreads(2, () => {
      if (++ready === 2) both.resolve();
    });
    const slot = new LaneSlots().take("code", undefined);
    const works = await Promise.all(SOURCES.map((source) => workOf(source, 12_345, 300_000)));
    // Without any, there is nobody to ask.
    expect(await threads.run(works[0]!, slot)).toBeUndefined();
    threads.start();
    expect(threads.room).toBe(0);
    await both.promise;
    expect(threads.isReady).toBe(true);
    expect(threads.room).toBe(4);
    // More than there are threads: each runs what it was asked one after the other.
    const found = await Promise.all(works.map((work) => threads.run(work, slot)));
    for (const [index, work] of works.entries()) {
      if (!isUnfinished(found[index])) expect(found[index]).toEqual(expected(work));
    }
    expect(slot.cpuMs).toBeGreaterThan(0);
    expect([...works[0]!.plan.isVerified].every((each) => each === 1)).toBe(true);
    const last = [works[0]!, works[0]!, works[0]!].map((work) => threads.run(work, slot));
    await threads.close();
    // They were done before the threads ended, or never.
    for (const outcome of await Promise.all(last))
      expect([undefined, JSON.stringify(expected(works[0]!))]).toContain(JSON.stringify(outcome));
    expect(threads.isReady).toBe(false);
    expect(threads.room).toBe(0);
  });
});

test("chunks are found where they stand, whichever neighbours are asked for with them", async () => {
  const { plan } = await workOf("count()", 0, whole.byteLength);
  const random = randomFrom(5);
  const count = plan.place.length;
  expect(count).toBeGreaterThan(4);
  for (let times = 0; times < 20; times++) {
    // Runs of neighbours, forwards, with some left out and some twice.
    const starts = [0, ...Array.from({ length: 6 }, () => random(count - 2))];
    const order = starts.flatMap((at) => [at, at + 1, at + 2]);
    const refs = Buffer.concat(order.map((index) => refAt(plan.refs, index)));
    const places = await store.places(refs);
    expect([...places!.place]).toEqual(order.map((index) => plan.place[index]));
    expect([...places!.plainBytes]).toEqual(order.map((index) => plan.plainBytes[index]));
  }
  const absent = Buffer.concat([plan.refs.subarray(0, 64), new Uint8Array(32), plan.refs.subarray(64)]);
  expect(await store.places(absent)).toBeUndefined();
  expect((await store.has(absent)).indexOf(0)).toBe(2);
});

test("a line that goes on for long is read to its end where one was met before", async () => {
  const plans = new DirectPlans(store);
  // The first one ends in the text behind the noise.
  const code = parseCode('lines("line").max()').packetCode;
  const workHere = async (): Promise<DirectWork> => {
    const range = { from: 0, length: 100_000, total: whole.byteLength };
    const plan = await plans.plan(decodeCode(code), stream, range);
    return { code, range, plan: plan! };
  };
  expect(run(await workHere())).toEqual({ isUnfinished: true });
  plans.readOn(stream.root);
  const work = await workHere();
  expect(run(work)).toEqual(expected(work));
});

test("a file of millions of pieces has no plan, and they are not gone through", async () => {
  const { plan } = await workOf("count()", 0, whole.byteLength);
  const ref = refAt(plan.refs, 0);
  const part = 4;
  const copies = 16_000;
  const called = 1_000;
  await using writer = await store.openWriter();
  const streamOf = async (packets: PacketFields[], length: number): Promise<Uint8Array> => {
    const halt = { op: Op.HALT, at: packets.length, length };
    return refAt(await writeChunks(writer, [encodeFrame([...packets, halt])]), 0);
  };
  const bytes = copies * part;
  const copyOf = (_: unknown, index: number): PacketFields => ({
    op: Op.COPY,
    at: index * part,
    length: part,
    ref,
  });
  const inner = await streamOf(Array.from({ length: copies }, copyOf), bytes);
  const callOf = (_: unknown, index: number): PacketFields => ({
    op: Op.CALL,
    at: index * bytes,
    length: bytes,
    ref: inner,
  });
  const total = called * bytes;
  const root = await streamOf(Array.from({ length: called }, callOf), total);
  await writer.bind({ name: "pieces", root, length: total });
  const input = await new InputSource(store).stream(root, never);
  const code = decodeCode(parseCode("count()").packetCode);
  const range = { from: 0, length: total, total };
  expect(await new DirectPlans(store).plan(code, input, range)).toBeUndefined();
});

describe("bytes that are not as they should be", () => {
  const copyOf = ({ plan, ...work }: DirectWork, change: Partial<DirectPlan>): DirectWork => ({
    ...work,
    plan: { ...plan, isVerified: new Uint8Array(plan.isVerified.length), ...change },
  });

  test("are found the first time that they are read, and left to others", async () => {
    const work = await workOf("count()", 0, 500_000);
    const [path] = work.plan.files;
    const damaged = `${directory.path}/damaged`;
    const bytes = readFileSync(path!);
    bytes[work.plan.offset[1]! + 17]! ^= 1;
    const descriptor = openSync(damaged, "w");
    writeSync(descriptor, bytes);
    closeSync(descriptor);
    expect(run(copyOf(work, {}))).toEqual(expected(work));
    expect(run(copyOf(work, { files: [damaged] }))).toBeUndefined();
    // A segment that is cut off, and one that is gone.
    const offset = work.plan.offset.map((each) => each + bytes.byteLength);
    expect(run(copyOf(work, { offset }))).toBeUndefined();
    rmSync(damaged);
    expect(run(copyOf(work, { files: [damaged] }))).toBeUndefined();
  });

  test("a file of other pieces than chunks, and one of which a chunk is not here, have no plan", async () => {
    const code = decodeCode(parseCode("count()").packetCode);
    const range = { from: 0, length: 1_000, total: whole.byteLength };
    const nowhere = new DirectPlans({ places: async () => undefined });
    expect(await nowhere.plan(code, stream, range)).toBeUndefined();
    expect(await store.places(new Uint8Array(32))).toBeUndefined();
  });
});
