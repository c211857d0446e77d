/* A linear layer of weights -1, 0 and 1, ten in a half-word: some tiles of output channels at a time are unpacked to
 * words of 2 bits, then DNNC_INNER, the kernel for these, makes their channels.
 *
 * A half-word is a fraction of 2^16, its digits of base 3 come out one by one as it is multiplied by 3. DNNC_FLIPPED is
 * what the kernel has turned over in its words. The scratch: the words of some tiles | the scratch of the kernel. */
#include "dnnc_kernels.h"

void DNNC_INNER(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);
void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  dnnc_linear_t part = *layer;
  const uint32_t outputs = layer->out_c, tile = layer->blocks; /* a block is a word */
  uint32_t tiles = 1; /* DNNC_CHUNK_WORDS / tile, where that is more: some cores divide by a library */
  const uint32_t *next = layer->weights;
  uint32_t *words = scratch;
  uint32_t held = 0, halves = 0, digits = 0, fraction = 0;
#if DNNC_RECORDS
  const uint32_t bias_bytes = layer->scales ? 16 : 32, multiplier_bytes = 0;
#else
  const uint32_t bias_bytes = 16, multiplier_bytes = DNNC_SHIFT ? 4 : 16;
#endif
  part.weights = words;
  while ((tiles + 1u) * tile <= DNNC_CHUNK_WORDS) tiles++;
  for (uint32_t o = 0; o < outputs; o += part.out_c) {
    uint32_t count = tiles * 4u < outputs - o ? tiles * 4u : outputs - o, size = (count + 3u) / 4u * tile;
    for (uint32_t i = 0; i < size; i++) {
      uint32_t word = 0;
      for (uint32_t shift = 0; shift < 32; shift += 2) {
        if (!digits) {
          if (!halves) {
            held = *next++;
            halves = 2;
          }
          fraction = held & 0xffffu;
          held >>= 16;
          halves--;
          digits = 10;
        }
        fraction *= 3u;
        word |= ((fraction >> 16) + 1u) << shift;
        fraction &= 0xffffu;
        digits--;
      }
      words[i] = word ^ DNNC_FLIPPED;
    }
    part.out_c = (uint16_t)count;
    DNNC_INNER(&part, x, y + o, words + (tiles < (outputs + 3u) / 4u ? tiles : (outputs + 3u) / 4u) * tile);
    part.bias = (const uint8_t *)part.bias + tiles * bias_bytes;
    if (multiplier_bytes) part.multiplier = (const uint8_t *)part.multiplier + tiles * multiplier_bytes;
  }
}
