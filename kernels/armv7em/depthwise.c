/* Depthwise convolution by SMLAD for one width of weights; DNNC_LINE, where defined, makes the lines of a 3x3 one. */
#include "dnnc_decode.h"
#ifdef DNNC_LINE
#include "dnnc_smlad_line.h"
#else
#include "dnnc_smlad.h"
#endif

/* The weights of a tile, as signed bytes. */
static const uint32_t *unpack(int8_t *taps, const uint32_t *w, uint32_t k) {
  const int8_t *end = taps + 4 * k;
  do {
#define DNNC_PUT(at, field) (at) = (int8_t)((field) * DNNC_FACTOR - DNNC_OFFSET);
#define DNNC_FOUR(j, p0, p1, p2, p3)         \
  DNNC_PUT(taps[8 * (j) + 0], DNNC_LOW(p0))  \
  DNNC_PUT(taps[8 * (j) + 1], DNNC_LOW(p1))  \
  DNNC_PUT(taps[8 * (j) + 2], DNNC_LOW(p2))  \
  DNNC_PUT(taps[8 * (j) + 3], DNNC_LOW(p3))  \
  DNNC_PUT(taps[8 * (j) + 4], DNNC_HIGH(p0)) \
  DNNC_PUT(taps[8 * (j) + 5], DNNC_HIGH(p1)) \
  DNNC_PUT(taps[8 * (j) + 6], DNNC_HIGH(p2)) \
  DNNC_PUT(taps[8 * (j) + 7], DNNC_HIGH(p3))
    DNNC_BLOCK(w)
#undef DNNC_FOUR
#undef DNNC_PUT
    taps += 4 * DNNC_BLOCK_K;
    w += DNNC_BLOCK_WORDS;
  } while (taps < end);
  return w;
}

void DNNC_KERNEL(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch) {
#ifdef DNNC_LINE
  dnnc_smlad_depthwise_3x3(layer, x, y, scratch, unpack, (8u + DNNC_BLOCK_K) / DNNC_BLOCK_K * (4u * DNNC_BLOCK_K),
                           DNNC_LINE);
#else
  uint32_t k = (uint32_t)layer->kernel_h * layer->kernel_w;
  dnnc_smlad_depthwise(layer, x, y, scratch, unpack,
                       (k + DNNC_BLOCK_K - 1u) / DNNC_BLOCK_K * (4u * DNNC_BLOCK_K));
#endif
}
