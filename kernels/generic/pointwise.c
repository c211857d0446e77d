/* A function of one code, by table. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_pointwise_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_pointwise_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  const DNNC_Y *table = layer->table;
  int32_t lo = layer->lo;
  for (uint32_t n = layer->size; n; n--) *y++ = table[*x++ - lo];
}
