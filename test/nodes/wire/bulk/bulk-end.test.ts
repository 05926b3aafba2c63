/** A channel that is over here, and that its thread has not ended yet, keeps the process: somebody waits for that. */
import { once } from "node:events";
import { MessageChannel } from "node:worker_threads";
import { expect, test } from "vitest";
import { BulkEnd } from "../../../../nodes/wire/bulk/bulk-end.ts";
import type { BulkChannelEnd } from "../../../../nodes/wire/bulk/channel.ts";
import type { Agreement } from "../../../../nodes/wire/bulk/keys.ts";
import type { FromBulk } from "../../../../nodes/wire/bulk/protocol.ts";
import { PacketfsError, errorToJson } from "../../../../packets/errors.ts";

const WHY = new PacketfsError("PFS_BULK_CUT", "cut");
const AGREEMENT: Agreement = {
  ticket: new Uint8Array(32),
  secret: new Uint8Array(32),
  nonce: new Uint8Array(32),
  session: new Uint8Array(32),
  isClear: false,
};

function open(): {
  end: BulkEnd;
  channel: () => BulkChannelEnd;
  keeps: () => boolean;
  say: (message: FromBulk) => Promise<void>;
} {
  const { port1, port2 } = new MessageChannel();
  port2.unref();
  const end = new BulkEnd(port1);
  return {
    end,
    channel: () => end.expect("hub", AGREEMENT, () => {}),
    keeps: () => port1.hasRef(),
    say: async (message) => {
      const heard = once(port1, "message");
      port2.postMessage(message);
      await heard;
    },
  };
}

test("until the thread of all of them says so", async () => {
  const { channel, keeps, say } = open();
  const [one, two, three] = [channel(), channel(), channel()];
  expect(keeps()).toBe(false);
  one.cut(WHY);
  two.cut(WHY);
  three.cut(WHY);
  await one.closed;
  expect(keeps()).toBe(true);
  await say({ kind: "closed", channel: 1, error: errorToJson(WHY) });
  await say({ kind: "gone", channel: 1 });
  await one.quiet;
  await say({ kind: "closed", channel: 2, error: errorToJson(WHY) });
  expect(keeps()).toBe(true);
  await say({ kind: "gone", channel: 3 });
  await three.quiet;
  expect(keeps()).toBe(false);
});

test("not where the thread has ended it, or is gone", async () => {
  const { end, channel, keeps, say } = open();
  const [one, two] = [channel(), channel()];
  await say({ kind: "closed", channel: 1, error: errorToJson(WHY) });
  await one.quiet;
  one.cut(WHY);
  expect(keeps()).toBe(false);
  two.cut(WHY);
  expect(keeps()).toBe(true);
  end.lost(WHY);
  await two.quiet;
  expect(keeps()).toBe(false);
});
