/** Processes that do not keep to the protocol: what an executor process that was taken over could do. */
import { spawn } from "node:child_process";
import { describe, expect, it } from "vitest";
import { EXECUTOR_GRACE_MS, QUESTION_CPU_MS } from "../../../runtime/limits.ts";
import { ExecutorPipe } from "../../../runtime/sandbox/process/executor-pipe.ts";
import type { Answer, Questions } from "../../../runtime/sandbox/process/process-thread.ts";
import {
  HEADER_BYTES,
  PROCESS_PIPE_DESCRIPTOR,
  THREAD_PIPES_DESCRIPTOR,
  decodeOutcome,
  emptyOutcome,
  faultOutcome,
  MessageKind,
  MessageReader,
  parseFault,
  writeHeader,
} from "../../../runtime/sandbox/process/protocol.ts";
import { TIME_SOURCE, UncountedTime } from "../../../runtime/sandbox/process/usage.ts";
import type { Message } from "../../../runtime/sandbox/process/protocol.ts";
import { until } from "../../suites/until.ts";

/** A thread that uses no CPU time. */
const clock = { thread: 1, read: (): number => 0, close: (): void => undefined };

/** Starts a script that answers the first message with what `answer` (JavaScript) makes of its call's number. */
function liar(answer: string, threads = 1, uncountedMsMax?: number, pid?: number): ExecutorPipe {
  const script = `
    const { Socket } = require("node:net");
    const pipe = new Socket({ fd: ${THREAD_PIPES_DESCRIPTOR}, readable: true, writable: true });
    const first = new Socket({ fd: ${PROCESS_PIPE_DESCRIPTOR}, readable: true, writable: true });
    const message = (kind, call, length, body = Buffer.alloc(length)) => {
      const header = Buffer.alloc(16);
      [kind, call, 0, length].forEach((value, index) => header.writeUInt32LE(value, index * 4));
      pipe.write(Buffer.concat([header, body]));
    };
    pipe.once("data", (data) => { const call = data.readUInt32LE(4); ${answer} });
    setTimeout(() => undefined, 1e9);`;
  const child = spawn(process.execPath, ["-e", script], {
    stdio: ["ignore", "ignore", "pipe", "pipe", "ignore", ...Array<"pipe">(threads).fill("pipe")],
  });
  return new ExecutorPipe(
    {
      child,
      pid: pid ?? child.pid!,
      kill: () => child.kill("SIGKILL"),
      threads,
      clock,
      clockOf: (thread) => ({ ...clock, thread }),
    },
    1e9,
    uncountedMsMax,
  );
}

function ask(link: ExecutorPipe, ceilingMs = 60_000, questions?: Questions): Promise<Answer> {
  return link.call(MessageKind.run, 1, [new Uint8Array(96)], {
    limitMs: 100,
    ceilingMs,
    bodyBytesMax: 100,
    kinds: [MessageKind.ran],
    questions,
    check: ({ body }) => decodeOutcome(body, 1) !== undefined,
  });
}

/** Answers a question of eight bytes when it is told to. */
class Answers implements Questions {
  readonly asked: number[] = [];
  readonly waiting: ((answer: Uint8Array) => void)[] = [];

  bodyBytesMax(kind: number): number {
    return kind === MessageKind.computed ? 0 : 8;
  }

  ask(kind: number, body: Uint8Array): Promise<Uint8Array> | undefined | false {
    this.asked.push(kind);
    if (kind === MessageKind.computed) return undefined;
    return body[0] === 9 ? false : new Promise((resolve) => this.waiting.push(resolve));
  }
}

