/** Who would have a bulk channel, and is no friend: at a real port, with bytes of his own. */
import { randomBytes } from "node:crypto";
import { connect } from "node:net";
import type { Socket } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { MessageType } from "../../../../packets/envelope.ts";
import { PENDING_CONNECTIONS_MAX } from "../../../../nodes/limits.ts";
import { bulkGreeting } from "../../../../nodes/wire/bulk/beginning.ts";
import { channelKey, Direction } from "../../../../nodes/wire/bulk/keys.ts";
import type { Agreement } from "../../../../nodes/wire/bulk/keys.ts";
import { BulkGrantMeta } from "../../../../nodes/wire/bulk/messages.ts";
import {
  RECORD_HEADER_BYTES,
  RecordKind,
  RecordSealer,
  TAG_BYTES,
} from "../../../../nodes/wire/bulk/record.ts";
import type { Link } from "../../../../nodes/wire/link.ts";
import { readMeta } from "../../../../nodes/wire/session/meta.ts";
import { parseAddress } from "../../../../nodes/wire/trust/address.ts";
import { until } from "../../../suites/until.ts";
import { openBulkNetwork } from "./bulk-network.ts";
import type { BulkNetwork } from "./bulk-network.ts";

const SEALED_HELLO_BYTES: number = RECORD_HEADER_BYTES + TAG_BYTES;

let port: BulkNetwork;
let link: Link;

beforeAll(async () => {
  port = await openBulkNetwork();
  link = await port.network.dial();
});

afterAll(async () => {
  // Whatever was done to the port, it answers, and opens channels.
  await link.request({ type: MessageType.WANT });
  const { near, far } = await port.open();
  await near.send({ type: 1 });
  await far.close();
  await port.network.close();
});

/** Asks for a channel as a dialing side does, and is granted one. */
async function granted(of: Link = link): Promise<Agreement> {
  const nonce = randomBytes(32);
  const answer = await of.request({ type: MessageType.BULK, meta: { nonce, clear: false } });
  const { ticket, secret, clear } = readMeta(BulkGrantMeta, answer);
  return { ticket, secret, nonce, session: of.session, isClear: clear };
}

/** The beginning of a channel, and what is said behind it. */
function begin(agreement: Agreement): { beginning: Buffer; sealer: RecordSealer } {
  const sealer = new RecordSealer(channelKey(agreement, Direction.toPort));
  const hello = Buffer.concat(sealer.seal({ kind: RecordKind.hello }));
  return { beginning: Buffer.concat([bulkGreeting(agreement.ticket), hello]), sealer };
}

interface Raw {
  readonly socket: Socket;
  readonly heard: Buffer[];
  readonly closed: Promise<unknown>;
}

function raw(...said: readonly Uint8Array[]): Raw {
  const socket = connect(parseAddress(port.network.address));
  const heard: Buffer[] = [];
  socket.on("data", (bytes: Buffer) => heard.push(bytes));
  socket.on("error", () => undefined);
  for (const bytes of said) socket.write(bytes);
  const closed = new Promise((resolve) => socket.once("close", resolve));
  return { socket, heard, closed };
}

/** A connection that says this is ended, and hears nothing. */
async function expectRefused(...said: readonly Uint8Array[]): Promise<void> {
  const { heard, closed } = raw(...said);
  await closed;
  expect(heard).toEqual([]);
}

async function expectOpened({ heard, socket }: Raw): Promise<void> {
  await until(() => Buffer.concat(heard).byteLength === SEALED_HELLO_BYTES);
  socket.destroy();
}

test("a ticket that was never given is of no use, and is reported as anything foreign", async () => {
  const { beginning } = begin({
    ticket: randomBytes(16),
    secret: randomBytes(32),
    nonce: randomBytes(32),
    session: link.session,
    isClear: false,
  });
  await expectRefused(beginning);
  await until(() =>
    port.network.events.some((event) => event.kind === "turned-away" && event.reason === "foreign"),
  );
});

