/** The table of keys against a Map and the language's own sort, on random keys and on keys whose hashes meet. */
import { describe, expect, test } from "vitest";
import { makeKeyTable } from "../../../runtime/sandbox/guest/key-table.ts";
import type { KeyTable } from "../../../runtime/sandbox/guest/key-table.ts";
import { capturePrimordials } from "../../../runtime/sandbox/guest/primordials.ts";
import { Random } from "../../sim/random.ts";

const SEED = Number(process.env["PACKETFS_TEST_SEED"] ?? 1);
const ROUNDS = Number(process.env["PACKETFS_TEST_ROUNDS"] ?? 60);
const UNITS = [
  "a",
  "b",
  "0",
  " ",
  '"',
  "\\",
  "\0",
  "\xfe",
  "é",
  "\ud800",
  "\udc00",
  "😀",
  "\ufffe",
  "\uffff",
];

function keysOf(random: Random, count: number): string[] {
  const prefix = "key-".repeat(random.integer(0, 3));
  const units = UNITS.slice(0, random.integer(1, UNITS.length));
  return Array.from({ length: count }, () => {
    let key = prefix;
    for (let unit = random.integer(0, 6); unit > 0; unit--)
      key += units[random.integer(0, units.length - 1)]!;
    return key;
  });
}

/** Adds what is not there yet, and checks all that is found. */
function fill(
  table: KeyTable,
  keys: readonly string[],
  hashOf: (key: string) => number,
): Map<string, number> {
  const numbers = new Map<string, number>();
  for (const key of keys) {
    const hash = hashOf(key);
    expect(table.find(key, hash)).toBe(numbers.get(key) ?? -1);
    if (numbers.has(key)) continue;
    numbers.set(key, numbers.size);
    table.add(key, hash);
  }
  for (const [key, number] of numbers) expect(table.find(key, hashOf(key))).toBe(number);
  expect(table.size()).toBe(numbers.size);
  return numbers;
}

describe("a table of keys", () => {
  test(`finds what a Map finds, and sorts as the language does (PACKETFS_TEST_SEED=${SEED})`, () => {
    const random = new Random(SEED);
    const table = makeKeyTable(capturePrimordials());
    for (let round = 0; round < ROUNDS; round++) {
      const numbers = fill(table, keysOf(random, random.integer(0, 3000)), table.hashOf);
      const sorted = [...table.sorted()].map((number) => table.key(number));
      expect(sorted).toEqual([...numbers.keys()].sort());
      table.clear();
    }
  });

  test("keeps apart and finds keys of one hash, and takes no longer for many of them than for others", () => {
    const table = makeKeyTable(capturePrimordials());
    const keys = Array.from({ length: 20_000 }, (_, index) => `${index}`);
    const timeOf = (hashOf: (key: string) => number): number => {
      const before = process.cpuUsage();
      for (const key of keys) {
        if (table.find(key, hashOf(key)) < 0) table.add(key, hashOf(key));
        if (table.find(key, hashOf(key)) < 0) throw new Error("a key is not found");
      }
      table.clear();
      const { user } = process.cpuUsage(before);
      return user;
    };
    fill(table, keys.slice(0, 500), () => 7);
    table.clear();
    timeOf(table.hashOf);
    // Each looks at the few places near its own, and then into a Map: quadratic time would be a hundred times as long.
    expect(timeOf(() => 7)).toBeLessThan(25 * Math.max(timeOf(table.hashOf), 2000));
  });

  test("spreads alike keys over partitions", () => {
    const { hashOf } = makeKeyTable(capturePrimordials());
    const counts = new Uint32Array(16);
    for (let index = 0; index < 16_000; index++) counts[hashOf(`user-${index.toString(36)}`) >>> 28]!++;
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(200);
  });
});
