/* The same code everywhere. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_fill_t *layer, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_fill_t *layer, DNNC_Y *y, void *scratch) {
  (void)scratch;
  for (uint32_t n = layer->size; n; n--) *y++ = (DNNC_Y)layer->value;
}
