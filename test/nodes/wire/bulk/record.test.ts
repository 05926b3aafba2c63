/** Records of bulk channels: what is sealed is opened, and what anybody does to it in between is found. */
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hasCode } from "../../../../packets/errors.ts";
import {
  bulkGreeting,
  BULK_BEGINNING_BYTES,
  readBulkBeginning,
  startsLikeBulk,
} from "../../../../nodes/wire/bulk/beginning.ts";
import { channelKey, Direction, nextKey } from "../../../../nodes/wire/bulk/keys.ts";
import type { Agreement } from "../../../../nodes/wire/bulk/keys.ts";
import {
  RECORD_HEADER_BYTES,
  RecordKind,
  RecordOpener,
  RecordSealer,
} from "../../../../nodes/wire/bulk/record.ts";
import type { KeyLimits, OpenedRecord, OutRecord } from "../../../../nodes/wire/bulk/record.ts";

const HELLO: OutRecord = { kind: RecordKind.hello };
const END: OutRecord = { kind: RecordKind.end };

function agreement(changes: Partial<Agreement> = {}): Agreement {
  return {
    ticket: new Uint8Array(16).fill(1),
    secret: new Uint8Array(32).fill(2),
    nonce: new Uint8Array(32).fill(3),
    session: new Uint8Array(32).fill(4),
    isClear: false,
    ...changes,
  };
}

const message = (text: string, body = `body of ${text}`): OutRecord => ({
  kind: RecordKind.message,
  type: 7,
  head: Buffer.from(text),
  body: Buffer.from(body),
});

/** The bytes of each record. */
function seal(
  records: readonly OutRecord[],
  key = channelKey(agreement(), Direction.toPort),
  limits?: KeyLimits,
): Buffer[] {
  const sealer = new RecordSealer(Uint8Array.from(key), limits);
  return records.map((record) => Buffer.concat(sealer.seal(record)));
}

interface Read {
  readonly records: OpenedRecord[];
  readonly error: unknown;
  /** Memory for bodies that nobody gave back or handed on. */
  readonly held: number;
}

/** What a receiver makes of a line that ends behind these bytes. */
function read(
  line: readonly Uint8Array[],
  {
    key = channelKey(agreement(), Direction.toPort),
    isClear = false,
    limits,
  }: { key?: Uint8Array; isClear?: boolean; limits?: KeyLimits } = {},
): Read {
  const records: OpenedRecord[] = [];
  const held = new Set<Uint8Array>();
  const opener = new RecordOpener({
    key: Uint8Array.from(key),
    isClear,
    ...(limits === undefined ? {} : { limits }),
    sink: {
      memory: (bytes) => {
        const memory = new Uint8Array(bytes);
        held.add(memory);
        return memory;
      },
      unused: (memory) => void held.delete(memory),
      opened: (record) => {
        held.delete(record.body);
        records.push(record);
      },
    },
  });
  try {
    for (const bytes of line) opener.push(bytes);
    opener.lineEnded();
    return { records, error: undefined, held: held.size };
  } catch (error) {
    expect(() => opener.push(Buffer.alloc(1))).toThrow();
    return { records, error, held: held.size };
  }
}

const texts = ({ records }: Read): string[] =>
  records
    .filter(({ kind }) => kind === RecordKind.message)
    .map(({ head, body }) => `${Buffer.from(head).toString()}|${Buffer.from(body).toString()}`);

const isDamaged = (error: unknown): boolean => hasCode(error, "PFS_BULK_DAMAGED");
const isCut = (error: unknown): boolean => hasCode(error, "PFS_BULK_CUT");

const SAID = [HELLO, message("one"), message("two"), message("three"), END];

test("records come as they were sealed, in whatever pieces", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          head: fc.uint8Array({ maxLength: 300 }),
          body: fc.uint8Array({ maxLength: 3000 }),
          hasClearBody: fc.boolean(),
          type: fc.nat(0xffff),
        }),
        {
          maxLength: 8,
        },
      ),
      fc.integer({ min: 1, max: 700 }),
      (said, pieceBytes) => {
        const messages = said.map((each) => ({ kind: RecordKind.message, ...each }));
        const bytes = Buffer.concat(seal([HELLO, ...messages, END]));
        const line: Buffer[] = [];
        for (let at = 0; at < bytes.byteLength; at += pieceBytes)
          line.push(bytes.subarray(at, at + pieceBytes));
        const { records, error, held } = read(line, { isClear: true });
        expect(error).toBeUndefined();
        expect(held).toBe(0);
        expect(
          records
            .slice(1, -1)
            .map(({ type, head, body, hasClearBody }) => ({ type, head, body, hasClearBody })),
        ).toEqual(
          said.map(({ type, head, body, hasClearBody }) => ({
            type,
            head,
            body: Uint8Array.from(body),
            hasClearBody,
          })),
        );
      },
    ),
    { numRuns: 200 },
  );
});

