/**
 * Sets of task indexes, one bit a task, 32 tasks a word: a million tasks are 128 KiB, and whole words are skipped or
 * combined at once.
 */

/** An empty set over `count` tasks. */
export function emptySet(count: number): Int32Array {
  return new Int32Array((count + 31) >>> 5);
}

/** Puts all of `count` tasks in. */
export function fillSet(set: Int32Array, count: number): void {
  set.fill(-1);
  const used = count & 31;
  if (used !== 0) set[set.length - 1] = 2 ** used - 1;
}

export function isInSet(set: Int32Array, task: number): boolean {
  return (set[task >>> 5]! & (1 << (task & 31))) !== 0;
}

export function addToSet(set: Int32Array, task: number): void {
  set[task >>> 5]! |= 1 << (task & 31);
}

export function removeFromSet(set: Int32Array, task: number): void {
  set[task >>> 5]! &= ~(1 << (task & 31));
}

/** The lowest task in the word `bits`, which is not zero and stands at `word`. */
export function lowestTask(word: number, bits: number): number {
  return word * 32 + 31 - Math.clz32(bits & -bits);
}

/** The highest task in the word `bits`, which is not zero and stands at `word`. */
export function highestTask(word: number, bits: number): number {
  return word * 32 + 31 - Math.clz32(bits);
}
