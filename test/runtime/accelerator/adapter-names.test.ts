/** Which adapters are used, of what drivers call them. */
import { expect, test } from "vitest";
import { chooseAdapters } from "../../../runtime/accelerator/adapter-names.ts";
import { ACCELERATORS_MAX } from "../../../runtime/limits.ts";

const LAVAPIPE = "llvmpipe (LLVM 15.0.6, 256 bits)";
const SWIFTSHADER = "SwiftShader Device (Subzero)";

test("all that are real are used, in the order of their drivers", () => {
  const names = ["NVIDIA H200", "AMD Radeon Pro W7900", LAVAPIPE];
  expect(chooseAdapters(names, false)).toEqual({ names: names.slice(0, 2), unused: [] });
  expect(chooseAdapters(names, true)).toEqual({ names, unused: [] });
});

test("CPUs that imitate one are spoken of where there is nothing else", () => {
  const { names, unused } = chooseAdapters([SWIFTSHADER, LAVAPIPE, LAVAPIPE], false);
  expect(names).toEqual([]);
  expect(unused.map(({ label }) => label)).toEqual([SWIFTSHADER, LAVAPIPE]);
  for (const { reason } of unused) expect(reason).toContain("imitates");
});

test("of those of one model the first is used, and of the others is said why not", () => {
  const { names, unused } = chooseAdapters(["NVIDIA H200", "Arc A770", "NVIDIA H200", "NVIDIA H200"], false);
  expect(names).toEqual(["NVIDIA H200", "Arc A770"]);
  expect(unused.map(({ label }) => label)).toEqual(["NVIDIA H200", "NVIDIA H200"]);
  for (const { reason } of unused) expect(reason).toContain("nothing tells the two apart");
});

test("one that is hidden behind another whose name has its own in it is not used as if it were the other", () => {
  const hidden = chooseAdapters(["RTX 4090 Ti", "RTX 4090"], false);
  expect(hidden.names).toEqual(["RTX 4090 Ti"]);
  expect(hidden.unused).toEqual([
    { label: "RTX 4090", reason: expect.stringContaining("is given the RTX 4090 Ti") },
  ]);
  // Whoever is found first hides nobody.
  expect(chooseAdapters(["RTX 4090", "RTX 4090 Ti"], false)).toMatchObject({
    names: ["RTX 4090", "RTX 4090 Ti"],
    unused: [],
  });
  // Nor does a CPU give way to a GPU of which its name is a part.
  expect(chooseAdapters(["llvmpipe RTX", "RTX"], false).names).toEqual([]);
});

test("neither nameless ones nor more than a machine may have are used", () => {
  const many = Array.from({ length: ACCELERATORS_MAX + 2 }, (_, index) => `GPU number ${index + 10}`);
  const { names, unused } = chooseAdapters(["", ...many], false);
  expect(names).toEqual(many.slice(0, ACCELERATORS_MAX));
  expect(unused.map(({ reason }) => reason)).toEqual([
    expect.stringContaining("no name"),
    ...many.slice(ACCELERATORS_MAX).map(() => expect.stringContaining(`${ACCELERATORS_MAX} GPUs`)),
  ]);
});
