/* Softmax of each row: exponentials by table, one rounded division an element. DNNC_SHARE holds code << bits. */
#include "dnnc_kernels.h"

void DNNC_KERNEL(const dnnc_softmax_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_softmax_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  (void)scratch;
  uint32_t classes = layer->classes;
  DNNC_SHARE most = ((DNNC_SHARE)1 << layer->bits) - 1;
  for (uint32_t row = 0; row < layer->rows; row++, x += classes, y += classes) {
    int32_t largest = x[0];
    for (uint32_t c = 1; c < classes; c++) largest = x[c] > largest ? x[c] : largest;
    uint32_t total = 0;
    for (uint32_t c = 0; c < classes; c++) total += layer->table[largest - x[c]];
    for (uint32_t c = 0; c < classes; c++) {
      DNNC_SHARE part = (DNNC_SHARE)layer->table[largest - x[c]] << layer->bits;
      DNNC_SHARE share = (part + (total >> 1)) / total;
      y[c] = (DNNC_Y)((int32_t)(share < most ? share : most) + layer->lo);
    }
  }
}
