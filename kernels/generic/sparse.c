/* Convolution of any kind, and fully connected, whose weights are mostly zero: only the others are stored, each in a
 * record with how many zeros follow it, or, with DNNC_BITMAP, after a bit that says so. dnnc_sparse_t describes them.
 *
 * A band of output rows at a time, one output channel after another is made: a weight is decoded once and multiplied
 * with all pixels of the band, whose sums lie in the scratch. So the time follows the number of weights. */
#include "dnnc_kernels.h"

/* Called from several places, rarely: compiled once. */
#ifdef __GNUC__
#define DNNC_APART __attribute__((noinline))
#else
#define DNNC_APART
#endif

/* Numbers first, ..., first + count - 1. */
typedef struct {
  uint32_t first, count;
} range_t;

/* Which of `count` windows, the first of which begins at `at` and the others `step` apart, have that position inside an
 * axis of `extent`. */
DNNC_APART static range_t inside(int32_t at, uint32_t step, uint32_t count, uint32_t extent) {
  range_t found = {0, count};
  while (found.count && at < 0) {
    at += (int32_t)step;
    found.first++;
    found.count--;
  }
  while (found.count && at + (int32_t)((found.count - 1) * step) >= (int32_t)extent) found.count--;
  return found;
}

/* An element of the tables, its sign extended. */
DNNC_APART static uint32_t table(const dnnc_sparse_t *layer, uint32_t index) {
  return (uint32_t)(layer->wide ? ((const int32_t *)layer->tables)[index] : ((const int16_t *)layer->tables)[index]);
}

/* What a tap meets in a band: inputs from `x` on, in rows and columns, and the sums that they count for. */
typedef struct {
  const DNNC_X *x;
  uint32_t *sums;
  uint32_t rows, columns;
  uint32_t x_row, x_column, sums_row; /* distances */
  int32_t zero;
} patch_t;

/* sum += (x - zero) * weight over a patch of at least one column, whose inputs are those of a channel. */
DNNC_APART static void accumulate(const patch_t *patch, uint32_t channel, int32_t weight) {
  const DNNC_X *x = patch->x + channel;
  uint32_t *sums = patch->sums;
  const uint32_t step = patch->x_column;
  const int32_t zero = patch->zero;
  for (uint32_t i = patch->rows; i; i--) {
    const DNNC_X *from = x;
    uint32_t *to = sums, *end = sums + patch->columns;
    if (patch->columns & 1u) {
      *to++ += (uint32_t)((*from - zero) * weight);
      from += step;
    }
    for (; to != end; to += 2, from += 2 * step) {
      int32_t first = from[0] - zero, second = from[step] - zero;
      to[0] += (uint32_t)(first * weight);
      to[1] += (uint32_t)(second * weight);
    }
    x += patch->x_row;
    sums += patch->sums_row;
  }
}

void DNNC_KERNEL(const dnnc_sparse_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_sparse_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  const dnnc_sparse_t at = *layer; /* y may alias it */
  const uint32_t in_stride = (uint32_t)at.groups * at.in_c, outputs = (uint32_t)at.groups * at.out_c;
  const uint32_t spare = 32u - at.bits;
#if !DNNC_BITMAP
  const uint32_t mask = (1u << at.gap_bits) - 1u;
#endif
  uint32_t *sums = scratch;
  patch_t patch;
  patch.x_row = at.stride_h * at.in_w * in_stride;
  patch.x_column = at.stride_w * in_stride;
  patch.sums_row = at.out_w;
  for (uint32_t row = 0; row < at.out_h; row += at.rows) {
    uint32_t height = at.out_h - row < at.rows ? at.out_h - row : at.rows, pixels = height * at.out_w;
    uint32_t bit = 16, gap = at.weights[0];
    const DNNC_X *group = x;
    for (uint32_t o = 0, left = at.out_c; o < outputs; o++) {
      uint32_t bias = table(&at, 2 * o) << at.bias_shift, common = 0; /* common: what is added to all sums */
      int32_t multiplier = (int32_t)(table(&at, 2 * o + 1) << at.multiplier_shift);
      for (uint32_t p = 0; p < pixels; p++) sums[p] = bias;
      int32_t top = (int32_t)(row * at.stride_h) - at.pad_top;
      for (uint32_t kh = at.kernel_h; kh; kh--, top += at.dilation_h) {
        int32_t start = -(int32_t)at.pad_left;
        for (uint32_t kw = at.kernel_w; kw; kw--, start += at.dilation_w) {
          if (gap < at.in_c) {
            range_t rows = inside(top, at.stride_h, height, at.in_h);
            range_t columns = inside(start, at.stride_w, at.out_w, at.in_w);
            uint32_t taken = rows.count * columns.count;
            patch.rows = rows.count;
            patch.columns = columns.count;
            patch.sums = sums + rows.first * at.out_w + columns.first;
            patch.x = group;
            patch.zero = at.in_zero;
            if (taken) {
              uint32_t h = (uint32_t)top + rows.first * at.stride_h, w = (uint32_t)start + columns.first * at.stride_w;
              patch.x += (h * at.in_w + w) * in_stride;
            }
            if (taken == pixels) patch.zero = 0; /* the bias counts it for every pixel */
            do { /* a weight, `gap` channels on */
              const uint16_t *halves = at.weights + (bit >> 4);
              uint32_t record = (halves[0] | (uint32_t)halves[1] << 16) >> (bit & 15u);
              int32_t weight = (int32_t)(record << spare) >> (spare + at.gap_bits);
#if DNNC_BITMAP
              uint32_t places = 1;
              if (!(record & 1u)) {
                bit++;
                gap++;
                continue;
              }
#else
              uint32_t places = (record & mask) + 1u;
#endif
              if (!weight) {
                places <<= at.gap_bits;
              } else if (pixels == 1 && taken) {
                common += (uint32_t)(patch.x[gap] * weight);
              } else {
                common += (uint32_t)(patch.zero * weight);
                if (taken) accumulate(&patch, gap, weight);
              }
              bit += at.bits;
              gap += places;
            } while (gap < at.in_c);
          }
          gap -= at.in_c;
        }
      }
      DNNC_Y *to = y + o;
      for (uint32_t p = 0; p < pixels; p++, to += outputs) {
        int32_t scaled = dnnc_rescale((int32_t)(sums[p] + common), multiplier, at.left_shift);
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
