/* Elements from strided places to strided places. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_copy_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_copy_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  const uint32_t *size = layer->size, *sx = layer->stride_x, *sy = layer->stride_y;
  for (uint32_t i = 0; i < size[0]; i++) {
    for (uint32_t j = 0; j < size[1]; j++) {
      for (uint32_t k = 0; k < size[2]; k++) {
        const DNNC_X *from = x + i * sx[0] + j * sx[1] + k * sx[2];
        DNNC_Y *to = y + i * sy[0] + j * sy[1] + k * sy[2];
        for (uint32_t n = size[3]; n; n--, from += sx[3], to += sy[3]) *to = *from;
      }
    }
  }
}
