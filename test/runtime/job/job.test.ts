import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MERGE_FAN_IN } from "../../../runtime/limits.ts";
import { refToHex } from "../../../packets/digest.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { Flag, Op, PACKET_BYTES } from "../../../packets/layout.ts";
import { decodePacket, encodeFrame, packetCount } from "../../../packets/packet.ts";
import type { JobEvent } from "../../../runtime/contracts/events.ts";
import type { Executor } from "../../../runtime/contracts/executor.ts";
import { decodeGroups } from "../../../runtime/job/results.ts";
import { JobHarness, nextEvent } from "./job-harness.ts";

let harness: JobHarness;
beforeAll(async () => {
  harness = await JobHarness.open();
  harness.addExecutor("a");
});
afterAll(() => harness.close());

const COUNT = `export default { input: { kind: "lines" }, map: () => 1, combine: (a, b) => a + b }`;
const JOIN = `export default { input: { kind: "lines" }, map: (line) => line, combine: (a, b) => a + "," + b }`;
const WORDS = `export default {
  input: { kind: "lines" },
  yields: "groups",
  map(line, { emit }) { for (const word of line.split(" ")) emit(word, 1); },
  combine: (a, b) => a + b,
}`;
const UPPER = `export default {
  input: { kind: "lines" },
  yields: "bytes",
  map: (line, { write }) => write(line.toUpperCase() + "\\n"),
}`;

function linesOf(count: number): string {
  return Array.from({ length: count }, (_, index) => `line ${index}\n`).join("");
}

describe("results", () => {
  test("a value: maps, merges of merges and a finish give what one pass would, in order", async () => {
    const events: JobEvent[] = [];
    const lines = Array.from({ length: 3000 }, (_, index) => `${index}`);
    const file = await harness.putFile("numbers", lines.join("\n"));
    const program = await harness.putProgram("join", JOIN);
    const onEvent = (event: JobEvent): void => void events.push(event);
    const outcome = await harness.run(program, [file, file], { splitBytes: 16 }, { onEvent });
    expect(outcome.value).toBe([...lines, ...lines].join(","));
    const tasks = Math.ceil(file.length / 16) * 2;
    expect(tasks).toBeGreaterThan(MERGE_FAN_IN ** 2);
    expect(outcome.statistics).toMatchObject({
      tasks,
      inputBytes: file.length * 2,
      retries: 0,
      byNode: { "node a": tasks },
    });
    expect(events[0]).toMatchObject({ kind: "started", tasks, inputBytes: file.length * 2 });
    expect(events.at(-1)).toMatchObject({ kind: "progress", done: tasks, doneBytes: file.length * 2 });
    expect(harness.jobs.jobs()[0]).toMatchObject({ state: "done", done: tasks, tasks, program: "join" });
  });

  test("of no records: a list is empty, and reduce is called for it", async () => {
    const list = `input: { kind: "lines" }, map: (line) => line || undefined`;
    const plain = await harness.putProgram("list", `export default { ${list} }`);
    const reduced = await harness.putProgram(
      "size",
      `export default { ${list}, reduce: (all) => all.length }`,
    );
    for (const content of ["", "\n\n\n\n"]) {
      const file = await harness.putFile("x", content);
      expect((await harness.run(plain, [file], { splitBytes: 1 })).value).toEqual([]);
      expect((await harness.run(reduced, [file], { splitBytes: 1 })).value).toBe(0);
    }
  });

  test("groups, sorted by key; as a file where one is asked for", async () => {
    const program = await harness.putProgram("words", WORDS);
    const file = await harness.putFile("text", "b a\nc a\na b\n".repeat(50));
    const expected = [
      ["a", 150],
      ["b", 100],
      ["c", 50],
    ];
    expect((await harness.run(program, [file], { splitBytes: 100 })).value).toEqual(expected);
    const stored = await harness.run(program, [file], { splitBytes: 100, out: "counts/words.json" });
    expect(stored.value).toBeUndefined();
    expect(stored.file).toMatchObject({ name: "counts/words.json" });
    expect(decodeGroups(await harness.read(stored.file!.root))).toEqual(expected);
    expect(await harness.store.catalog.resolve("counts/words.json")).toMatchObject({
      length: stored.file!.length,
    });
  });

  test("groups as CSV, with a line of names where there are none", async () => {
    const pick = WORDS.replace("emit(word, 1)", "if (word !== '') emit(word, 1)");
    const words = await harness.putProgram("words", pick);
    const rows = async (content: string): Promise<string> => {
      const file = await harness.putFile("x", content);
      const stored = await harness.run(words, [file], { out: "words.csv", splitBytes: 4 });
      return harness.read(stored.file!.root);
    };
    expect(await rows("b a\nb\n")).toBe("key,value\na,1\nb,2\n");
    expect(await rows("\n\n\n\n\n")).toBe("key,value\n");
    expect(await rows("")).toBe("key,value\n");
  });

  test("bytes: a file in the order of the input, called from where it was made", async () => {
    const program = await harness.putProgram("upper", UPPER);
    const text = linesOf(2000);
    const file = await harness.putFile("text", text);
    const { file: out, value } = await harness.run(program, [file], { splitBytes: 1000, out: "upper" });
    expect(value).toBeUndefined();
    expect(await harness.read(out!.root)).toBe(text.toUpperCase());
    expect(out).toMatchObject({ name: "upper", length: text.length });
    expect(await harness.store.catalog.resolve(".parts/upper/a")).toMatchObject({ length: text.length });
    const nameless = await harness.run(program, [file]);
    expect(nameless.file).toEqual({ root: expect.any(String) as string, length: text.length });
  });

  test("nothing: no input, and inputs without bytes", async () => {
    const empty = await harness.putFile("empty", "");
    const count = await harness.putProgram("count", COUNT);
    expect(await harness.run(count, [])).toMatchObject({ value: null, statistics: { tasks: 0 } });
    expect((await harness.run(count, [empty, empty])).value).toBe(null);
    const upper = await harness.putProgram("upper", UPPER);
    const { file } = await harness.run(upper, [empty], { out: "nothing" });
    expect(file).toMatchObject({ length: 0 });
    expect(await harness.read(file!.root)).toBe("");
  });

  test("a CSV whose quoted fields straddle splits, by scanning them first", async () => {
    const source = `export default {
      input: { kind: "csv", separator: ",", header: true },
      map: ({ id, text }) => id + ":" + text.length,
      combine: (a, b) => a + " " + b,
    }`;
    const rows = Array.from({ length: 200 }, (_, id) => [`${id}`, `"a\n,""${"x\n".repeat(id % 40)}"`]);
    const lengths = rows.map(([id, field]) => `${id}:${field!.length - 3}`);
    const file = await harness.putFile("rows.csv", `id,text\n${rows.map((row) => row.join(",")).join("\n")}`);
    const program = await harness.putProgram("csv", source);
    const outcome = await harness.run(program, [file, file], { splitBytes: 97 });
    expect(outcome.value).toBe([...lengths, ...lengths].join(" "));
    expect(outcome.statistics.tasks).toBe(Math.ceil(file.length / 97) * 2);
  });
});

