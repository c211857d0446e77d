/* Convolution: the windows of DNNC_PIXELS neighbouring pixels are gathered, then met by four output channels at a time.
 *
 * Gathered windows lie column by column, so that those of two pixels share the columns that they have in common. */
#include "dnnc_tile.h"

/* One word of elements, wherever it lies. */
#ifdef __GNUC__
typedef uint32_t __attribute__((may_alias)) word_t;
#endif

static inline DNNC_X *copy(DNNC_X *to, const DNNC_X *from, uint32_t count, uint32_t words) {
#ifdef __GNUC__
  if (words) {
    const word_t *source = (const word_t *)(const void *)from;
    word_t *target = (word_t *)(void *)to;
    do *target++ = *source++;
    while (--words);
    return to + count;
  }
#else
  (void)words;
#endif
  for (; count; count--) *to++ = *from++;
  return to;
}

/* `count` columns of the window in rows from `top` on, the first at column `w`, the one after `next` others at `later`;
 * padded with zero points at the border. words: of `depth` elements, 0 where they do not lie in whole ones. */
static void gather(const dnnc_linear_t *layer, const DNNC_X *x, int32_t top, int32_t w, uint32_t count, uint32_t next,
                   int32_t later, uint32_t words, DNNC_X *row) {
  uint32_t depth = layer->in_c, kernel_h = layer->kernel_h;
  int32_t step = layer->dilation_h, bottom = layer->in_h;
  int32_t in_row = layer->in_w * layer->in_stride;
  for (uint32_t column = 0; column < count; column++, w += layer->dilation_w) {
    if (column == next) w = later;
    int32_t h = top, place = top * in_row + w * layer->in_stride;
    uint32_t inside = (uint32_t)w < layer->in_w;
    for (uint32_t n = kernel_h; n; n--, h += step, place += step * in_row) {
      if (inside && h >= 0 && h < bottom) {
        row = copy(row, x + place, depth, words);
      } else {
        for (uint32_t c = depth; c; c--) *row++ = (DNNC_X)layer->in_zero;
      }
    }
  }
}

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  DNNC_X *window = scratch;
  uint32_t groups = layer->groups, depth = layer->in_c, outputs = layer->out_c, out_w = layer->out_w;
  uint32_t kernel_w = layer->kernel_w, column = layer->kernel_h * depth, k = kernel_w * column;
  uint32_t tile = layer->blocks * DNNC_BLOCK_WORDS;
  uint32_t size = depth * (uint32_t)sizeof(DNNC_X);
  uint32_t odd = size | layer->in_stride * (uint32_t)sizeof(DNNC_X) | (uint32_t)(uintptr_t)x;
  uint32_t words = odd & 3 ? 0 : size / 4;
#if DNNC_PIXELS == 2
  uint32_t shared = layer->dilation_w == 1 && layer->stride_w < kernel_w;
  uint32_t between = shared ? layer->stride_w : kernel_w; /* columns from the first window to the second */
#endif
  for (uint32_t i = 0; i < layer->out_h; i++) {
    int32_t top = (int32_t)(i * layer->stride_h) - layer->pad_top, left = -(int32_t)layer->pad_left;
    for (uint32_t j = 0; j < out_w; j += DNNC_PIXELS) {
      const uint32_t *w = layer->weights;
      uint32_t lane = 0, next = 0, columns = kernel_w;
      dnnc_rows_t rows;
      rows.row[0] = window;
#if DNNC_PIXELS == 2
      rows.row[1] = window; /* the last of an odd number of pixels is computed twice */
      if (j + 1 < out_w) {
        rows.row[1] = window + between * column;
        columns += between;
        next = layer->out_stride;
      }
#endif
      for (uint32_t g = 0; g < groups; g++) {
        uint32_t inputs[DNNC_PIXELS];
#if DNNC_PIXELS == 2
        int32_t second = left + layer->stride_w;
        gather(layer, x + g * depth, top, left, columns, shared ? columns : kernel_w, second, words, window);
#else
        gather(layer, x + g * depth, top, left, columns, columns, 0, words, window);
#endif
        for (uint32_t p = 0; p < DNNC_PIXELS; p++) inputs[p] = dnnc_sum(rows.row[p], k);
        for (uint32_t o = 0; o < outputs; o += 4, lane += 4, w += tile) {
          uint32_t sums[DNNC_PIXELS][4];
          dnnc_dot(sums, rows, rows, w, w + tile, w + tile);
          dnnc_store(layer, lane, g * outputs + o, outputs - o < 4 ? outputs - o : 4, sums, inputs, y, next);
        }
      }
      y += layer->out_stride + next;
      left += DNNC_PIXELS * layer->stride_w;
    }
  }
}
