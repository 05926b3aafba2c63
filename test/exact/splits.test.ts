/**
 * What comes of a file does not depend on where it is split: for every reader, encoding and option, random hostile files
 * are cut in many ways, and each way must show the program the same records in the same places, and end with the same
 * first fault. A record may have but a few bytes here, so that limits are met as often as everything else; readers of
 * bytes that splits decide (`bytes()`, `blocks`) must give the same bytes.
 *
 * PACKETFS_EXACT_DRAWS is how many files are made (default 120), PACKETFS_EXACT_SEED what they follow from.
 */
import { afterAll, beforeAll, expect, it } from "vitest";
import { PacketfsError } from "../../packets/errors.ts";
import { FaultCode } from "../../packets/faults.ts";
import type { ReaderSpec, TextEncoding } from "../../runtime/program/readers.ts";
import { preludeSource } from "../../runtime/sandbox/guest/source.ts";
import { parseFault } from "../../runtime/sandbox/process/protocol.ts";
import type { GuestIsolate } from "../../runtime/sandbox/thread/guest-isolate.ts";
import { blocks, bytes, columns, csv, jsonLines, lines, records } from "../../sdk/program.ts";
import { packetsOf } from "../runtime/program/splits.ts";
import type { Plan, SplitInput } from "../runtime/program/splits.ts";
import { Random } from "../sim/random.ts";
import { Inputs, openProgram } from "./machine.ts";

const DRAWS = Number(process.env["PACKETFS_EXACT_DRAWS"] ?? 120);
const SEED = Number(process.env["PACKETFS_EXACT_SEED"] ?? 1);
const FILES_PER_READER = 10;
const ENCODINGS: readonly TextEncoding[] = ["utf-8", "utf-8", "latin1", "utf-16le", "utf-16be"];
const PLANS_PER_FILE = 6;
const RECORD_BYTES = 24;

/** The prelude with a limit of records that small files reach. */
const PRELUDE = `((boot) => (config, exchange) => boot(JSON.stringify({ ...JSON.parse(config), recordBytesMax: ${RECORD_BYTES} }), exchange))(
${preludeSource().replace('"use strict";', "")})`;

/** [record, offset, ownLength]: bytes are text of a unit a byte, and bigints text. */
type Shown = readonly [record: unknown, offset: number, ownLength: number];

interface Answer {
  readonly records: readonly Shown[];
  readonly fault?: { readonly status: number; readonly at: number | undefined; readonly text: string };
}

/** Logs each record, and throws at those in which a "!" is their own. */
function programOf(spec: ReaderSpec): string {
  return `
    const shown = (key, value) => typeof value === "bigint" ? value + "n"
      : value instanceof Uint8Array ? String.fromCharCode(...value) : value;
    export default {
      input: ${JSON.stringify(spec)},
      limits: { logBytes: 1048576 },
      map(record, { offset, ownLength }) {
        const text = JSON.stringify([record, offset, ownLength], shown);
        const own = typeof record === "string" ? record.slice(0, ownLength)
          : record instanceof Uint8Array ? String.fromCharCode(...record.subarray(0, ownLength)) : text;
        if (${!isSplit(spec)} && own.includes("!")) throw new RangeError("!");
        console.log(text);
      },
    };`;
}

/** Records are what a split has. */
function isSplit(spec: ReaderSpec): boolean {
  return spec.kind === "blocks" || (spec.kind === "bytes" && spec.size === undefined);
}

async function answerOf(
  guest: GuestIsolate,
  spec: ReaderSpec,
  file: Uint8Array,
  plan: Plan,
  stepBytes: number,
): Promise<Answer> {
  const shown: Shown[] = [];
  let packets: Awaited<ReturnType<typeof packetsOf>>;
  try {
    packets = await packetsOf(spec, file, plan, { stepBytes, recordBytesMax: RECORD_BYTES });
  } catch (error) {
    // A scan that fails ends the job.
    if (!(error instanceof PacketfsError)) throw error;
    packets = [error];
  }
  const results = inputs.results(
    guest,
    packets.filter((packet): packet is SplitInput => !(packet instanceof PacketfsError)),
  );
  for (const packet of packets) {
    if (packet instanceof PacketfsError) {
      const fault = { status: FaultCode.badRecord, at: Number(packet.data["at"]), text: packet.message };
      return { records: shown, fault };
    }
    const { status, log, bytes: output } = results.shift()!;
    if (log !== undefined) shown.push(...log.split("\n").map((line) => JSON.parse(line) as Shown));
    if (status === 0) continue;
    const { place: at, text } = parseFault(output);
    return { records: shown, fault: { status, at, text } };
  }
  return { records: shown };
}

