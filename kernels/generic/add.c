/* Sum (or difference) of two tensors with one rounding. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_add_t *layer, const DNNC_X *a, const DNNC_X2 *b, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_add_t *layer, const DNNC_X *a, const DNNC_X2 *b, DNNC_Y *y, void *scratch) {
  (void)scratch;
  const uint32_t *size = layer->size, *sa = layer->stride_a, *sb = layer->stride_b;
  const uint32_t step_a = sa[3], step_b = sb[3];
  int32_t ma = layer->multiplier_a, mb = layer->multiplier_b, offset = layer->offset, lo = layer->lo, hi = layer->hi;
  unsigned shift = layer->shift;
  for (uint32_t i = 0; i < size[0]; i++) {
    for (uint32_t j = 0; j < size[1]; j++) {
      for (uint32_t k = 0; k < size[2]; k++) {
        const DNNC_X *from_a = a + i * sa[0] + j * sa[1] + k * sa[2];
        const DNNC_X2 *from_b = b + i * sb[0] + j * sb[1] + k * sb[2];
        for (uint32_t n = size[3]; n; n--, from_a += step_a, from_b += step_b) {
          int32_t sum = *from_a * ma + *from_b * mb + offset;
          *y++ = (DNNC_Y)dnnc_clamp(sum >> shift, lo, hi);
        }
      }
    }
  }
}
