/* Depthwise convolution: the weights of four channels are unpacked once, then used at every pixel. */
#include "dnnc_tile.h"

/* The signed weights of a tile, four channels a tap. Padded taps follow the real ones. */
static void unpack(int8_t *taps, const uint32_t *w, uint32_t blocks) {
  for (; blocks; blocks--) {
#define DNNC_PUT(at, field) (at) = (int8_t)((field) * DNNC_FACTOR - DNNC_OFFSET);
#define DNNC_FOUR(j, p0, p1, p2, p3)             \
  DNNC_PUT(taps[8 * (j) + 0], DNNC_LOW(p0))      \
  DNNC_PUT(taps[8 * (j) + 1], DNNC_LOW(p1))      \
  DNNC_PUT(taps[8 * (j) + 2], DNNC_LOW(p2))      \
  DNNC_PUT(taps[8 * (j) + 3], DNNC_LOW(p3))      \
  DNNC_PUT(taps[8 * (j) + 4], DNNC_HIGH(p0))     \
  DNNC_PUT(taps[8 * (j) + 5], DNNC_HIGH(p1))     \
  DNNC_PUT(taps[8 * (j) + 6], DNNC_HIGH(p2))     \
  DNNC_PUT(taps[8 * (j) + 7], DNNC_HIGH(p3))
    DNNC_BLOCK(w)
#undef DNNC_FOUR
#undef DNNC_PUT
    taps += 4 * DNNC_BLOCK_K;
    w += DNNC_BLOCK_WORDS;
  }
}

/* A range of numbers: first, ..., end - 1. */
typedef struct {
  uint32_t first, end;
} range_t;

/* The taps of a window that begins at `start` that lie inside an axis of `extent` positions. */
static range_t inside(int32_t start, uint32_t kernel, uint32_t dilation, uint32_t extent) {
  range_t taps = {0, kernel};
  while (taps.first < kernel && start + (int32_t)(taps.first * dilation) < 0) taps.first++;
  while (taps.end > taps.first && start + (int32_t)((taps.end - 1) * dilation) >= (int32_t)extent) taps.end--;
  return taps;
}

/* acc[c] += (x - zero) * tap over the given numbers of taps of four neighbouring channels, from the first on; `step`
 * and `row` are the distances of columns and of rows. */
static inline void accumulate(int32_t acc[4], const DNNC_X *x, uint32_t step, uint32_t row, const int8_t *tap,
                              uint32_t tap_row, uint32_t rows, uint32_t columns, int32_t zero) {
  int32_t a[4] = {acc[0], acc[1], acc[2], acc[3]}; /* acc has an address, so it is in memory */
  row -= columns * step;
  tap_row = 4 * (tap_row - columns);
  for (; rows; rows--, x += row, tap += tap_row) {
    const int8_t *end = tap + 4 * columns;
    do {
      a[0] += (x[0] - zero) * tap[0];
      a[1] += (x[1] - zero) * tap[1];
      a[2] += (x[2] - zero) * tap[2];
      a[3] += (x[3] - zero) * tap[3];
      DNNC_KEEP(a)
      x += step;
      tap += 4;
    } while (tap != end);
  }
  acc[0] = a[0]; /* no loop: the array would be kept in memory for it */
  acc[1] = a[1];
  acc[2] = a[2];
  acc[3] = a[3];
}

/* The same for `count` channels, `at` says where each lies. */
static void accumulate_some(const dnnc_linear_t *layer, int32_t acc[4], const DNNC_X *x, int32_t place,
                            const int8_t *taps, range_t rows, range_t columns, int32_t zero, const uint16_t *at,
                            uint32_t count) {
  for (uint32_t kh = rows.first; kh < rows.end; kh++) {
    for (uint32_t kw = columns.first; kw < columns.end; kw++) {
      int32_t shift = (int32_t)(kh * layer->dilation_h * layer->in_w + kw * layer->dilation_w) * layer->in_stride;
      const int8_t *tap = taps + (kh * layer->kernel_w + kw) * 4;
      for (uint32_t c = 0; c < count; c++) acc[c] += (x[place + shift + at[c]] - zero) * tap[c];
    }
  }
}

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  int8_t *taps = scratch;
#if DNNC_SHIFT
  const uint8_t *scale = (const uint8_t *)layer->multiplier;
