/** A transfer into a file that a channel's thread writes to is not over, for who closes the file, before the thread has let go of it. */
import { setImmediate as turn } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { TransferKind, encodeTransfer } from "../../../nodes/transfer/replication/messages.ts";
import { ByteRanges } from "../../../nodes/transfer/replication/byte-ranges.ts";
import type { ReceiveContext, RootSink } from "../../../nodes/transfer/root-sink.ts";
import { TransferChannel } from "../../../nodes/transfer/transfer-channel.ts";
import type {
  ExpectedRows,
  FromTransferOffload,
  ToTransferOffload,
} from "../../../nodes/transfer/transfer-offload.ts";
import { BulkChannelEnd } from "../../../nodes/wire/bulk/channel.ts";
import type { FromBulk, ToBulk } from "../../../nodes/wire/bulk/protocol.ts";
import { sha256 } from "../../../packets/digest.ts";
import { PacketfsError, errorToJson } from "../../../packets/errors.ts";

const ROOT = sha256(Buffer.from("root"));
const ROWS: ExpectedRows = {
  file: 7,
  refs: sha256(Buffer.from("chunk")),
  from: Float64Array.of(0),
  bytes: Uint32Array.of(1000),
};
const WHY = new PacketfsError("PFS_BULK_CUT", "cut");

/** A channel whose thread is the test. */
class World {
  readonly posted: ToBulk[] = [];
  readonly end: BulkChannelEnd = new BulkChannelEnd({
    number: 1,
    peer: "hub",
    isClear: false,
    post: (message) => void this.posted.push(message),
    awaits: () => {},
  });
  readonly channel: TransferChannel = new TransferChannel(this.end, {
    isDialer: true,
    open: () => Promise.reject(WHY),
  });
  readonly #cancel = new AbortController();
  context: ReceiveContext | undefined;
  settled: string | undefined;

  receive(expected: readonly ExpectedRows[]): void {
    const store: RootSink = {
      begin: async (context) => {
        this.context = context;
        for (const rows of expected) context.expect(rows);
        return await Promise.resolve({ ranges: new ByteRanges(), isWhole: false });
      },
      place: () => Promise.reject(WHY),
      placedAside: () => {
        throw WHY;
      },
      check: () => Promise.resolve([]),
    };
    this.channel.receive({ root: ROOT, store, signal: this.#cancel.signal }).then(
      () => (this.settled = "whole"),
      (error: unknown) => (this.settled = (error as Error).message),
    );
  }

  cancel(): void {
    this.#cancel.abort(new Error("cancelled"));
  }

  says(said: FromTransferOffload): void {
    this.hears({ kind: "offloaded", channel: 1, said });
  }

  hears(message: FromBulk): void {
    this.end.heard(message);
  }

  told(): ToTransferOffload[] {
    return this.posted.flatMap((message) =>
      message.kind === "offload" ? [message.said as ToTransferOffload] : [],
    );
  }
}

/** All that can happen without the thread has happened. */
async function quiet(): Promise<void> {
  for (let turns = 0; turns < 20; turns++) await turn();
}

async function receiving(expected: readonly ExpectedRows[] = [ROWS]): Promise<World> {
  const world = new World();
  world.receive(expected);
  await quiet();
  expect(world.told().map(({ kind }) => kind)).toEqual([...expected.map(() => "expect"), "grant"]);
  return world;
}

describe("a transfer whose chunks a thread places", () => {
  test("and that is given up, is over when the thread says so", async () => {
    const world = await receiving();
    world.cancel();
    await quiet();
    expect(world.told().at(-1)).toEqual({ kind: "over", transfer: 1 });
    world.says({ kind: "released", transfer: 3 });
    await quiet();
    expect(world.settled).toBeUndefined();
    world.says({ kind: "released", transfer: 1 });
    await quiet();
    expect(world.settled).toBe("cancelled");
  });

  test("and that is whole, too", async () => {
    const world = await receiving();
    const of = { transfer: 1, run: 1 };
    const start = {
      kind: TransferKind.FILE_START,
      ...of,
      root: ROOT,
      length: 1000,
      isResumed: false,
    } as const;
    const complete = { kind: TransferKind.FILE_COMPLETE, ...of, messages: 0, bytes: 0, answered: 0 } as const;
    for (const [index, said] of [start, complete].entries())
      world.hears({
        kind: "message",
        channel: 1,
        message: index,
        type: said.kind,
        head: encodeTransfer(said),
        bodyBytes: 0,
        hasClearBody: false,
      });
    await quiet();
    expect(world.told().at(-1)).toEqual({ kind: "over", transfer: 1 });
    expect(world.settled).toBeUndefined();
    world.says({ kind: "released", transfer: 1 });
    await quiet();
    expect(world.settled).toBe("whole");
  });

  test("is over when the thread says that the channel is, also where this side has ended it before", async () => {
    const world = await receiving();
    world.end.cut(WHY);
    await quiet();
    expect([world.end.ended, world.settled]).toEqual([WHY, undefined]);
    world.hears({ kind: "closed", channel: 1, error: errorToJson(WHY) });
    await quiet();
    expect(world.settled).toBe("cut");
  });

  test("is over when its thread is gone", async () => {
    const world = await receiving();
    world.end.lost(WHY);
    await quiet();
    expect(world.settled).toBe("cut");
  });

  test("and that is given up while its channel is being closed, is over all the same", async () => {
    const world = await receiving();
    void world.end.close();
    world.cancel();
    expect(world.told().at(-1)).toEqual({ kind: "over", transfer: 1 });
    world.says({ kind: "released", transfer: 1 });
    await quiet();
    expect(world.settled).toBe("cancelled");
  });

  test("expects nothing any more when it is over, which nobody would take back", async () => {
    const world = await receiving();
    world.context!.expect(ROWS);
    expect(world.told().at(-1)).toMatchObject({ kind: "expect" });
    world.cancel();
    world.context!.expect(ROWS);
    expect(world.told().at(-1)).toEqual({ kind: "over", transfer: 1 });
  });

  test("and of which nothing was expected, is over at once", async () => {
    const world = await receiving([]);
    world.cancel();
    await quiet();
    expect(world.settled).toBe("cancelled");
  });
});
