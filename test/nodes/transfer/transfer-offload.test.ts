/** What a channel's thread does of transfers by itself, and what it leaves to those who use the channel. */
import { describe, expect, test } from "vitest";
import { TRANSFER_TOLD_BYTES } from "../../../nodes/limits.ts";
import {
  DataForm,
  TransferKind,
  costOf,
  decodeTransfer,
  encodeRows,
  encodeTransfer,
} from "../../../nodes/transfer/replication/messages.ts";
import type { TransferMessage } from "../../../nodes/transfer/replication/messages.ts";
import { TransferOffload } from "../../../nodes/transfer/transfer-offload.ts";
import type {
  FromTransferOffload,
  PlacedMessages,
  ToTransferOffload,
} from "../../../nodes/transfer/transfer-offload.ts";
import type { OutgoingMessage } from "../../../nodes/wire/bulk/offload.ts";
import type { Placement } from "../../../nodes/wire/bulk/dialing.ts";
import { Codec } from "../../../packets/codec.ts";
import { sha256 } from "../../../packets/digest.ts";
import type { Ref } from "../../../packets/digest.ts";

const FILE = 17;
const BYTES = 300_000;
const WINDOW = 2 * 1024 * 1024;
const PACKETS = encodeRows(rowsOf([refOf(0)]));
const COST = costOf(PACKETS.byteLength, BYTES);

function refOf(index: number): Ref {
  return sha256(Buffer.from(`chunk ${index}`));
}

function rowsOf(refs: readonly Ref[], bytes = BYTES): Parameters<typeof encodeRows>[0] {
  return {
    refs: Buffer.concat(refs),
    storedBytes: Uint32Array.from(refs, () => bytes),
    plainBytes: Uint32Array.from(refs, () => bytes),
    codec: Uint8Array.from(refs, () => Codec.plain),
  };
}

class World {
  readonly sent: TransferMessage[] = [];
  readonly told: FromTransferOffload[] = [];
  readonly placed: Placement[] = [];
  readonly passed: OutgoingMessage[] = [];
  readonly dropped: OutgoingMessage[] = [];
  /** Refs whose bytes are wrong. */
  readonly wrong: Ref[] = [];
  isDiskFull = false;
  readonly offload: TransferOffload = new TransferOffload({
    send: (type, head) => void this.sent.push(decodeTransfer(type, head, 0)),
    pass: (message) => void this.passed.push(message),
    drop: (message) => void this.dropped.push(message),
    tell: (said) => void this.told.push(said as FromTransferOffload),
    place: (_, placement) => {
      if (this.isDiskFull) throw new Error("no space");
      this.placed.push(placement);
      const good = (row: number): boolean => {
        const ref = placement.refs.subarray(32 * row, 32 * row + 32);
        return !this.wrong.some((other) => Buffer.compare(other, ref) === 0);
      };
      return { good: placement.codec.map((_codec, row) => Number(good(row))) };
    },
  });

  say(said: ToTransferOffload): void {
    this.offload.told(said);
  }

  expect(count: number, transfer = 1): void {
    const refs = Array.from({ length: count }, (_, index) => refOf(index));
    const rows = {
      file: FILE,
      refs: Buffer.concat(refs),
      from: Float64Array.from(refs, (_, index) => index * BYTES),
      bytes: Uint32Array.from(refs, () => BYTES),
    };
    this.say({ kind: "expect", transfer, rows });
  }

  grant(granted: number, aside = 0, run = 1): void {
    this.say({ kind: "grant", transfer: 1, run, granted, window: WINDOW, aside, waiting: 0 });
  }

