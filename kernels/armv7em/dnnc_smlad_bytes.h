/* Four int8 values as the bytes of a word: sums and maxima of many such words, by the DSP extension. */
#ifndef DNNC_SMLAD_BYTES_H
#define DNNC_SMLAD_BYTES_H

#include "dnnc_smlad.h"

/* Sums of at most DNNC_BYTES_MOST words: bytes 0 and 2 in the halves of `even`, bytes 1 and 3 in those of `odd`. */
typedef struct {
  uint32_t even, odd;
} dnnc_bytes_t;
#define DNNC_BYTES_MOST 256u

/* The four bytes at `from`, which may be unaligned. */
static inline uint32_t dnnc_bytes_load(const int8_t *from) {
  uint32_t word;
  __builtin_memcpy(&word, from, 4);
  return word;
}

#if DNNC_SMLAD_ASM

static inline void dnnc_bytes_add(dnnc_bytes_t *sums, uint32_t word) {
  __asm__("sxtab16 %0, %0, %1" : "+r"(sums->even) : "r"(word));
  __asm__("sxtab16 %0, %0, %1, ror #8" : "+r"(sums->odd) : "r"(word));
}

/* The larger of each pair of bytes. */
static inline uint32_t dnnc_bytes_max(uint32_t a, uint32_t b) {
  uint32_t larger;
  __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(larger) : "r"(a), "r"(b));
  return larger;
}

#else

static inline uint32_t dnnc_bytes_halves(uint32_t sums, uint32_t word) {
  int32_t low = (int8_t)(uint8_t)word, high = (int8_t)(uint8_t)(word >> 16);
  return ((sums + (uint32_t)low) & 0xffffu) | ((sums >> 16) + (uint32_t)high) << 16;
}

static inline void dnnc_bytes_add(dnnc_bytes_t *sums, uint32_t word) {
  sums->even = dnnc_bytes_halves(sums->even, word);
  sums->odd = dnnc_bytes_halves(sums->odd, word >> 8);
}

static inline uint32_t dnnc_bytes_max(uint32_t a, uint32_t b) {
  uint32_t larger = 0;
  for (unsigned shift = 0; shift < 32; shift += 8) {
    uint8_t one = (uint8_t)(a >> shift), other = (uint8_t)(b >> shift);
    larger |= (uint32_t)((int8_t)one > (int8_t)other ? one : other) << shift;
  }
  return larger;
}

#endif

/* Adds to totals the four bytes at each of `count` places, `step` bytes apart. */
static inline void dnnc_bytes_total(int32_t totals[4], const int8_t *from, uint32_t step, uint32_t count) {
  while (count) {
    uint32_t left = count < DNNC_BYTES_MOST ? count : DNNC_BYTES_MOST;
    dnnc_bytes_t sums = {0, 0};
    count -= left;
    do {
      dnnc_bytes_add(&sums, dnnc_bytes_load(from));
      from += step;
    } while (--left);
    totals[0] += (int16_t)(uint16_t)sums.even;
    totals[1] += (int16_t)(uint16_t)sums.odd;
    totals[2] += (int16_t)(uint16_t)(sums.even >> 16);
    totals[3] += (int16_t)(uint16_t)(sums.odd >> 16);
  }
}

#endif