/** Where a reader's records are splits, the bytes that they are made of. */
function comparable(spec: ReaderSpec, { records: shown, fault }: Answer): Answer | string {
  // What comes before a fault then depends on the splits, as the records do.
  if (isSplit(spec) && fault === undefined) return shown.map(([text]) => text as string).join("");
  return fault === undefined ? { records: shown } : { records: isSplit(spec) ? [] : shown, fault };
}

/** Text that readers look at, and text that they do not. */
const WORDS: readonly string[] = [
  "\n",
  "\n",
  "\r\n",
  "\r",
  "\r\n\r\n",
  "\n\n",
  ",",
  ";",
  "\t",
  '"',
  '""',
  "'",
  "\\",
  "#",
  " ",
  "\0",
  "a",
  "aa",
  "aba",
  "ababa",
  "b",
  "!",
  "é",
  "€",
  "😀",
  "\u{feff}",
  "\u0a0a",
  "\u0a00",
  "x",
  "word",
  '{"k":1}',
  "[1,2",
  "9007199254740993",
  "null",
  "1,2",
  "sep=;\n",
  '"q\n"',
];
/** Bytes that are no UTF-8, or only its beginning, in hexadecimal digits. */
const HOSTILE: readonly string[] =
  "e2 e282 f09f f09f98 c3 80 bfbf ff fe c0af e080 eda080 f4908080 f5 fffe 00".split(" ");
/** What says of a file what it is. */
const BEGINNINGS: readonly string[] = "efbbbf fffe feff efbb 1f8b08 504b0304".split(" ");

function encoded(text: string, encoding: TextEncoding): Uint8Array {
  switch (encoding) {
    case "utf-8":
      return Buffer.from(text);
    case "latin1":
      return Buffer.from(text, "latin1");
    case "utf-16le":
      return Buffer.from(text, "utf16le");
    case "utf-16be":
      return Buffer.from(text, "utf16le").swap16();
  }
}

function pick<Item>(random: Random, items: readonly Item[]): Item {
  return items[random.integer(0, items.length - 1)]!;
}

/** The encoding in which a file for the reader is written; hostile files are written in another one. */
function encodingOf(spec: ReaderSpec): TextEncoding {
  return "encoding" in spec && spec.encoding !== undefined ? spec.encoding : "utf-8";
}

function randomFile(random: Random, spec: ReaderSpec): Buffer {
  const encoding = random.chance(0.03) ? pick(random, ENCODINGS) : encodingOf(spec);
  const separator = spec.kind === "records" ? Buffer.from(spec.separator, "hex") : undefined;
  // Few words make much of the same.
  const words = Array.from({ length: random.integer(1, 8) }, () => pick(random, WORDS));
  const hostility = random.chance(0.4) ? 0 : random.between(0, 0.15);
  const parts: Uint8Array[] = [];
  if (random.chance(0.1)) parts.push(Buffer.from(pick(random, BEGINNINGS), "hex"));
  if (random.chance(0.1)) parts.push(encoded("\u{feff}", encoding));
  for (let count = random.integer(0, 25); count > 0; count--) {
    if (random.chance(hostility)) parts.push(Buffer.from(pick(random, HOSTILE), "hex"));
    else if (random.chance(hostility / 2)) parts.push(encoded("\ud83d", encoding));
    else if (separator !== undefined && random.chance(0.2)) parts.push(separator);
    // As long as a record may be, or about so.
    else if (random.chance(0.05)) {
      const units = Math.ceil(RECORD_BYTES / (encoding.startsWith("utf-16") ? 2 : 1));
      parts.push(encoded("y".repeat(units + random.integer(-3, 3)), encoding));
    } else parts.push(encoded(pick(random, words), encoding));
  }
  const file = Buffer.concat(parts);
  return random.chance(0.3) ? file.subarray(0, random.integer(0, file.byteLength)) : file;
}