describe("an executor process is killed when it", () => {
  it.each([
    ["announces more than it may", "message(9, call, 101);", "more than it may"],
    ["announces gigabytes", "message(9, call, 4294967295, Buffer.alloc(0));", "more than it may"],
    ["answers what was not asked", "message(9, call + 1, 0);", "more than it may"],
    ["answers with another kind", "message(6, call, 8);", "nonsense"],
    ["gives an outcome that is none", "message(9, call, 9, Buffer.alloc(9, 1));", "nonsense"],
    ["answers twice", "message(9, call, 8); message(9, call, 8);", "more than it may"],
    ["hangs up", "pipe.destroy(); process.exit();", ""],
    ["writes garbage", "pipe.write(Buffer.alloc(1e6, 255));", "more than it may"],
    ["speaks where it has nothing to say", "first.write(Buffer.alloc(16));", "more than it may"],
    [
      "starts a thread that nobody asked for",
      "const h = Buffer.alloc(20); h.writeUInt32LE(5); h.writeUInt32LE(1, 8); h.writeUInt32LE(4, 12); first.write(h);",
      "more than it may",
    ],
  ])("%s", async (_name, answer, detail) => {
    const link = liar(answer);
    await ask(link).catch((error: unknown) => {
      expect(error).toMatchObject({ code: "PFS_EXECUTOR_ENDED", data: { reason: "crash" } });
    });
    const end = await link.ended;
    expect(end.reason).toBe("crash");
    expect(end.detail).toContain(detail);
    await expect(ask(link)).rejects.toMatchObject({ code: "PFS_EXECUTOR_ENDED" });
  });

  it.each([
    ["asks though it may not", "message(11, call, 8);", undefined, "more than it may"],
    ["asks at length", "message(13, call, 9);", new Answers(), "more than it may"],
    ["asks within another call", "message(13, call + 1, 8);", new Answers(), "more than it may"],
    ["asks nonsense", "message(11, call, 8, Buffer.alloc(8, 9));", new Answers(), "nonsense"],
    [
      "asks before it has heard the answer",
      "message(11, call, 8); message(13, call, 8);",
      new Answers(),
      "nonsense",
    ],
    [
      "goes on before it has heard the answer",
      "message(11, call, 8); message(9, call, 8);",
      new Answers(),
      "nonsense",
    ],
    ["answers itself", "message(14, call, 8);", new Answers(), "nonsense"],
  ])("%s", async (_name, answer, questions, detail) => {
    const link = liar(answer);
    await expect(ask(link, 60_000, questions)).rejects.toMatchObject({
      code: "PFS_EXECUTOR_ENDED",
      data: { reason: "crash" },
    });
    expect((await link.ended).detail).toContain(detail);
  });

  it("asks what ends in a defect", async () => {
    const questions = new Answers();
    questions.ask = () => Promise.reject(new Error("a defect"));
    const link = liar("message(11, call, 8);");
    await expect(ask(link, 60_000, questions)).rejects.toThrow("a defect");
    expect((await link.ended).reason).toBe("crash");
  });

  it("cannot be watched", async () => {
    // No process has a number like this.
    const link = liar("", 1, undefined, 2 ** 30);
    await expect(ask(link)).rejects.toMatchObject({ code: "PFS_EXECUTOR_ENDED", data: { reason: "crash" } });
    expect((await link.ended).detail).toMatch(/^it cannot be watched: /);
  });

  it.each([
    ["says nothing", ""],
    ["begins a header", "pipe.write(Buffer.alloc(8));"],
    ["begins a body", "message(9, call, 100, Buffer.alloc(99));"],
    [
      "trickles",
      "const h = Buffer.alloc(16); h.writeUInt32LE(9); h.writeUInt32LE(call, 4); h.writeUInt32LE(100, 12); pipe.write(h); setInterval(() => pipe.write(Buffer.alloc(1)), 50);",
    ],
  ])("%s", async (_name, answer) => {
    const link = liar(answer);
    await expect(ask(link, 400)).rejects.toMatchObject({
      code: "PFS_EXECUTOR_STALLED",
      data: { ceilingMs: 400 },
    });
    expect((await link.ended).reason).toBe("stalled");
  });
});

/** One that asks before it is late, which on a busy machine takes longer to start than on another. */
async function askedInTime(manner: string): Promise<{
  readonly questions: Answers;
  readonly link: ReturnType<typeof liar>;
  readonly asked: Promise<unknown>;
  readonly ceilingMs: number;
}> {
  for (let ceilingMs = 400; ; ceilingMs *= 2) {
    const questions = new Answers();
    const link = liar(manner);
    const asked = ask(link, ceilingMs, questions);
    asked.catch(() => undefined);
    await until(() => questions.waiting.length > 0 || link.end !== undefined);
    if (link.end === undefined) return { questions, link, asked, ceilingMs };
  }
}

