/* The sum of two tensors of the same shape of which some are packed: 64 elements at a time through DNNC_INNER. */
#include "dnnc_nibbles.h"

enum { CHUNK = 64 };

void DNNC_INNER(const dnnc_add_t *layer, const int8_t *a, const int8_t *b, int8_t *y, void *scratch);
void DNNC_KERNEL(const dnnc_add_t *layer, const DNNC_X *a, const DNNC_X2 *b, DNNC_Y *y, void *scratch);

/* The scratch: CHUNK bytes of a, of b and of y. */
void DNNC_KERNEL(const dnnc_add_t *layer, const DNNC_X *a, const DNNC_X2 *b, DNNC_Y *y, void *scratch) {
  dnnc_add_t part = *layer;
  uint32_t *bytes = scratch;
  const int8_t *from_a = (const int8_t *)bytes, *from_b = from_a + CHUNK;
  for (uint32_t done = 0, size = layer->size[3]; done < size; done += CHUNK) {
    uint32_t count = size - done < CHUNK ? size - done : CHUNK, words = dnnc_nibbles_words(count);
    part.size[3] = count;
#if DNNC_PACKED_X
    dnnc_nibbles_unpack(a + done / 8, words, bytes);
#else
    from_a = a + done;
#endif
#if DNNC_PACKED_X2
    dnnc_nibbles_unpack(b + done / 8, words, bytes + CHUNK / 4);
#else
    from_b = b + done;
#endif
#if DNNC_PACKED_Y
    DNNC_INNER(&part, from_a, from_b, (int8_t *)(bytes + CHUNK / 2), NULL);
    dnnc_nibbles_pack(bytes + CHUNK / 2, words, y + done / 8);
#else
    (void)words;
    DNNC_INNER(&part, from_a, from_b, y + done, NULL);
#endif
  }
}
