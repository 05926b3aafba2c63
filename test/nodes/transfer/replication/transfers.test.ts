import { describe, expect, test } from "vitest";
import { sha256 } from "../../../../packets/digest.ts";
import type { Ref } from "../../../../packets/digest.ts";
import { PacketfsError } from "../../../../packets/errors.ts";
import {
  TRANSFERS_PER_CHANNEL_MAX,
  TRANSFER_AHEAD_BYTES,
  TRANSFER_CHUNK_TRIES_MAX,
  TRANSFER_COMPLAINT_REFS_MAX,
  TRANSFER_COMPLAINTS_REFS_MAX,
  TRANSFER_CREDIT_BYTES_MAX,
  TRANSFER_CREDIT_BYTES_MIN,
  TRANSFER_FRUITLESS_RUNS_MAX,
  TRANSFER_READY_BYTES_MAX,
} from "../../../../nodes/limits.ts";
import { ByteRanges } from "../../../../nodes/transfer/replication/byte-ranges.ts";
import {
  DataForm,
  TransferKind,
  costOf,
  decodeRows,
  decodeTransfer,
  encodeRows,
  encodeTransfer,
} from "../../../../nodes/transfer/replication/messages.ts";
import type {
  FileCredit,
  FileRequest,
  TransferMessage,
} from "../../../../nodes/transfer/replication/messages.ts";
import type { Gate } from "../../../../nodes/transfer/replication/out-gate.ts";
import type { DataUnit } from "../../../../nodes/transfer/replication/sender.ts";
import { ratioOf } from "../../../../nodes/transfer/replication/statistics.ts";
import { Transfers } from "../../../../nodes/transfer/replication/transfers.ts";
import type { TransferAction } from "../../../../nodes/transfer/replication/transfers.ts";

type Body = { readonly bytes: number };
type Action<Kind> = Extract<TransferAction<Body>, { readonly kind: Kind }>;

const ROOT = sha256(Buffer.from("root"));
const REF = sha256(Buffer.from("chunk"));
const OTHER = sha256(Buffer.from("other"));
const MIB = 1024 * 1024;
const NONE = { chunks: 0, plainBytes: 0, patchedChunks: 0, compressedChunks: 0, wrong: [], covered: [] };
const SOME = { ...NONE, chunks: 1, plainBytes: 1000, covered: [{ from: 0, end: 1000 }] };

function transfers(isDialer: boolean): Transfers<Body> {
  return new Transfers({ isDialer, bodyBytes: ({ bytes }: Body) => bytes });
}

function unit(bodyBytes: number): DataUnit<Body> {
  const packets = new Uint8Array(64);
  const counts = { chunks: 1, plainBytes: 2 * bodyBytes, patchedChunks: 1, compressedChunks: 0 };
  return { form: DataForm.chunks, packets, body: { bytes: bodyBytes }, bodyBytes, ...counts };
}

/** Hands to the other side what one sends, and returns what else it wants done. */
function deliver(from: Transfers<Body>, to: Transfers<Body>): TransferAction<Body>[] {
  return from.takeActions().filter((action) => {
    if (action.kind !== "send") return true;
    to.received(action.type, action.head, action.body);
    return false;
  });
}

function say(to: Transfers<Body>, message: TransferMessage, bytes?: number): void {
  to.received(message.kind, encodeTransfer(message), bytes === undefined ? undefined : { bytes });
}

/** What it says, read again, and the other things that it wants done. */
function heard(of: Transfers<Body>): { said: TransferMessage[]; actions: TransferAction<Body>[] } {
  const actions = of.takeActions();
  const sent = actions.filter((action): action is Action<"send"> => action.kind === "send");
  return {
    said: sent.map(({ type, head, body }) => decodeTransfer(type, head, body?.bytes ?? 0)),
    actions: actions.filter(({ kind }) => kind !== "send"),
  };
}

function credit(granted: number, waiting = 0): FileCredit {
  return { kind: TransferKind.FILE_CREDIT, transfer: 1, run: 1, granted, waiting };
}

function request(run = 1, transfer = 1, more: Partial<FileRequest> = {}): FileRequest {
  const credit = TRANSFER_CREDIT_BYTES_MIN;
  const resume = new ByteRanges();
  return {
    kind: TransferKind.FILE_REQUEST,
    transfer,
    run,
    root: ROOT,
    bases: [],
    resume,
    credit,
    isUrgent: false,
    ...more,
  };
}

