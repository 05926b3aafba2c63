/*
 * How often each word occurs, as examples/word-count.ts says it. Words are what stands between white space: bytes up to 32.
 *
 *   clang --target=wasm32 -O3 -msimd128 -nostdlib -ffreestanding -Wl,--no-entry -o word-count.wasm word-count.c
 *   pfs run examples/wasm/word-count.wasm book.txt
 *
 * It finds the borders of words in 64 bytes at a time, and knows a word of up to 16 bytes by these, wherever it stands.
 */
#include <wasm_simd128.h>
#include "packetfs.h"

PACKETFS_ALLOC

/* What a program says of itself: it is given blocks, and gives values by key. */
PACKETFS_EXPORT(describe) packetfs_bytes describe(void) {
  static const char declaration[] = "{\"yields\":\"groups\"}";
  return packetfs_give(declaration, sizeof declaration - 1);
}

PACKETFS_EXPORT(combine) double combine(double a, double b) { return a + b; }

/* Bytes that a word is known by. */
#define HEAD 16
/* Bytes that are looked at together. */
#define STEP 64
/* A call for so many: V8 goes on in better code as soon as it has some, but in the next call only. */
#define CALL (64 * 1024)

/* Distinct words, by open addressing. A count of 0 marks a slot that is free: each packet finds all of them so. */
struct word {
  /* Its bytes, 0 behind them; of a longer one, its first 16. */
  uint64_t low, high;
  const uint8_t *bytes;
  uint32_t length, hash, count;
};
static struct word *words;
static uint32_t slots, distinct;
/* Bytes of JSON that they make at most. */
static uint32_t json_length;

static uint64_t mixed(uint64_t low, uint64_t high, uint32_t length) {
  uint64_t mix = (low ^ length) * 0x9e3779b97f4a7c15u ^ high * 0xc2b2ae3d27d4eb4fu;
  mix = (mix ^ mix >> 32) * 0xd6e8feb86659fd93u;
  return mix ^ mix >> 32;
}

static int same(const uint8_t *a, const uint8_t *b, uint32_t length) {
  for (uint32_t index = HEAD; index < length; index++) {
    if (a[index] != b[index]) return 0;
  }
  return 1;
}

/* Memory that nobody has written to is 0. */
static void make_slots(uint32_t count) {
  struct word *before = words;
  uint32_t had = slots;
  words = (struct word *)packetfs_allocate(count * sizeof(struct word));
  if (words == 0) __builtin_trap();
  slots = count;
  for (uint32_t index = 0; index < had; index++) {
    if (before[index].count == 0) continue;
    uint32_t slot = before[index].hash & (slots - 1);
    while (words[slot].count > 0) slot = (slot + 1) & (slots - 1);
    words[slot] = before[index];
  }
}

/* Up to 16 bytes behind the word are read, which are there: the slots stand behind all of them. */
static void count_word(const uint8_t *bytes, uint32_t length) {
  const v128_t places = wasm_u8x16_const(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  v128_t head = wasm_v128_load(bytes);
  if (length < HEAD) head = wasm_v128_and(head, wasm_u8x16_lt(places, wasm_u8x16_splat((uint8_t)length)));
  uint64_t low = (uint64_t)wasm_i64x2_extract_lane(head, 0);
  uint64_t high = (uint64_t)wasm_i64x2_extract_lane(head, 1);
  uint64_t mix = mixed(low, high, length);
  for (uint32_t index = HEAD; index < length; index++) mix = (mix ^ bytes[index]) * 0x9e3779b97f4a7c15u;
  uint32_t hash = (uint32_t)(mix ^ mix >> 32);
  for (uint32_t slot = hash & (slots - 1);; slot = (slot + 1) & (slots - 1)) {
    struct word *word = &words[slot];
    if (word->low == low && word->high == high && word->length == length && word->count > 0 &&
        (length <= HEAD || same(word->bytes, bytes, length))) {
      word->count++;
      return;
    }
    if (word->count > 0) continue;
    *word = (struct word){.low = low, .high = high, .bytes = bytes, .length = length, .hash = hash, .count = 1};
    json_length += length * 2 + 16;
    if (++distinct > slots / 4 * 3) make_slots(slots * 2);
    return;
  }
}

/* One bit for each byte that belongs to a word. */
static uint64_t word_bytes(const uint8_t *at) {
  const v128_t space = wasm_u8x16_splat(' ');
  uint64_t bits = 0;
  for (uint32_t part = 0; part < STEP; part += 16) {
    bits |= (uint64_t)wasm_i8x16_bitmask(wasm_u8x16_gt(wasm_v128_load(at + part), space)) << part;
  }
  return bits;
}

/* Counts the words that end between `at` and `end`. Gives where one begins that goes on there, 0 where none does. */
static __attribute__((noinline)) const uint8_t *count_words(const uint8_t *at, const uint8_t *end, const uint8_t *from) {
  for (; at < end; at += STEP) {
    uint64_t inside = word_bytes(at);
    /* Behind the end there is nothing. */
    if (end - at < STEP) inside &= ((uint64_t)1 << (end - at)) - 1;
    for (uint64_t borders = inside ^ (inside << 1 | (from != 0)); borders != 0; borders &= borders - 1) {
      const uint8_t *border = at + __builtin_ctzll(borders);
      if (from == 0) {
        from = border;
        continue;
      }
      count_word(from, (uint32_t)(border - from));
      from = 0;
    }
  }
  return from;
}

static char *put_number(char *to, uint32_t number) {
  char digits[10];
  int count = 0;
  do digits[count++] = (char)('0' + number % 10);
  while ((number /= 10) > 0);
  while (count > 0) *to++ = digits[--count];
  return to;
}

/* [["word", …],[count, …]]: words that are no UTF-8 may become the same key, which an object would have once. */
static packetfs_bytes give_words(void) {
  char *json = (char *)packetfs_allocate(json_length + 8);
  if (json == 0) __builtin_trap();
  char *to = json;
  *to++ = '[';
  *to++ = '[';
  for (uint32_t slot = 0; slot < slots; slot++) {
    const struct word *word = &words[slot];
    if (word->count == 0) continue;
    if (to > json + 2) *to++ = ',';
    *to++ = '"';
    for (uint32_t index = 0; index < word->length; index++) {
      if (word->bytes[index] == '"' || word->bytes[index] == '\\') *to++ = '\\';
      *to++ = (char)word->bytes[index];
    }
    *to++ = '"';
  }
  *to++ = ']';
  *to++ = ',';
  char *counts = to;
  *to++ = '[';
  for (uint32_t slot = 0; slot < slots; slot++) {
    if (words[slot].count == 0) continue;
    if (to > counts + 1) *to++ = ',';
    to = put_number(to, words[slot].count);
  }
  *to++ = ']';
  *to++ = ']';
  return packetfs_give(json, (size_t)(to - json));
}

PACKETFS_EXPORT(map) packetfs_bytes map(const uint8_t *bytes, uint32_t length) {
  const uint8_t *end = bytes + length;
  const uint8_t *from = 0;
  distinct = json_length = slots = 0;
  make_slots(1 << 14);
  for (const uint8_t *at = bytes; at < end; at += CALL) from = count_words(at, end - at < CALL ? end : at + CALL, from);
  if (from != 0) count_word(from, (uint32_t)(end - from));
  return give_words();
}
