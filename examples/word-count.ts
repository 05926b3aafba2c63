/**
 * How often each word occurs. Words are what stands between white space: bytes up to 32.
 *
 *   pfs put book.txt
 *   pfs run examples/word-count.ts book.txt
 *
 * It scans bytes instead of splitting strings: words are found in a hash table that points into the input (open
 * addressing), and only distinct ones become strings, once per split.
 */
import { blocks, defineProgram } from "packetfs";

const SPACE = 32;
const SLOTS = 1 << 17;
/** A fuller table is slow to search: its words are handed on, and it starts again. */
const WORDS_MAX = SLOTS / 2;

const decoder = new TextDecoder();

export default defineProgram({
  input: blocks(),
  yields: "groups",
  init: () => ({
    start: new Int32Array(SLOTS),
    length: new Int32Array(SLOTS),
    hash: new Int32Array(SLOTS),
    /** 0 marks a slot that is free. */
    count: new Int32Array(SLOTS),
  }),
  map: (block, { state, emit }) => {
    const { start, length, hash, count } = state;
    const end = block.length;
    let words = 0;

    function handOn(): void {
      for (let slot = 0; slot < SLOTS; slot++) {
        if (count[slot] === 0) continue;
        emit(decoder.decode(block.subarray(start[slot]!, start[slot]! + length[slot]!)), count[slot]!);
        count[slot] = 0;
      }
      words = 0;
    }

    for (let at = 0; at < end; at++) {
      if (block[at]! <= SPACE) continue;
      const from = at;
      let sum = 0x811c9dc5 | 0;
      for (; at < end && block[at]! > SPACE; at++) sum = Math.imul(sum ^ block[at]!, 0x01000193);
      const size = at - from;
      for (let slot = sum & (SLOTS - 1); ; slot = (slot + 1) & (SLOTS - 1)) {
        if (count[slot] === 0) {
          start[slot] = from;
          length[slot] = size;
          hash[slot] = sum;
          count[slot] = 1;
          if (++words === WORDS_MAX) handOn();
          break;
        }
        if (hash[slot] !== sum || length[slot] !== size) continue;
        const known = start[slot]!;
        let same = 0;
        while (same < size && block[known + same] === block[from + same]) same++;
        if (same < size) continue;
        count[slot]!++;
        break;
      }
    }
    handOn();
  },
  combine: (a: number, b: number) => a + b,
});