/** A sender that was asked and has begun. */
function sending(): Transfers<Body> {
  const hub = transfers(false);
  say(hub, request());
  hub.sender.opened(1, 1, { root: ROOT, length: 100 * MIB, isResumed: false });
  return hub;
}

const START = {
  kind: TransferKind.FILE_START,
  transfer: 1,
  run: 1,
  root: ROOT,
  length: 1000,
  isResumed: false,
} as const;
const DATA = {
  kind: TransferKind.FILE_DATA,
  transfer: 1,
  run: 1,
  number: 1,
  form: DataForm.chunks,
  packets: new Uint8Array(64),
} as const;
const COMPLETE = {
  kind: TransferKind.FILE_COMPLETE,
  transfer: 1,
  run: 1,
  messages: 1,
  bytes: costOf(64, 1000),
  answered: 0,
} as const;

describe("a transfer", () => {
  test("is one request, and the bytes follow; both sides count the same", () => {
    const [client, hub] = [transfers(true), transfers(false)];
    const receiver = client.get({ root: ROOT, bases: [OTHER] });
    deliver(client, hub);
    const [open] = hub.takeActions() as [Action<"open">];
    expect(open.request).toMatchObject({ transfer: 1, run: 1, root: ROOT, bases: [OTHER] });
    hub.sender.opened(1, 1, { root: ROOT, length: 1000, isResumed: false });
    expect(deliver(hub, client).map(({ kind }) => kind)).toEqual(["produce"]);
    hub.sender.produced(1, 1, unit(1000));
    // Nothing of the receiver's was needed in between.
    deliver(hub, client);
    const actions = client.takeActions();
    expect(actions.map(({ kind }) => kind)).toEqual(["begin", "place"]);
    receiver.placed(1, 1, SOME);
    hub.sender.produced(1, 1, undefined);
    deliver(hub, client);
    expect(client.takeActions()).toEqual([{ kind: "check", transfer: 1, run: 1 }]);
    receiver.checked(1, []);
    const [received] = deliver(client, hub) as [Action<"received">];
    const [sent] = hub.takeActions() as [Action<"sent">];
    expect(received.error ?? sent.error).toBeUndefined();
    expect(sent.stats).toMatchObject({ chunks: 1, patchedChunks: 1, messages: 1, plainBytes: 2000 });
    expect(received.stats).toMatchObject({ chunks: 1, plainBytes: 1000, messages: 1, runs: 1 });
    expect(received.stats.receivedBytes).toBe(sent.stats.sentBytes);
    expect(received.stats.sentBytes).toBeGreaterThan(0);
    expect(ratioOf(received.stats, 1000)).toBeLessThan(1);
  });

  test("of what the receiver has costs less than a kilobyte both ways", () => {
    const [client, hub] = [transfers(true), transfers(false)];
    const number = client.offer(ROOT, 5e12, { name: "a/name", put: "p", bases: [OTHER] });
    deliver(client, hub);
    const [{ offer }] = hub.takeActions() as [Action<"offered">];
    expect(offer).toMatchObject({ transfer: number, root: ROOT, length: 5e12, name: "a/name" });
    hub.known(offer);
    deliver(hub, client);
    const [{ stats, error }] = client.takeActions() as [Action<"sent">];
    expect(error).toBeUndefined();
    expect(stats.sentBytes + stats.receivedBytes).toBeLessThan(1000);
  });

  test("to a hub is one of its own: it asks for what was offered, from bases that it has", () => {
    const [client, hub] = [transfers(true), transfers(false)];
    client.offer(ROOT, 1000);
    deliver(client, hub);
    const [{ offer }] = hub.takeActions() as [Action<"offered">];
    const receiver = hub.accept(offer, { bases: [OTHER] });
    deliver(hub, client);
    const [open] = client.takeActions() as [Action<"open">];
    expect(open.request.bases).toEqual([OTHER]);
    client.sender.opened(1, 1, { root: ROOT, length: 1000, isResumed: false });
    client.sender.produced(1, 1, undefined);
    deliver(client, hub);
    receiver.checked(1, []);
    deliver(hub, client);
    expect(client.takeActions().map(({ kind }) => kind)).toEqual(["sent"]);
  });

  test("goes on where it was over another channel, and says what is here in a few bytes", () => {
    const client = transfers(true);
    const receiver = client.get({ name: "a" });
    say(client, { ...START, length: 100 * MIB });
    say(client, DATA, 1000);
    client.takeActions();
    client.lost(new PacketfsError("PFS_BULK_CUT", "cut"));
    // What came is placed all the same.
    receiver.placed(1, 1, { ...SOME, covered: [{ from: 0, end: 90 * MIB }] });
    const other = transfers(true);
    other.get({ root: ROOT, resume: { root: ROOT, ranges: receiver.had } });
    const sent = other.takeActions() as [Action<"send">];
    expect(sent).toHaveLength(1);
    expect(sent[0].head.byteLength).toBeLessThan(300);
    const asked = decodeTransfer(sent[0].type, sent[0].head, 0) as FileRequest;
    expect(asked).toMatchObject({ run: 1, root: ROOT, resumeRoot: ROOT });
    expect(asked.resume.covers(0, 90 * MIB)).toBe(true);
  });

  test("is asked for again without bases where nothing can be made of what came", () => {
    const client = transfers(true);
    const receiver = client.get({ root: ROOT, bases: [OTHER] });
    say(client, START);
    say(client, DATA, 1000);
    say(client, { ...DATA, number: 2 }, 1000);
    client.takeActions();
    receiver.unreadable(1, 2, new PacketfsError("PFS_PATCH_INVALID", "none"));
    receiver.placed(1, 1, SOME);
    const { said } = heard(client);
    expect(said).toMatchObject([{ kind: TransferKind.FILE_REQUEST, run: 2, bases: [] }]);
  });

  test("of chunks that are wrong each time, or lost, ends", () => {
    const client = transfers(true);
    const receiver = client.get({ root: ROOT });
    say(client, START);
    for (let times = 1; times <= TRANSFER_CHUNK_TRIES_MAX; times++) {
      say(client, { ...DATA, number: times }, 1000);
      client.takeActions();
      receiver.placed(1, times, { ...NONE, wrong: [REF] });
      expect(heard(client).said).toMatchObject([{ kind: TransferKind.FILE_WRONG, complaint: times }]);
    }
    say(client, { ...DATA, number: TRANSFER_CHUNK_TRIES_MAX + 1 }, 1000);
    receiver.placed(1, TRANSFER_CHUNK_TRIES_MAX + 1, { ...NONE, wrong: [REF] });
    expect(heard(client).actions.at(-1)).toMatchObject({ error: { code: "PFS_CHUNK_DAMAGED" } });
    client.get({ root: ROOT });
    say(client, { ...START, transfer: 3 });
    say(client, { kind: TransferKind.FILE_LOST, transfer: 3, run: 1, refs: [REF] });
    expect(heard(client).actions.at(-1)).toMatchObject({ error: { code: "PFS_CHUNK_MISSING" } });
  });

  test("that is begun again and again ends when nothing ever comes", () => {
    const client = transfers(true);
    const receiver = client.get({ root: ROOT });
    for (let times = 0; times < TRANSFER_FRUITLESS_RUNS_MAX; times++) receiver.restart();
    expect(receiver.isOver).toBe(false);
    receiver.restart();
    expect(heard(client).actions).toMatchObject([{ error: { code: "PFS_TRANSFER_FRUITLESS" } }]);
  });
});

