/* Mean over some axes where at least four kept elements lie together: sums of bytes in 16-bit lanes. */
#include "dnnc_smlad_bytes.h"

void DNNC_KERNEL(const dnnc_mean_t *layer, const int8_t *x, int8_t *y, void *scratch);

void DNNC_KERNEL(const dnnc_mean_t *layer, const int8_t *x, int8_t *y, void *scratch) {
  (void)scratch;
  const uint32_t *kept = layer->kept, *kept_stride = layer->kept_stride;
  const uint32_t *size = layer->reduced, *stride = layer->reduced_stride;
  for (uint32_t i = 0; i < kept[0]; i++) {
    for (uint32_t j = 0; j < kept[1]; j++, y += kept[2]) {
      const int8_t *from = x + i * kept_stride[0] + j * kept_stride[1];
      for (uint32_t c = 0; c < kept[2]; c += 4) {
        if (c + 4 > kept[2]) c = kept[2] - 4; /* some of the last four twice */
        int32_t totals[4] = {-layer->zeros, -layer->zeros, -layer->zeros, -layer->zeros};
        for (uint32_t k = 0; k < size[0]; k++) {
          for (uint32_t n = 0; n < size[1]; n++) {
            dnnc_bytes_total(totals, from + c + k * stride[0] + n * stride[1], stride[2], size[2]);
          }
        }
        for (uint32_t k = 0; k < 4; k++) {
          int32_t scaled = dnnc_rescale(totals[k], layer->multiplier, layer->left_shift);
          y[c + k] = (int8_t)dnnc_clamp(scaled + layer->out_zero, layer->lo, layer->hi);
        }
      }
    }
  }
}
