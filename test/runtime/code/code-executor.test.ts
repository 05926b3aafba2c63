/** An executor of packet code when what it needs is not to be had: every lane ends, and gives back its slot. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { encodeFrame } from "../../../packets/packet.ts";
import { Op } from "../../../packets/layout.ts";
import { LANES_MAX } from "../../../packets/limits.ts";
import { CodeExecutor } from "../../../runtime/code/code-executor.ts";
import type { StoreWriter } from "../../../runtime/contracts/chunks.ts";
import type { LaneListener } from "../../../runtime/contracts/executor.ts";
import { LaneSlots } from "../../../runtime/lane-slots.ts";
import { LANE_PACKETS_MAX } from "../../../runtime/limits.ts";
import { Store } from "../../../runtime/store/store.ts";
import { writeChunks } from "../../../runtime/stream/ingest.ts";
import { parseCode } from "../../../sdk/code/parse.ts";
import { temporaryDirectory } from "../store/store-fixture.ts";

const never = new AbortController().signal;
/** Its state does not fit into an answer, so it is written. */
const HISTOGRAM = { inline: parseCode("histogram()").packetCode };

let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: Store;
let exec: Uint8Array;

beforeAll(async () => {
  directory = await temporaryDirectory();
  store = await Store.open(directory.path);
  await using writer = await store.openWriter();
  const ref = await writeChunks(writer, [Buffer.from("some bytes")]);
  exec = encodeFrame([{ op: Op.EXEC, lane: 1, length: 10, ref }]);
});

afterAll(async () => {
  await store.close();
  await directory[Symbol.asyncDispose]();
});

function executorOn(slots: LaneSlots, openWriter: () => Promise<StoreWriter>): CodeExecutor {
  const has = (refs: Uint8Array): Promise<Uint8Array> => store.has(refs);
  const options = { id: "code", label: "code", source: store, places: store, slots: 1, lanes: slots };
  return new CodeExecutor({ ...options, openWriter, has });
}

/** What a lane is told: the first of it. */
function firstHeard(): { readonly listener: LaneListener; readonly heard: Promise<unknown> } {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  const listener = { returned: resolve, lost: resolve, logged: () => {}, noted: () => {} };
  return { listener, heard: promise };
}

describe("a lane", () => {
  test("whose writer cannot be closed says so, and is gone all the same", async () => {
    const slots = new LaneSlots();
    await using executor = executorOn(slots, async () => {
      const writer = await store.openWriter();
      const close = async (): Promise<void> => {
        await writer.close();
        throw new Error("the disk is gone");
      };
      return new Proxy(writer, {
        get: (target, name) => {
          if (name === "close") return close;
          const value: unknown = Reflect.get(target, name, target);
          return typeof value === "function" ? (value.bind(target) as unknown) : value;
        },
      });
    });
    const { listener, heard } = firstHeard();
    const lane = await executor.load(HISTOGRAM, listener, never);
    lane.exec(exec);
    expect(await heard).toBeInstanceOf(Uint8Array);
    await expect(lane.close()).rejects.toThrow("the disk is gone");
    expect(slots.info(0).open).toBe(0);
  });

  test("whose writer cannot be opened is lost", async () => {
    const slots = new LaneSlots();
    await using executor = executorOn(slots, () => Promise.reject(new Error("the disk is gone")));
    const { listener, heard } = firstHeard();
    const lane = await executor.load(HISTOGRAM, listener, never);
    lane.exec(exec);
    expect(await heard).toMatchObject({ code: "PFS_LANE_BROKEN" });
    await lane.close();
    expect(slots.info(0).open).toBe(0);
  });

  test("that is given more packets than it takes is lost", async () => {
    const slots = new LaneSlots();
    await using executor = executorOn(slots, () => store.openWriter());
    const { listener, heard } = firstHeard();
    const lane = await executor.load(HISTOGRAM, listener, never);
    lane.exec(new Uint8Array(Buffer.alloc((LANE_PACKETS_MAX + 1) * exec.byteLength, exec)));
    expect(await heard).toMatchObject({ code: "PFS_LANE_OVERFULL", data: { max: LANE_PACKETS_MAX } });
    await lane.close();
    expect(slots.info(0).open).toBe(0);
  });

  test("is refused where all slots are taken, bytes that are no code, and programs that are none", async () => {
    const slots = new LaneSlots();
    await using executor = executorOn(slots, () => store.openWriter());
    const { listener } = firstHeard();
    const broken = executor.load({ inline: new Uint8Array(32) }, listener, never);
    await expect(broken).rejects.toMatchObject({
      code: "PFS_PROGRAM_INVALID",
      data: { reason: "unknown version" },
    });
    await expect(executor.load(new Uint8Array(32), listener, never)).rejects.toMatchObject({
      code: "PFS_PROGRAM_INVALID",
    });
    expect(slots.info(0).open).toBe(0);
    for (let taken = 0; taken < LANES_MAX; taken++) slots.take("code", undefined);
    await expect(executor.load(HISTOGRAM, listener, never)).rejects.toMatchObject({ code: "PFS_LANES_FULL" });
  });
});