describe("a thread that asks", () => {
  it("is not late while it waits, and is where it then goes on", async () => {
    const { questions, link, asked, ceilingMs } = await askedInTime(
      "message(11, call, 8); pipe.once('data', (data) => { if (data.readUInt32LE(0) === 14 && data.length === 19) message(12, call, 0); });",
    );
    // Longer than it may take; a control of the same length, which asks nothing, ends meanwhile.
    await expect(ask(liar(""), 2 * ceilingMs)).rejects.toMatchObject({ code: "PFS_EXECUTOR_STALLED" });
    expect(link.end).toBeUndefined();
    questions.waiting[0]!(Uint8Array.of(1, 2, 3));
    await expect(asked).rejects.toMatchObject({ code: "PFS_EXECUTOR_STALLED", data: { ceilingMs } });
    expect(questions.asked).toEqual([MessageKind.call, MessageKind.computed]);
  });

  it("has each question counted as CPU time of its own, so that it does not ask without an end", async () => {
    const questions = new Answers();
    questions.ask = (kind) => {
      questions.asked.push(kind);
      return Promise.resolve(new Uint8Array(0));
    };
    // Its clock stands still: only asking takes it to its limit of 100 ms and what is allowed beside that.
    const asking = "const ask = () => message(11, call, 8); pipe.on('data', ask); ask();";
    await expect(ask(liar(asking), 60_000, questions)).rejects.toMatchObject({
      code: "PFS_EXECUTOR_DEADLINE",
    });
    const most = (100 + EXECUTOR_GRACE_MS) / QUESTION_CPU_MS;
    expect(questions.asked.length).toBeGreaterThanOrEqual(most);
    expect(questions.asked.length).toBeLessThanOrEqual(most + 1);
  });

  it("is answered into nothing when it has ended meanwhile", async () => {
    const { questions, link, asked } = await askedInTime("message(13, call, 8);");
    link.kill("closed", "it was closed");
    questions.waiting[0]!(new Uint8Array(8));
    await expect(asked).rejects.toMatchObject({ code: "PFS_EXECUTOR_ENDED" });
    expect((await link.ended).reason).toBe("closed");
  });
});

const BURN = `new (require("node:worker_threads").Worker)("for (;;);", { eval: true });`;

describe.runIf(TIME_SOURCE === "CPU time")("CPU time that none of its threads tells of", () => {
  it.each([
    ["while it owes an answer", BURN],
    ["when it has answered", `message(9, call, 8); ${BURN}`],
  ])("ends a process %s", async (_name, answer) => {
    const link = liar(answer, 1, 500);
    await ask(link).catch(() => undefined);
    const { reason, detail } = await link.ended;
    expect(reason).toBe("crash");
    expect(detail).toMatch(/^it used \d+ ms of CPU time that none of its threads tells of$/);
  });

  it("is what is beyond V8's share, and idle threads earn none for later", () => {
    const time = new UncountedTime(100, 20);
    expect(time.add(1100, 220)).toBe(0);
    expect(time.add(1100 + 5000, 220 + 1000)).toBe(0);
    // All of it is the threads' own, then none.
    expect(time.add(106_100, 101_220)).toBe(0);
    expect(time.add(109_100, 101_220)).toBe(3000);
    expect(time.add(109_600, 101_320)).toBe(3000);
    expect(time.add(110_600, 102_320)).toBe(0);
    // A thread that was not known has used something before.
    expect(time.add(110_600, 102_500)).toBe(0);
    expect(time.add(111_600, 102_500)).toBe(1000);
  });
});

