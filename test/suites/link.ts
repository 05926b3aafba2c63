/** What every link must do, whatever carries it. A carrier imports this and says how to make a connected pair. */
import { describe, expect, test } from "vitest";
import { EnvelopeFlag, MessageType, Priority } from "../../packets/envelope.ts";
import { PacketfsError, errorToJson } from "../../packets/errors.ts";
import { MESSAGE_CHUNK_BYTES_MAX } from "../../packets/limits.ts";
import type { Link, OutMessage, WireMessage } from "../../nodes/wire/link.ts";
import { until } from "./until.ts";

export interface LinkPair {
  readonly near: Link;
  readonly far: Link;
  /** Breaks the connection without a word. */
  readonly cut: () => void | Promise<void>;
  readonly close: () => Promise<void>;
}

/** So long that no answer is late. */
const DEADLINE_MS = 500_000;

const { OK, WANT, HAVE, EXEC, FILE_REQUEST, FILE_DATA, ERROR } = MessageType;

export function linkSuite(name: string, open: () => Promise<LinkPair>): void {
  const pairTest = (title: string, body: (pair: LinkPair) => Promise<void>): void => {
    test(title, async () => {
      const pair = await open();
      try {
        await body(pair);
      } finally {
        await pair.close();
      }
    });
  };

  describe(name, () => {
    pairTest(
      "carries every part of a message, both ways, and says nothing that was not said",
      async ({ near, far }) => {
        for (const [asker, answerer] of [
          [near, far],
          [far, near],
        ] as const) {
          const asked: WireMessage[] = [];
          answerer.onRequest((message, reply) => {
            asked.push(message);
            reply({ type: HAVE, meta: { there: true }, chunks: message.chunks, packets: message.packets });
          });
          const message: OutMessage = {
            type: WANT,
            priority: Priority.bulk,
            meta: { text: "ü", big: 2 ** 40, list: [1, null, true], absent: undefined },
            packets: new Uint8Array(128).fill(7),
            chunks: new Uint8Array(1000).fill(9),
            trace: new Uint8Array(16).fill(5),
          };
          const reply = await asker.request(message, { timeoutMs: DEADLINE_MS });
          expect(asked).toHaveLength(1);
          expect(asked[0]).toMatchObject({
            type: WANT,
            priority: Priority.bulk,
            deadlineMs: DEADLINE_MS,
            flags: 0,
          });
          expect(asked[0]!.meta).toMatchObject({ text: "ü", big: 2 ** 40, list: [1, null, true] });
          expect(Buffer.compare(asked[0]!.packets, message.packets!)).toBe(0);
          expect(Buffer.compare(asked[0]!.chunks, message.chunks!)).toBe(0);
          expect(Buffer.compare(asked[0]!.trace, message.trace!)).toBe(0);
          expect(reply).toMatchObject({ type: HAVE, flags: EnvelopeFlag.REPLY, meta: { there: true } });
          expect(Buffer.compare(reply.chunks, message.chunks!)).toBe(0);
          const bare = await asker.request({ type: WANT });
          expect(asked[1]).toMatchObject({ meta: undefined });
          expect(bare.chunks.byteLength).toBe(0);
        }
      },
    );

    pairTest(
      "matches each answer with its question when they come in another order",
      async ({ near, far }) => {
        const held: (() => void)[] = [];
        far.onRequest(({ meta }, reply) => void held.push(() => reply({ type: OK, meta })));
        const asked = Array.from({ length: 50 }, (_, index) => near.request({ type: WANT, meta: { index } }));
        await until(() => held.length === 50);
        for (const answer of held.toReversed()) answer();
        const answers = await Promise.all(asked);
        expect(answers.map(({ meta }) => meta)).toEqual(
          Array.from({ length: 50 }, (_, index) => ({ index })),
        );
      },
    );

    pairTest("both sides ask each other at once, within each other's answers too", async ({ near, far }) => {
      near.onRequest(({ meta }, reply) => reply({ type: OK, meta: { near: meta } }));
      far.onRequest(async ({ meta }, reply) => {
        const inner = await far.request({ type: WANT, meta });
        reply({ type: OK, meta: { far: inner.meta } });
      });
      const answers = await Promise.all([1, 2, 3].map((meta) => near.request({ type: WANT, meta })));
      expect(answers.map(({ meta }) => meta)).toEqual([1, 2, 3].map((meta) => ({ far: { near: meta } })));
    });

    pairTest("a stream's replies come in order, the last one included", async ({ near, far }) => {
      far.onRequest((_, reply) => {
        for (let index = 0; index < 100; index++) reply({ type: FILE_DATA, meta: index }, false);
        reply({ type: OK, meta: "end" });
        reply({ type: OK, meta: "too late" });
      });
      const seen: unknown[] = [];
      for await (const { meta } of near.stream({ type: FILE_REQUEST })) seen.push(meta);
      expect(seen).toEqual([...Array.from({ length: 100 }, (_, index) => index), "end"]);
    });

    pairTest("a stream that nobody reads stops its sender, and nothing else", async ({ near, far }) => {
      let sent = 0;
      far.onRequest(async (message, reply) => {
        if (message.type === WANT) return reply({ type: OK });
        for (; sent < 200; sent++) {
          await reply.room();
          reply({ type: FILE_DATA, priority: Priority.bulk, chunks: new Uint8Array(256 * 1024) }, false);
        }
        reply({ type: OK });
      });
      const iterator = near.stream({ type: FILE_REQUEST })[Symbol.asyncIterator]();
      expect((await iterator.next()).done).toBe(false);
      // Requests overtake what is on its way: it stands still when it has not moved beside twenty of them.
      for (let before = 0; before !== sent;) {
        before = sent;
        await Promise.all(Array.from({ length: 20 }, () => near.request({ type: WANT })));
      }
      expect(sent).toBeLessThan(60);
      let bytes = 0;
      for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
        bytes += next.value.chunks.byteLength;
      }
      expect(bytes).toBe(199 * 256 * 1024);
    });

    pairTest("a reader that leaves a stream tells its sender", async ({ near, far }) => {
      const left = new Promise<void>((resolve) => {
        far.onRequest(async (_, reply) => {
          reply.signal.addEventListener("abort", () => resolve());
          while (!reply.signal.aborted) {
            await reply.room();
            reply({ type: FILE_DATA, chunks: new Uint8Array(65_536) }, false);
            await turn();
          }
        });
      });
      for await (const _ of near.stream({ type: FILE_REQUEST })) break;
      await left;
    });

    pairTest("an error crosses with its code, data and cause", async ({ near, far }) => {
      const cause = new PacketfsError("PFS_CHUNK_MISSING", "no chunk", { ref: "ab" });
      const thrown = new PacketfsError(
        "PFS_NOT_FOUND",
        "no file",
        { name: "a", size: 3, here: false },
        { cause },
      );
      far.onRequest((message, reply) => {
        if (message.meta === "reply") return reply({ type: ERROR, meta: errorToJson(thrown) });
        throw message.meta === "ours" ? thrown : new Error("a defect");
      });
      for (const meta of ["reply", "ours"]) {
        const error = await near.request({ type: WANT, meta }).catch((reason: unknown) => reason);
        expect(errorToJson(error)).toEqual(thrown.toJSON());
      }
      await expect(near.request({ type: WANT, meta: "defect" })).rejects.toMatchObject({
        code: "PFS_INTERNAL",
      });
      const stream = near.stream({ type: WANT, meta: "ours" })[Symbol.asyncIterator]();
      await expect(stream.next()).rejects.toMatchObject({ code: "PFS_NOT_FOUND" });
      expect((await stream.next()).done).toBe(true);
    });

    pairTest(
      "a request ends at its time limit or signal, and the answerer is told",
      async ({ near, far }) => {
        let withdrawn = 0;
        far.onRequest((_, reply) => reply.signal.addEventListener("abort", () => withdrawn++));
        const late = near.request({ type: WANT }, { timeoutMs: 150 });
        await expect(late).rejects.toMatchObject({ code: "PFS_REQUEST_TIMEOUT" });
        const controller = new AbortController();
        const aborted = near.request({ type: WANT }, { signal: controller.signal });
        await turn();
        const reason = new Error("the asker's own reason");
        controller.abort(reason);
        await expect(aborted).rejects.toBe(reason);
        const dead = near.request({ type: WANT }, { signal: AbortSignal.abort(reason) });
        await expect(dead).rejects.toBe(reason);
        await until(() => withdrawn > 0);
      },
    );

    pairTest("notifications arrive in order and want no answer", async ({ near, far }) => {
      const seen: unknown[] = [];
      far.onRequest((message, reply) => {
        seen.push(message.meta);
        reply({ type: OK, meta: "for nobody" });
      });
      for (let index = 0; index < 100; index++) near.notify({ type: EXEC, meta: index });
      await near.request({ type: WANT, meta: "last" });
      expect(seen).toEqual([...Array.from({ length: 100 }, (_, index) => index), "last"]);
    });

    pairTest("requests that come before anybody answers are kept", async ({ near, far }) => {
      const asked = near.request({ type: WANT, meta: 1 });
      await turn(20);
      far.onRequest(({ meta }, reply) => reply({ type: OK, meta }));
      expect((await asked).meta).toBe(1);
    });

    pairTest("refuses to send what is too large, and goes on", async ({ near, far }) => {
      far.onRequest((message, reply) => {
        const size = message.meta === "large" ? MESSAGE_CHUNK_BYTES_MAX + 1 : message.chunks.byteLength;
        reply({ type: OK, chunks: new Uint8Array(size) });
      });
      const tooLarge = { code: "PFS_MESSAGE_TOO_LARGE" };
      const chunks = new Uint8Array(MESSAGE_CHUNK_BYTES_MAX + 1);
      await expect(near.request({ type: WANT, chunks })).rejects.toMatchObject(tooLarge);
      await expect(near.request({ type: WANT, meta: "x".repeat(70_000) })).rejects.toMatchObject(tooLarge);
      expect(() => near.notify({ type: WANT, chunks })).toThrow(expect.objectContaining(tooLarge));
      await expect(near.request({ type: WANT, meta: "large" })).rejects.toMatchObject(tooLarge);
      const largest = await near.request({ type: WANT, chunks: chunks.subarray(1) });
      expect(largest.chunks.byteLength).toBe(MESSAGE_CHUNK_BYTES_MAX);
    });

    pairTest("says how much waits to be sent, and when that is little again", async ({ near, far }) => {
      far.onRequest((_, reply) => reply({ type: OK }));
      expect(near.bufferedBytes).toBe(0);
      await near.drained();
      const chunks = new Uint8Array(1024 * 1024);
      const asked = Array.from({ length: 40 }, () =>
        near.request({ type: WANT, priority: Priority.bulk, chunks }),
      );
      expect(near.bufferedBytes).toBeGreaterThan(20 * 1024 * 1024);
      const overflow = Array.from({ length: 20 }, () => near.request({ type: WANT, chunks }));
      const codes = (await Promise.allSettled(overflow)).map((result) =>
        result.status === "rejected" ? (result.reason as PacketfsError).code : "answered",
      );
      expect(codes).toContain("PFS_PEER_SLOW");
      await near.drained();
      await Promise.all(asked);
      expect(near.bufferedBytes).toBe(0);
    });

    pairTest(
      "when the connection breaks, everything in flight is rejected on both sides",
      async ({ near, far, cut }) => {
        let asking = 0;
        let aborted = 0;
        far.onRequest((_, reply) => {
          asking++;
          reply.signal.addEventListener("abort", () => aborted++);
        });
        const asked = [near.request({ type: WANT }), near.request({ type: WANT })];
        const stream = near.stream({ type: WANT })[Symbol.asyncIterator]().next();
        await until(() => asking === 3);
        await cut();
        for (const promise of [...asked, stream])
          await expect(promise).rejects.toMatchObject({ code: "PFS_NODE_LOST" });
        expect((await near.closed).code).toBe("PFS_NODE_LOST");
        expect((await far.closed).code).toBe("PFS_NODE_LOST");
        expect(aborted).toBe(3);
        await expect(near.request({ type: WANT })).rejects.toMatchObject({ code: "PFS_NODE_LOST" });
        near.notify({ type: WANT });
        await near.drained();
      },
    );

    pairTest(
      "closing sends what was said, rejects what was asked, and tells the peer",
      async ({ near, far }) => {
        const seen: unknown[] = [];
        far.onRequest(({ meta }) => void seen.push(meta));
        const asked = near.request({ type: WANT });
        await turn(20);
        near.notify({ type: WANT, meta: "the last word", chunks: new Uint8Array(2_000_000) });
        const closing = near.close();
        await expect(asked).rejects.toMatchObject({ code: "PFS_LINK_CLOSED" });
        await closing;
        expect((await near.closed).code).toBe("PFS_LINK_CLOSED");
        expect(await far.closed).toMatchObject({
          code: "PFS_NODE_LOST",
          data: { reason: "PFS_LINK_CLOSED" },
        });
        expect(seen).toEqual([undefined, "the last word"]);
        await near.close();
      },
    );
  });
}

/** Lets `rounds` rounds of the event loop pass. */
async function turn(rounds = 1): Promise<void> {
  for (let round = 0; round < rounds; round++) await new Promise((resolve) => setTimeout(resolve, 1));
}
