import { expect, it, vi } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import { Collector } from "../../suites/collector.ts";
import { describeExecutor, ECHO } from "../../suites/executor.ts";
import { until } from "../../suites/until.ts";
import { LocalHarness } from "./local-harness.ts";

describeExecutor("LocalExecutor", () => LocalHarness.open());

it("keeps what only the job reads as it is, and compresses the rest", async () => {
  const harness = await LocalHarness.open();
  const { executor, store } = harness;
  const groups = `export default { input: { kind: "lines" }, yields: "groups", map() {}, combine: (a) => a };`;
  const opened = vi.spyOn(store, "openWriter");
  const asked: unknown[] = [];
  for (const source of [groups, ECHO]) {
    for (const entry of ["map", "finish"] as const) {
      const manifest = await harness.putProgram(source, { entry });
      await (await executor.load(manifest, new Collector(), new AbortController().signal)).close();
      asked.push(opened.mock.lastCall?.[0]?.isTemporary);
    }
  }
  expect(asked).toEqual([true, false, false, false]);
  await harness.close();
});

it("keeps what it read while it has lanes, and for a while, but not for ever", async () => {
  const harness = await LocalHarness.open({ inputsIdleMs: 1 });
  const { executor, store } = harness;
  const manifest = await harness.putProgram(ECHO);
  const reads = vi.spyOn(store, "read");
  const { signal } = new AbortController();
  const load = (): Promise<Lane> => executor.load(manifest, new Collector(), signal);
  const readsOfManifest = (): number =>
    reads.mock.calls.flatMap(([refs]) => refs).filter((ref) => refToHex(ref) === refToHex(manifest)).length;

  const first = await load();
  await (await load()).close();
  await (await load()).close();
  expect(readsOfManifest()).toBe(1);
  await first.close();
  await until(async () => {
    await (await load()).close();
    return readsOfManifest() > 1;
  });
  await harness.close();
});
