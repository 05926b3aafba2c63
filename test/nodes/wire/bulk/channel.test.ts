/** Bulk channels over real sockets: what comes, what becomes of it, and how they end. */
import { randomBytes } from "node:crypto";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { zstdCompressSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { sha256 } from "../../../../packets/digest.ts";
import { BULK_CHANNELS_PER_LINK_MAX } from "../../../../nodes/limits.ts";
import { BulkLink } from "../../../../nodes/wire/bulk/dialing.ts";
import type { BulkChannel, BulkMessage, FileRanges, Placement } from "../../../../nodes/wire/bulk/dialing.ts";
import { until } from "../../../suites/until.ts";
import { openNetwork } from "../network.ts";
import { openBulkNetwork, openLine } from "./bulk-network.ts";
import type { BulkNetwork } from "./bulk-network.ts";

const MIB = 1024 * 1024;

let folder: string;
let sealed: BulkNetwork;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "packetfs-bulk-"));
  sealed = await openBulkNetwork();
});

afterAll(async () => {
  await sealed.network.close();
  rmSync(folder, { recursive: true });
});

interface Received {
  readonly type: number;
  readonly head: string;
  readonly body: Uint8Array;
}

/** Takes what comes. */
function collect(channel: BulkChannel): Received[] {
  const received: Received[] = [];
  channel.onMessage(async (message) => {
    const body = await message.take();
    received.push({ type: message.type, head: Buffer.from(message.head).toString(), body });
  });
  return received;
}

/** The next message of a channel that nobody listened to, which `use` has in hand. */
function next<T>(channel: BulkChannel, use: (message: BulkMessage) => Promise<T>): Promise<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  channel.onMessage(async (message) => {
    try {
      resolve(await use(message));
    } catch (error) {
      reject(error);
    }
  });
  return promise;
}

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => Uint8Array.from(Buffer.from(text));

test("messages of all sizes come both ways, whole and in order", async () => {
  const { near, far } = await sealed.open();
  for (const [from, to] of [
    [near, far],
    [far, near],
  ] as const) {
    const received = collect(to);
    const bodies = [0, 1, 65_536, MIB, 3, 700_000, 0, MIB].map((bytes) =>
      Uint8Array.from(randomBytes(bytes)),
    );
    const copies = bodies.map((body) => Uint8Array.from(body));
    const sent = bodies.map((body, index) =>
      from.send({ type: index * 9000, head: Buffer.from(`head ${index}`), body }),
    );
    await Promise.all(sent);
    await until(() => received.length === bodies.length);
    expect(received.map(({ type, head }) => [type, head])).toEqual(
      copies.map((_, index) => [index * 9000, `head ${index}`]),
    );
    received.forEach(({ body }, index) => expect(Buffer.compare(body, copies[index]!)).toBe(0));
  }
  expect(near.queuedBytes).toBe(0);
});

test("a part of somebody's buffer stays with him", async () => {
  const { near, far } = await sealed.open();
  const received = collect(far);
  const whole = bytesOf("many bytes");
  await near.send({ type: 1, body: whole.subarray(0, 4) });
  await until(() => received.length === 1);
  expect(Buffer.from(received[0]!.body).toString()).toBe("many");
  expect(Buffer.from(whole).toString()).toBe("many bytes");
});

test("what is too large is not sent, and the channel goes on", async () => {
  const { near, far } = await sealed.open();
  const received = collect(far);
  const tooLarge = { code: "PFS_MESSAGE_TOO_LARGE" };
  await expect(near.send({ type: 1, body: new Uint8Array(MIB + 1) })).rejects.toMatchObject(tooLarge);
  await expect(near.send({ type: 1, head: new Uint8Array(65_537) })).rejects.toMatchObject(tooLarge);
  await near.send({ type: 2 });
  await until(() => received.length === 1);
  expect(received[0]!.type).toBe(2);
});

