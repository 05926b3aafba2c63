/** What commands remember on this machine: told by pfs doctor, bounded by a variable, emptied by pfs gc --cache. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { cacheChecks } from "../../../sdk/cli/doctor/cache.ts";
import { cacheBytes } from "../../../sdk/cli/options.ts";
import { temporaryDirectory as temporary } from "../../runtime/store/store-fixture.ts";
import { pfs, temporaryDirectory } from "./run-pfs.ts";

afterEach(() => vi.unstubAllEnvs());

describe("the cache", () => {
  it.each([
    ["0", 0],
    ["4096", 4096],
    ["20GiB", 20 * 1024 ** 3],
    ["1.5 MB", 1_500_000],
  ])("may have as many bytes as %s says", (text, bytes) => {
    vi.stubEnv("PACKETFS_CACHE_BYTES", text);
    expect(cacheBytes()).toBe(bytes);
  });

  it("has no bound that is none, and its own where none is given", () => {
    expect(cacheBytes()).toBeUndefined();
    for (const text of ["much", "-1", "00", "1.5"]) {
      vi.stubEnv("PACKETFS_CACHE_BYTES", text);
      expect(cacheBytes).toThrow(
        /^PACKETFS_CACHE_BYTES takes bytes, or a size like 64KiB or 4MB, or 0 to remember nothing, not/,
      );
    }
  });

  it("is told of by doctor: where it is, and how much", async () => {
    await using at = await temporary();
    const directory = join(at.path, "cache");
    const told = await cacheChecks(1_000_000, directory);
    expect(told).toMatchObject([
      { name: "directory", found: directory, state: "ok" },
      { name: "size", found: expect.stringMatching(/^0 B, at most 1(.0)? MB; pfs gc --cache empties it$/) },
    ]);
    await mkdir(join(directory, "store"), { recursive: true });
    await writeFile(join(directory, "store", "some"), Buffer.alloc(5000));
    const [, size] = await cacheChecks(0, directory);
    expect(size!.found).toMatch(/^5(.0)? kB, no more is kept; /);
  });

  it("is emptied, whatever is there instead of it", async () => {
    const home = await temporaryDirectory();
    const environment = { XDG_CACHE_HOME: home };
    await mkdir(join(home, "packetfs", "files", "store"), { recursive: true });
    await writeFile(join(home, "packetfs", "files", "store", "some"), Buffer.alloc(5000));
    const { out, status } = await pfs(["gc", "--cache", "--json"], { environment });
    const { directory, freedBytes } = JSON.parse(out) as { directory: string; freedBytes: number };
    expect(directory).toBe(join(home, "packetfs", "files"));
    // The log of the index, which opening it has made, goes too.
    expect([freedBytes >= 5000, freedBytes < 100_000]).toEqual([true, true]);
    expect(status).toBe(0);
    const again = await pfs(["gc", "--cache"], { environment });
    expect(again.err).toMatch(/^freed 0 B of /);
  });
});