  /** A message of one chunk. Whether it was dealt with. */
  data(
    number: number,
    refs: readonly Ref[],
    options: { run?: number; form?: DataForm; bytes?: number } = {},
  ): boolean {
    const { run = 1, form = DataForm.stored, bytes = BYTES } = options;
    const packets = form === DataForm.stored ? encodeRows(rowsOf(refs, bytes)) : new Uint8Array(64);
    const head = encodeTransfer({ kind: TransferKind.FILE_DATA, transfer: 1, run, number, form, packets });
    const body = new Uint8Array(refs.length * bytes);
    return this.offload.received({ type: TransferKind.FILE_DATA, head, body });
  }

  get messages(): PlacedMessages["messages"] {
    return this.told.flatMap((said) => (said.kind === "placed" ? said.messages : []));
  }

  credit(): number[] {
    return this.sent.flatMap((message) =>
      message.kind === TransferKind.FILE_CREDIT ? [message.granted] : [],
    );
  }
}

function receiving(count = 20): World {
  const world = new World();
  world.expect(count);
  world.grant(WINDOW);
  return world;
}

describe("chunks that are expected", () => {
  test("are placed where they belong, told of together, and granted anew", () => {
    const world = receiving();
    for (let index = 0; index < 8; index++) expect(world.data(index + 1, [refOf(index)])).toBe(true);
    expect(world.placed.map(({ files, targets }) => [files[0], targets.offset[0]])).toEqual(
      Array.from({ length: 8 }, (_, index) => [FILE, index * BYTES]),
    );
    const untold = 8 - world.messages.length;
    expect(untold * COST).toBeLessThan(TRANSFER_TOLD_BYTES);
    expect(world.told.length).toBeLessThan(8);
    world.offload.flush();
    expect(world.messages.map(({ number, cost, plainBytes }) => [number, cost, plainBytes])).toEqual(
      Array.from({ length: 8 }, (_, index) => [index + 1, COST, BYTES]),
    );
    expect(world.messages[3]!.covered).toEqual(Float64Array.of(3 * BYTES, 4 * BYTES));
    expect(world.credit().at(-1)).toBe(WINDOW + 8 * COST);
    expect(world.told.at(-1)).toMatchObject({ granted: WINDOW + 8 * COST });
  });

  test("are left to others where one of a message is not expected, is of another length, or is there twice", () => {
    const world = receiving(2);
    expect(world.data(1, [refOf(0), refOf(9)])).toBe(false);
    expect(world.data(1, [refOf(0), refOf(0)])).toBe(false);
    expect(world.data(1, [refOf(0)], { bytes: BYTES - 1 })).toBe(false);
    expect(world.data(1, [refOf(0)], { run: 2 })).toBe(false);
    expect(world.data(1, [refOf(0)], { form: DataForm.chunks })).toBe(false);
    expect(world.offload.received({ type: 4, head: Buffer.from("none"), body: new Uint8Array(5) })).toBe(
      false,
    );
    expect(world.placed).toEqual([]);
    expect(world.data(1, [refOf(0), refOf(1)])).toBe(true);
    // Neither is expected again.
    expect(world.data(2, [refOf(0)])).toBe(false);
  });

  test("that are wrong are told at once, and expected again", () => {
    const world = receiving();
    world.wrong.push(refOf(1));
    expect(world.data(1, [refOf(0), refOf(1), refOf(2)])).toBe(true);
    const [message] = world.messages;
    expect(message).toMatchObject({
      plainBytes: 2 * BYTES,
      covered: Float64Array.of(0, BYTES, 2 * BYTES, 3 * BYTES),
    });
    expect([message!.good, message!.wrong].map((refs) => Buffer.from(refs))).toEqual([
      Buffer.concat([refOf(0), refOf(2)]),
      Buffer.from(refOf(1)),
    ]);
    world.wrong.length = 0;
    expect(world.data(2, [refOf(1)])).toBe(true);
  });

  test("that cannot be written are left to those who say why", () => {
    const world = receiving();
    world.isDiskFull = true;
    expect(world.data(1, [refOf(0)])).toBe(false);
    expect(world.messages).toEqual([]);
    world.isDiskFull = false;
    expect(world.data(1, [refOf(0)])).toBe(true);
  });

  test("of a transfer that is over are not placed any more", () => {
    const world = receiving();
    expect(world.data(1, [refOf(0)])).toBe(true);
    world.say({ kind: "over", transfer: 1 });
    expect(world.messages.length).toBe(1);
    // Last of all it says that the file may be closed.
    expect(world.told.at(-1)).toEqual({ kind: "released", transfer: 1 });
    expect(world.data(2, [refOf(1)])).toBe(false);
  });

  test("of none that is over, nothing is said: nobody waits for its file", () => {
    const world = new World();
    world.grant(WINDOW);
    world.say({ kind: "over", transfer: 1 });
    world.say({ kind: "over", transfer: 3 });
    expect(world.told).toEqual([]);
  });
});

