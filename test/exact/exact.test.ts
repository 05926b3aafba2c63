/**
 * The answer of a packet is a function of the program, its arguments, the input bytes and the range, and of nothing else:
 * random programs, among them those that try to remember, are run in random frames, lanes and orders, on random widths and
 * again and again, and every answer has the bytes of the one that the packet gives alone in an isolate that ran nothing
 * before.
 *
 * PACKETFS_EXACT_DRAWS is how many draws are made (default 400), PACKETFS_EXACT_SEED what they follow from.
 */
import { isDeepStrictEqual } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { valueCodec } from "../../runtime/program/values.ts";
import type { Entry } from "../../runtime/program/program.ts";
import type { PreludeParts } from "../../runtime/sandbox/guest/prelude.ts";
import { PRELUDE_PARTS, preludeSource } from "../../runtime/sandbox/guest/source.ts";
import type { GuestIsolate } from "../../runtime/sandbox/thread/guest-isolate.ts";
import { Random } from "../sim/random.ts";
import { loadProgram, runFrame, startExecutor } from "../runtime/sandbox/harness.ts";
import { Inputs, openProgram } from "./machine.ts";
import type { Answer, Packet } from "./machine.ts";
import { MEMORIES, programOf, randomProgram } from "./programs.ts";
import type { RandomProgram } from "./programs.ts";

const DRAWS = Number(process.env["PACKETFS_EXACT_DRAWS"] ?? 400);
const SEED = Number(process.env["PACKETFS_EXACT_SEED"] ?? 1);
const DRAWS_PER_PROGRAM = 50;
const LINES = ["a", "1e400", "-0", "0.1", "é😀", "", "b a c a", "toString", "__proto__", "x".repeat(300)];

let inputs: Inputs;
beforeAll(() => {
  inputs = new Inputs();
});
afterAll(() => {
  inputs.close();
});

/** What a program is asked for, with the answers that its packets give alone. */
interface Case {
  readonly program: RandomProgram;
  readonly packets: readonly Packet[];
  readonly answers: readonly Answer[];
}

function alone(program: RandomProgram, packet: Packet): Answer {
  const guest = openProgram(program.source, packet.entry, program.args);
  try {
    return inputs.run(guest, [packet])[0]!;
  } finally {
    guest.dispose();
  }
}

function caseOf(program: RandomProgram, random: Random, given?: readonly string[]): Case {
  const line = (): string => LINES[random.integer(0, LINES.length - 1)]!;
  const texts =
    given ?? Array.from({ length: 4 }, () => Array.from({ length: random.integer(0, 4) }, line).join("\n"));
  const maps = texts.map((input, ref): Packet => ({ entry: "map", input, ref }));
  const mapped = maps.map((packet) => alone(program, packet));
  const packets = [...maps];
  const answers = [...mapped];
  if (program.merges) {
    const partials = mapped.filter((answer) => answer.startsWith("0:")).map((answer) => answer.slice(2));
    for (const entry of ["merge", "finish"] as const) {
      const input = Buffer.from(partials.slice(random.integer(0, 1)).join(""), "latin1").toString();
      const packet = { entry, input, ref: 9 };
      packets.push(packet);
      answers.push(alone(program, packet));
    }
  }
  return { program, packets, answers };
}

/** The isolates of a program, by entry: so many for each as there are threads. */
class Width {
  readonly #guests = new Map<Entry, GuestIsolate[]>();
  readonly #program: RandomProgram;
  readonly #prelude: string | undefined;
  readonly #threads: number;

  constructor(program: RandomProgram, threads: number, prelude: string | undefined) {
    this.#program = program;
    this.#threads = threads;
    this.#prelude = prelude;
  }