describe("failures", () => {
  const PICKY = `export default {
    input: { kind: "lines" },
    map: (line) => { if (line === "bad") throw new Error("no good: " + line); return 1; },
    combine: (a, b) => a + b,
  }`;

  test("the first fault ends the job and says what failed where", async () => {
    const program = await harness.putProgram("picky", PICKY);
    const good = await harness.putFile("good.txt", "ok\n".repeat(100));
    const file = await harness.putFile("input.txt", `${"ok\n".repeat(100)}bad\n`);
    const failed = harness.run(program, [good, file], { splitBytes: 100, id: "failing" });
    await expect(failed).rejects.toMatchObject({
      code: "PFS_PROGRAM_THREW",
      message: expect.stringMatching(
        /"picky".*no good: bad.*line 101, byte 300 of "input.txt", on node "node a"/s,
      ),
      data: {
        job: "failing",
        task: 6,
        node: "node a",
        program: "picky",
        file: "input.txt",
        at: 300,
        line: 101,
      },
    });
    expect(harness.jobs.jobs()[0]).toMatchObject({
      job: "failing",
      state: "failed",
      error: { code: "PFS_PROGRAM_THREW" },
    });
  });

  test("names the record, whichever split it is in and whatever a program says", async () => {
    const thrown = "throw new Error(`at byte 7: no good: ${line}`)";
    const source = `export default {
      input: { kind: "lines" }, map: (line) => { if (line === "x") ${thrown}; return 1; },
      combine: (a, b) => a + b,
    }`;
    const program = await harness.putProgram("numbers at byte 9: x", source);
    const file = await harness.putFile("n", `${"1\n".repeat(3_000)}ü\nx\n`);
    for (const splitBytes of [64, 4096, 10_000]) {
      const failed = harness.run(program, [file], { splitBytes });
      await expect(failed).rejects.toMatchObject({ data: { file: "n", at: 6003, line: 3002 } });
      await expect(failed).rejects.toThrow(
        /packet \d+: Error: at byte 7: no good: x \(line 3002, byte 6003 of "n", on node "node a"\)/,
      );
    }
  });

  test("a merge that fails is told as one", async () => {
    const source = `export default {
      input: { kind: "lines" }, map: () => 1,
      combine: (a, b) => { if (a + b > 35) throw new Error("too much"); return a + b; },
    }`;
    const program = await harness.putProgram("greedy", source);
    const file = await harness.putFile("x", "a\n".repeat(40));
    await expect(harness.run(program, [file], { splitBytes: 2 })).rejects.toMatchObject({
      code: "PFS_PROGRAM_THREW",
      message: expect.stringMatching(/too much.*finish of results 0 to 1/s),
    });
  });

  test("a bundle that does not load, although it was described", async () => {
    const { code, args } = await harness.putProgram("fine", COUNT);
    const { root } = await harness.putFile("broken.js", "export default {");
    harness.described.set(refToHex(root), await harness.inspect(code));
    const broken = { name: "broken", code: root, args };
    const file = await harness.putFile("x", "a\n");
    await expect(harness.run(broken, [file])).rejects.toMatchObject({ code: "PFS_PROGRAM_INVALID" });
    await expect((await harness.jobs.load(broken)).exec(frameOf([file]))).rejects.toMatchObject({
      code: "PFS_PROGRAM_INVALID",
    });
  });

  test("an input that is nowhere", async () => {
    const program = await harness.putProgram("count", COUNT);
    const missing = { name: "gone", root: new Uint8Array(32).fill(7), length: 100 };
    await expect(harness.run(program, [missing])).rejects.toMatchObject({
      code: "PFS_INPUT_MISSING",
      message: expect.stringContaining('bytes 0 to 100 of "gone"'),
    });
  });

  test("splits that are too small, and a name that is none, are refused before anything runs", async () => {
    const program = await harness.putProgram("count", COUNT);
    const huge = { name: "huge", root: new Uint8Array(32), length: 2 ** 40 };
    await expect(harness.run(program, [huge], { splitBytes: 1 })).rejects.toMatchObject({
      code: "PFS_JOB_OVER_LIMIT",
    });
    await expect(harness.run(program, [], { out: "../x" })).rejects.toMatchObject({
      code: "PFS_NAME_INVALID",
    });
  });

  test("a listener that throws ends its job", async () => {
    const program = await harness.putProgram("count", COUNT);
    const file = await harness.putFile("x", "a\n");
    const onEvent = (): void => {
      throw new Error("listener");
    };
    await expect(harness.run(program, [file], {}, { onEvent })).rejects.toThrow("listener");
  });
});

