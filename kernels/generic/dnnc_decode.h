/* Packed weights (dnnc/backends/c/pack.py), taken apart at compile-time widths.
 *
 * A block is DNNC_BLOCK_WORDS words and holds DNNC_BLOCK_K weights of each of the four channels of a tile.
 * DNNC_BLOCK(w) expands to DNNC_FOUR(j, p0, p1, p2, p3) for each of its k-pairs j: in p0..p3 the pair of channels 0..3
 * lies at bit 0 and at bit 16 (or, where bytes are loaded, p points at them). DNNC_LOW and DNNC_HIGH read the two
 * fields of such a p. weight = DNNC_FACTOR * field - DNNC_OFFSET.
 */
#ifndef DNNC_DECODE_H
#define DNNC_DECODE_H

/* Bytes are loaded one by one where a load extends the sign for nothing; Thumb-1 takes them out of words. With
 * DNNC_UNSIGNED weights of 8 bits are offset binary, as all others are. */
#if defined(__BYTE_ORDER__) && (!defined(__thumb__) || defined(__thumb2__) || defined(DNNC_UNSIGNED))
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define DNNC_BYTES
#endif
#endif

#if DNNC_BITS == 8 && defined(DNNC_UNSIGNED) && defined(DNNC_BYTES)
#define DNNC_OFFSET 128
#define DNNC_LOW(p) ((int32_t)*(p))
#define DNNC_HIGH(p) ((int32_t)(p)[2])
#elif DNNC_BITS == 8 && defined(DNNC_UNSIGNED)
#define DNNC_OFFSET 128
#define DNNC_LOW(p) ((int32_t)((p) & 255u))
#define DNNC_HIGH(p) ((int32_t)((p) >> 16 & 255u))
#elif DNNC_BITS == 8 && defined(DNNC_BYTES)
#define DNNC_OFFSET 0
#define DNNC_LOW(p) ((int32_t)*(p))
#define DNNC_HIGH(p) ((int32_t)(p)[2])
#elif DNNC_BITS == 8
#define DNNC_OFFSET 0
#define DNNC_LOW(p) ((int32_t)(int8_t)(uint8_t)(p))
#define DNNC_HIGH(p) ((int32_t)(int8_t)(uint8_t)((p) >> 16))
#else
#define DNNC_OFFSET (1 << (DNNC_BITS - 1))
#define DNNC_LOW(p) ((int32_t)((p) & ((1u << DNNC_BITS) - 1u)))
#define DNNC_HIGH(p) ((int32_t)((p) >> 16 & ((1u << DNNC_BITS) - 1u)))
#endif

#if DNNC_BITS == 1
#define DNNC_FACTOR 2
#else
#define DNNC_FACTOR 1
#endif

#if DNNC_BITS == 1
#define DNNC_BLOCK_K 8u
#define DNNC_BLOCK_WORDS 1u
#define DNNC_BLOCK(w)                                              \
  DNNC_FOUR(0, (w)[0], (w)[0] >> 1, (w)[0] >> 2, (w)[0] >> 3)      \
  DNNC_FOUR(1, (w)[0] >> 4, (w)[0] >> 5, (w)[0] >> 6, (w)[0] >> 7) \
  DNNC_FOUR(2, (w)[0] >> 8, (w)[0] >> 9, (w)[0] >> 10, (w)[0] >> 11) \
  DNNC_FOUR(3, (w)[0] >> 12, (w)[0] >> 13, (w)[0] >> 14, (w)[0] >> 15)
#elif DNNC_BITS == 2
#define DNNC_BLOCK_K 4u
#define DNNC_BLOCK_WORDS 1u
#define DNNC_BLOCK(w)                                         \
  DNNC_FOUR(0, (w)[0], (w)[0] >> 2, (w)[0] >> 4, (w)[0] >> 6) \
  DNNC_FOUR(1, (w)[0] >> 8, (w)[0] >> 10, (w)[0] >> 12, (w)[0] >> 14)
#elif DNNC_BITS == 3 /* five pairs a word */
#define DNNC_BLOCK_K 10u
#define DNNC_BLOCK_WORDS 4u
#define DNNC_BLOCK(w)                                            \
  DNNC_FOUR(0, (w)[0], (w)[0] >> 3, (w)[0] >> 6, (w)[0] >> 9)    \
  DNNC_FOUR(1, (w)[0] >> 12, (w)[1], (w)[1] >> 3, (w)[1] >> 6)   \
  DNNC_FOUR(2, (w)[1] >> 9, (w)[1] >> 12, (w)[2], (w)[2] >> 3)   \
  DNNC_FOUR(3, (w)[2] >> 6, (w)[2] >> 9, (w)[2] >> 12, (w)[3])   \
  DNNC_FOUR(4, (w)[3] >> 3, (w)[3] >> 6, (w)[3] >> 9, (w)[3] >> 12)
#elif DNNC_BITS == 4
#define DNNC_BLOCK_K 2u
#define DNNC_BLOCK_WORDS 1u
#define DNNC_BLOCK(w) DNNC_FOUR(0, (w)[0], (w)[0] >> 4, (w)[0] >> 8, (w)[0] >> 12)
#elif DNNC_BITS == 5 /* three pairs a word */
#define DNNC_BLOCK_K 6u
#define DNNC_BLOCK_WORDS 4u
#define DNNC_BLOCK(w)                                           \
  DNNC_FOUR(0, (w)[0], (w)[0] >> 5, (w)[0] >> 10, (w)[1])       \
  DNNC_FOUR(1, (w)[1] >> 5, (w)[1] >> 10, (w)[2], (w)[2] >> 5)  \
  DNNC_FOUR(2, (w)[2] >> 10, (w)[3], (w)[3] >> 5, (w)[3] >> 10)
#elif DNNC_BITS == 6 /* two pairs a word, and two more from what is left of three words */
#define DNNC_BLOCK_K 4u
#define DNNC_BLOCK_WORDS 3u
#define DNNC_LEFT(w, s) (((w)[1] >> (s)) & 0x00300030u)
#define DNNC_BLOCK(w)                                           \
  DNNC_FOUR(0, (w)[0], (w)[0] >> 6, (w)[1], (w)[1] >> 6)        \
  DNNC_FOUR(1, (w)[2], (w)[2] >> 6,                             \
            ((w)[0] >> 12 & 0x000f000fu) | DNNC_LEFT(w, 8),     \
            ((w)[2] >> 12 & 0x000f000fu) | DNNC_LEFT(w, 10))
#elif DNNC_BITS == 8
#define DNNC_BLOCK_K 2u
#define DNNC_BLOCK_WORDS 2u
#ifdef DNNC_UNSIGNED
#define DNNC_BYTE uint8_t
#else
#define DNNC_BYTE int8_t
#endif
#ifdef DNNC_BYTES
#define DNNC_BLOCK(w)                                              \
  {                                                                \
    const DNNC_BYTE *bytes = (const DNNC_BYTE *)(w);               \
    DNNC_FOUR(0, bytes, bytes + 1, bytes + 4, bytes + 5)           \
  }
#else
#define DNNC_BLOCK(w) DNNC_FOUR(0, (w)[0], (w)[0] >> 8, (w)[1], (w)[1] >> 8)
#endif
#else
#error "DNNC_BITS must be 1, 2, 3, 4, 5, 6 or 8"
#endif

#endif
