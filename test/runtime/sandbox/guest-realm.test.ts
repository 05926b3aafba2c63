import ivm from "isolated-vm";
import { expect, test } from "vitest";
import { PROGRAM_LIMITS_DEFAULT } from "../../../runtime/limits.ts";
import { makeFreeze } from "../../../runtime/sandbox/guest/freeze.ts";
import { preludeSource } from "../../../runtime/sandbox/guest/source.ts";
import {
  GuestIsolate,
  GuestRealm,
  believeCompiled,
  compiledPrelude,
  inspectionImage,
} from "../../../runtime/sandbox/thread/guest-isolate.ts";

const { memoryBytes } = PROGRAM_LIMITS_DEFAULT;
const CODE = "$exports.default = { input: { kind: 'lines' }, map() {} }";
const ROUNDS = 30;
/** The same prelude, though it is not known to be. */
const UNKNOWN = `${preludeSource()}\n`;

function cpuMs(work: () => void): number {
  const before = process.threadCpuUsage();
  for (let round = 0; round < ROUNDS; round++) work();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

test("a realm whose prelude V8 has compiled before opens in less time than one of which it knows nothing", () => {
  const warm = new GuestRealm(memoryBytes);
  GuestIsolate.open(inspectionImage(), CODE, warm);
  warm.keepCompiled();
  warm.dispose();
  const open = (source?: string): void =>
    GuestIsolate.open(inspectionImage(), CODE, new GuestRealm(memoryBytes, { source })).dispose();
  const unknown = cpuMs(() => open(UNKNOWN));
  expect(cpuMs(open)).toBeLessThan(unknown * 0.85);
});

test("a realm opens without what V8 does not take for the prelude, compiled", () => {
  const before = compiledPrelude();
  believeCompiled(Buffer.from("nonsense"));
  GuestIsolate.open(inspectionImage(), CODE, new GuestRealm(memoryBytes)).dispose();
  believeCompiled(before);
  GuestIsolate.open(inspectionImage(), CODE, new GuestRealm(memoryBytes)).dispose();
  expect(compiledPrelude()).toEqual(before);
});

test("a program in a realm that was opened ahead waits for little of what opening takes", () => {
  const opening: GuestRealm[] = [];
  const ahead = cpuMs(() => opening.push(new GuestRealm(memoryBytes)));
  const rest = cpuMs(() => GuestIsolate.open(inspectionImage(), CODE, opening.pop()!).dispose());
  expect(opening).toEqual([]);
  expect(rest).toBeLessThan(ahead);
});

test("a realm fits programs whose limit of memory is its own, to the MiB, as long as it is there", () => {
  const realm = new GuestRealm(memoryBytes);
  expect([memoryBytes, memoryBytes - 1, memoryBytes + 1].map((bytes) => realm.fits(bytes))).toEqual([
    true,
    true,
    false,
  ]);
  realm.dispose();
  expect(realm.fits(memoryBytes)).toBe(false);
});

test("arrays are made of arrays in a realm about as fast as where nothing is frozen", () => {
  const isolate = new ivm.Isolate();
  const [plain, frozen] = ["", `(${String(makeFreeze)})().realm();`].map((freeze) => {
    const make = "list.slice().map((x) => x + 1).filter((x) => x > 3).concat(list)";
    const source = `${freeze} const list = [1, 2, 3, 4, 5, 6]; () => { for (let i = 0; i < 5000; i++) ${make}; }`;
    const run: ivm.Reference<() => void> = isolate
      .compileScriptSync(source)
      .runSync(isolate.createContextSync(), { reference: true });
    return cpuMs(() => run.applySync());
  });
  isolate.dispose();
  expect(frozen! / plain!).toBeLessThan(4);
});
