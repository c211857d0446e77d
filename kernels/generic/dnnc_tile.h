/* Four output channels of DNNC_PIXELS pixels, 1 or 2: the dot products and what follows them. For conv.c and dense.c.
 *
 * Two pixels share every weight that is loaded and taken apart, but need a register for each of eight sums.
 */
#ifndef DNNC_TILE_H
#define DNNC_TILE_H

/* What suits a family of cores: a header that sets DNNC_KEEP(a), which keeps the four sums of a pixel in registers. */
#ifdef DNNC_CORE
#include DNNC_CORE
#endif

#include "dnnc_decode.h"
#include "dnnc_kernels.h"

#ifndef DNNC_KEEP
#define DNNC_KEEP(a)
#endif

/* Whether a correction by the sum of the activations is due, and that sum. */
static inline uint32_t dnnc_sum(const DNNC_X *x, uint32_t count) {
  uint32_t sum = 0;
#if DNNC_OFFSET
  for (; count >= 4; count -= 4, x += 4) {
    int32_t four = x[0] + x[1] + x[2] + x[3];
    sum += (uint32_t)four;
  }
  for (; count; count--) {
    int32_t one = *x++;
    sum += (uint32_t)one;
  }
#else
  (void)x;
  (void)count;
#endif
  return sum;
}

/* a[c] += field . (x0, x1) for channel c of the tile. */
#define DNNC_LOWS(a, x, p0, p1, p2, p3) \
  (a)[0] += (uint32_t)((x) * (p0));     \
  (a)[1] += (uint32_t)((x) * (p1));     \
  (a)[2] += (uint32_t)((x) * (p2));     \
  (a)[3] += (uint32_t)((x) * (p3));     \
  DNNC_KEEP(a)

#if DNNC_PIXELS == 2
#define DNNC_TWO(j, f0, f1, f2, f3)             \
  {                                             \
    int32_t g0 = f0, g1 = f1, g2 = f2, g3 = f3; \
    int32_t v0 = x0[j], v1 = x1[j];             \
    DNNC_LOWS(a, v0, g0, g1, g2, g3)            \
    DNNC_LOWS(b, v1, g0, g1, g2, g3)            \
  }
#else
#define DNNC_TWO(j, f0, f1, f2, f3)  \
  {                                  \
    int32_t v0 = x0[j];              \
    DNNC_LOWS(a, v0, f0, f1, f2, f3) \
  }
#endif

#define DNNC_FOUR(j, p0, p1, p2, p3)                                                     \
  DNNC_TWO(2 * (j), DNNC_LOW(p0), DNNC_LOW(p1), DNNC_LOW(p2), DNNC_LOW(p3))              \
  DNNC_TWO(2 * (j) + 1, DNNC_HIGH(p0), DNNC_HIGH(p1), DNNC_HIGH(p2), DNNC_HIGH(p3))

#if DNNC_PIXELS == 2
#define DNNC_NEXT_BLOCK  \
  DNNC_BLOCK(w)          \
  w += DNNC_BLOCK_WORDS; \
  x0 += DNNC_BLOCK_K;    \
  x1 += DNNC_BLOCK_K;
#else
#define DNNC_NEXT_BLOCK  \
  DNNC_BLOCK(w)          \
  w += DNNC_BLOCK_WORDS; \
  x0 += DNNC_BLOCK_K;
#endif

/* k in one turn of the loop over a tile: what the packing rounds up to. */
#define DNNC_STEP_K (DNNC_BLOCK_K == 2 ? 4u : DNNC_BLOCK_K)
#define DNNC_STEP_WORDS (DNNC_BLOCK_K == 2 ? 2 * DNNC_BLOCK_WORDS : DNNC_BLOCK_WORDS)

/* No loop: arrays that are indexed by one are kept in memory. */
#define DNNC_TAKE(to, a) \
  (to)[0] = (a)[0];      \
  (to)[1] = (a)[1];      \
  (to)[2] = (a)[2];      \
  (to)[3] = (a)[3];

/* Where the activations of DNNC_PIXELS pixels lie. */
typedef struct {
  const DNNC_X *row[DNNC_PIXELS];
} dnnc_rows_t;

/* sums[p][c] = field[c] . x[p] over the tile of weights w..end; from `whole` on, x is `rest`. Sums are unsigned, as
 * those of offset fields may wrap around. */
static inline void dnnc_dot(uint32_t sums[DNNC_PIXELS][4], dnnc_rows_t x, dnnc_rows_t rest, const uint32_t *w,
                            const uint32_t *whole, const uint32_t *end) {
  const DNNC_X *x0 = x.row[0];
  uint32_t a[4] = {0, 0, 0, 0};
#if DNNC_PIXELS == 2
  const DNNC_X *x1 = x.row[1];
  uint32_t b[4] = {0, 0, 0, 0};
#endif
  for (;;) {
    if (w == whole) {
      if (w == end) break;
      whole = end;
      x0 = rest.row[0];
#if DNNC_PIXELS == 2
      x1 = rest.row[1];
#endif
    }
    do {
      DNNC_NEXT_BLOCK
#if DNNC_BLOCK_K == 2u
      DNNC_NEXT_BLOCK
#endif
    } while (w != whole);
  }
  DNNC_TAKE(sums[0], a)
#if DNNC_PIXELS == 2
  DNNC_TAKE(sums[1], b)
#endif
}

#undef DNNC_FOUR

/* Where the call's output channel number `channel` lies in a pixel. */
static inline uint32_t dnnc_channel(const dnnc_linear_t *layer, uint32_t channel) {
  return layer->channels ? layer->channels[channel] : channel;
}

/* Store the first `count` channels of a tile of pixels, `next` apart: bias, the correction for offset fields (inputs:
 * the sum of each pixel's activations), requantisation. */
static inline void dnnc_store(const dnnc_linear_t *layer, uint32_t lane, uint32_t channel, uint32_t count,
                              const uint32_t sums[DNNC_PIXELS][4], const uint32_t inputs[DNNC_PIXELS], DNNC_Y *pixel,
                              uint32_t next) {
  /* the output may alias the layer, so what all channels share is read before any is stored */
  const uint16_t *channels = layer->channels;
  const int32_t *bias = (const int32_t *)layer->bias + lane;
#if DNNC_SHIFT
  const uint8_t *scale = (const uint8_t *)layer->multiplier + lane;
#else
  const int32_t *scale = (const int32_t *)layer->multiplier + lane;
#endif
  const int32_t zero = layer->out_zero, lo = layer->lo, hi = layer->hi;
  const unsigned left_shift = layer->left_shift;
  for (uint32_t c = 0; c < count; c++, channel++) {
    DNNC_Y *to = pixel + (channels ? channels[channel] : channel);
    const uint32_t start = (uint32_t)bias[c];
    for (uint32_t p = 0; p < DNNC_PIXELS; p++, to += next) {
      int32_t total = (int32_t)(start + (sums[p][c] * DNNC_FACTOR - inputs[p] * DNNC_OFFSET));
#if DNNC_SHIFT
      int32_t scaled = dnnc_rescale_shift(total, scale[c], left_shift);
#else
      int32_t scaled = dnnc_rescale(total, scale[c], left_shift);
#endif
      *to = (DNNC_Y)dnnc_clamp(scaled + zero, lo, hi);
    }
  }
}

#endif
