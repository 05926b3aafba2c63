/*
 * Counts words: what stands between spaces and line ends. A program by itself.
 *
 *   clang --target=wasm32 -O3 -msimd128 -nostdlib -ffreestanding -Wl,--no-entry -o count-words.wasm count-words.c
 *   pfs run count-words.wasm book.txt
 */
#include "packetfs.h"

PACKETFS_ALLOC

/* Each byte above a space is of a word, and each such byte behind one that is not begins a word. */
PACKETFS_EXPORT(map) double map(const uint8_t *bytes, uint32_t length) {
  uint32_t words = 0;
  uint8_t before = 0;
  uint32_t at = 0;
  while (at < length) {
    /* No more at once than a lane of eight bits can count, so that the compiler counts sixteen at a time. */
    uint32_t end = length - at > 240 ? at + 240 : length;
    uint8_t begun = (uint8_t)((bytes[at] > 32) & (before <= 32));
    for (uint32_t next = at + 1; next < end; next++) begun += (uint8_t)((bytes[next] > 32) & (bytes[next - 1] <= 32));
    words += begun;
    before = bytes[end - 1];
    at = end;
  }
  return words;
}

PACKETFS_EXPORT(combine) double combine(double a, double b) { return a + b; }
