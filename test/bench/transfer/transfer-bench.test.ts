/** The bench of moving files still works, with a small part of a file. How good its figures are is not looked at. */
import { execFile, spawnSync } from "node:child_process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ROOT } from "../../source-tree.ts";
import type { Spread } from "../harness.ts";

interface Result {
  readonly row: string;
  readonly movers: readonly { readonly name: string; readonly bytes: Spread; readonly seconds: Spread }[];
}

const isolated = ["--map-root-user", "--user", "--net", "ip", "link", "set", "lo", "up"];
const hasNetworks = spawnSync("unshare", isolated).status === 0;

test.runIf(hasNetworks)("files over an open connection are measured, near and far", async () => {
  const words = ["test/bench/transfer/main.ts", "--rounds", "1", "--json", "--only", "get 15 KB"];
  const { stdout } = await promisify(execFile)(process.execPath, words, { cwd: ROOT });
  const { results } = JSON.parse(stdout) as { readonly results: readonly Result[] };
  expect(results).toHaveLength(2);
  for (const { movers } of results) {
    expect(movers[0]!.name).toBe("packetfs");
    // What was fetched, and no more than its messages beside.
    expect(movers[0]!.bytes.median).toBeGreaterThan(15_000);
    expect(movers[0]!.bytes.median).toBeLessThan(25_000);
  }
  // No answer is there before the link has carried it.
  expect(results[1]!.movers[0]!.seconds.median).toBeGreaterThan(0.5);
});

test.runIf(hasNetworks)("an update is measured in a network of its own", async () => {
  const words = ["test/bench/transfer/main.ts", "--part", "0.01", "--rounds", "1", "--json"];
  const { stdout } = await promisify(execFile)(process.execPath, [...words, "--only", "inserts"], {
    cwd: ROOT,
  });
  const { results } = JSON.parse(stdout) as { readonly results: readonly Result[] };
  expect(results.map(({ row }) => row)).toEqual(["update 256 MiB with 256 inserts"]);
  const [{ name, bytes, seconds }] = results[0]!.movers as [Result["movers"][number]];
  expect(name).toBe("packetfs");
  // It is an update: a hundredth of 256 MiB did not come again.
  expect(bytes.median).toBeLessThan(1_000_000);
  expect(bytes.median).toBeGreaterThan(0);
  expect(seconds.median).toBeGreaterThan(0);
});
