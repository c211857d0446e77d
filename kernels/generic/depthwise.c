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

/* acc[c] += (x - zero) * tap over the given taps of four neighbouring channels; x[place] is the first at tap (0, 0),
 * which may lie outside the image. */
static inline void accumulate(const dnnc_linear_t *layer, int32_t acc[4], const DNNC_X *x, int32_t place,
                              const int8_t *taps, range_t rows, range_t columns, int32_t zero) {
  int32_t a0 = acc[0], a1 = acc[1], a2 = acc[2], a3 = acc[3];
  int32_t step = layer->dilation_w * layer->in_stride;
  int32_t row = layer->dilation_h * layer->in_w * layer->in_stride;
  place += (int32_t)rows.first * row + (int32_t)columns.first * step;
  for (uint32_t kh = rows.first; kh < rows.end; kh++, place += row) {
    const DNNC_X *from = x + place;
    const int8_t *tap = taps + (kh * layer->kernel_w + columns.first) * 4;
    for (uint32_t n = columns.end - columns.first; n; n--, from += step, tap += 4) {
      a0 += (from[0] - zero) * tap[0];
      a1 += (from[1] - zero) * tap[1];
      a2 += (from[2] - zero) * tap[2];
      a3 += (from[3] - zero) * tap[3];
    }
  }
  acc[0] = a0;
  acc[1] = a1;
  acc[2] = a2;
  acc[3] = a3;
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
  uint32_t k = (uint32_t)layer->kernel_h * layer->kernel_w;
  uint32_t blocks = layer->blocks;
  for (uint32_t o = 0; o < layer->out_c; o += 4) {
    uint32_t count = layer->out_c - o < 4u ? layer->out_c - o : 4u;
    uint16_t at[4] = {0, 0, 0, 0};
    int32_t start[4] = {0, 0, 0, 0};  /* where all taps lie inside: the bias */
    int32_t border[4] = {0, 0, 0, 0}; /* elsewhere: what zero points at all taps make; inside, x - zero is added */
    unpack(taps, layer->weights + (o / 4) * blocks * DNNC_BLOCK_WORDS, blocks);
    for (uint32_t c = 0; c < count; c++) {
      int32_t sum = 0;
      for (uint32_t tap = 0; tap < k; tap++) sum += taps[4 * tap + c];
      at[c] = (uint16_t)dnnc_channel(layer, o + c);
      start[c] = layer->bias[o + c];
      border[c] = start[c] + layer->in_zero * sum;
    }
    DNNC_Y *to = y;
    for (uint32_t i = 0; i < layer->out_h; i++) {
      int32_t top = (int32_t)(i * layer->stride_h) - layer->pad_top;
      range_t rows = inside(top, layer->kernel_h, layer->dilation_h, layer->in_h);
      for (uint32_t j = 0; j < layer->out_w; j++, to += layer->out_stride) {
        int32_t left = (int32_t)(j * layer->stride_w) - layer->pad_left;
        range_t columns = inside(left, layer->kernel_w, layer->dilation_w, layer->in_w);
        uint32_t taken = (rows.end - rows.first) * (columns.end - columns.first);
        int32_t place = (top * layer->in_w + left) * layer->in_stride;
        int32_t acc[4];
        for (uint32_t c = 0; c < 4; c++) acc[c] = taken == k ? start[c] : border[c];
        if (count < 4 || layer->channels) {
          accumulate_some(layer, acc, x, place, taps, rows, columns, taken == k ? 0 : layer->in_zero, at, count);
        } else if (taken == k) {
          accumulate(layer, acc, x, place + (int32_t)o, taps, rows, columns, 0);
        } else if (taken) {
          accumulate(layer, acc, x, place + (int32_t)o, taps, rows, columns, layer->in_zero);
        }
        for (uint32_t c = 0; c < count; c++) to[at[c]] = dnnc_code(layer, o + c, acc[c]);
      }
    }
  }
}
