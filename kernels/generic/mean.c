/* Mean over some axes: a sum and one requantisation. */
#include "dnnc_kernels.h"

static int32_t total(const dnnc_mean_t *layer, const DNNC_X *x) {
  const uint32_t *size = layer->reduced, *stride = layer->reduced_stride;
  int32_t sum = 0;
  for (uint32_t i = 0; i < size[0]; i++) {
    for (uint32_t j = 0; j < size[1]; j++) {
      const DNNC_X *from = x + i * stride[0] + j * stride[1];
      for (uint32_t n = size[2]; n; n--, from += stride[2]) sum += *from;
    }
  }
  return sum;
}

void DNNC_KERNEL(const dnnc_mean_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_mean_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  const uint32_t *size = layer->kept, *stride = layer->kept_stride;
  for (uint32_t i = 0; i < size[0]; i++) {
    for (uint32_t j = 0; j < size[1]; j++) {
      const DNNC_X *from = x + i * stride[0] + j * stride[1];
      for (uint32_t n = size[2]; n; n--, from += stride[2]) {
        int32_t sum = total(layer, from) - layer->zeros;
        int32_t scaled = dnnc_rescale(sum, layer->multiplier, layer->left_shift);
        *y++ = (DNNC_Y)dnnc_clamp(scaled + layer->out_zero, layer->lo, layer->hi);
      }
    }
  }
}
