/*
 * The CPU function of matmul.ts: the product of two matrices.
 *
 *   clang --target=wasm32 -O3 -msimd128 -mbulk-memory -nostdlib -ffreestanding -I../wasm -Wl,--no-entry -o matmul.wasm matmul.c
 */
#include "room.h"

PACKETFS_ALLOC

typedef float f32x4 __attribute__((vector_size(16)));

/* A tile of the product whose sums are made at the same time: so many rows, and so many times four columns. */
enum { ROWS = 3, FOURS = 4, COLUMNS = 4 * FOURS };

/* a is [m][k], b is [k][n], the product [m][n]. */
PACKETFS_EXPORT(multiply)
packetfs_bytes multiply(const float *a, uint32_t a_length, const float *b, uint32_t b_length, uint32_t k) {
  uint32_t m = a_length / sizeof(float) / k;
  uint32_t n = b_length / sizeof(float) / k;
  /* Some columns of b, back to back: read from b itself, each row of them would lie in another page. */
  f32x4 *panel = room_for(((size_t)k * COLUMNS + (size_t)m * n) * sizeof(float));
  float *product = (float *)(panel + (size_t)k * FOURS);
  for (uint32_t column = 0; column < n; column += COLUMNS) {
    uint32_t width = least(COLUMNS, n - column);
    for (uint32_t i = 0; i < k; i++)
      for (uint32_t c = 0; c < COLUMNS; c++)
        ((float *)panel)[i * COLUMNS + c] = c < width ? b[(size_t)i * n + column + c] : 0;
    for (uint32_t row = 0; row < m; row += ROWS) {
      const float *left[ROWS];
      for (uint32_t r = 0; r < ROWS; r++) left[r] = a + (size_t)least(row + r, m - 1) * k;
      f32x4 sums[ROWS][FOURS] = {{{0}}};
      for (uint32_t i = 0; i < k; i++)
        for (uint32_t r = 0; r < ROWS; r++)
          for (uint32_t f = 0; f < FOURS; f++) sums[r][f] += left[r][i] * panel[i * FOURS + f];
      for (uint32_t r = 0; r < least(ROWS, m - row); r++)
        for (uint32_t c = 0; c < width; c++)
          product[(size_t)(row + r) * n + column + c] = ((const float *)sums[r])[c];
    }
  }
  return packetfs_give(product, (size_t)m * n * sizeof(float));
}
