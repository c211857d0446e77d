/* Packed 4-bit codes: eight a word, element e of the eight in nibble e / 4 of byte e % 4. So a word comes apart into
 * four bytes and the next four without shuffling. */
#ifndef DNNC_NIBBLES_H
#define DNNC_NIBBLES_H

#include "dnnc_kernels.h"

/* Output pixels that a banded kernel makes at a time, if a row has fewer: as many as amortise a call of the kernel for
 * bytes that does the work. */
#define DNNC_BAND_PIXELS 32u

/* `words` words to eight bytes each, and back. */
void dnnc_nibbles_unpack(const uint32_t *from, uint32_t words, uint32_t *to);
void dnnc_nibbles_pack(const uint32_t *from, uint32_t words, uint32_t *to);

/* Words of `count` packed elements. */
static inline uint32_t dnnc_nibbles_words(uint32_t count) { return (count + 7u) / 8u; }

/* Rows of output of a band. */
static inline uint32_t dnnc_band_rows(uint32_t out_h, uint32_t out_w) {
  uint32_t rows = 1;
  while (rows < out_h && rows * out_w < DNNC_BAND_PIXELS) rows++;
  return rows;
}

/* The input rows that a band of output rows reads: `count` from `first` on, below `pad` rows of padding. */
typedef struct {
  uint32_t first, count, pad;
} dnnc_band_t;

/* Output rows row .. row + rows - 1; span: rows of a window. Every window overlaps the image. */
static inline dnnc_band_t dnnc_band(uint32_t row, uint32_t rows, uint32_t stride, uint32_t pad, uint32_t span,
                                    uint32_t in_h) {
  uint32_t begin = row * stride, end = begin + (rows - 1u) * stride + span; /* counted from the padding's first row */
  dnnc_band_t band = {begin > pad ? begin - pad : 0, 0, begin < pad ? pad - begin : 0};
  end = end - pad < in_h ? end - pad : in_h;
  band.count = end - band.first;
  return band;
}

#endif