describe("cancelling", () => {
  const ENDLESS = `export default { input: { kind: "lines" }, map() { console.log("began"); for (;;); } }`;

  test("by signal and by id, while packets run", async () => {
    const program = await harness.putProgram("endless", ENDLESS);
    const file = await harness.putFile("x", "a\n");
    for (const how of ["signal", "id"]) {
      const abort = new AbortController();
      const { onEvent, happened } = nextEvent(({ kind }) => kind === "started");
      const running = harness.run(program, [file], { id: how }, { signal: abort.signal, onEvent });
      await happened;
      expect(harness.jobs.jobs()[0]).toMatchObject({ job: how, state: "running" });
      if (how === "signal") abort.abort();
      else expect(harness.jobs.cancel(how)).toBe(true);
      await expect(running).rejects.toMatchObject(
        how === "signal" ? { name: "AbortError" } : { code: "PFS_CANCELLED", data: { job: "id" } },
      );
      expect(harness.jobs.jobs()[0]).toMatchObject({ job: how, state: "cancelled" });
      expect(harness.jobs.cancel(how)).toBe(false);
    }
    const signal = AbortSignal.abort(new Error("before"));
    await expect(harness.run(program, [file], {}, { signal })).rejects.toThrow("before");
  });
});

describe("executors that come and go", () => {
  test("one that joins helps, and when the other leaves the job goes on", async () => {
    const source = `export default {
      input: { kind: "lines" },
      map: (line) => { let x = 0; for (let i = 0; i < 2e6; i++) x += i % 7; return [line, x][0]; },
      combine: (a, b) => a + "," + b,
    }`;
    const program = await harness.putProgram("slow", source);
    const lines = Array.from({ length: 120 }, (_, index) => `${100 + index}`);
    const file = await harness.putFile("x", lines.join("\n"));
    const [first] = harness.executors.list();
    let later: Executor | undefined;
    const onEvent = (event: JobEvent): void => {
      if (event.kind !== "progress") return;
      later ??= harness.addExecutor("b");
      if (event.done >= 60) harness.executors.remove(first!);
    };
    try {
      const outcome = await harness.run(program, [file], { splitBytes: 4 }, { onEvent });
      expect(outcome.value).toBe(lines.join(","));
      expect(outcome.statistics.byNode).toMatchObject({ "node b": expect.any(Number) });
      expect(outcome.statistics.notes).toContain('node "node a" is gone');
    } finally {
      if (later !== undefined) harness.executors.remove(later);
      if (!harness.executors.list().includes(first!)) harness.executors.add(first!);
    }
  });
});

