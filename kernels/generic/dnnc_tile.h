/* Four output channels of one pixel: the dot products and what follows them. Shared by conv.c and dense.c. */
#ifndef DNNC_TILE_H
#define DNNC_TILE_H

#include "dnnc_decode.h"
#include "dnnc_kernels.h"

/* Whether a correction by the sum of the activations is due, and that sum. */
static inline uint32_t dnnc_sum(const DNNC_X *x, uint32_t count) {
  uint32_t sum = 0;
#if DNNC_OFFSET
  for (uint32_t i = 0; i < count; i++) {
    int32_t value = x[i];
    sum += (uint32_t)value;
  }
#else
  (void)x;
  (void)count;
#endif
  return sum;
}

/* acc[c] += field[c] . x over `blocks` blocks of weights; unsigned, as sums of offset fields may wrap around. */
static inline void dnnc_dot(uint32_t acc[4], const DNNC_X *x, const uint32_t *w, uint32_t blocks) {
  uint32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
  for (; blocks; blocks--) {
#define DNNC_FOUR(j, p0, p1, p2, p3)                                                     \
  {                                                                                      \
    int32_t x0 = x[2 * (j)], x1 = x[2 * (j) + 1];                                        \
    a0 += (uint32_t)(x0 * DNNC_LOW(p0)) + (uint32_t)(x1 * DNNC_HIGH(p0));                \
    a1 += (uint32_t)(x0 * DNNC_LOW(p1)) + (uint32_t)(x1 * DNNC_HIGH(p1));                \
    a2 += (uint32_t)(x0 * DNNC_LOW(p2)) + (uint32_t)(x1 * DNNC_HIGH(p2));                \
    a3 += (uint32_t)(x0 * DNNC_LOW(p3)) + (uint32_t)(x1 * DNNC_HIGH(p3));                \
  }
    DNNC_BLOCK(w)
#undef DNNC_FOUR
    x += DNNC_BLOCK_K;
    w += DNNC_BLOCK_WORDS;
  }
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
}

/* The output code of an accumulator; lane: its place in the tiled arrays. */
static inline DNNC_Y dnnc_code(const dnnc_linear_t *layer, uint32_t lane, int32_t acc) {
#if DNNC_SHIFT
  int32_t scaled = dnnc_rescale_shift(acc, layer->shift[lane], layer->left_shift);
#else
  int32_t scaled = dnnc_rescale(acc, layer->multiplier[lane], layer->left_shift);
#endif
  return (DNNC_Y)dnnc_clamp(scaled + layer->out_zero, layer->lo, layer->hi);
}

/* Where the call's output channel number `channel` lies in a pixel. */
static inline uint32_t dnnc_channel(const dnnc_linear_t *layer, uint32_t channel) {
  return layer->channels ? layer->channels[channel] : channel;
}

/* Store the first `count` channels of a tile: bias, the correction for offset fields, requantisation. */
static inline void dnnc_store(const dnnc_linear_t *layer, uint32_t lane, uint32_t channel, uint32_t count,
                              const uint32_t acc[4], uint32_t sum, DNNC_Y *pixel) {
  for (uint32_t c = 0; c < count; c++) {
    uint32_t dot = acc[c] * DNNC_FACTOR - sum * DNNC_OFFSET;
    uint32_t total = (uint32_t)layer->bias[lane + c] + dot;
    pixel[dnnc_channel(layer, channel + c)] = dnnc_code(layer, lane + c, (int32_t)total);
  }
}

#endif
