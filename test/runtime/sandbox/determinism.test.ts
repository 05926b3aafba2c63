import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ExecutorProcess } from "../../../runtime/sandbox/process/executor-process.ts";
import { loadProgram, logged, runFrame, runOnce, startExecutor } from "./harness.ts";

let executor: ExecutorProcess;
let other: ExecutorProcess;
beforeAll(async () => {
  [executor, other] = await Promise.all([startExecutor(), startExecutor({ threads: 2 })]);
});
afterAll(async () => {
  await Promise.all([executor.close(), other.close()]);
});

/** The value of an expression inside the sandbox. */
async function valueOf(expression: string, input = ""): Promise<unknown> {
  const source = `export default { input: { kind: "bytes" }, map(record) { console.log(JSON.stringify(${expression})); } };`;
  return logged(await runOnce(executor, source, input))[0];
}

describe("randomness", () => {
  const source = `export default { input: { kind: "bytes" }, yields: "bytes",
    map(record, c) { c.write([Math.random(), Math.random(), Math.random()].join(" ")); } };`;

  it("follows from what the packet reads and from nothing else", async () => {
    const lane = await loadProgram(executor, source, { args: 1 });
    const packets = [
      { bytes: "ab", ref: 1 },
      { bytes: "ab", ref: 2 },
      { bytes: "ab", ref: 1, from: 4 },
      { bytes: "abc", ref: 1 },
    ];
    const first = (await runFrame(executor, lane, packets)).map(({ text }) => text);
    expect(new Set(first).size).toBe(4);
    const reversed = (await runFrame(executor, lane, [...packets].reverse())).map(({ text }) => text);
    expect(reversed.reverse()).toEqual(first);
    const elsewhere = await loadProgram(other, source, { lane: 40_000, args: 2 });
    for (const [index, packet] of packets.entries()) {
      const [result] = await runFrame(other, elsewhere, [packet]);
      expect(result!.text).toBe(first[index]);
    }
    const numbers = first.flatMap((text) => text.split(" ").map(Number));
    expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
    expect(new Set(numbers).size).toBe(12);
  });

  it("is evenly spread", async () => {
    const counts = (await valueOf(`(() => {
      const counts = new Array(16).fill(0);
      for (let i = 0; i < 160000; i++) counts[Math.floor(Math.random() * 16)]++;
      return counts;
    })()`)) as number[];
    expect(Math.min(...counts)).toBeGreaterThan(9_500);
    expect(Math.max(...counts)).toBeLessThan(10_500);
  });
});

describe("the clock", () => {
  it("stands still, in UTC", async () => {
    const expression = `[Date.now(), new Date().toISOString(), Date().slice(0, 33), new Date(2020, 0, 1).toISOString(),
      new Date() instanceof Date, Date.length, Date.UTC(2001), typeof Date.parse("2001"), new Date(5).getTime(),
      new Date().constructor === Date, Reflect.construct(Date, []).getTime()]`;
    expect(await valueOf(expression)).toEqual([
      946684800000,
      "2000-01-01T00:00:00.000Z",
      "Sat Jan 01 2000 00:00:00 GMT+0000",
      "2020-01-01T00:00:00.000Z",
      true,
      7,
      978307200000,
      "number",
      5,
      true,
      946684800000,
    ]);
  });

  it("cannot be had by a subclass either", async () => {
    const expression = `(() => { class D extends Date {} return [new D().getTime(), D.now(), new D() instanceof D]; })()`;
    expect(await valueOf(expression)).toEqual([946684800000, 946684800000, true]);
  });
});

describe("globals", () => {
  it("lack what is not bounded or not deterministic", async () => {
    const names = [
      "WebAssembly",
      "SharedArrayBuffer",
      "Atomics",
      "WeakRef",
      "FinalizationRegistry",
      "Intl",
      "gc",
      "setTimeout",
      "setInterval",
      "performance",
      "process",
      "require",
      "fetch",
      "crypto",
      "queueMicrotask",
    ];
    expect(await valueOf(`${JSON.stringify(names)}.map((name) => typeof globalThis[name])`)).toEqual(
      names.map(() => "undefined"),
    );
  });

  it("have no buffers that grow or move", async () => {
    const expression = `(() => {
      const buffer = new ArrayBuffer(8, { maxByteLength: 1 << 30 });
      const again = new (new Uint8Array(1).buffer.constructor)(4, { maxByteLength: 99 });
      return [buffer.byteLength, buffer.maxByteLength, buffer.resizable, again.resizable, typeof buffer.resize,
        typeof buffer.transfer, typeof buffer.transferToFixedLength, buffer instanceof ArrayBuffer,
        ArrayBuffer.isView(new Uint8Array(1)), buffer.slice(2).byteLength];
    })()`;
    expect(await valueOf(expression)).toEqual([
      8,
      8,
      false,
      false,
      "undefined",
      "undefined",
      "undefined",
      true,
      true,
      6,
    ]);
  });

  it("encode and decode UTF-8", async () => {
    const expression = `(() => {
      const bytes = new TextEncoder().encode("aé€😀\\ud800");
      const stream = new TextDecoder();
      let text = "";
      for (const byte of bytes) text += stream.decode(new Uint8Array([byte]), { stream: true });
      text += stream.decode();
      const cut = new TextDecoder().decode(new Uint8Array([0x61, 0xe2, 0x82]));
      let fatal = "";
      try { new TextDecoder("utf-8", { fatal: true }).decode(new Uint8Array([0xc0])); } catch (e) { fatal = e.name; }
      const into = new Uint8Array(5);
      return [Array.from(bytes).length, new TextDecoder().decode(bytes), text, cut, fatal,
        new TextEncoder().encodeInto("a€😀", into), new TextDecoder().decode(new Uint8Array([0xef, 0xbb, 0xbf, 65])),
        new TextDecoder("utf-8", { fatal: true }).decode(new TextEncoder().encode("\\ufffd")),
        new TextDecoder().decode(new Uint16Array([0x4241]).buffer)];
    })()`;
    expect(await valueOf(expression)).toEqual([
      13,
      "aé€😀\ufffd",
      "aé€😀\ufffd",
      "a\ufffd",
      "TypeError",
      { read: 2, written: 4 },
      "A",
      "\ufffd",
      "AB",
    ]);
  });

  it("decode like Node does, whatever the bytes", async () => {
    const bytes = Buffer.alloc(60_000);
    let seed = 1;
    for (let index = 0; index < bytes.length; index++) {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      const pick = seed >>> 24;
      bytes[index] = index % 3000 < 1000 ? pick & 0x7f : pick % 3 === 0 ? 0x80 | (pick & 0x3f) : pick;
    }
    const source = `export default { input: { kind: "bytes" }, yields: "bytes",
      map(record, c) { c.write(new TextDecoder("utf-8", { ignoreBOM: true }).decode(record)); } };`;
    const { text } = await runOnce(executor, source, bytes);
    expect(text === bytes.toString()).toBe(true);
  });
});
