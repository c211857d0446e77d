/* Packed 4-bit codes to bytes and back, a word at a time. */
#include "dnnc_nibbles.h"

/* The sign of each nibble's code fills the upper half of its byte: 8 * 0x1e is 0xf0. */
static uint32_t extended(uint32_t nibbles) { return nibbles | (nibbles & 0x08080808u) * 0x1eu; }

void dnnc_nibbles_unpack(const uint32_t *from, uint32_t words, uint32_t *to) {
  for (; words; words--, to += 2) {
    uint32_t word = *from++;
    to[0] = extended(word & 0x0f0f0f0fu);
    to[1] = extended(word >> 4 & 0x0f0f0f0fu);
  }
}

void dnnc_nibbles_pack(const uint32_t *from, uint32_t words, uint32_t *to) {
  for (; words; words--, from += 2) *to++ = (from[0] & 0x0f0f0f0fu) | (from[1] & 0x0f0f0f0fu) << 4;
}