describe("bodies that are ranges of files", () => {
  const ranges = (files: (string | number)[], rows: [number, number, number][]) => ({
    files,
    file: Uint32Array.from(rows, ([file]) => file),
    offset: Float64Array.from(rows, ([, offset]) => offset),
    bytes: Uint32Array.from(rows, ([, , bytes]) => bytes),
  });

  test("are read by path and by descriptor, in their order", async () => {
    const { near, far } = await sealed.open();
    const received = collect(near);
    const [one, two] = [join(folder, "one"), join(folder, "two")];
    writeFileSync(one, "0123456789");
    writeFileSync(two, "abcdefghij");
    const descriptor = openSync(two, "r");
    await far.send({
      type: 1,
      body: ranges(
        [one, descriptor],
        [
          [0, 2, 3],
          [0, 5, 2],
          [1, 0, 4],
          [0, 0, 1],
          [1, 9, 1],
        ],
      ),
    });
    closeSync(descriptor);
    await until(() => received.length === 1);
    expect(Buffer.from(received[0]!.body).toString()).toBe("23456abcd0j");
  });

  test("that cannot be read are told to their sender alone, and what follows comes", async () => {
    const { near, far } = await sealed.open();
    const received = collect(near);
    const short = join(folder, "short");
    writeFileSync(short, "0123456789");
    const missing = far.send({ type: 1, body: ranges([join(folder, "nowhere")], [[0, 0, 1]]) });
    const cut = far.send({ type: 2, body: ranges([short], [[0, 5, 6]]) });
    const good = far.send({ type: 3, body: ranges([short], [[0, 5, 5]]) });
    await expect(missing).rejects.toMatchObject({ code: "PFS_BULK_FILE_FAILED", data: { system: "ENOENT" } });
    await expect(cut).rejects.toMatchObject({ code: "PFS_BULK_FILE_FAILED", data: { file: short } });
    await good;
    await until(() => received.length === 1);
    expect(received[0]!.type).toBe(3);
  });

  test("that stand near each other are read together, and what cannot be read goes as zeros where it may", async () => {
    const { near, far } = await sealed.open();
    const received = collect(near);
    const path = join(folder, "near");
    const bytes = Buffer.from(Array.from({ length: 20_000 }, (_, index) => index % 251));
    writeFileSync(path, bytes);
    const rows: [number, number, number][] = [];
    for (let at = 0; at < 12_000; at += 300) rows.push([0, at, 200]);
    rows.push([0, 19_000, 1_000], [0, 11_000, 10]);
    await far.send({ type: 1, body: ranges([path], rows) });
    const wanted = Buffer.concat(rows.map(([, from, length]) => bytes.subarray(from, from + length)));
    await until(() => received.length === 1);
    expect(Buffer.compare(received[0]!.body, wanted)).toBe(0);
    const beyond = ranges(
      [path, join(folder, "gone")],
      [
        [0, 0, 100],
        [0, 19_950, 100],
        [1, 0, 50],
      ],
    );
    await far.send({ type: 2, body: beyond, isVerified: true, fillsUnreadable: true });
    await until(() => received.length === 2);
    expect(received[1]).toMatchObject({ type: 2 });
    expect(Buffer.compare(received[1]!.body, Buffer.alloc(250))).toBe(0);
  });
});

