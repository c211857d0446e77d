/* Leaky rectifier with a slope a channel. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_prelu_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_prelu_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  for (uint32_t row = 0; row < layer->rows; row++) {
    const int32_t *negative = layer->negative;
    for (uint32_t c = 0; c < layer->channels; c++, negative += layer->step) {
      int32_t value = *x++ - layer->in_zero;
      int32_t scaled = dnnc_rescale(value, value >= 0 ? layer->positive : *negative, layer->left_shift);
      *y++ = (DNNC_Y)dnnc_clamp(scaled + layer->out_zero, layer->lo, layer->hi);
    }
  }
}