  guest(entry: Entry, thread: number): GuestIsolate {
    let guests = this.#guests.get(entry);
    if (guests === undefined) {
      guests = Array.from({ length: this.#threads }, () =>
        openProgram(this.#program.source, entry, this.#program.args, this.#prelude),
      );
      this.#guests.set(entry, guests);
    }
    return guests[thread % guests.length]!;
  }

  close(): void {
    for (const guests of this.#guests.values()) for (const guest of guests) guest.dispose();
  }
}

/** Some packets, each up to several times, in random frames on random threads; what differs, in words. */
function draw({ packets, answers, program }: Case, width: Width, random: Random): string[] {
  const order = Array.from({ length: random.integer(1, 12) }, () => random.integer(0, packets.length - 1));
  const wrong: string[] = [];
  while (order.length > 0) {
    const { entry } = packets[order[0]!]!;
    const frame: number[] = [];
    const size = random.integer(1, 8);
    while (frame.length < size && order.length > 0 && packets[order[0]!]!.entry === entry)
      frame.push(order.shift()!);
    const found = inputs.run(
      width.guest(entry, random.integer(0, 3)),
      frame.map((index) => packets[index]!),
    );
    for (const [at, index] of frame.entries()) {
      if (found[at] === answers[index]) continue;
      wrong.push(`[${program.memories.join(", ")}] ${entry}: ${found[at]!} instead of ${answers[index]!}`);
    }
  }
  return wrong;
}

/** So many draws of one program. */
function drawsOf(each: Case, count: number, random: Random, prelude?: string): string[] {
  const width = new Width(each.program, random.integer(1, 3), prelude);
  try {
    return Array.from({ length: count }, () => draw(each, width, random)).flat();
  } finally {
    width.close();
  }
}

describe("the answer of a packet", () => {
  it(`is the same however it is run: ${DRAWS} draws`, { timeout: 600_000 }, () => {
    const random = new Random(SEED);
    for (let drawn = 0; drawn < DRAWS; drawn += DRAWS_PER_PROGRAM) {
      const each = caseOf(randomProgram(random), random);
      expect(drawsOf(each, Math.min(DRAWS_PER_PROGRAM, DRAWS - drawn), random)).toEqual([]);
    }
  });

  it("is the same in the lanes and threads of an executor process", async () => {
    const random = new Random(SEED + 1);
    await using executor = await startExecutor({ threads: 3 });
    for (let round = 0; round < 4; round++) {
      const memories = Array.from({ length: 6 }, () => MEMORIES[random.integer(0, MEMORIES.length - 1)]!);
      const { source, args } = programOf(random, memories);
      const lanes = [
        await loadProgram(executor, source, { args }),
        await loadProgram(executor, source, { args }),
      ];
      const packets = LINES.map((line, ref) => ({ bytes: `${line}\nb`, ref }));
      const run = (count: number): Promise<string[]>[] =>
        Array.from({ length: count }, async () => {
          const order = packets.map((_, index) => index).toSorted(() => random.next() - 0.5);
          const frame = order.map((index) => packets[index]!);
          const texts: string[] = [];
          const results = await runFrame(executor, lanes[random.integer(0, 1)]!, frame);
          for (const [at, { status, text }] of results.entries()) texts[order[at]!] = `${status}:${text}`;
          return texts;
        });
      const [first, ...others] = await Promise.all(run(12));
      for (const other of others) expect(other).toEqual(first);
    }
  });
});

/** Parts of the prelude as they would be without what they protect from. */
const WITHOUT: Readonly<Record<string, Partial<PreludeParts>>> = {
  "the freezing": {
    makeFreeze: () => ({ realm: () => undefined, deep: (value) => value, one: (value) => value }),
  },
  "the fresh module scope": {
    makeModule: (factory, { tables }) => {
      let exports: { default?: unknown } | undefined;
      return {
        evaluate: () => {
          if (exports === undefined) {
            exports = {};
            tables.begin(true);
            factory(exports, tables.api);
            tables.end();
          }
          return exports.default;
        },
      };
    },
  },
  "the renewal of WebAssembly modules": {
    // Carried in as text, which has to hold what it changes.
    makeWasm: {
      toString: () =>
        `(p, tools) => ({ ...(${String(PRELUDE_PARTS.makeWasm)})(p, tools), begin: () => undefined })`,
    } as unknown as PreludeParts["makeWasm"],
  },
  "the wait for promises": {
    watchPromises: () => ({
      begin: () => undefined,
      mayBeMade: () => false,
      expectAlways: () => undefined,
    }),
  },
  "the locked globals": { lockDown: () => undefined },
  "the views of shared tables": {
    makeTables: () => {
      const made: unknown[] = [];
      let next = 0;
      return {
        api: {
          shared: (make) => (made[next++] ??= make()),
          json: (text) => JSON.parse(text) as unknown,
          wasm: () => undefined,
          kernel: () => undefined,
        },
        begin: () => {
          next = 0;
        },
        end: () => undefined,
        readOnly: (value) => value,
        targetOf: () => undefined,
      };
    },
  },
};

describe("without a protection", () => {
  /** One program for each way to remember, which does nothing else. */
  let cases: readonly (readonly [name: string, Case])[];
  const caught = new Set<string>();
  beforeAll(() => {
    const random = new Random(SEED + 2);
    cases = MEMORIES.map((memory) => {
      const program = { ...programOf(random, [memory]), merges: false };
      return [memory.name, caseOf(program, random, ["a\nb", "é"])] as const;
    });
  });

  it.each(Object.entries(WITHOUT))("packets see what others left: %s", (_name, parts) => {
    const random = new Random(SEED + 3);
    const prelude = preludeSource({ ...PRELUDE_PARTS, ...parts });
    const wrong = cases.filter(([, each]) => drawsOf(each, 3, random, prelude).length > 0);
    expect(wrong.length).toBeGreaterThan(0);
    for (const [name] of wrong) caught.add(name);
  });

  it("every way to remember works, where it is not known to be none", () => {
    const ways = MEMORIES.filter(({ isInert }) => isInert !== true).map(({ name }) => name);
    expect(ways.filter((name) => !caught.has(name))).toEqual([]);
  });
});

it("values cross borders as they are, whatever they are", () => {
  const random = new Random(SEED + 3);
  for (let count = 0; count < 1_000; count++) {
    const value = randomValue(random, 3);
    const text = valueCodec.encode(value, "it is");
    expect(isDeepStrictEqual(valueCodec.decode(text), value), text).toBe(true);
    expect(isDeepStrictEqual(valueCodec.copy(value, "it is"), value), text).toBe(true);
    expect(valueCodec.encode(valueCodec.decode(text), "it is")).toBe(text);
  }
});

function randomValue(random: Random, depth: number): unknown {
  const list = (): unknown[] =>
    Array.from({ length: random.integer(0, 3) }, () => randomValue(random, depth - 1));
  const word = (): string => ["a", "$", "v", "__proto__", "\ud800", "constructor", ""][random.integer(0, 6)]!;
  const number = (): number => [0, -0, NaN, Infinity, -Infinity, 1.5, 2 ** 53, 5e-324][random.integer(0, 7)]!;
  const kinds: readonly (() => unknown)[] = [
    () => undefined,
    () => null,
    () => random.chance(0.5),
    word,
    number,
    () => BigInt(Math.round(random.between(-1e9, 1e9))) ** 9n,
    () => new Date(random.chance(0.2) ? NaN : Math.round(random.between(-8.64e15, 8.64e15))),
    () => Uint8Array.from({ length: random.integer(0, 5) }, () => random.integer(0, 255)),
    () => Float64Array.from({ length: random.integer(0, 5) }, number),
    () => BigUint64Array.from({ length: random.integer(0, 3) }, () => BigInt(random.integer(0, 9)) ** 19n),
    () => Int16Array.from({ length: random.integer(0, 5) }, () => random.integer(-32768, 32767)),
    () => new Uint8Array([1, 2, 3]).buffer,
    list,
    () => new Set(list()),
    () => new Map(list().map((value) => [randomValue(random, depth - 1), value])),
    () => Object.fromEntries(list().map((value) => [word(), value])),
    () =>
      Object.assign(
        Object.create(null) as object,
        Object.fromEntries(list().map((value) => [word(), value])),
      ),
  ];
  return kinds[random.integer(0, (depth > 0 ? kinds.length : 12) - 1)]!();
}
