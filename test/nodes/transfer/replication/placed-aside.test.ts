/** A receiver whose messages are placed where they come: what it makes of what it hears afterwards. */
import { describe, expect, test } from "vitest";
import { TRANSFER_CREDIT_BYTES_MIN, TRANSFER_GRANTS_PER_WINDOW } from "../../../../nodes/limits.ts";
import {
  DataForm,
  TransferKind,
  costOf,
  decodeTransfer,
  encodeTransfer,
} from "../../../../nodes/transfer/replication/messages.ts";
import type { TransferMessage } from "../../../../nodes/transfer/replication/messages.ts";
import type { FileReceiver, Grant, PlacedAside } from "../../../../nodes/transfer/replication/receiver.ts";
import { Transfers } from "../../../../nodes/transfer/replication/transfers.ts";
import type { TransferAction } from "../../../../nodes/transfer/replication/transfers.ts";
import { sha256 } from "../../../../packets/digest.ts";

type Body = { readonly bytes: number };

const ROOT = sha256(Buffer.from("root"));
const REF = sha256(Buffer.from("chunk"));
const WINDOW = TRANSFER_CREDIT_BYTES_MIN;
const LENGTH = 100 * 1024 * 1024;
const PACKETS = new Uint8Array(64);
const COST = costOf(64, 100_000);
const NONE = { chunks: 0, plainBytes: 0, patchedChunks: 0, compressedChunks: 0, wrong: [], covered: [] };

class Client {
  readonly transfers: Transfers<Body> = new Transfers({ isDialer: true, bodyBytes: ({ bytes }) => bytes });
  readonly receiver: FileReceiver<Body> = this.transfers.get({ root: ROOT, length: LENGTH });
  readonly said: TransferMessage[] = [];
  readonly grants: Grant[] = [];
  readonly ends: TransferAction<Body>[] = [];

  begins(run = 1): void {
    const start = { kind: TransferKind.FILE_START, transfer: 1, run, root: ROOT, length: LENGTH } as const;
    this.hears({ ...start, isResumed: this.receiver.had.size > 0 });
  }

  hears(message: TransferMessage, bytes?: number): void {
    this.transfers.received(
      message.kind,
      encodeTransfer(message),
      bytes === undefined ? undefined : { bytes },
    );
    this.settle();
  }

  /** A message that nobody has placed. */
  comes(number: number, run = 1): void {
    const message = { kind: TransferKind.FILE_DATA, transfer: 1, run, number } as const;
    this.hears({ ...message, form: DataForm.chunks, packets: PACKETS }, 100_000);
  }

  /** One that was, with the bytes from `number` times 100,000 on. */
  isPlaced(number: number, options: { run?: number; granted?: number; wrong?: boolean } = {}): void {
    const { run = 1, granted = 0, wrong = false } = options;
    const from = number * 100_000;
    const good = { ...NONE, chunks: 1, plainBytes: 100_000, covered: [{ from, end: from + 100_000 }] };
    const placed: PlacedAside = {
      ...(wrong ? { ...NONE, wrong: [REF] } : good),
      number,
      cost: COST,
      bytes: 100_100,
    };
    this.transfers.placedAside(1, run, { messages: [placed], granted, sentBytes: 0 });
    this.settle();
  }

  settle(): void {
    for (const action of this.transfers.takeActions()) {
      if (action.kind === "received") this.ends.push(action);
      if (action.kind !== "send") continue;
      this.said.push(decodeTransfer(action.type, action.head, 0));
      if (action.grant !== undefined) this.grants.push(action.grant);
    }
  }

  kinds(): number[] {
    return this.said.splice(0).map(({ kind }) => kind);
  }
}

function receiving(): Client {
  const client = new Client();
  client.settle();
  client.begins();
  client.kinds();
  return client;
}

describe("what was placed aside", () => {
  test("is here, is granted anew with the rest, and is said to be known", () => {
    const client = receiving();
    const count = Math.ceil(WINDOW / TRANSFER_GRANTS_PER_WINDOW / COST);
    for (let number = 1; number <= count; number++) client.isPlaced(number);
    expect(client.receiver.had.covers(100_000, (count + 1) * 100_000)).toBe(true);
    expect(client.receiver.stats).toMatchObject({ chunks: count, messages: count });
    expect(client.grants.at(-1)).toEqual({
      transfer: 1,
      run: 1,
      granted: WINDOW + count * COST,
      window: WINDOW,
      aside: count * COST,
      waiting: 0,
    });
  });

  test("and granted there, is not granted again, and what comes for it is taken", () => {
    const client = receiving();
    const count = Math.floor(WINDOW / COST);
    // All that was granted waits here to be placed, but for one, for which more was granted where it was placed.
    for (let number = 1; number < count; number++) client.comes(number);
    client.isPlaced(count, { granted: WINDOW + COST });
    client.comes(count + 1);
    expect([client.kinds(), client.ends]).toEqual([[], []]);
    // Beside that one, without the grant: it is too much.
    const other = receiving();
    for (let number = 1; number <= count; number++) other.comes(number);
    other.comes(count + 1);
    expect(other.ends).toMatchObject([{ error: { code: "PFS_TRANSFER_INVALID" } }]);
  });

  test("of the run before is here too, and says nothing of what this one was granted", () => {
    const client = receiving();
    client.receiver.restart();
    client.settle();
    client.isPlaced(7, { granted: 50 * WINDOW });
    expect(client.receiver.had.covers(700_000, 800_000)).toBe(true);
    expect(client.kinds()).toEqual([TransferKind.FILE_REQUEST]);
    client.begins(2);
    const count = Math.floor(WINDOW / COST);
    for (let number = 1; number <= count; number++) {
      client.comes(number, 2);
      client.receiver.placed(2, number, { ...NONE, chunks: 1 });
    }
    client.settle();
    expect(client.grants.at(-1)).toMatchObject({ run: 2, aside: 0 });
    expect(client.grants.at(-1)!.granted).toBeGreaterThan(WINDOW);
  });

  test("while what came before is placed first is here, and is none of that, whatever number a peer gives it", () => {
    const client = receiving();
    client.comes(1);
    client.receiver.restart();
    client.isPlaced(1);
    expect(client.receiver.had.covers(100_000, 200_000)).toBe(true);
    expect([client.receiver.heldBytes, client.kinds()]).toEqual([COST, []]);
    client.receiver.placed(1, 1, NONE);
    client.settle();
    expect([client.receiver.heldBytes, client.kinds()]).toEqual([0, [TransferKind.FILE_REQUEST]]);
  });

  test("and is wrong, is complained about; out of order, it ends the transfer", () => {
    const client = receiving();
    client.isPlaced(1, { wrong: true });
    expect(client.said).toMatchObject([{ kind: TransferKind.FILE_WRONG, complaint: 1, refs: [REF] }]);
    client.isPlaced(3);
    expect(client.ends).toMatchObject([{ error: { code: "PFS_TRANSFER_INVALID" } }]);
    client.isPlaced(4);
    expect(client.ends.length).toBe(1);
  });
});
