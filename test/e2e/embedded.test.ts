/** A store in a directory, used by the words that people type: what goes in comes out, whole, in part and by root. */
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { openLocal } from "../../sdk/index.ts";
import { makePlace } from "../sdk/cli/run-pfs.ts";
import type { Place } from "../sdk/cli/run-pfs.ts";
import { bytesOf, noise, sha256 } from "./inputs.ts";
import { HAS_PROC, peakBytesOf } from "../suites/processes.ts";

const MIB = 1024 * 1024;
const BIG_BYTES = 64 * MIB;
const PEAK_BYTES_MAX = 300 * MIB;

describe("a file of 64 MiB", () => {
  const big = noise(BIG_BYTES, 7);
  let place: Place;
  let root: string;
  let peakBytes = 0;

  beforeAll(async () => {
    place = await makePlace();
    const put = await place.run(["put", "-", "--name", "big.bin", "--json"], {
      input: big,
      whileRunning: (child) => {
        if (!HAS_PROC) return;
        const watch = setInterval(() => {
          peakBytes = Math.max(peakBytes, peakBytesOf(child.pid!));
        }, 10);
        child.on("close", () => clearInterval(watch));
      },
    });
    expect({ status: put.status, err: put.err }).toEqual({ status: 0, err: "" });
    root = (JSON.parse(put.out) as { root: string }).root;
  });

  it.runIf(HAS_PROC)("goes in through a pipe without being held in memory", () => {
    expect(peakBytes).toBeGreaterThan(10 * MIB);
    expect(peakBytes).toBeLessThan(PEAK_BYTES_MAX);
  });

  it("comes out on stdout", async () => {
    const got = await place.run(["get", root, "-o", "-", "--quiet"]);
    expect([got.status, got.err]).toEqual([0, ""]);
    expect(sha256(got.stdout)).toBe(sha256(big));
  });

  it("comes out in parts", async () => {
    const words = ["get", "big.bin", "-o", "part.bin", "--range", `${MIB - 3}-${MIB + 5}`, "--json"];
    expect(await place.json(words)).toMatchObject([{ path: "part.bin", length: 8 }]);
    expect(await readFile(join(place.cwd, "part.bin"))).toEqual(big.subarray(MIB - 3, MIB + 5));

    await using store = await openLocal(join(place.cwd, "store"));
    const middle = BIG_BYTES / 2;
    for (const [start, end] of [
      [0, 1],
      [middle - 1, middle],
      [middle - 100_000, middle + 1_234_567],
      [BIG_BYTES - 7, BIG_BYTES],
    ] as const) {
      const part = await bytesOf(store, root, { start, end });
      expect([start, sha256(part)]).toEqual([start, sha256(big.subarray(start, end))]);
    }
  });

  it("costs nothing again, and once it is edited what the edit touches", async () => {
    const again = await place.run(["put", "-", "--name", "same.bin", "--json"], { input: big });
    expect(JSON.parse(again.out)).toMatchObject({ root, newChunks: 0, newBytes: 0, storedBytes: 0 });
    const edited = Buffer.concat([
      big.subarray(0, 5 * MIB),
      Buffer.from("more"),
      big.subarray(5 * MIB, 8 * MIB),
    ]);
    await writeFile(join(place.cwd, "edited.bin"), edited);
    const [put] = await place.json(["put", "edited.bin"]);
    expect(put!["length"]).toBe(edited.length);
    expect(put!["newBytes"]).toBeLessThan(MIB);
    const [head, ...packets] = await place.json(["packets", "edited.bin"]);
    expect(head).toMatchObject({ root: put!["root"], length: edited.length });
    expect(packets).toHaveLength(Number(put!["packets"]));
  });

  it("lives on in what shares its chunks when it is removed", async () => {
    const [removed] = await place.json(["rm", "big.bin", "same.bin"]);
    expect(removed).toMatchObject({ removed: ["big.bin", "same.bin"] });
    const [freed] = await place.json(["gc"]);
    expect(freed!["freedBytes"]).toBeGreaterThan(BIG_BYTES / 2);
    expect(await place.json(["verify"])).toMatchObject([{ sound: true }]);
    const got = await place.run(["cat", "edited.bin"]);
    expect(got.stdout.length).toBe(8 * MIB + 4);
    expect(sha256(got.stdout.subarray(5 * MIB + 4))).toBe(sha256(big.subarray(5 * MIB, 8 * MIB)));
  });
});

describe("several files", () => {
  it("of every kind come back as they were", async () => {
    const place = await makePlace();
    const files: Readonly<Record<string, Buffer>> = {
      "empty.bin": Buffer.alloc(0),
      "one.bin": Buffer.from([0]),
      "zeros.bin": Buffer.alloc(3 * MIB),
      "photos/größe – 名前.bin": noise(100_000, 3),
    };
    for (const [name, bytes] of Object.entries(files)) {
      const put = await place.run(["put", "-", "--name", name], { input: bytes });
      expect([name, put.status]).toEqual([name, 0]);
    }
    const listed = await place.json(["ls"]);
    expect(listed.map(({ name, length }) => [name, length])).toEqual(
      Object.entries(files)
        .map(([name, bytes]): [string, number] => [name, bytes.length])
        .toSorted(([a], [b]) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
    );
    expect(await place.json(["stat", ...listed.map(({ name }) => String(name))])).toEqual(listed);
    const all = await place.run(["cat", ...Object.keys(files)]);
    expect(sha256(all.stdout)).toBe(sha256(Buffer.concat(Object.values(files))));
    await place.json(["get", "empty.bin", "-o", "out.bin"]);
    expect(await readFile(join(place.cwd, "out.bin"))).toHaveLength(0);
  });
});

it("is opened with so many workers as a machine can have", async () => {
  for (const workers of [-1, 1.5, Number.NaN, 1e9]) {
    await expect(openLocal("store", { workers })).rejects.toMatchObject({ code: "PFS_USAGE" });
  }
});
