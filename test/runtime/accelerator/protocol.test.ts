/** What a GPU process says is believed as far as it is a frame, of a known kind, within bounds. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeFrame, parseProcessMessage, readFrames } from "../../../runtime/accelerator/protocol.ts";
import type { ProcessMessage } from "../../../runtime/accelerator/protocol.ts";
import { encodePlan, planIn } from "../../../runtime/accelerator/read-plan.ts";

const messages: readonly ProcessMessage[] = [
  { kind: "stage", call: 3, stage: "kernel" },
  { kind: "bytes", call: 3 },
  { kind: "failed", call: 3, why: "module", reason: "größer", notes: [{ line: 1, column: 2, text: "no" }] },
  { kind: "dropped", keys: ["a", "b"] },
  { kind: "probed", call: 0, probeMs: 2.5 },
];

async function* piecesOf(bytes: Uint8Array, sizes: Iterable<number>): AsyncGenerator<Uint8Array> {
  let at = 0;
  for (const size of sizes) {
    if (at >= bytes.byteLength) return;
    yield bytes.subarray(at, at + size);
    at += size;
  }
  if (at < bytes.byteLength) yield bytes.subarray(at);
}

async function framesOf(
  bytes: Uint8Array,
  sizes: Iterable<number>,
): Promise<{ message: unknown; body: string }[]> {
  const frames = [];
  for await (const { message, body } of readFrames(piecesOf(bytes, sizes)))
    frames.push({ message, body: Buffer.from(body).toString("latin1") });
  return frames;
}

test("frames come out as they went in, however they are cut", async () => {
  const bodies = ["", "x", "yz".repeat(1000), "", "0123456"];
  const all = Buffer.concat(
    messages.flatMap((message, index) => encodeFrame(message, Buffer.from(bodies[index]!, "latin1"))),
  );
  const expected = messages.map((message, index) => ({ message, body: bodies[index]! }));
  await fc.assert(
    fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 300 }), { maxLength: 60 }), async (sizes) => {
      expect(await framesOf(all, sizes)).toEqual(expected);
    }),
    { numRuns: 100 },
  );
  for (const { message } of expected) expect(parseProcessMessage(message)).toEqual(message);
});

test("what is no frame ends the reading, at its header", async () => {
  const header = (head: number, body: number): Uint8Array =>
    new Uint8Array(Uint32Array.of(head, body).buffer);
  for (const bad of [header(0, 0), header(2 ** 32 - 1, 0), header(2, 2 ** 31), header(5 * 1024 * 1024, 0)])
    await expect(framesOf(bad, [])).rejects.toThrow("no frame");
  await expect(framesOf(Buffer.concat([header(2, 0), Buffer.from("{]")]), [])).rejects.toThrow();
});

test("bytes of any kind yield frames, end, or throw", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      await framesOf(bytes, [7, 7, 7]).catch((error: unknown) => expect(error).toBeInstanceOf(Error));
    }),
    { numRuns: 300 },
  );
});

test.each([
  [null],
  [[]],
  ["done"],
  [{}],
  [{ kind: "__proto__" }],
  [{ kind: "constructor" }],
  [{ kind: "stage", call: -1, stage: "kernel" }],
  [{ kind: "stage", call: 1.5, stage: "kernel" }],
  [{ kind: "stage", call: 2 ** 53, stage: "kernel" }],
  [{ kind: "stage", call: 1, stage: "other" }],
  [{ kind: "dropped", keys: [1] }],
  [{ kind: "dropped", keys: Array(300).fill("k") }],
  [{ kind: "lost", reason: "x".repeat(5000) }],
  [
    {
      kind: "done",
      call: 1,
      compileMs: 0,
      uploadMs: -1,
      kernelMs: 0,
      downloadMs: 0,
      uploadedBytes: 0,
      residentBytes: 0,
      kept: [],
    },
  ],
  [{ kind: "probed", call: 1, probeMs: "1" }],
  [{ kind: "failed", call: 1, why: "mood", reason: "", notes: [] }],
])("%j is no message", (value) => {
  expect(parseProcessMessage(value)).toBeUndefined();
});

test("plans of reading stand in bytes as they were made", () => {
  const rows = 5;
  const list = Float64Array.from({ length: rows }, (_, index) => index * 2 ** 40 + 1);
  const few = Uint32Array.from({ length: rows }, (_, index) => index * 1000 + 7);
  const refs = Uint8Array.from({ length: rows * 32 }, (_, index) => index);
  const bytes = encodePlan(
    { refs, from: Float64Array.from(few), take: Float64Array.from(few) },
    {
      files: ["a"],
      place: list,
      file: few,
      offset: list,
      storedBytes: few,
      plainBytes: few,
      codec: new Uint8Array(rows).fill(1),
    },
  );
  const plan = planIn(bytes, rows);
  expect(plan).toMatchObject({ place: list, offset: list, from: few, take: few, file: few, refs });
  expect(() => planIn(bytes, rows + 1)).toThrow();
});
