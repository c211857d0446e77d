/* Product of two tensors. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_mul_t *layer, const DNNC_X *a, const DNNC_X2 *b, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_mul_t *layer, const DNNC_X *a, const DNNC_X2 *b, DNNC_Y *y, void *scratch) {
  (void)scratch;
  const uint32_t *size = layer->size, *sa = layer->stride_a, *sb = layer->stride_b;
  for (uint32_t i = 0; i < size[0]; i++) {
    for (uint32_t j = 0; j < size[1]; j++) {
      for (uint32_t k = 0; k < size[2]; k++) {
        const DNNC_X *from_a = a + i * sa[0] + j * sa[1] + k * sa[2];
        const DNNC_X2 *from_b = b + i * sb[0] + j * sb[1] + k * sb[2];
        for (uint32_t n = size[3]; n; n--, from_a += sa[3], from_b += sb[3]) {
          int32_t product = (*from_a - layer->zero_a) * (*from_b - layer->zero_b);
          int32_t scaled = dnnc_rescale(product, layer->multiplier, layer->left_shift);
          *y++ = (DNNC_Y)dnnc_clamp(scaled + layer->zero_y, layer->lo, layer->hi);
        }
      }
    }
  }
}
