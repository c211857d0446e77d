/* A function of one int16 code: 256 segments, linear between their ends. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_pointwise_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_pointwise_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  const DNNC_Y *table = layer->table;
  int32_t lo = layer->lo;
  for (uint32_t n = layer->size; n; n--) {
    int32_t index = *x++ - lo;
    int32_t from = table[index >> 8], to = table[(index >> 8) + 1];
    *y++ = (DNNC_Y)(from + (((to - from) * (index & 255) + 128) >> 8));
  }
}
