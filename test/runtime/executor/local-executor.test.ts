import { expect, it, vi } from "vitest";
import { refToHex } from "../../../packets/digest.ts";
import { FaultCode } from "../../../packets/faults.ts";
import { Op } from "../../../packets/layout.ts";
import { encodeFrame } from "../../../packets/packet.ts";
import type { Lane } from "../../../runtime/contracts/executor.ts";
import { Collector } from "../../suites/collector.ts";
import { exec, seededBytes } from "../../suites/exec-packets.ts";
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
      const lane = await executor.load(manifest, new Collector(), new AbortController().signal);
      await lane.keep("nothing", new Uint8Array(0));
      await lane.close();
      asked.push(opened.mock.lastCall?.[0]?.isTemporary);
    }
  }
  expect(asked).toEqual([true, false, false, false]);
  await harness.close();
});

it("asks for an input that is nowhere a few times, not once for each packet that reads it", async () => {
  const harness = await LocalHarness.open();
  const { executor, store } = harness;
  const collector = new Collector();
  const lane = await executor.load(await harness.putProgram(ECHO), collector, new AbortController().signal);
  const reads = vi.spyOn(store, "read");
  const there = await harness.putChunk(seededBytes(64, 1));
  const missing = seededBytes(32, 2);
  const count = 4096;
  // The last one finds what it reads: that those before it did not is nothing against it.
  lane.exec(
    encodeFrame(Array.from({ length: count }, (_, at) => exec(at, at < count - 1 ? missing : there, 0, 8))),
  );
  await collector.answered(count);
  // Frames double up to 1,024 packets, and three are under way while one grows.
  expect(reads.mock.calls.length).toBeLessThan(64);
  const ops = Array.from({ length: count }, (_, at) => collector.answer(at).op);
  expect(ops.indexOf(Op.RETURN)).toBe(count - 1);
  expect(collector.answer(0)).toMatchObject({ op: Op.FAULT, from: FaultCode.inputMissing });
  await lane.close();
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