describe("a sender", () => {
  test("makes no more than it has credit for and a little ahead, which waits at a gate, and goes on with more", () => {
    const hub = sending();
    const cost = costOf(64, 700_000);
    const gates: Gate[] = [];
    const run = (): void => {
      for (let times = 0; times < 100; times++) {
        const actions = hub.takeActions();
        for (const action of actions) {
          if (action.kind !== "send" || action.type !== TransferKind.FILE_DATA) continue;
          gates.push(action.gate!);
          if (action.gate!.at <= action.gate!.granted) hub.sender.left(action.cost);
        }
        if (actions.some(({ kind }) => kind === "produce")) hub.sender.produced(1, 1, unit(700_000));
      }
    };
    const heldOf = (granted: number): Gate[] => gates.filter(({ at }) => at > granted);
    run();
    const granted = TRANSFER_CREDIT_BYTES_MIN;
    expect(gates.length - heldOf(granted).length).toBe(Math.floor(granted / cost));
    expect(heldOf(granted).length).toBe(
      Math.floor((granted + TRANSFER_AHEAD_BYTES) / cost) - Math.floor(granted / cost),
    );
    say(hub, credit(4 * MIB));
    for (const _ of heldOf(granted).filter(({ at }) => at <= 4 * MIB)) hub.sender.left(cost);
    run();
    expect(gates.length).toBe(Math.floor((4 * MIB + TRANSFER_AHEAD_BYTES) / cost));
    expect(gates.map(({ at }) => at)).toEqual(gates.map((_, index) => (index + 1) * cost));
  });

  test("says what takes the time when the next message is to be made", () => {
    const hub = sending();
    const said: string[] = [];
    const run = (): void => {
      for (let actions = hub.takeActions(); actions.length > 0; actions = hub.takeActions())
        for (const action of actions) {
          if (action.kind === "send") hub.sender.left(action.cost);
          if (action.kind !== "produce") continue;
          said.push(action.bottleneck);
          hub.sender.produced(1, 1, unit(700_000));
        }
    };
    run();
    const granted = (count: number, waiting: number): readonly string[] => {
      said.length = 0;
      say(hub, credit(count * MIB, waiting));
      run();
      return said;
    };
    // None is unused but at the beginning.
    expect(said.slice(0, 2)).toEqual(["sender", "sender"]);
    expect(said.slice(2)).not.toContain("sender");
    expect(new Set(granted(3, 0))).toEqual(new Set(["link"]));
    expect(new Set(granted(4, 1.5 * MIB))).toEqual(new Set(["receiver"]));
    expect(granted(9, 0)[0]).toBe("sender");
    expect(granted(10, 100).at(-1)).toBe("link");
  });

  test("counts what was granted, and not what it made ahead and never sent", () => {
    const hub = sending();
    const run = (runs: number): void => {
      for (let actions = hub.takeActions(); actions.length > 0; actions = hub.takeActions())
        for (const action of actions) {
          // Sent, or dropped where it waits.
          if (action.kind === "send") hub.sender.left(action.cost);
          if (action.kind === "produce") hub.sender.produced(1, runs, unit(700_000));
        }
    };
    run(1);
    const stats = hub.sender.statsOf(1)!;
    const cost = costOf(64, 700_000);
    const first = Math.floor(TRANSFER_CREDIT_BYTES_MIN / cost);
    expect(stats).toMatchObject({ messages: first, chunks: first, plainBytes: first * 1_400_000 });
    const each = (stats.sentBytes - first * 700_000) / first;
    expect(each).toBeLessThan(300);
    say(hub, credit((first + 1) * cost));
    run(1);
    expect(stats.messages).toBe(first + 1);
    // Asked for again, it has nothing of what it made ahead.
    say(hub, request(2));
    hub.sender.opened(1, 2, { root: ROOT, length: 100 * MIB, isResumed: false });
    run(2);
    expect(stats.messages).toBe(2 * first + 1);
    hub.lost(new PacketfsError("PFS_BULK_CUT", "cut"));
    const [{ stats: last }] = hub.takeActions() as [Action<"sent">];
    expect(last).toMatchObject({ runs: 2, messages: 2 * first + 1, plainBytes: (2 * first + 1) * 1_400_000 });
    expect(last.sentBytes).toBeLessThan((2 * first + 1) * 700_300 + 1000);
  });

  test("reads no more at a time than there is room for, however many transfers there are", () => {
    const hub = transfers(false);
    for (let index = 0; index < 20; index++) {
      say(hub, request(1, 2 * index + 1));
      hub.sender.opened(2 * index + 1, 1, { root: ROOT, length: 100 * MIB, isResumed: false });
    }
    const reads = heard(hub).actions.filter(({ kind }) => kind === "produce");
    expect(reads.length).toBeGreaterThan(1);
    expect(reads.length * MIB).toBeLessThan(TRANSFER_READY_BYTES_MAX);
  });

  test("reads again what was wrong, before it says that all was sent", () => {
    const hub = sending();
    say(hub, { kind: TransferKind.FILE_WRONG, transfer: 1, run: 1, complaint: 1, refs: [REF, OTHER] });
    hub.sender.produced(1, 1, undefined);
    expect(heard(hub).actions.at(-1)).toMatchObject({ kind: "reread", refs: [REF, OTHER] });
    hub.sender.reread(1, 1, { done: 1, unit: unit(10), lost: [] });
    expect(heard(hub).actions).toMatchObject([{ kind: "reread", refs: [OTHER] }]);
    hub.sender.reread(1, 1, { done: 1, unit: undefined, lost: [OTHER] });
    expect(heard(hub).said).toMatchObject([
      { kind: TransferKind.FILE_LOST, refs: [OTHER] },
      { kind: TransferKind.FILE_COMPLETE, messages: 1, answered: 1 },
    ]);
  });

  test("has one request at work, however many come", () => {
    const hub = transfers(false);
    for (let run = 1; run <= 1000; run++) say(hub, request(run));
    expect(heard(hub).actions).toHaveLength(1);
    hub.sender.opened(1, 1, { root: ROOT, length: 1, isResumed: false });
    const { said, actions } = heard(hub);
    expect(said).toEqual([]);
    expect(actions).toMatchObject([{ kind: "open", request: { run: 1000 } }]);
  });

  test("refuses more transfers than a channel may have", () => {
    const hub = transfers(false);
    for (let index = 0; index <= TRANSFERS_PER_CHANNEL_MAX; index++) say(hub, request(1, 2 * index + 1));
    const { said, actions } = heard(hub);
    expect(actions).toHaveLength(TRANSFERS_PER_CHANNEL_MAX);
    expect(said).toMatchObject([{ kind: TransferKind.FILE_FAILED, code: "PFS_PEER_QUOTA" }]);
    const other = transfers(false);
    for (let index = 0; index <= TRANSFERS_PER_CHANNEL_MAX; index++)
      say(other, {
        kind: TransferKind.FILE_OFFER,
        transfer: 2 * index + 1,
        root: ROOT,
        length: 1,
        bases: [],
      });
    expect(heard(other).said).toMatchObject([{ code: "PFS_PEER_QUOTA" }]);
  });

  const wrong = (complaint: number, refs: readonly Ref[]): TransferMessage => {
    return { kind: TransferKind.FILE_WRONG, transfer: 1, run: 1, complaint, refs };
  };
  const many = Array.from({ length: TRANSFER_COMPLAINT_REFS_MAX }, () => REF);
  test.each<[string, TransferMessage[]]>([
    ["the same request again", [request()]],
    ["complaints that leave one out", [wrong(2, [REF])]],
    [
      "more complaints than may wait",
      Array.from({ length: TRANSFER_COMPLAINTS_REFS_MAX / many.length + 1 }, (_, index) =>
        wrong(index + 1, many),
      ),
    ],
    ["too much credit", [credit(TRANSFER_CREDIT_BYTES_MAX + 1)]],
    ["a number of this side", [request(1, 2)]],
    ["a transfer that never was", [{ ...credit(1), transfer: 3 }]],
    ["what senders say", [START]],
    [
      "an offer under a number that was used",
      [{ kind: TransferKind.FILE_OFFER, transfer: 1, root: ROOT, length: 1, bases: [] }],
    ],
    ["too little credit", [request(2, 1, { credit: 1 })]],
    ["ranges of no root", [request(2, 1, { resume: new ByteRanges([{ from: 0, end: 1 }]) })]],
    ["neither root nor name", [request(2, 1, { root: undefined })]],
    ["too many bases", [request(2, 1, { bases: many })]],
  ])("does not take from its peer: %s", (_what, messages) => {
    const hub = sending();
    expect(() => messages.forEach((message) => say(hub, message))).toThrow(
      expect.objectContaining({ code: "PFS_TRANSFER_INVALID" }),
    );
  });

  test("takes what crossed the end of a transfer for what it is", () => {
    const hub = sending();
    say(hub, { kind: TransferKind.FILE_END, transfer: 1, run: 1, isDone: false });
    expect(heard(hub).actions.at(-1)).toMatchObject({ kind: "sent", error: { code: "PFS_CANCELLED" } });
    say(hub, credit(1));
    say(hub, request(2));
    hub.sender.produced(1, 1, unit(1));
    expect(heard(hub)).toEqual({ said: [], actions: [] });
  });
});

