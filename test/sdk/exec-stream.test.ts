/** Streams of frames through a loaded program: what they leave in memory, and where answers go that nobody reads yet. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { decodePacket } from "../../packets/packet.ts";
import { openLocal } from "../../sdk/index.ts";
import { Places } from "../suites/places.ts";
import { temporaryDirectory } from "./cli/run-pfs.ts";

const MIB = 1024 * 1024;
/** More by `PACKETFS_TEST_PACKETS=10000000`. */
const PACKETS = Number(process.env["PACKETFS_TEST_PACKETS"] ?? 524_288);

it(`${PACKETS} packets in one stream leave nothing in memory`, async () => {
  const main = fileURLToPath(new URL("./exec-stream-main.ts", import.meta.url));
  const arguments_ = ["--expose-gc", "--no-warnings", main, await temporaryDirectory(), String(PACKETS)];
  const { stdout } = await promisify(execFile)(process.execPath, arguments_);
  const { answered, samples } = JSON.parse(stdout) as { answered: number; samples: number[] };
  expect(answered).toBe(PACKETS);
  // What is under way varies; all frames and answers together are 64 MiB, of the smallest number of packets.
  expect(Math.max(...samples) - samples[0]!).toBeLessThan(16 * MIB);
});

describe("a stream that may run ahead of its reader", () => {
  it("runs to its end though nobody reads, and its answers are those to its frames", async () => {
    await using pfs = await openLocal(await temporaryDirectory(), { workers: 2 });
    await using asked = await Places.load(pfs, 251);
    const frames = 160;
    const count = 1024;
    let taken = 0;
    function* source(): Generator<Uint8Array> {
      for (let frame = 0; frame < frames; frame++) {
        taken++;
        yield asked.frame(frame, count);
      }
    }
    const answers = asked.program.exec(source(), { aheadPackets: frames * count });
    let read = 0;
    for (let next = await answers.next(); next.done !== true; next = await answers.next()) {
      if (read === 0) await expect.poll(() => taken, { timeout: 120_000 }).toBe(frames);
      for (let index = 0; index < count; index += 93) {
        const { at, ref: value, length } = decodePacket(next.value, index);
        expect([at, length, value[0]]).toEqual([index, 1, (read + index) % 251]);
      }
      read++;
    }
    expect(read).toBe(frames);
  });
});