describe("credit", () => {
  test("counts what is placed here once, when those who use the channel know it too", () => {
    const world = receiving();
    for (let index = 0; index < 4; index++) world.data(index + 1, [refOf(index)]);
    // They know of two of these, and have placed something else.
    world.grant(WINDOW + 2 * COST + 500_000, 2 * COST);
    expect(world.credit().at(-1)).toBe(WINDOW + 4 * COST + 500_000);
    // And of all of them.
    world.grant(WINDOW + 4 * COST + 500_000, 4 * COST);
    expect(world.credit().at(-1)).toBe(WINDOW + 4 * COST + 500_000);
  });

  test("that was granted is told before anything that comes by it", () => {
    const world = receiving();
    world.grant(2 * WINDOW);
    expect(world.told).toEqual([]);
    world.offload.flush();
    expect(world.told).toMatchObject([{ transfer: 1, run: 1, messages: [], granted: 2 * WINDOW }]);
  });

  test("of a new run begins with what is asked for, and what was placed of the one before is told as that", () => {
    const world = receiving();
    for (let index = 0; index < 3; index++) world.data(index + 1, [refOf(index)]);
    world.grant(WINDOW, 0, 2);
    expect(world.told.at(-1)).toMatchObject({ run: 1 });
    const before = world.credit().length;
    expect(world.data(1, [refOf(4)], { run: 1 })).toBe(false);
    expect(world.data(1, [refOf(3)], { run: 2 })).toBe(true);
    expect(world.credit().slice(before)).toEqual([WINDOW + COST]);
    // What came late of those that know less of the run before changes nothing.
    world.grant(9 * WINDOW, 0, 1);
    expect(world.credit().slice(before)).toEqual([WINDOW + COST]);
  });

  test("lets go what was made ahead of it, and is told to others too", () => {
    const world = new World();
    const message = (id: number, at: number): OutgoingMessage => ({
      kind: "send",
      channel: 1,
      id,
      type: TransferKind.FILE_DATA,
      head: new Uint8Array(0),
      body: { kind: "none" },
      hasClearBody: false,
      fillsUnreadable: false,
      held: { transfer: 1, run: 1, at, granted: 100 },
    });
    expect([message(1, 100), message(2, 200)].map((sent) => world.offload.holds(sent))).toEqual([true, true]);
    expect(world.offload.holds({ ...message(3, 0), held: undefined })).toBe(false);
    expect(world.passed.map(({ id }) => id)).toEqual([1]);
    const head = encodeTransfer({
      kind: TransferKind.FILE_CREDIT,
      transfer: 1,
      run: 1,
      granted: 200,
      waiting: 0,
    });
    const credit = { type: TransferKind.FILE_CREDIT, head, body: new Uint8Array(0) };
    expect(world.offload.received(credit)).toBe(false);
    expect(world.passed.map(({ id }) => id)).toEqual([1, 2]);
    world.offload.holds(message(4, 300));
    world.say({ kind: "over", transfer: 1 });
    expect(world.dropped.map(({ id }) => id)).toEqual([4]);
  });
});
