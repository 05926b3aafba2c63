/*
 * The CPU function of convolution.ts: a frame, each of whose pixels becomes the weighted sum of those around it.
 *
 *   clang --target=wasm32 -O3 -msimd128 -mbulk-memory -nostdlib -ffreestanding -I../wasm -Wl,--no-entry -o convolution.wasm convolution.c
 */
#include "room.h"

PACKETFS_ALLOC

/* Four floats, wherever they begin. */
typedef float f32x4 __attribute__((vector_size(16), aligned(4)));

/* As wide as tall, and odd: as in convolution.ts. */
enum { WEIGHTS = 15, AROUND = WEIGHTS / 2 };
/* So many times four pixels side by side are summed at the same time. */
enum { FOURS = 4, PIXELS = 4 * FOURS };

static uint32_t clamp(uint32_t at, uint32_t length) {
  return at < AROUND ? 0 : at - AROUND < length ? at - AROUND : length - 1;
}

/* Beyond its border a frame goes on as it ends. */
PACKETFS_EXPORT(convolve)
packetfs_bytes convolve(const float *frame, uint32_t frame_length, const float *weights, uint32_t weights_length, uint32_t width) {
  uint32_t height = frame_length / sizeof(float) / width;
  uint32_t stride = width + 2 * AROUND + PIXELS;
  size_t wide_length = (size_t)(height + 2 * AROUND) * stride;
  float *wide = room_for((wide_length + (size_t)width * height) * sizeof(float));
  float *sums = wide + wide_length;
  if (weights_length != WEIGHTS * WEIGHTS * sizeof(float)) __builtin_trap();
  for (uint32_t y = 0; y < height + 2 * AROUND; y++)
    for (uint32_t x = 0; x < stride; x++)
      wide[(size_t)y * stride + x] = frame[(size_t)clamp(y, height) * width + clamp(x, width)];
  for (uint32_t y = 0; y < height; y++)
    for (uint32_t x = 0; x < width; x += PIXELS) {
      f32x4 sum[FOURS] = {{0}};
      for (uint32_t j = 0; j < WEIGHTS; j++)
        for (uint32_t i = 0; i < WEIGHTS; i++) {
          const float *around = wide + (size_t)(y + j) * stride + x + i;
          for (uint32_t f = 0; f < FOURS; f++) sum[f] += weights[j * WEIGHTS + i] * *(const f32x4 *)(around + 4 * f);
        }
      for (uint32_t p = 0; p < PIXELS && x + p < width; p++) sums[(size_t)y * width + x + p] = sum[p / 4][p % 4];
    }
  return packetfs_give(sums, frame_length);
}