describe("console output", () => {
  test("comes as events with its packet and node", async () => {
    const logs: JobEvent[] = [];
    const source = `export default { input: { kind: "lines" }, map: (line) => { console.log("saw", line); } }`;
    const program = await harness.putProgram("chatty", source);
    const file = await harness.putFile("x", "one\ntwo\n");
    const onEvent = (event: JobEvent): void => void (event.kind === "log" && logs.push(event));
    await harness.run(program, [file], { splitBytes: 4 }, { onEvent });
    expect(logs).toHaveLength(2);
    expect(logs).toContainEqual(
      expect.objectContaining({ at: 1, node: "node a", text: expect.stringContaining("saw two") }),
    );
  });
});

function frameOf(files: readonly { readonly root: Uint8Array; readonly length: number }[]): Uint8Array {
  return encodeFrame(
    files.map(({ root, length }) => {
      return { op: Op.EXEC, flags: Flag.STREAM, lane: 7, at: 99, length, ref: root } as const;
    }),
  );
}

describe("open programs", () => {
  test("frames that overlap: each answer at the place of its packet, faults among them", async () => {
    const source = `export default {
      input: { kind: "bytes" }, yields: "bytes",
      map: (bytes, { write }) => { if (bytes.length === 3) throw new Error("three"); write(bytes); },
    }`;
    const program = await harness.jobs.load(await harness.putProgram("echo", source));
    const texts = ["a", "bb", "ccc", "d".repeat(100)];
    const files = await Promise.all(texts.map((text) => harness.putFile("x", text)));
    const wanted = [[0, 1, 2, 3, 1], [2, 2], [], [3, 0]];
    const frames = wanted.map((picks) => program.exec(frameOf(picks.map((pick) => files[pick]!))));
    for (const [index, answers] of (await Promise.all(frames)).entries()) {
      expect(packetCount(answers)).toBe(wanted[index]!.length);
      wanted[index]!.forEach((pick, at) => {
        const answer = decodePacket(answers, at);
        expect(answer).toMatchObject(
          pick === 2
            ? { op: Op.FAULT, at, from: FaultCode.threw }
            : { op: Op.RETURN, at, length: texts[pick]!.length },
        );
        if (pick < 2)
          expect(new TextDecoder().decode(answer.ref.subarray(0, answer.length))).toBe(texts[pick]);
      });
    }
    const again = await program.exec(frameOf([files[1]!]));
    expect(decodePacket(again)).toMatchObject({ op: Op.RETURN, at: 0, length: 2 });
    const broken = frameOf(files);
    broken[PACKET_BYTES + 20]! ^= 1;
    await expect(program.exec(broken)).rejects.toMatchObject({
      code: "PFS_PACKET_INVALID",
      data: { index: 1 },
    });
    await expect(program.exec(broken.subarray(0, 70))).rejects.toMatchObject({ code: "PFS_PACKET_INVALID" });
    const halt = encodeFrame([{ op: Op.LOAD, lane: 1 }]);
    await expect(program.exec(halt)).rejects.toMatchObject({ code: "PFS_PACKET_INVALID" });
    await program.close();
    await expect(program.exec(frameOf(files))).rejects.toMatchObject({ code: "PFS_CANCELLED" });
  });

  test("an aborted frame leaves the others alone, and closing ends what runs", async () => {
    const source = `export default { input: { kind: "bytes" }, limits: { timeMs: 60000 }, map: (bytes) => { if (bytes.length > 1) for (;;); return bytes.length; } }`;
    const program = await harness.jobs.load(await harness.putProgram("stuck", source));
    const short = await harness.putFile("x", "a");
    const long = await harness.putFile("x", "aa");
    const abort = new AbortController();
    const aborted = program.exec(frameOf([long]), abort.signal);
    expect(decodePacket(await program.exec(frameOf([short, short])), 1)).toMatchObject({
      op: Op.RETURN,
      at: 1,
    });
    abort.abort(new Error("enough"));
    await expect(aborted).rejects.toThrow("enough");
    expect(decodePacket(await program.exec(frameOf([short])))).toMatchObject({ op: Op.RETURN, at: 0 });
    const running = expect(program.exec(frameOf([long]))).rejects.toMatchObject({ code: "PFS_CANCELLED" });
    await program.close();
    await running;
  });
});
