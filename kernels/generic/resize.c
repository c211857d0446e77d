/* Nearest neighbour: every output pixel copies an input pixel. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_resize_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_resize_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  uint32_t channels = layer->channels;
  for (uint32_t i = 0; i < layer->out_h; i++) {
    for (uint32_t j = 0; j < layer->out_w; j++) {
      const DNNC_X *from = x + ((uint32_t)layer->rows[i] * layer->in_w + layer->columns[j]) * channels;
      for (uint32_t c = 0; c < channels; c++) *y++ = from[c];
    }
  }
}