test("a body of the largest size comes whole, of several pieces", () => {
  const body = randomBytes(1024 * 1024);
  const { records, error } = read(seal([HELLO, { kind: RecordKind.message, body }, END]));
  expect(error).toBeUndefined();
  expect(Buffer.compare(records[1]!.body, body)).toBe(0);
});

describe("somebody on the line", () => {
  const sealed = seal(SAID);

  test("changes any bit: what came before it came, and nothing from there on", () => {
    for (let index = 0; index < sealed.length; index++) {
      for (let bit = 0; bit < sealed[index]!.byteLength * 8; bit++) {
        const changed = Buffer.from(sealed[index]!);
        changed[bit >> 3]! ^= 1 << (bit & 7);
        const seen = read(sealed.with(index, changed));
        // A length that became larger has it wait for what never comes.
        const inLength = bit >> 3 >= 4 && bit >> 3 < 12;
        expect(isDamaged(seen.error) || (inLength && isCut(seen.error))).toBe(true);
        expect(seen.records.length).toBe(index);
        expect(seen.held).toBe(0);
      }
    }
  });

  test("sends one again, leaves one out, changes their order", () => {
    for (let index = 0; index < sealed.length; index++) {
      const again = read(sealed.toSpliced(index, 0, sealed[index]!));
      expect(isDamaged(again.error)).toBe(true);
      expect(again.records.length).toBe(index + 1);
      const without = read(sealed.toSpliced(index, 1));
      expect(isDamaged(without.error) || (index === sealed.length - 1 && isCut(without.error))).toBe(true);
      expect(without.records.length).toBe(index);
      if (index === 0) continue;
      const swapped = read(sealed.with(index - 1, sealed[index]!).with(index, sealed[index - 1]!));
      expect(isDamaged(swapped.error)).toBe(true);
      expect(swapped.records.length).toBe(index - 1);
    }
  });

  test("cuts it anywhere: it is told from an orderly end", () => {
    const bytes = Buffer.concat(sealed);
    for (let length = 0; length < bytes.byteLength; length++) {
      const seen = read([bytes.subarray(0, length)]);
      expect(isCut(seen.error)).toBe(true);
      expect(texts(seen).length).toBeLessThanOrEqual(3);
    }
    expect(read([bytes]).error).toBeUndefined();
  });

  test("says something behind the end", () => {
    expect(isDamaged(read([...sealed, Buffer.alloc(1)]).error)).toBe(true);
    expect(isDamaged(read([...sealed, sealed[1]!]).error)).toBe(true);
  });

  test("sends it back to who said it", () => {
    const seen = read(sealed, { key: channelKey(agreement(), Direction.fromPort) });
    expect(isDamaged(seen.error)).toBe(true);
    expect(seen.records).toEqual([]);
  });

  test("splices two channels of one session", () => {
    const other = seal(
      SAID,
      channelKey(agreement({ ticket: randomBytes(16), secret: randomBytes(32) }), Direction.toPort),
    );
    for (let index = 0; index < sealed.length; index++) {
      const seen = read([...sealed.slice(0, index), ...other.slice(index)]);
      expect(isDamaged(seen.error)).toBe(true);
      expect(seen.records.length).toBe(index);
    }
  });
});

test("the keys of two channels differ when anything that was agreed does, and by direction", () => {
  const keys = [
    channelKey(agreement(), Direction.toPort),
    channelKey(agreement(), Direction.fromPort),
    ...(["ticket", "secret", "nonce", "session"] as const).map((field) =>
      channelKey(agreement({ [field]: agreement()[field].with(0, 9) }), Direction.toPort),
    ),
    channelKey(agreement({ isClear: true }), Direction.toPort),
    nextKey(channelKey(agreement(), Direction.toPort)),
  ].map((key) => Buffer.from(key).toString("hex"));
  expect(new Set(keys).size).toBe(keys.length);
  expect(new Set(keys.map((key) => key.length))).toEqual(new Set([64]));
});

