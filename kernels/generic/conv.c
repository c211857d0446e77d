/* Convolution: each pixel's window is gathered into one row, then met by four output channels at a time. */
#include "dnnc_tile.h"

/* The window of output pixel (i, j) in the channels of group g, padded with zero points at the border and with zeros
 * up to whole blocks. */
static void gather(const dnnc_linear_t *layer, const DNNC_X *x, uint32_t i, uint32_t j, uint32_t depth, DNNC_X *row,
                   const DNNC_X *end) {
  int32_t top = (int32_t)(i * layer->stride_h) - layer->pad_top;
  int32_t left = (int32_t)(j * layer->stride_w) - layer->pad_left;
  for (uint32_t kh = 0; kh < layer->kernel_h; kh++) {
    int32_t h = top + (int32_t)(kh * layer->dilation_h);
    for (uint32_t kw = 0; kw < layer->kernel_w; kw++) {
      int32_t w = left + (int32_t)(kw * layer->dilation_w);
      if (h < 0 || h >= layer->in_h || w < 0 || w >= layer->in_w) {
        for (uint32_t c = 0; c < depth; c++) *row++ = (DNNC_X)layer->in_zero;
      } else {
        const DNNC_X *from = x + ((uint32_t)h * layer->in_w + (uint32_t)w) * layer->in_stride;
        for (uint32_t c = 0; c < depth; c++) *row++ = from[c];
      }
    }
  }
  while (row < end) *row++ = 0;
}

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  DNNC_X *row = scratch;
  uint32_t groups = layer->groups, depth = layer->in_c, outputs = layer->out_c;
  uint32_t k = (uint32_t)layer->kernel_h * layer->kernel_w * depth;
  uint32_t blocks = layer->blocks;
  for (uint32_t i = 0; i < layer->out_h; i++) {
    for (uint32_t j = 0; j < layer->out_w; j++, y += layer->out_stride) {
      const uint32_t *w = layer->weights;
      uint32_t lane = 0;
      for (uint32_t g = 0; g < groups; g++) {
        gather(layer, x + g * depth, i, j, depth, row, row + blocks * DNNC_BLOCK_K);
        uint32_t sum = dnnc_sum(row, k);
        for (uint32_t o = 0; o < outputs; o += 4, lane += 4, w += blocks * DNNC_BLOCK_WORDS) {
          uint32_t acc[4] = {0, 0, 0, 0};
          dnnc_dot(acc, row, w, blocks);
          dnnc_store(layer, lane, g * outputs + o, outputs - o < 4 ? outputs - o : 4, acc, sum, y);
        }
      }
    }
  }
}
