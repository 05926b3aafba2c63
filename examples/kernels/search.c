/*
 * The CPU function of search.ts: the best rows of every block of vectors, for many queries.
 *
 *   clang --target=wasm32 -O3 -msimd128 -mbulk-memory -nostdlib -ffreestanding -I../wasm -Wl,--no-entry -o search.wasm search.c
 */
#include "room.h"

PACKETFS_ALLOC

typedef float f32x4 __attribute__((vector_size(16)));

/* As in search.ts. */
enum { WIDTH = 256, BLOCK = 1024, BEST = 10 };
/* Rows and queries whose products are summed at the same time, so that each is loaded for several. */
enum { ROWS = 2, QUERIES = 4 };

static const f32x4 *vector_at(const float *vectors, uint32_t index) {
  return (const f32x4 *)(vectors + (size_t)index * WIDTH);
}

/* Of rows that score the same, the first stays in front: rows come in their order. */
static void insert(float *scores, uint32_t *rows, float score, uint32_t row) {
  if (!(score > scores[BEST - 1])) return;
  uint32_t place = BEST - 1;
  for (; place > 0 && score > scores[place - 1]; place--) {
    scores[place] = scores[place - 1];
    rows[place] = rows[place - 1];
  }
  scores[place] = score;
  rows[place] = row;
}

/* Gives scores, [queries][blocks][BEST] floats, the best first, and behind them as many numbers of rows. */
PACKETFS_EXPORT(search)
packetfs_bytes search(const float *vectors, uint32_t vectors_length, const float *queries, uint32_t queries_length) {
  uint32_t rows_count = vectors_length / sizeof(float) / WIDTH;
  uint32_t queries_count = queries_length / sizeof(float) / WIDTH;
  uint32_t blocks = (rows_count + BLOCK - 1) / BLOCK;
  uint32_t places = queries_count * blocks * BEST;
  float *scores = room_for((size_t)places * (sizeof(float) + sizeof(uint32_t)));
  uint32_t *rows = (uint32_t *)(scores + places);
  for (uint32_t place = 0; place < places; place++) {
    scores[place] = -__FLT_MAX__;
    rows[place] = UINT32_MAX;
  }
  for (uint32_t row = 0; row < rows_count; row += ROWS) {
    const f32x4 *vector[ROWS];
    for (uint32_t r = 0; r < ROWS; r++) vector[r] = vector_at(vectors, least(row + r, rows_count - 1));
    for (uint32_t query = 0; query < queries_count; query += QUERIES) {
      const f32x4 *asked[QUERIES];
      for (uint32_t q = 0; q < QUERIES; q++) asked[q] = vector_at(queries, least(query + q, queries_count - 1));
      f32x4 sums[ROWS][QUERIES] = {{{0}}};
      for (uint32_t i = 0; i < WIDTH / 4; i++)
        for (uint32_t r = 0; r < ROWS; r++)
          for (uint32_t q = 0; q < QUERIES; q++) sums[r][q] += vector[r][i] * asked[q][i];
      for (uint32_t r = 0; r < least(ROWS, rows_count - row); r++)
        for (uint32_t q = 0; q < least(QUERIES, queries_count - query); q++) {
          f32x4 sum = sums[r][q];
          uint32_t first = ((query + q) * blocks + row / BLOCK) * BEST;
          insert(scores + first, rows + first, (sum[0] + sum[1]) + (sum[2] + sum[3]), row + r);
        }
    }
  }
  return packetfs_give(scores, (size_t)places * (sizeof(float) + sizeof(uint32_t)));
}
