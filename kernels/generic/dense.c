/* Fully connected, and convolution of 1x1 without padding: rows are read where they lie, DNNC_PIXELS at a time. */
#include "dnnc_tile.h"

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  uint32_t k = layer->in_c, outputs = layer->out_c;
  uint32_t tile = layer->blocks * DNNC_BLOCK_WORDS, in_whole = tile, whole = layer->blocks * DNNC_BLOCK_K;
  if (whole > k) { /* the rest of k is read through `tail` */
    whole -= DNNC_STEP_K;
    in_whole -= DNNC_STEP_WORDS;
  }
  uint32_t height = layer->out_h, width = layer->out_w;
  if (layer->stride_h == 1 && layer->stride_w == 1) { /* pixels follow each other from row to row */
    width *= height;
    height = 1;
  }
  uint32_t step = (uint32_t)layer->stride_w * layer->in_stride;
  uint32_t rows = (uint32_t)layer->stride_h * layer->in_w * layer->in_stride;
  for (uint32_t i = height; i; i--, x += rows) {
    const DNNC_X *pixel = x;
    for (uint32_t j = 0; j < width; j += DNNC_PIXELS) {
      DNNC_X tail[DNNC_PIXELS][DNNC_STEP_K] = {{0}};
      uint32_t inputs[DNNC_PIXELS], next = 0;
      dnnc_rows_t row, rest;
      row.row[0] = pixel;
#if DNNC_PIXELS == 2
      row.row[1] = pixel; /* the last of an odd number of pixels is computed twice */
      if (j + 1 < width) {
        row.row[1] = pixel + step;
        next = layer->out_stride;
      }
#endif
      for (uint32_t p = 0; p < DNNC_PIXELS; p++) {
        rest.row[p] = tail[p];
        for (uint32_t c = whole; c < k; c++) tail[p][c - whole] = row.row[p][c];
        inputs[p] = dnnc_sum(row.row[p], k);
      }
      const uint32_t *w = layer->weights;
      for (uint32_t o = 0; o < outputs; o += 4, w += tile) {
        uint32_t sums[DNNC_PIXELS][4];
        dnnc_dot(sums, row, rest, w, w + in_whole, w + tile);
        dnnc_store(layer, o, o, outputs - o < 4 ? outputs - o : 4, sums, inputs, y, next);
      }
      pixel += DNNC_PIXELS * step;
      y += layer->out_stride + next;
    }
  }
}
