/* Convolution of any kind, and fully connected, whose weights are mostly zero: only the others are stored, each in a
 * record with how many zeros follow it. dnnc_sparse_t describes them.
 *
 * A band of output rows at a time, one output channel after another is made: a weight is decoded once and multiplied
 * with all pixels of the band, whose sums lie in the scratch. So the time follows the number of weights. */
#include "dnnc_kernels.h"

/* Numbers first, ..., first + count - 1. */
typedef struct {
  uint32_t first, count;
} range_t;

/* Which of `count` windows, the first of which begins at `at` and the others `step` apart, have that position inside an
 * axis of `extent`. */
static range_t inside(int32_t at, uint32_t step, uint32_t count, uint32_t extent) {
  range_t found = {0, count};
  while (found.count && at < 0) {
    at += (int32_t)step;
    found.first++;
    found.count--;
  }
  while (found.count && at + (int32_t)((found.count - 1) * step) >= (int32_t)extent) found.count--;
  return found;
}

void DNNC_KERNEL(const dnnc_sparse_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_sparse_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  const dnnc_sparse_t at = *layer; /* y may alias it */
  uint32_t *sums = scratch;
  const uint32_t in_stride = (uint32_t)at.groups * at.in_c, outputs = (uint32_t)at.groups * at.out_c;
  const uint32_t step = at.stride_w * in_stride, mask = (1u << at.gap_bits) - 1u, spare = 32u - at.bits;
  for (uint32_t row = 0; row < at.out_h; row += at.rows) {
    uint32_t height = at.out_h - row < at.rows ? at.out_h - row : at.rows, pixels = height * at.out_w;
    uint32_t bit = 16, gap = at.weights[0];
    const DNNC_X *group = x;
    for (uint32_t o = 0, left = at.out_c; o < outputs; o++) {
      int32_t bias, multiplier;
      uint32_t padding = 0; /* what the zero points make where padding may be */
      if (at.scales) {
        const int16_t *table = (const int16_t *)at.tables + 2 * o;
        bias = table[0] * (int32_t)(at.scales & 0xffffu);
        multiplier = table[1] * (int32_t)(at.scales >> 16);
      } else {
        const int32_t *table = (const int32_t *)at.tables + 2 * o;
        bias = table[0];
        multiplier = table[1];
      }
      for (uint32_t p = 0; p < pixels; p++) sums[p] = (uint32_t)bias;
      int32_t top = (int32_t)(row * at.stride_h) - at.pad_top;
      for (uint32_t kh = at.kernel_h; kh; kh--, top += at.dilation_h) {
        int32_t start = -(int32_t)at.pad_left;
        for (uint32_t kw = at.kernel_w; kw; kw--, start += at.dilation_w) {
          if (gap < at.in_c) {
            range_t rows = inside(top, at.stride_h, height, at.in_h);
            range_t columns = inside(start, at.stride_w, at.out_w, at.in_w);
            uint32_t taken = rows.count * columns.count;
            int32_t zero = taken == pixels ? 0 : at.in_zero; /* the bias counts it for every pixel */
            uint32_t h = (uint32_t)top + rows.first * at.stride_h, w = (uint32_t)start + columns.first * at.stride_w;
            do { /* a weight, `gap` channels on */
              const uint16_t *halves = at.weights + (bit >> 4);
              uint32_t record = (halves[0] | (uint32_t)halves[1] << 16) >> (bit & 15u);
              int32_t weight = (int32_t)(record << spare) >> (spare + at.gap_bits);
              uint32_t zeros = (record & mask) + 1u;
              if (!weight) {
                zeros <<= at.gap_bits;
              } else if (taken) {
                const DNNC_X *from = group + ((h * at.in_w + w) * in_stride + gap);
                uint32_t *sum = sums + rows.first * at.out_w + columns.first;
                for (uint32_t i = rows.count; i; i--) {
                  const DNNC_X *value = from;
                  uint32_t *to = sum, *end = sum + columns.count;
                  do {
                    *to++ += (uint32_t)((*value - zero) * weight);
                    value += step;
                  } while (to != end);
                  from += at.stride_h * at.in_w * in_stride;
                  sum += at.out_w;
                }
              }
              padding += (uint32_t)(zero * weight);
              bit += at.bits;
              gap += zeros;
            } while (gap < at.in_c);
          }
          gap -= at.in_c;
        }
      }
      DNNC_Y *to = y + o;
      for (uint32_t p = 0; p < pixels; p++, to += outputs) {
        int32_t scaled = dnnc_rescale((int32_t)(sums[p] + padding), multiplier, at.left_shift);
        *to = (DNNC_Y)dnnc_clamp(scaled + at.out_zero, at.lo, at.hi);
      }
      if (!--left) {
        left = at.out_c;
        group += at.in_c;
      }
    }
    y += pixels * outputs;
  }
}