describe("bodies that are made of chunks", () => {
  const plain = ["first", "second ".repeat(1000), "third"].map(bytesOf);

  /** A body of these chunks, the second compressed, and what is to become of it. */
  function batch(
    files: (string | number)[],
    targets: [number, number, number][],
  ): { body: Uint8Array<ArrayBuffer>; placement: Placement } {
    const stored = plain.map((bytes, index) => (index === 1 ? zstdCompressSync(bytes) : bytes));
    return {
      body: Uint8Array.from(Buffer.concat(stored)),
      placement: {
        refs: Buffer.concat(plain.map(sha256)),
        storedBytes: Uint32Array.from(stored, ({ byteLength }) => byteLength),
        plainBytes: Uint32Array.from(plain, ({ byteLength }) => byteLength),
        codec: Uint8Array.of(0, 1, 0),
        files,
        targets: {
          chunk: Uint32Array.from(targets, ([chunk]) => chunk),
          file: Uint32Array.from(targets, ([, file]) => file),
          offset: Float64Array.from(targets, ([, , offset]) => offset),
        },
      },
    };
  }

  test("are verified and written where they belong, also twice, and come back where they are wanted", async () => {
    const { near, far } = await sealed.open();
    const path = join(folder, "placed");
    writeFileSync(path, "");
    truncateSync(path, 8000);
    const descriptor = openSync(path, "r+");
    const { body, placement } = batch(
      [path, descriptor],
      [
        [0, 0, 0],
        [1, 0, 5],
        [2, 0, 7005],
        [0, 1, 7100],
        [2, 1, 7500],
        [0, 1, 7505],
      ],
    );
    await far.send({ type: 1, body, isVerified: true });
    const placed = await next(near, (message) => message.place({ ...placement, wantsPlain: true }));
    closeSync(descriptor);
    expect([...placed.good]).toEqual([1, 1, 1]);
    expect(Buffer.compare(placed.plain!, Buffer.concat(plain))).toBe(0);
    const written = readFileSync(path).toString("latin1");
    expect(written.slice(0, 7010)).toBe(Buffer.concat(plain).toString("latin1"));
    expect([written.slice(7100, 7105), written.slice(7500, 7510)]).toEqual(["first", "thirdfirst"]);
  });

  test("those that are wrong are told, and nothing is written for them", async () => {
    const path = join(folder, "wrong");
    for (const wrong of [0, 1, 2]) {
      const { near, far } = await sealed.open();
      writeFileSync(path, "");
      truncateSync(path, 7010);
      const { body, placement } = batch(
        [path],
        [
          [0, 0, 0],
          [1, 0, 5],
          [2, 0, 7005],
        ],
      );
      const at = placement.storedBytes.slice(0, wrong).reduce((sum, bytes) => sum + bytes, 0);
      body[at + 2]! ^= 1;
      await far.send({ type: 1, body });
      const { good } = await next(near, (message) => message.place(placement));
      expect([...good]).toEqual([1, 1, 1].with(wrong, 0));
      const expected = plain.map((bytes, index) =>
        index === wrong ? new Uint8Array(bytes.byteLength) : bytes,
      );
      expect(Buffer.compare(readFileSync(path), Buffer.concat(expected))).toBe(0);
    }
  });

  test("a file that cannot be written is told, and the channel goes on", async () => {
    const { near, far } = await sealed.open();
    const { body, placement } = batch([join(folder, "no such folder", "file")], [[0, 0, 0]]);
    const copy = Uint8Array.from(body);
    await far.send({ type: 1, body });
    const failed = { code: "PFS_BULK_FILE_FAILED", data: { system: "ENOENT" } };
    await expect(next(near, (message) => message.place(placement))).rejects.toMatchObject(failed);
    const targets = { chunk: new Uint32Array(0), file: new Uint32Array(0), offset: new Float64Array(0) };
    // It may come before the sender knows that it was taken, and who had the first one is still there.
    const second = next(near, (message) => message.place({ ...placement, files: [], targets }));
    await far.send({ type: 1, body: copy });
    const { good } = await second;
    expect([...good]).toEqual([1, 1, 1]);
  });

  test("a plan that does not fit the body is our own mistake", async () => {
    const { near, far } = await sealed.open();
    const { body, placement } = batch(["x"], [[0, 0, 0]]);
    await far.send({ type: 1, body });
    await next(near, async (message) => {
      for (const wrong of [
        { ...placement, refs: placement.refs.subarray(32) },
        { ...placement, storedBytes: placement.storedBytes.with(0, 4) },
        { ...placement, files: [] },
        { ...placement, targets: { ...placement.targets, chunk: Uint32Array.of(3) } },
      ])
        await expect(message.place(wrong)).rejects.toThrow(RangeError);
    });
    expect(near.ended).toBeUndefined();
  });
});

describe("bodies in the clear", () => {
  test.each([
    [true, true],
    [true, false],
    [false, true],
  ])(
    "need both sides: port %s, dialing side %s; and only bodies that are verified",
    async (port, dialing) => {
      const secret = "nobody may read this";
      const lines: Buffer[] = [];
      const bulkNetwork = await openBulkNetwork(port);
      const { network } = bulkNetwork;
      await using line = await openLine(network.address, (_, isToPort, bytes) => {
        if (isToPort) lines.push(bytes);
        return bytes;
      });
      const { near, far } = await bulkNetwork.open({ allowsClear: dialing, dial: { address: line.address } });
      expect([near.isClear, far.isClear]).toEqual([port && dialing, port && dialing]);
      const seen: boolean[] = [];
      far.onMessage(({ hasClearBody }) => void seen.push(hasClearBody));
      await near.send({ type: 1, body: bytesOf("verified content"), isVerified: true });
      await near.send({ type: 1, body: bytesOf(secret), head: Buffer.from(secret) });
      await until(() => seen.length === 2);
      expect(seen).toEqual([port && dialing, false]);
      const all = Buffer.concat(lines);
      expect(all.includes("verified content")).toBe(port && dialing);
      expect(all.includes(secret)).toBe(false);
      await network.close();
    },
  );
});