#else
  const int32_t *scale = (const int32_t *)layer->multiplier;
#endif
  const int32_t zero = layer->out_zero, lo = layer->lo, hi = layer->hi;
  const unsigned left_shift = layer->left_shift;
  uint32_t k = (uint32_t)layer->kernel_h * layer->kernel_w;
  uint32_t blocks = layer->blocks, kernel_w = layer->kernel_w;
  uint32_t step = (uint32_t)layer->dilation_w * layer->in_stride;
  uint32_t row = (uint32_t)layer->dilation_h * layer->in_w * layer->in_stride;
  int32_t last = layer->in_w - (layer->kernel_w - 1) * layer->dilation_w - 1; /* where a window begins and is inside */
  for (uint32_t o = 0; o < layer->out_c; o += 4) {
    uint32_t count = layer->out_c - o < 4u ? layer->out_c - o : 4u;
    uint32_t part = count < 4 || layer->channels;
    uint16_t at[4] = {0, 0, 0, 0};
    int32_t start[4] = {0, 0, 0, 0};  /* where all taps lie inside: the bias */
    int32_t border[4] = {0, 0, 0, 0}; /* elsewhere: what zero points at all taps make; inside, x - zero is added */
    unpack(taps, layer->weights + (o / 4) * blocks * DNNC_BLOCK_WORDS, blocks);
    for (uint32_t c = 0; c < count; c++) {
      int32_t sum = 0;
      for (uint32_t tap = 0; tap < k; tap++) sum += taps[4 * tap + c];
      at[c] = (uint16_t)dnnc_channel(layer, o + c);
      start[c] = ((const int32_t *)layer->bias)[o + c];
      border[c] = start[c] + layer->in_zero * sum;
    }
    DNNC_Y *to = y;
    for (uint32_t i = 0; i < layer->out_h; i++) {
      int32_t top = (int32_t)(i * layer->stride_h) - layer->pad_top, left = -(int32_t)layer->pad_left;
      range_t rows = inside(top, layer->kernel_h, layer->dilation_h, layer->in_h);
      uint32_t height = rows.end - rows.first;
      for (uint32_t n = layer->out_w; n; n--, to += layer->out_stride, left += layer->stride_w) {
        range_t columns = {0, kernel_w};
        if (left < 0 || left > last) columns = inside(left, kernel_w, layer->dilation_w, layer->in_w);
        uint32_t width = columns.end - columns.first, taken = height * width;
        int32_t place = (top * layer->in_w + left) * layer->in_stride;
        int32_t acc[4];
        for (uint32_t c = 0; c < 4; c++) acc[c] = taken == k ? start[c] : border[c];
        if (part) {
          accumulate_some(layer, acc, x, place, taps, rows, columns, taken == k ? 0 : layer->in_zero, at, count);
        } else if (taken) {
          place += (int32_t)(rows.first * row + columns.first * step + o);
          const int8_t *tap = taps + 4 * (rows.first * kernel_w + columns.first);
          if (taken == k) {
            accumulate(acc, x + place, step, row, tap, kernel_w, height, width, 0);
          } else {
            accumulate(acc, x + place, step, row, tap, kernel_w, height, width, layer->in_zero);
          }
        }
        for (uint32_t c = 0; c < count; c++) {
#if DNNC_SHIFT
          int32_t scaled = dnnc_rescale_shift(acc[c], scale[o + c], left_shift);
#else
          int32_t scaled = dnnc_rescale(acc[c], scale[o + c], left_shift);
#endif
          to[at[c]] = (DNNC_Y)dnnc_clamp(scaled + zero, lo, hi);
        }
      }
    }
  }
}