function randomReader(random: Random): ReaderSpec {
  const encoding = pick(random, ENCODINGS);
  const overlap = random.chance(0.6) ? { overlapBytes: random.integer(1, 9) } : {};
  const isSet = (): boolean => random.chance(0.5);
  switch (random.integer(0, 10)) {
    case 0:
    case 1:
      return lines({ encoding });
    case 2:
      return lines({ encoding, raw: true });
    case 3:
    case 4:
    case 5: {
      const separator = pick(random, ["\n", "\r\n", "aba", "aa", "\n\n", "é", "\0", "ababab", "y"]);
      return random.chance(0.25)
        ? records({ separator, ...overlap })
        : records({ separator, encoding, ...overlap });
    }
    case 6:
      return jsonLines({ encoding, bigint: isSet() });
    case 7:
    case 8: {
      const options = {
        encoding,
        separator: pick(random, [",", ";", "\t", " "]),
        quote: pick(random, ['"', '"', "'", ""]),
        ragged: pick(random, ["error", "pad", "keep"] as const),
        trim: isSet(),
        relaxQuotes: isSet(),
        ...(random.chance(0.3) ? { escape: "\\" } : {}),
        ...(random.chance(0.3) ? { comment: "#" } : {}),
      };
      const header = isSet();
      return random.chance(0.3)
        ? csv({ ...options, header, columns: ["p", "q"] })
        : header
          ? csv(options)
          : csv({ ...options, header: false });
    }
    case 9:
      return isSet() ? bytes(random.integer(1, 9), overlap) : isSet() ? bytes() : blocks();
    default:
      return columns(pick(random, [{ a: "u8", b: "u16" }, { a: "f64" }, { a: "u8" }] as const));
  }
}

/** Splits of one size, or of any. */
function randomPlan(random: Random, total: number): Plan {
  const ends: number[] = [];
  const size = random.chance(0.7) ? pick(random, [1, 2, 3, 4, 5, 7, 11, 13, 16, 23, 24, 25, 29]) : undefined;
  for (let end = size ?? 1; end < total; end += size ?? random.integer(1, 12)) ends.push(end);
  return total === 0 ? [] : [...ends, total];
}

let inputs: Inputs;
beforeAll(() => {
  inputs = new Inputs();
});
afterAll(() => {
  inputs.close();
});

it(`records, places and faults are the same wherever a file is split: ${DRAWS} files`, async () => {
  const random = new Random(SEED);
  let faults = 0;
  for (let drawn = 0; drawn < DRAWS; drawn += FILES_PER_READER) {
    const spec = randomReader(random);
    const guest = openProgram(programOf(spec), "map", null, PRELUDE);
    try {
      for (let count = 0; count < FILES_PER_READER; count++) {
        const file = randomFile(random, spec);
        const total = file.byteLength;
        const one = await answerOf(guest, spec, file, total === 0 ? [] : [total], 64);
        if (one.fault !== undefined) faults++;
        for (let plans = 0; plans < PLANS_PER_FILE; plans++) {
          const plan = randomPlan(random, total);
          const found = await answerOf(guest, spec, file, plan, random.integer(1, 40));
          const where = `${JSON.stringify(spec)} over ${file.toString("hex")} (${JSON.stringify(file.toString("latin1"))}), splits end at ${plan.join()}`;
          expect(comparable(spec, found), where).toEqual(comparable(spec, one));
        }
      }
    } finally {
      guest.dispose();
    }
  }
  // Files are hostile, and not so hostile that nothing is read.
  expect(faults).toBeGreaterThan(DRAWS / 5);
  expect(faults).toBeLessThan((DRAWS * 4) / 5);
});