describe("a receiver that stands still", () => {
  test("makes the sender wait, not grow, and gets everything when it goes on", async () => {
    const { near, far } = await sealed.open();
    const path = join(folder, "large");
    writeFileSync(path, randomBytes(MIB));
    const goOn = Promise.withResolvers<void>();
    let handled = 0;
    far.onMessage(async (message) => {
      await goOn.promise;
      const { good } = await message.place({
        refs: sha256(readFileSync(path)),
        storedBytes: Uint32Array.of(MIB),
        plainBytes: Uint32Array.of(MIB),
        codec: Uint8Array.of(0),
        files: [],
        targets: { chunk: new Uint32Array(0), file: new Uint32Array(0), offset: new Float64Array(0) },
      });
      handled += good[0]!;
    });
    let sent = 0;
    const total = 60;
    const body = {
      files: [path],
      file: Uint32Array.of(0),
      offset: Float64Array.of(0),
      bytes: Uint32Array.of(MIB),
    };
    const all = Array.from({ length: total }, async () => {
      await near.send({ type: 1, body, isVerified: true });
      sent++;
    });
    // What is held there, and what the systems between take.
    let before = -1;
    for (let same = 0; same < 50; same = sent === before ? same + 1 : 0) {
      before = sent;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(sent).toBeLessThan(total);
    expect(near.queuedBytes).toBeGreaterThan((total - sent) * MIB);
    let hasRoom = false;
    void near.room().then(() => (hasRoom = true));
    expect(hasRoom).toBe(false);
    goOn.resolve();
    await Promise.all(all);
    await until(() => handled === total);
    await near.room();
    expect(near.queuedBytes).toBe(0);
  });

  test("ends a channel that is handed more all the same", async () => {
    const { near, far } = await sealed.open();
    far.onMessage(() => new Promise(() => undefined));
    const path = join(folder, "larger");
    writeFileSync(path, new Uint8Array(MIB));
    const body = {
      files: [path],
      file: Uint32Array.of(0),
      offset: Float64Array.of(0),
      bytes: Uint32Array.of(MIB),
    };
    const outcomes = await Promise.allSettled(
      Array.from({ length: 100 }, () => near.send({ type: 1, body })),
    );
    const slow = { code: "PFS_PEER_SLOW" };
    expect(outcomes.at(-1)).toMatchObject({ status: "rejected", reason: slow });
    expect(await near.closed).toMatchObject(slow);
    expect(await far.closed).toMatchObject({ code: "PFS_BULK_CUT" });
  });
});

describe("a channel ends", () => {
  test("when either side closes it: what was said before has come", async () => {
    for (const closes of ["near", "far"] as const) {
      const { near, far } = await sealed.open();
      const [closing, other] = closes === "near" ? [near, far] : [far, near];
      const received = collect(other);
      for (let index = 0; index < 20; index++)
        void closing.send({ type: index, body: new Uint8Array(300_000) });
      await closing.close();
      expect(closing.ended).toMatchObject({ code: "PFS_LINK_CLOSED" });
      expect(await other.closed).toMatchObject({ code: "PFS_LINK_CLOSED" });
      await until(() => received.length === 20);
      await expect(other.send({ type: 1 })).rejects.toMatchObject({ code: "PFS_LINK_CLOSED" });
    }
  });

  test("with its session", async () => {
    for (const closes of [0, 1]) {
      const { link, near, far } = await sealed.open();
      const ends = [link, await sealed.network.accepted(link)];
      await ends[closes]!.close();
      await Promise.all([near.closed, far.closed]);
    }
  });

  test("with the right to be there", async () => {
    const { link, near, far } = await sealed.open();
    const accepted = await sealed.network.accepted(link);
    sealed.network.allowList.remove(accepted.peer.id);
    await Promise.all([near.closed, far.closed]);
  });

  test("with its connection, which is told from an orderly end; the session lives, and opens another", async () => {
    await using line = await openLine(sealed.network.address);
    const { link, bulk, near, far } = await sealed.open({ dial: { address: line.address } });
    const sending = near.send({ type: 1, body: new Uint8Array(MIB) }).then(
      () => "sent",
      ({ code }: { code: string }) => code,
    );
    line.cut(1);
    const cut = { code: "PFS_BULK_CUT" };
    expect(await near.closed).toMatchObject(cut);
    expect(await far.closed).toMatchObject(cut);
    expect(["sent", "PFS_BULK_CUT"]).toContain(await sending);
    expect(link.ended).toBeUndefined();
    const again = await bulk.channel();
    expect(again).not.toBe(near);
    await again.send({ type: 1 });
  });

  test("in the middle of many messages, and those of others keep their memory to themselves", async () => {
    const path = join(folder, "pages");
    const pages = Array.from({ length: 12 }, (_, index) => new Uint8Array(MIB).fill(index + 1));
    writeFileSync(path, Buffer.concat(pages));
    const page = (index: number): FileRanges => ({
      files: [path],
      file: Uint32Array.of(0),
      offset: Float64Array.of(index * MIB),
      bytes: Uint32Array.of(MIB),
    });
    for (const isPort of [true, false]) {
      for (let round = 0; round < 3; round++) {
        const { link, near, far } = await sealed.open();
        const sending = pages.map((_, index) => (isPort ? far : near).send({ type: 1, body: page(index) }));
        const ended = Promise.allSettled(sending);
        await sending[round];
        await link.close();
        await ended;
      }
      const { near, far } = await sealed.open();
      const [from, to] = isPort ? [far, near] : [near, far];
      const received = collect(to);
      await Promise.all(pages.map((_, index) => from.send({ type: 1, body: page(index) })));
      await until(() => received.length === pages.length);
      received.forEach(({ body }, index) => expect(Buffer.compare(body, pages[index]!)).toBe(0));
    }
  });

  test("when its handler fails", async () => {
    const { near, far } = await sealed.open();
    far.onMessage(() => {
      throw new Error("no use for that");
    });
    await near.send({ type: 1 });
    expect(await far.closed).toMatchObject({ message: "no use for that" });
    expect(await near.closed).toMatchObject({ code: "PFS_BULK_CUT" });
  });

  test("when nobody uses it; the next use opens one", async () => {
    const { bulk, near, far } = await sealed.open({ idleMs: 40 });
    await Promise.all([near.closed, far.closed]);
    const again = await bulk.channel();
    expect(again.ended).toBeUndefined();
    await again.send({ type: 1 });
  });
});

test("somebody on the line who changes bytes ends the channel, and nothing of it comes", async () => {
  for (const isToPort of [true, false]) {
    let flip = -1;
    await using line = await openLine(sealed.network.address, (connection, way, bytes, before) => {
      const at = flip - before;
      if (connection === 0 || way !== isToPort || at < 0 || at >= bytes.byteLength) return bytes;
      bytes[at]! ^= 1;
      return bytes;
    });
    const { near, far } = await sealed.open({ dial: { address: line.address } });
    const [from, to] = isToPort ? [near, far] : [far, near];
    const received = collect(to);
    // The beginning is behind it.
    flip = 5000;
    void from.send({ type: 1, body: new Uint8Array(3000) });
    from.send({ type: 2, body: new Uint8Array(10_000) }).catch(() => undefined);
    expect(await to.closed).toMatchObject({ code: "PFS_BULK_DAMAGED" });
    expect(await from.closed).toMatchObject({ code: "PFS_BULK_CUT" });
    await until(() => received.length > 0);
    expect(received.map(({ type }) => type)).toEqual([1]);
  }
});

test("channels of a link are few, and there are others when those are closed", async () => {
  const { link, bulk } = await sealed.open();
  const more = await Promise.all(Array.from({ length: 10 }, () => bulk.channel(10)));
  expect(new Set(more).size).toBe(BULK_CHANNELS_PER_LINK_MAX);
  // Whoever counts for himself is held to it by the port.
  const others = new BulkLink(link);
  const unavailable = { code: "PFS_BULK_UNAVAILABLE" };
  await expect(others.channel()).rejects.toMatchObject(unavailable);
  await more[0]!.close();
  await until(() =>
    others.channel().then(
      () => true,
      () => false,
    ),
  );
});

test("a peer that grants none is not asked for one", async () => {
  const plain = await openNetwork({ onLink: (link) => link.onRequest(() => expect.fail("asked")) });
  const link = await plain.dial();
  const bulk = link.bulk!;
  expect(bulk.isOffered).toBe(false);
  await expect(bulk.channel()).rejects.toMatchObject({ code: "PFS_BULK_UNAVAILABLE" });
  expect(link.ended).toBeUndefined();
  await plain.close();
});

test("a link is asked for channels by who dialed it", async () => {
  const link = await sealed.network.dial();
  expect((await sealed.network.accepted(link)).bulk).toBeUndefined();
});

test("both ends of a session have the same name for it, and no other session has", async () => {
  const links = [await sealed.network.dial(), await sealed.network.dial()];
  const names = links.map(({ session }) => Buffer.from(session).toString("hex"));
  expect(new Set(names).size).toBe(2);
  for (const link of links) {
    const accepted = await sealed.network.accepted(link);
    expect(Buffer.compare(accepted.session, link.session)).toBe(0);
  }
});
