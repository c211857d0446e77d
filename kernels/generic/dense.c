/* Fully connected, and convolution of 1x1 without padding: the row is read where it lies. */
#include "dnnc_tile.h"

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  uint32_t k = layer->in_c, outputs = layer->out_c;
  uint32_t blocks = layer->blocks, tile = blocks * DNNC_BLOCK_WORDS;
  if (blocks * DNNC_BLOCK_K > k) blocks--;
  uint32_t whole = blocks * DNNC_BLOCK_K; /* k in whole blocks; the rest is read through `tail` */
  for (uint32_t i = 0; i < layer->out_h; i++) {
    for (uint32_t j = 0; j < layer->out_w; j++, y += layer->out_stride) {
      const DNNC_X *row = x + (i * layer->stride_h * layer->in_w + j * layer->stride_w) * layer->in_stride;
      DNNC_X tail[DNNC_BLOCK_K] = {0};
      for (uint32_t c = whole; c < k; c++) tail[c - whole] = row[c];
      uint32_t sum = dnnc_sum(row, k);
      const uint32_t *w = layer->weights;
      for (uint32_t o = 0; o < outputs; o += 4, w += tile) {
        uint32_t acc[4] = {0, 0, 0, 0};
        dnnc_dot(acc, row, w, blocks);
        if (whole < k) dnnc_dot(acc, tail, w + blocks * DNNC_BLOCK_WORDS, 1);
        dnnc_store(layer, o, o, outputs - o < 4 ? outputs - o : 4, acc, sum, y);
      }
    }
  }
}