describe("a receiver", () => {
  test.each<[string, [TransferMessage, number?][]]>([
    ["another root", [[{ ...START, root: OTHER }]]],
    ["that it goes on where nothing is", [[{ ...START, isResumed: true }]]],
    ["two beginnings", [[START], [START]]],
    ["data before its beginning", [[DATA, 1000]]],
    ["an answer to a later request", [[{ ...START, run: 2 }]]],
    ["messages of which one is left out", [[START], [{ ...DATA, number: 2 }, 1000]]],
    ["the same message twice", [[START], [DATA, 1000], [DATA, 1000]]],
    ["more bytes than were granted", [[START], [DATA, MIB], [{ ...DATA, number: 2 }, MIB]]],
    ["an end before its beginning", [[COMPLETE]]],
    ["an end of other messages", [[START], [DATA, 1000], [{ ...COMPLETE, messages: 2 }]]],
    ["an end of other bytes", [[START], [DATA, 1000], [{ ...COMPLETE, bytes: 1 }]]],
    ["an answer to a complaint that was not made", [[START], [DATA, 1000], [{ ...COMPLETE, answered: 1 }]]],
    ["two ends", [[START], [DATA, 1000], [COMPLETE], [COMPLETE]]],
    ["data behind the end", [[START], [DATA, 1000], [COMPLETE], [{ ...DATA, number: 2 }, 1000]]],
  ])("does not take from its peer: %s", (_what, messages) => {
    const client = transfers(true);
    client.get({ root: ROOT });
    client.takeActions();
    for (const [message, bytes] of messages) say(client, message, bytes);
    const { said, actions } = heard(client);
    expect(actions.at(-1)).toMatchObject({ kind: "received", error: { code: "PFS_TRANSFER_INVALID" } });
    expect(said.at(-1)).toMatchObject({ kind: TransferKind.FILE_FAILED, code: "PFS_TRANSFER_INVALID" });
  });

  test("ends with what nobody asked for, before that is more than the file and some", () => {
    const client = transfers(true);
    const receiver = client.get({ root: ROOT });
    say(client, START);
    let number = 0;
    while (!receiver.isOver && number < 1000) {
      number++;
      say(client, { ...DATA, number }, MIB);
      receiver.placed(1, number, NONE);
      client.takeActions();
    }
    expect(number).toBeLessThan(70);
  });

  test("ends with wrong bytes, also where there is no room for more complaints", () => {
    const client = transfers(true);
    const receiver = client.get({ root: ROOT });
    say(client, START);
    const many = Array.from({ length: TRANSFER_COMPLAINTS_REFS_MAX }, (_, index) =>
      sha256(Buffer.from(`${index}`)),
    );
    let number = 0;
    while (!receiver.isOver && number < 1000) {
      number++;
      say(client, { ...DATA, number }, MIB);
      receiver.placed(1, number, { ...NONE, wrong: number === 1 ? many : [REF] });
      client.takeActions();
    }
    expect(number).toBeLessThan(70);
  });
});

