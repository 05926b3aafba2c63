import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FaultCode } from "../../../packets/faults.ts";
import { encodeFrame, packetCount } from "../../../packets/packet.ts";
import { RUN_PACKETS_MAX } from "../../../runtime/limits.ts";
import { PacketQueue, FrameSize, LaneQueue } from "../../../runtime/executor/lane-queue.ts";
import type { Work } from "../../../runtime/executor/lane-queue.ts";
import { ZERO_REF, atsOf, emptyFrame, exec } from "../../suites/exec-packets.ts";

describe("PacketQueue", () => {
  it("gives packets in their order, whatever frames they came in and go out in", () => {
    const sizes = fc.array(fc.nat(20), { maxLength: 20 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 1, max: 30 }), (frames, most) => {
        const queue = new PacketQueue();
        let count = 0;
        for (const size of frames) {
          queue.push(emptyFrame(size, count));
          count += size;
        }
        const ats: number[] = [];
        while (queue.count > 0) {
          const frame = queue.take(most, 0);
          expect(packetCount(frame)).toBe(Math.min(most, count - ats.length));
          ats.push(...atsOf(frame));
          expect(queue.count).toBe(count - ats.length);
        }
        expect(ats).toEqual([...Array(count).keys()]);
        expect(queue.take(most, 0).byteLength).toBe(0);
      }),
    );
  });

  it("bounds the input of a frame, but never below one packet", () => {
    const queue = new PacketQueue();
    const lengths = [5, 5, 100, 1, 1];
    queue.push(encodeFrame(lengths.map((length, at) => exec(at, ZERO_REF, at, length))));
    expect(atsOf(queue.take(10, 10))).toEqual([0, 1]);
    expect(atsOf(queue.take(10, 10))).toEqual([2]);
    expect(atsOf(queue.take(10, 10))).toEqual([3, 4]);
  });

  it("counts input that is repeated once", () => {
    const queue = new PacketQueue();
    queue.push(encodeFrame([...Array(50).keys()].map((at) => exec(at, ZERO_REF, 0, 10))));
    expect(packetCount(queue.take(1000, 10))).toBe(50);
  });

  it("takes packets back in front of all others", () => {
    const queue = new PacketQueue();
    queue.push(emptyFrame(4, 2));
    queue.unshift(emptyFrame(2, 0));
    expect(atsOf(queue.take(3, 0))).toEqual([0, 1, 2]);
    queue.clear();
    expect(queue.count).toBe(0);
  });
});

describe("FrameSize", () => {
  it("begins with one packet and doubles while frames are quick", () => {
    const size = new FrameSize(10_000);
    const sizes: number[] = [];
    for (let step = 0; step < 12; step++) {
      sizes.push(size.packets);
      size.ran(size.packets, 0.2);
    }
    expect(sizes).toEqual([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024]);
    expect(Math.max(...sizes)).toBe(RUN_PACKETS_MAX);
  });

  it("comes down to what fits when frames are slow, and stays where they are right", () => {
    const size = new FrameSize(10_000);
    for (let step = 0; step < 8; step++) size.ran(size.packets, 1);
    expect(size.packets).toBe(256);
    size.ran(256, 256);
    expect(size.packets).toBe(20);
    size.ran(20, 15);
    expect(size.packets).toBe(20);
    size.ran(1, 100_000);
    expect(size.packets).toBe(1);
  });

  it("stays far below a short time limit", () => {
    const size = new FrameSize(8);
    for (let step = 0; step < 8; step++) size.ran(size.packets, 0.5);
    expect(size.packets).toBe(256);
    size.ran(256, 4);
    expect(size.packets).toBe(128);
  });

  it("learns nothing from frames that were not full", () => {
    const size = new FrameSize(10_000);
    for (let step = 0; step < 8; step++) size.ran(size.packets, 1);
    size.ran(3, 1);
    expect(size.packets).toBe(256);
    size.reset();
    expect(size.packets).toBe(1);
  });
});

