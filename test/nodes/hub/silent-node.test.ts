/**
 * A node that keeps its session alive and answers nothing, beside one that does its work: each operation of the hub ends with
 * what the others can give, the silent one is told of, and is not waited for again.
 */
import { describe, expect, test } from "vitest";
import { refToHex, sha256 } from "../../../packets/digest.ts";
import { MessageType } from "../../../packets/envelope.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import { QUESTION_TIMEOUT_MS } from "../../../nodes/limits.ts";
import { HubClient } from "../../../nodes/remote/hub-client.ts";
import { serve } from "../../../nodes/serve/service.ts";
import { Identity } from "../../../nodes/wire/trust/keys.ts";
import { ingest } from "../../../runtime/stream/ingest.ts";
import { memoryPair } from "../wire/memory-pair.ts";
import { openHub, unlimited } from "../open-hub.ts";
import { scriptedPeer } from "../scripted-peer.ts";
import type { Script, ScriptedPeer } from "../scripted-peer.ts";

const { WANT, HAVE, FILE_REQUEST, FILE_DATA, NAME, OK, MAINTENANCE } = MessageType;

const { members, services, jobs } = await openHub();
const chunk = Buffer.from("what only the node has that answers ".repeat(50));
const ref = sha256(chunk);

const answers: Script = {
  [WANT]: ({ chunks }) => {
    const refs = Array.from({ length: chunks.byteLength / 32 }, (_, at) =>
      chunks.slice(at * 32, at * 32 + 32),
    );
    return { type: HAVE, chunks: Uint8Array.from(refs, (one) => (refToHex(one) === refToHex(ref) ? 1 : 0)) };
  },
  [FILE_REQUEST]: () => ({
    type: FILE_DATA,
    meta: { codec: 0, missing: [] },
    packets: encodeFrame([{ op: Op.COPY, at: 0, length: chunk.byteLength, ref }]),
    chunks: chunk,
  }),
  [NAME]: () => ({ type: OK, meta: { records: [], more: false } }),
  [MAINTENANCE]: ({ meta }) => ({
    type: OK,
    chunks: Buffer.from(
      JSON.stringify(
        (meta as { op: string }).op === "gc"
          ? { keptChunks: 7, freedChunks: 0, freedBytes: 0 }
          : { chunks: 7, bytes: 7, damaged: [], incomplete: [], lostRecords: 0 },
      ),
    ),
  }),
};

function join(label: string, script: Script): ScriptedPeer {
  const node = scriptedPeer(script, { role: "node", label });
  serve(node.link, services.forNode(members.add(node.link)));
  return node;
}

function client(): HubClient {
  const { near, far } = memoryPair({ near: { role: "client" } });
  serve(
    far,
    services.forClient(() => members.statuses((executor) => jobs.loadOf(executor)), unlimited("client")),
  );
  return new HubClient(near, Identity.create());
}

describe("among nodes of which one answers nothing", () => {
  test("every operation ends with what the others can give, and the silent one is not waited for again", async () => {
    const silent = join("silent", {});
    const working = join("working", answers);
    const hub = client();
    const { catalog } = hub.data;
    for (const name of ["one", "two"]) {
      await using put = await hub.data.openWriter();
      const { root, length } = await ingest(put, pieces(Buffer.from(name)));
      await put.bind({ name, root, length });
    }
    const nowhere = new Uint8Array(32).fill(9);
    const [found, read, removed, report, freed] = await Promise.all([
      hub.data.has(Buffer.concat([ref, nowhere])),
      hub.data.read([ref]),
      catalog.remove("one"),
      hub.verify(),
      hub.gc(),
    ]);
    expect([...found]).toEqual([1, 0]);
    expect(Buffer.from(read[0]!).equals(chunk)).toBe(true);
    expect(removed).toBe(true);
    expect(report.damaged).toEqual([]);
    expect(freed.keptChunks).toBeGreaterThanOrEqual(7);
    const statuses = await hub.nodes();
    const lastSeen = new Map(statuses.map(({ label, lastSeenMs }) => [label, lastSeenMs]));
    expect(lastSeen.get("working")).toBe(0);
    expect(lastSeen.get("silent")).toBeGreaterThan(0);

    const askedBefore = silent.asked.length;
    const workedBefore = working.asked.length;
    await Promise.all([catalog.remove("two"), hub.verify(), hub.data.has(ref), hub.data.read([ref])]);
    expect(silent.asked.length).toBe(askedBefore);
    expect(working.asked.length).toBeGreaterThan(workedBefore);
    await hub.close();
  }, 120_000);
});

test("a removal does not wait for a node that says for ever that it is at work", async () => {
  let isAsked = false;
  const busy = join("busy", {
    [NAME]: () => {
      isAsked = true;
      return new Promise(() => {});
    },
  });
  const hub = client();
  await using put = await hub.data.openWriter();
  const { root, length } = await ingest(put, pieces(Buffer.from("three")));
  await put.bind({ name: "three", root, length });
  const begun = performance.now();
  expect(await hub.data.catalog.remove("three")).toBe(true);
  expect(isAsked).toBe(true);
  // As long as a question may take, when whoever was asked says that it is at work.
  expect(performance.now() - begun).toBeLessThan(QUESTION_TIMEOUT_MS);
  busy.cut();
  await hub.close();
}, 180_000);

async function* pieces(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}
