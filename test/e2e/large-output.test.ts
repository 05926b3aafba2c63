/** A job writes a file and another one reads it: neither is held in memory, however long it is. */
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, it } from "vitest";
import { makePlace } from "../sdk/cli/run-pfs.ts";
import { HAS_PROC, peakBytesOf } from "../suites/processes.ts";

const MIB = 1024 * 1024;
/** More than is read before threads are started for it: these take as much, however long the file is. */
const SHORT_BYTES = 32 * MIB;
const LONG_BYTES = 160 * MIB;
const RECORD_BYTES = 65_536;

/** Makes other noise of each record, by where it is: what repeats would be stored once. */
const NOISE = `import { bytes, defineProgram } from "packetfs";
export default defineProgram({
  input: bytes(${RECORD_BYTES}),
  yields: "bytes",
  map(record: Uint8Array, { offset, write }) {
    const words = new Uint32Array(record.length / 4);
    let state = Math.imul(offset / ${RECORD_BYTES} + 1, 2654435761) | 1;
    for (let index = 0; index < words.length; index++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      words[index] = state;
    }
    write(new Uint8Array(words.buffer));
  },
});`;
const COUNT = `import { bytes, defineProgram } from "packetfs";
export default defineProgram({
  input: bytes(${RECORD_BYTES}),
  map: (record: Uint8Array) => record.length,
  combine: (a: number, b: number) => a + b,
});`;

it.runIf(HAS_PROC)(
  "a file that is five times as long takes no more memory to write, nor to read",
  async () => {
    const place = await makePlace();
    await writeFile(join(place.cwd, "noise.ts"), NOISE);
    await writeFile(join(place.cwd, "count.ts"), COUNT);
    /** The most memory that `pfs` has while it does this. */
    const peakOf = async (words: readonly string[]): Promise<number> => {
      let peak = 0;
      const { status, err } = await place.run([...words, "--json"], {
        whileRunning: (child) => {
          const watch = setInterval(() => (peak = Math.max(peak, peakBytesOf(child.pid!))), 10);
          child.on("close", () => clearInterval(watch));
        },
      });
      expect({ status, err }).toEqual({ status: 0, err: "" });
      return peak;
    };
    const peaks: { write: number; read: number }[] = [];
    for (const [name, bytes] of [
      ["short", SHORT_BYTES],
      ["long", LONG_BYTES],
    ] as const) {
      // Zeros are one packet.
      await place.run(["put", "-", "--name", name], { input: Buffer.alloc(bytes) });
      const write = await peakOf(["run", "noise.ts", name, "--out", `${name}.noise`]);
      const read = await peakOf(["run", "count.ts", `${name}.noise`]);
      const { out } = await place.run(["ls", "--json"]);
      expect(out).toContain(`"length":${bytes}`);
      peaks.push({ write, read });
    }
    const [short, long] = peaks;
    expect(long!.write - short!.write).toBeLessThan((LONG_BYTES - SHORT_BYTES) / 2);
    expect(long!.read - short!.read).toBeLessThan((LONG_BYTES - SHORT_BYTES) / 2);
  },
);