describe("LaneQueue", () => {
  const together = { reason: "crash", alone: false, fresh: false } as const;
  const alone = { reason: "crash", alone: true, fresh: true } as const;

  function filled(count: number): LaneQueue {
    const queue = new LaneQueue(10_000);
    queue.add(emptyFrame(count));
    queue.size.ran(RUN_PACKETS_MAX, 1);
    return queue;
  }

  function take(queue: LaneQueue, flights: number): Work {
    const work = queue.next(flights);
    if (work === undefined) throw new Error("there is no work");
    return work;
  }

  it("lets suspects run alone, and others wait for them", () => {
    const queue = filled(3);
    const work = take(queue, 0);
    expect(queue.died(work.frame, work, together)).toEqual([]);
    queue.over(work);
    queue.add(emptyFrame(1, 9));
    for (const at of [0, 1, 2]) {
      expect(queue.next(1)).toBeUndefined();
      const suspect = take(queue, 0);
      expect(atsOf(suspect.frame)).toEqual([at]);
      expect(queue.next(0)).toBeUndefined();
      queue.over(suspect);
    }
    expect(atsOf(take(queue, 5).frame)).toEqual([9]);
  });

  it("gives a packet up that kills its process alone", () => {
    const queue = filled(2);
    const work = take(queue, 0);
    queue.died(work.frame, work, together);
    queue.over(work);
    const suspect = take(queue, 0);
    const faults = queue.died(suspect.frame, suspect, alone);
    queue.over(suspect);
    expect(faults).toMatchObject([{ kind: "fault", code: FaultCode.quarantined }]);
    expect(atsOf(faults[0]!.packet)).toEqual([0]);
    expect(atsOf(take(queue, 0).frame)).toEqual([1]);
  });

  it("gives a packet a second try when its process died while it was alone but once", () => {
    const queue = filled(1);
    const first = take(queue, 0);
    expect(queue.died(first.frame, first, alone)).toEqual([]);
    queue.over(first);
    const second = take(queue, 0);
    expect(queue.died(second.frame, second, alone)).toHaveLength(1);
  });

  it("runs a packet again, alone, that did not end for too long, and tells it the second time", () => {
    const queue = filled(2);
    const stall = { reason: "stall", alone: false, fresh: false } as const;
    const work = take(queue, 0);
    expect(queue.died(work.frame, work, stall)).toEqual([]);
    queue.over(work);
    const first = take(queue, 0);
    // A crash, and then a stall, are the first of their kind.
    expect(queue.died(first.frame, first, alone)).toEqual([]);
    queue.over(first);
    const other = take(queue, 0);
    expect(queue.died(other.frame, other, { ...stall, alone: true })).toMatchObject([
      { code: FaultCode.stalled },
    ]);
  });

  it("tells the memory limit from other deaths", () => {
    for (const [reasons, code] of [
      [["memory", "memory"], FaultCode.memoryLimit],
      [["memory", "crash"], FaultCode.quarantined],
      [["crash", "memory"], FaultCode.quarantined],
    ] as const) {
      const queue = filled(1);
      const first = take(queue, 0);
      expect(queue.died(first.frame, first, { ...together, reason: reasons[0] })).toEqual([]);
      queue.over(first);
      const second = take(queue, 0);
      const circumstances = { reason: reasons[1], alone: true, fresh: false };
      expect(queue.died(second.frame, second, circumstances)).toMatchObject([{ code }]);
    }
  });

  it("blames memory at once on a packet that had a fresh process for itself", () => {
    const queue = filled(1);
    const work = take(queue, 0);
    const faults = queue.died(work.frame, work, { ...alone, reason: "memory" });
    expect(faults).toMatchObject([{ code: FaultCode.memoryLimit }]);
  });

  it("puts back what did not run as it was", () => {
    const queue = filled(3);
    const work = take(queue, 0);
    queue.putBack(work.frame, work);
    queue.over(work);
    const again = take(queue, 0);
    expect(atsOf(again.frame)).toEqual([0, 1, 2]);
    queue.died(again.frame, again, together);
    queue.over(again);
    const suspect = take(queue, 0);
    queue.putBack(suspect.frame, suspect);
    queue.over(suspect);
    expect(take(queue, 0)).toEqual(suspect);
  });

  it("runs separated packets one a frame, beside each other", () => {
    const queue = filled(3);
    queue.separate(take(queue, 0).frame);
    expect([0, 1, 2].map((flights) => atsOf(take(queue, flights).frame))).toEqual([[0], [1], [2]]);
    expect(queue.next(0)).toBeUndefined();
  });

  it("forgets what it knew of the size with the process", () => {
    const queue = filled(5);
    const work = take(queue, 0);
    queue.died(work.frame, work, together);
    expect(queue.size.packets).toBe(1);
    queue.clear();
    queue.over(work);
    expect(queue.next(0)).toBeUndefined();
  });
});