describe("messages", () => {
  test("with rows are read as they were written", () => {
    const rows = {
      refs: Buffer.concat([REF, OTHER]),
      storedBytes: Uint32Array.of(10, 20),
      plainBytes: Uint32Array.of(10, 90_000),
      codec: Uint8Array.of(0, 1),
    };
    const read = decodeRows(encodeRows(rows), 30);
    expect(read).toEqual({ ...rows, refs: Uint8Array.from(rows.refs) });
    const invalid = expect.objectContaining({ code: "PFS_TRANSFER_INVALID" });
    expect(() => decodeRows(encodeRows(rows), 31)).toThrow(invalid);
    expect(() => decodeRows(encodeRows({ ...rows, codec: Uint8Array.of(0, 9) }), 30)).toThrow(invalid);
    const long = { ...rows, plainBytes: Uint32Array.of(10, MIB + 1) };
    expect(() => decodeRows(encodeRows(long), 30)).toThrow(invalid);
  });

  test.each<[string, number, Uint8Array, number]>([
    ["an unknown kind", 99, encodeTransfer(COMPLETE), 0],
    ["a body where none belongs", COMPLETE.kind, encodeTransfer(COMPLETE), 1],
    ["no body where one belongs", DATA.kind, encodeTransfer(DATA), 0],
    ["packets that are none", DATA.kind, encodeTransfer({ ...DATA, packets: new Uint8Array(65) }), 10],
    [
      "more packets than a patch has",
      DATA.kind,
      encodeTransfer({ ...DATA, packets: new Uint8Array(6400) }),
      10,
    ],
    ["rows that are none", DATA.kind, encodeTransfer({ ...DATA, form: DataForm.stored }), 10],
    ["a body that is too long", DATA.kind, encodeTransfer(DATA), MIB + 1],
    ["a transfer 0", COMPLETE.kind, encodeTransfer({ ...COMPLETE, transfer: 0 }), 0],
  ])("are refused: %s", (_what, kind, head, bodyBytes) => {
    expect(() => decodeTransfer(kind, head, bodyBytes)).toThrow(
      expect.objectContaining({ code: "PFS_TRANSFER_INVALID" }),
    );
  });
});
