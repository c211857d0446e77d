/* Convolution by SMLAD for one width of weights. */
#include "dnnc_smlad.h"

void DNNC_KERNEL(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch) {
  dnnc_smlad_conv(layer, x, y, scratch, &DNNC_PACKED);
}
