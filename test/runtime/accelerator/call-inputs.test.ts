/** Where inputs of calls stand: remembered, as long as that takes little. */
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Ref } from "../../../packets/digest.ts";
import { CallInputs } from "../../../runtime/accelerator/call-inputs.ts";
import { Store } from "../../../runtime/store/store.ts";
import { seededBytes } from "../../suites/exec-packets.ts";
import { put, temporaryDirectory } from "../store/store-fixture.ts";

const LENGTH: number = 2 * 1024 * 1024;
const { signal } = new AbortController();
let directory: Awaited<ReturnType<typeof temporaryDirectory>>;
let store: Store;
let root: Ref;

beforeAll(async () => {
  directory = await temporaryDirectory();
  store = await Store.open(directory.path);
  ({ root } = await put(store, "file", seededBytes(LENGTH, 1)));
});
afterAll(async () => {
  await store.close();
  await directory[Symbol.asyncDispose]();
});

test("forgets where the ranges stand that were asked for least recently, once plans take too much", async () => {
  let asked = 0;
  const places = {
    places: async (refs: Uint8Array) => {
      asked++;
      return await store.places(refs);
    },
  };
  const range = (from: number): { root: Ref; from: number; length: number } => ({
    root,
    from,
    length: LENGTH - 8,
  });
  const [first, ...others] = [0, 2, 4, 6].map(range);
  const { plan } = await new CallInputs(store, places).plan(first!, signal);
  const bytes = plan!.bytes.byteLength;
  const inputs = new CallInputs(store, places, 3 * bytes);
  asked = 0;
  for (let round = 0; round < 2; round++) for (const each of others) await inputs.plan(each, signal);
  expect(asked).toBe(3);
  await inputs.plan(first!, signal);
  await inputs.plan(others[2]!, signal);
  expect(asked).toBe(4);
  await inputs.plan(others[0]!, signal);
  expect(asked).toBe(5);
  // One that alone takes more is made each time.
  const few = new CallInputs(store, places, bytes - 1);
  expect((await few.plan(first!, signal)).plan?.bytes).toEqual(plan!.bytes);
  await few.plan(first!, signal);
  expect(asked).toBe(7);
});