describe("another thread", () => {
  /** Says what it is asked on the process's own pipe: `answer` makes something of the index that it is to start. */
  const starter = (answer: string): string =>
    `const ready = (word, length, thread = 100 + word) => { const header = Buffer.alloc(16 + length); header.writeUInt32LE(5); header.writeUInt32LE(word, 8); header.writeUInt32LE(length, 12); if (length >= 4) header.writeUInt32LE(thread, 16); first.write(header); };
     first.once("data", (data) => { const index = data.readUInt32LE(8); ${answer} });`;

  it("is started for a call that has to wait, and gets it", async () => {
    const second = `const other = new Socket({ fd: ${THREAD_PIPES_DESCRIPTOR + 1}, readable: true, writable: true });
      other.once("data", (data) => { const header = Buffer.alloc(24); header.writeUInt32LE(9); header.writeUInt32LE(data.readUInt32LE(4), 4); header.writeUInt32LE(8, 12); other.write(header); });`;
    const link = liar(starter(`${second} ready(index, 4);`), 2);
    const started: number[] = [];
    link.onThread = (thread) => started.push(thread);
    // Never answered.
    const first = ask(link);
    const { thread } = await ask(link);
    expect([thread, started, link.threads]).toEqual([1, [1], 2]);
    link.kill("closed", "");
    await expect(first).rejects.toMatchObject({ code: "PFS_EXECUTOR_ENDED" });
  });

  it.each([
    ["of another index", starter("ready(index + 1, 4);"), "nonsense"],
    ["with nothing to tell it by", starter("ready(index, 0);"), "nonsense"],
    ["that is the first one", starter("ready(index, 4, 1);"), "as of two"],
    ["that is the process's main one", starter("ready(index, 4, process.pid);"), "as of two"],
    ["that says more", starter("ready(index, 5);"), "more than it may"],
    ["twice", starter("ready(index, 4); ready(index + 1, 4);"), "more than it may"],
  ])("%s is a reason to kill the process", async (_name, answer, detail) => {
    const link = liar(answer, 3);
    await Promise.allSettled([ask(link), ask(link)]);
    const end = await link.ended;
    expect(end.reason).toBe("crash");
    expect(end.detail).toContain(detail);
  });
});

describe("messages", () => {
  it("are put together from any pieces", () => {
    const bodies = [0, 1, 5, 0, 0, 300].map((length, index) => Buffer.alloc(length, index));
    const bytes = Buffer.concat(
      bodies.flatMap((body, index) => {
        const header = Buffer.alloc(HEADER_BYTES);
        writeHeader(header, MessageKind.ran, index, 65_535, 4_096, body.byteLength);
        return [header, body];
      }),
    );
    for (const size of [1, 2, 3, 15, 16, 17, 33, 1000]) {
      const messages: Message[] = [];
      const reader = new MessageReader(
        () => 300,
        (message) => messages.push(message),
      );
      for (let at = 0; at < bytes.length; at += size)
        expect(reader.push(bytes.subarray(at, at + size))).toBe(true);
      expect(
        messages.map(({ call, word, packets, body }) => [call, word, packets, Buffer.from(body)]),
      ).toEqual(bodies.map((body, index) => [index, 65_535, 4_096, body]));
    }
  });
});

describe("outcomes", () => {
  it("are read back", () => {
    const fault = decodeOutcome(faultOutcome(2, "late ü"), 1)!;
    expect([fault.completed, [...fault.statuses], [...fault.lengths]]).toEqual([1, [2], [8]]);
    expect(parseFault(fault.output)).toEqual({ text: "late ü" });
    const parse = (text: string): unknown => parseFault(Buffer.from(text));
    expect(parse("12\n1\nx")).toEqual({ text: "1\nx", place: 12 });
    for (const line of ["", "-1", "1e3", "9".repeat(16)]) expect(parse(`${line}\nx`)).toEqual({ text: "x" });
    expect([parse("12"), parse("")]).toEqual([{ text: "12" }, { text: "" }]);
    expect(decodeOutcome(emptyOutcome(), 5)).toMatchObject({ completed: 0 });
  });

  it("are refused or harmless whatever bit is flipped or cut off", () => {
    const bytes = Buffer.from(
      // Two packets, one log of 3 bytes, outputs of 1 and 2 bytes.
      [2, 1, 1, 2, 1, 3].flatMap((value) => [value, 0, 0, 0]).concat([0, 1, 97, 98, 99, 120, 121, 122]),
    );
    expect(decodeOutcome(bytes, 2)).toMatchObject({ logs: [{ index: 1, text: "abc" }], completed: 2 });
    expect(decodeOutcome(bytes, 1)).toBe(undefined);
    for (let length = 0; length < bytes.length; length++) {
      expect(decodeOutcome(bytes.subarray(0, length), 2)).toBe(undefined);
    }
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const outcome = decodeOutcome(flipped, 2);
      if (outcome === undefined) continue;
      const { completed, statuses, lengths, offsets, output } = outcome;
      expect([statuses.length, lengths.length, offsets.length]).toEqual([completed, completed, completed]);
      expect(lengths.reduce((sum, length) => sum + length, 0)).toBe(output.byteLength);
    }
  });
});
