/* Armv7E-M matrix products: int8 activations widened once to 16-bit pairs, packed weights, SMLAD.
 *
 * Every width of weights is one dnnc_smlad_t; convolution and fully connected layers of all widths share the code
 * around them. k runs in the packing order "sxtb16": of every four k, the pairs are (k0, k2) and (k1, k3).
 * Where the compiler's target has no DSP extension, plain C computes the same, so that a host can check the rest.
 */
#ifndef DNNC_SMLAD_H
#define DNNC_SMLAD_H

#include "dnnc_kernels.h"

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define DNNC_SMLAD_ASM 1
/* The body is one asm statement; `used` keeps interprocedural passes from touching parameters that only it reads. */
#define DNNC_NAKED __attribute__((naked, noinline, used))
#define DNNC_IN_ASM __attribute__((unused))
#else
#define DNNC_SMLAD_ASM 0
#endif

/* Two pixels times all tiles. x: pairs of pixel 0 and pixel 1 in turn, up to x_end; w: one tile after another. tables,
 * scales: bias and scales of dnnc_linear_t. correction0, 1: added to the sums of each pixel, for the offset of the
 * fields. fours: of k, so that loops that take several fours at a time can enter in the middle. A last tile is stored
 * in part. */
typedef void dnnc_smlad_two_t(const uint32_t *x, const uint32_t *w, const void *tables, uint32_t scales,
                              int8_t *y0, int8_t *y1, int32_t channels, const uint32_t *x_end, int32_t zero,
                              uint32_t left_shift, int32_t correction0, int32_t correction1, uint32_t fours);

/* One pixel times all tiles; x: its pairs. */
typedef void dnnc_smlad_one_t(const uint32_t *x, const uint32_t *w, const void *tables, uint32_t scales,
                              int8_t *y, int32_t channels, const uint32_t *x_end, int32_t zero, uint32_t left_shift,
                              int32_t correction, uint32_t fours);

/* Weights of one width. A block is the smallest run of words with whole k-pairs; weight = field - offset. */
typedef struct {
  dnnc_smlad_two_t *two;
  dnnc_smlad_one_t *one;
  uint8_t block_k, block_words, offset;
} dnnc_smlad_t;

extern const dnnc_smlad_t dnnc_smlad_w1, dnnc_smlad_w2, dnnc_smlad_w3, dnnc_smlad_w4, dnnc_smlad_w5, dnnc_smlad_w6,
    dnnc_smlad_w8;

/* Weights packed as "sums": products are made with several channels' weights at a time, as one number. */
extern const dnnc_smlad_t dnnc_smlad_w2_sums, dnnc_smlad_w4_sums, dnnc_smlad_w5_sums, dnnc_smlad_w8_sums;

/* Bytes of the tables of an output channel. */
static inline uint32_t dnnc_smlad_table_bytes(const dnnc_linear_t *layer) { return layer->scales ? 4 : 8; }

/* The biases and the multipliers of the tile that begins at `lane`; tables, scales as in dnnc_smlad_two_t. */
static inline void dnnc_smlad_tables(const void *tables, uint32_t scales, uint32_t lane, int32_t bias[4],
                                     int32_t multiplier[4]) {
  if (scales) {
    const uint32_t *words = (const uint32_t *)tables + lane;
    for (uint32_t c = 0; c < 4; c++) {
      multiplier[c] = (int16_t)(uint16_t)(words[c / 2] >> c % 2 * 16) * (int32_t)(scales >> 16);
      bias[c] = (int16_t)(uint16_t)(words[2 + c / 2] >> c % 2 * 16) * (int32_t)(scales & 0xffffu);
    }
  } else {
    const int32_t *words = (const int32_t *)tables + 2 * lane;
    for (uint32_t c = 0; c < 4; c++) {
      bias[c] = words[c];
      multiplier[c] = words[4 + c];
    }
  }
}

/* Layers; `weights` says of which width. */
void dnnc_smlad_conv(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                     const dnnc_smlad_t *weights);
void dnnc_smlad_dense(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                      const dnnc_smlad_t *weights);

/* Depthwise; `unpack` writes the signed weights of a tile, four channels a tap, and returns where the next one lies. */
typedef const uint32_t *dnnc_smlad_unpack_t(int8_t *taps, const uint32_t *w, uint32_t k);
void dnnc_smlad_depthwise(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                          dnnc_smlad_unpack_t *unpack, uint32_t taps_bytes);

/* Four times `fours` values at a and at b, which may be unaligned, to pairs of a and of b in turn. */
void dnnc_smlad_widen_two(uint32_t *to, const int8_t *a, const int8_t *b, uint32_t fours);

/* Four times `fours` values to pairs. */
void dnnc_smlad_widen_one(uint32_t *to, const int8_t *a, uint32_t fours);

/* Sums of all values of the pairs at even words and at odd words; the words come in fours. */
void dnnc_smlad_sums(const uint32_t *x, const uint32_t *x_end, int32_t sums[2]);

/* k rounded up to whole fours and whole blocks: what the loops cover. */
static inline uint32_t dnnc_smlad_padded(const dnnc_smlad_t *weights, uint32_t k) {
  uint32_t block = weights->block_k;
  return (((k + 3u) & ~3u) + block - 1u) / block * block;
}

/* Words of a tile. */
static inline uint32_t dnnc_smlad_tile(const dnnc_smlad_t *weights, uint32_t padded) {
  return padded / weights->block_k * weights->block_words;
}

/* Clamp `count` bytes to lo..hi; nothing is to be done where these are the limits of int8. */
void dnnc_smlad_clamp(int32_t lo, int32_t hi, int8_t *y, uint32_t count);

#endif