test("whoever read a ticket on the line can neither use it, nor use it up", async () => {
  const agreement = await granted();
  const { beginning } = begin(agreement);
  await expectRefused(bulkGreeting(agreement.ticket), randomBytes(32));
  for (const wrong of [
    { ...agreement, secret: randomBytes(32) },
    { ...agreement, nonce: randomBytes(32) },
    // In another session, by one who heard all of it.
    { ...agreement, session: (await port.network.dial()).session },
    { ...agreement, isClear: true },
  ])
    await expectRefused(begin(wrong).beginning);
  await expectOpened(raw(beginning));
});

test("what began a channel begins no other", async () => {
  const { beginning } = begin(await granted());
  const first = raw(beginning);
  await until(() => first.heard.length > 0);
  await expectRefused(beginning);
  expect(first.socket.destroyed).toBe(false);
  first.socket.destroy();
});

test("a beginning that changes in any byte is refused, and the right one is not", async () => {
  const agreement = await granted();
  const { beginning } = begin(agreement);
  await Promise.all(
    Array.from(beginning, async (byte, at) => {
      const changed = Buffer.from(beginning);
      changed[at] = byte ^ 1;
      await expectRefused(changed);
    }),
  );
  await expectOpened(raw(beginning));
});

test("a beginning may come byte by byte, and with what follows", async () => {
  const { beginning } = begin(await granted());
  const before = port.accepted.length;
  const slow = raw();
  slow.socket.setNoDelay(true);
  for (const byte of beginning) {
    slow.socket.write(Uint8Array.of(byte));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await until(() => port.accepted.length > before);
  slow.socket.destroy();
  const quick = begin(await granted());
  const message = quick.sealer.seal({ kind: RecordKind.message, type: 5, head: Buffer.from("at once") });
  const end = quick.sealer.seal({ kind: RecordKind.end });
  const now = port.accepted.length;
  raw(quick.beginning, ...message, ...end);
  await until(() => port.accepted.length > now);
  const heads: string[] = [];
  port.accepted[now]!.onMessage(({ head }) => void heads.push(Buffer.from(head).toString()));
  await until(() => heads.length > 0);
  expect(heads).toEqual(["at once"]);
});

test("a connection that stops in the middle of a record is cut; one that says nonsense is ended", async () => {
  const half = begin(await granted());
  const before = port.accepted.length;
  const record = Buffer.concat(half.sealer.seal({ kind: RecordKind.message, body: new Uint8Array(1000) }));
  const stopped = raw(half.beginning, record.subarray(0, 500));
  await until(() => port.accepted.length > before);
  stopped.socket.end();
  expect(await port.accepted[before]!.closed).toMatchObject({ code: "PFS_BULK_CUT" });
  const other = begin(await granted());
  const nonsense = raw(other.beginning, randomBytes(1000));
  await nonsense.closed;
  expect(await port.accepted[before + 1]!.closed).toMatchObject({ code: "PFS_BULK_DAMAGED" });
});

test("a ticket goes with its session", async () => {
  const other = await port.network.dial();
  const { beginning } = begin(await granted(other));
  const accepted = await port.network.accepted(other);
  await other.close();
  await accepted.closed;
  await expectRefused(beginning);
});

test("random beginnings are refused, and sessions are served meanwhile", async () => {
  let asked = 0;
  let isOver = false;
  const asking = (async () => {
    while (!isOver) {
      await link.request({ type: MessageType.WANT });
      asked++;
    }
  })();
  for (let round = 0; round < 10; round++) {
    await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        const magic = Buffer.from("PFSBULK1");
        const said = Buffer.concat([magic, randomBytes(48 + (index % 3) * 1000)]);
        await expectRefused(said);
      }),
    );
    const before = asked;
    await until(() => asked > before);
  }
  isOver = true;
  await asking;
});

test("connections that begin and go no further are as few as of any other kind, and others come in beside them", async () => {
  const begun = Array.from({ length: PENDING_CONNECTIONS_MAX + 200 }, () =>
    raw(bulkGreeting(randomBytes(16))),
  );
  // One too many is one too many, whatever it began to say.
  await until(() => begun.filter(({ socket }) => socket.destroyed).length >= 200);
  const other = await port.network.dial();
  await other.request({ type: MessageType.WANT });
  await other.close();
  const { beginning } = begin(await granted());
  await expectOpened(raw(beginning));
  for (const { socket } of begun) socket.destroy();
});