test("no two records are sealed with one key and nonce, however long a channel lives", () => {
  // Of one plain text under one key and nonce the sealed bytes are the same.
  for (const limits of [
    { records: 3, bytes: 1 << 30 },
    { records: 1 << 20, bytes: 40 },
    { records: 1, bytes: 1 << 30 },
  ]) {
    const said = [HELLO, ...Array.from({ length: 100 }, () => message("again")), END];
    const sealed = seal(said, undefined, limits);
    const bodies = sealed.slice(1, -1).map((bytes) => bytes.subarray(RECORD_HEADER_BYTES).toString("hex"));
    expect(new Set(bodies).size).toBe(100);
    const seen = read(sealed, { limits });
    expect(seen.error).toBeUndefined();
    expect(texts(seen).length).toBe(100);
    // Whoever goes on with the first key does not understand the next one's records, so there is one.
    expect(isDamaged(read(sealed).error)).toBe(true);
  }
});

describe("bodies in the clear", () => {
  const record = { ...message("head", "the body"), hasClearBody: true };
  const key = channelKey(agreement({ isClear: true }), Direction.toPort);

  test("are to be read on the line, their heads are not, and the lengths of both are authenticated", () => {
    const sealed = seal([HELLO, record, END], key);
    expect(sealed[1]!.includes("the body")).toBe(true);
    expect(sealed[1]!.includes("head")).toBe(false);
    const seen = read(sealed, { key, isClear: true });
    expect(seen.error).toBeUndefined();
    expect(seen.records[1]!.hasClearBody).toBe(true);
    const bodyAt = sealed[1]!.byteLength - "the body".length;
    for (let at = 0; at < bodyAt; at++) {
      const changed = Buffer.from(sealed[1]!);
      changed[at]! ^= 1;
      expect(texts(read(sealed.with(1, changed), { key, isClear: true }))).toEqual([]);
    }
  });

  test("are refused on channels that were not agreed to have them", () => {
    expect(isDamaged(read(seal([HELLO, record, END])).error)).toBe(true);
  });

  test("are still told from each other's absence", () => {
    const sealed = seal([HELLO, record, END], key);
    const bytes = Buffer.concat(sealed);
    for (let length = 0; length < bytes.byteLength; length++)
      expect(isCut(read([bytes.subarray(0, length)], { key, isClear: true }).error)).toBe(true);
  });
});

test("what no peer says is refused by its header, before memory is taken", () => {
  const headers = [
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
    [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [2, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 16, 0, 0, 0, 0, 0],
    [2, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0],
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  ];
  for (const header of headers) {
    const seen = read([Uint8Array.from(header)], { isClear: true });
    expect(isDamaged(seen.error)).toBe(true);
    expect(seen.held).toBe(0);
  }
});

test("any bytes end in an error, and in nothing else", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 5 }), (line) => {
      const seen = read(line);
      expect(isDamaged(seen.error) || isCut(seen.error)).toBe(true);
      expect(seen.records).toEqual([]);
    }),
    { numRuns: 2000 },
  );
});

test("a beginning is told from others by its first bytes, and read when it is whole", () => {
  const ticket = randomBytes(16);
  const said = Buffer.concat([bulkGreeting(ticket), ...seal([HELLO])]);
  expect(said.byteLength).toBe(BULK_BEGINNING_BYTES);
  for (let length = 1; length <= said.byteLength; length++)
    expect(startsLikeBulk(said.subarray(0, length))).toBe(true);
  for (let length = 0; length < said.byteLength; length++)
    expect(readBulkBeginning(said.subarray(0, length))).toBeUndefined();
  const { ticket: read, hello } = readBulkBeginning(Buffer.concat([said, Buffer.from("more")]))!;
  expect(Buffer.compare(read, ticket)).toBe(0);
  expect(Buffer.compare(hello, seal([HELLO])[0]!)).toBe(0);
  for (const other of ["", "\xff", "GET / HTTP/1.1", "PFSBULK2", "PFSBULL", "\x00"])
    expect(startsLikeBulk(Buffer.from(other, "latin1"))).toBe(false);
});
