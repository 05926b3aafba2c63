/*
 * How often each word occurs, as examples/word-count.ts says it. Words are what stands between white space: bytes up to 32.
 *
 *   clang --target=wasm32 -O3 -nostdlib -ffreestanding -Wl,--no-entry -o word-count.wasm word-count.c
 *   pfs run examples/wasm/word-count.wasm book.txt
 */
#include "packetfs.h"

PACKETFS_ALLOC

/* What a program says of itself: it is given blocks, and gives values by key. */
PACKETFS_EXPORT(describe) packetfs_bytes describe(void) {
  static const char declaration[] = "{\"yields\":\"groups\"}";
  return packetfs_give(declaration, sizeof declaration - 1);
}

PACKETFS_EXPORT(combine) double combine(double a, double b) { return a + b; }

/* Distinct words, by open addressing. A count of 0 marks a slot that is free: each packet finds all of them so. */
struct word {
  const uint8_t *bytes;
  uint32_t length, hash, count;
};
static struct word *words;
static uint32_t slots, distinct;
/* Bytes of JSON that they make at most. */
static uint32_t json_length;

static struct word *find(const uint8_t *bytes, uint32_t length, uint32_t hash) {
  for (uint32_t slot = hash & (slots - 1);; slot = (slot + 1) & (slots - 1)) {
    struct word *word = &words[slot];
    if (word->count == 0) return word;
    if (word->hash != hash || word->length != length) continue;
    uint32_t same = 0;
    while (same < length && word->bytes[same] == bytes[same]) same++;
    if (same == length) return word;
  }
}

/* Memory that nobody has written to is 0. Returns false where there is no more. */
static int make_slots(uint32_t count) {
  struct word *before = words;
  uint32_t had = slots;
  struct word *made = (struct word *)packetfs_allocate(count * sizeof(struct word));
  if (made == 0) return 0;
  words = made;
  slots = count;
  for (uint32_t slot = 0; slot < had; slot++) {
    if (before[slot].count > 0) *find(before[slot].bytes, before[slot].length, before[slot].hash) = before[slot];
  }
  return 1;
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
PACKETFS_EXPORT(map) packetfs_bytes map(const uint8_t *bytes, uint32_t length) {
  const uint8_t *end = bytes + length;
  distinct = json_length = slots = 0;
  if (!make_slots(1 << 14)) __builtin_trap();
  for (const uint8_t *at = bytes; at < end;) {
    if (*at <= ' ') {
      at++;
      continue;
    }
    const uint8_t *from = at;
    uint32_t hash = 0x811c9dc5;
    for (; at < end && *at > ' '; at++) hash = (hash ^ *at) * 0x01000193;
    struct word *word = find(from, (uint32_t)(at - from), hash);
    if (word->count++ > 0) continue;
    word->bytes = from;
    word->length = (uint32_t)(at - from);
    word->hash = hash;
    json_length += word->length * 2 + 16;
    if (++distinct > slots / 2 && !make_slots(slots * 2)) __builtin_trap();
  }
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
