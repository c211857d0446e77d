/* dnnc kernels: integer neural network operations in freestanding C99.
 *
 * Activations are channels-last int8 (or int16) codes; real = scale * (q - zero_point). Every kernel computes exactly
 * what dnnc's simulator computes. No kernel allocates or keeps state. `>>` of a negative number is taken to be
 * arithmetic, as every compiler for these machines has it.
 *
 * Every kernel is `void kernel(const dnnc_..._t *layer, const <input> *x, ..., <output> *y, void *scratch)`; scratch
 * is 4-byte aligned and its size is known at compile time (0 where a kernel needs none). y may overlap an input: it
 * begins so far before it that the kernel, in the order in which it reads and writes, overwrites no byte that it still
 * reads (dnnc/backends/c/walk.py has that order for every kernel, and changes with it); so no pointer is `restrict`.
 * Scratch overlaps nothing. A kernel's source is instantiated by macros at its head: DNNC_KERNEL its name, DNNC_X,
 * DNNC_X2, DNNC_Y the element types, DNNC_BITS the width of its weights.
 */
#ifndef DNNC_KERNELS_H
#define DNNC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where constants go, so that a linker script or a map file can tell weights from the rest. (Position-independent code
 * must relocate pointers, so it may not put them into a section of the reader's choice.) */
#if defined(__ELF__) && defined(__GNUC__) && !defined(__PIC__) && !defined(DNNC_WEIGHTS)
#define DNNC_WEIGHTS __attribute__((section(".rodata.dnnc_weights")))
#define DNNC_TABLES __attribute__((section(".rodata.dnnc_tables")))
#elif !defined(DNNC_WEIGHTS)
#define DNNC_WEIGHTS
#define DNNC_TABLES
#endif

/* A linear layer: convolution, depthwise convolution or fully connected (a 1x1 convolution over a row of pixels).
 *
 * weights: packed pairs, tile of four output channels after tile of four (dnnc/backends/c/pack.py describes them).
 * bias, multiplier: four elements a tile. The input's zero point is folded into the bias. Kernels that only shift have
 * shifts in the place of multipliers: multiplier = 2^(31 - shift).
 * Kernels that take tables a tile at a time have no multiplier, and a record a tile at bias: four biases, then four
 * multipliers, int32_t; or, where scales is not 0, int16_t codes in words, the first of two in the low half, of four
 * multipliers, then of four biases: bias = code * (scales & 0xffff), multiplier = code * (scales >> 16), left_shift 0.
 * channels: NULL, or the output channel of each of this call's channels (a layer of mixed widths is one call a width).
 * x points at the first channel that the call reads (a depthwise call with `channels` picks them by it), y at the whole
 * output's first.
 */
typedef struct {
  const uint32_t *weights;
  const void *bias;       /* int32_t, or records */
  const void *multiplier; /* int32_t, or uint8_t shifts, or NULL */
  const uint16_t *channels;
  uint32_t scales;
  uint16_t in_h, in_w, in_c;    /* in_c: input channels of one group */
  uint16_t in_stride;           /* channels of the whole input: distance between pixels */
  uint16_t out_h, out_w, out_c; /* out_c: output channels of one group, in this call */
  uint16_t out_stride;          /* channels of the whole output: distance between pixels */
  uint16_t groups;              /* each has its own tiles; 1 for a depthwise layer, whose channels fill tiles of four */
  uint16_t kernel_h, kernel_w;
  uint16_t stride_h, stride_w;
  uint16_t dilation_h, dilation_w;
  uint16_t pad_top, pad_left;
  uint16_t blocks;           /* whole packing blocks of a tile: the loop over k */
  int16_t in_zero, out_zero; /* zero points */
  int16_t lo, hi;            /* clamp, in codes */
  uint8_t left_shift;
} dnnc_linear_t;

/* A linear layer of which the weights that are not zero are stored (dnnc/backends/c/sparse.py), in the order output
 * channel, kernel row, kernel column, input channel of the group.
 *
 * weights: the place of the first record; then records of `bits` bits, the lowest first, across uint16_t. A record is
 * the weight in two's complement above the number, in gap_bits bits, of the zeros between it and the next record. A
 * weight 0 stands for more zeros: the next record is (number + 1) << gap_bits places on. The last one leads to the end.
 * Or a bitmap: for every place a bit 0, or a bit 1 and the weight above it; `bits` is of these two, gap_bits is 1.
 * tables: two elements an output channel, bias >> bias_shift and multiplier >> multiplier_shift, which lose nothing by
 * it; where `wide` is 1, int32_t instead of int16_t. */
typedef struct {
  const uint16_t *weights;
  const void *tables; /* int16_t or int32_t */
  uint16_t in_h, in_w, in_c;    /* in_c, out_c: of one group */
  uint16_t out_h, out_w, out_c;
  uint16_t groups;
  uint16_t rows;             /* output rows of a band: the scratch holds their pixels' sums */
  int16_t in_zero, out_zero; /* zero points */
  int16_t lo, hi;            /* clamp, in codes */
  uint8_t kernel_h, kernel_w;
  uint8_t stride_h, stride_w;
  uint8_t dilation_h, dilation_w;
  uint8_t pad_top, pad_left;
  uint8_t bits, gap_bits;
  uint8_t left_shift;
  uint8_t bias_shift, multiplier_shift, wide;
} dnnc_sparse_t;

/* A linear layer whose weights are code. tables: as those of dnnc_sparse_t, whose other numbers are code too. */
typedef struct {
  const void *tables; /* int16_t or int32_t */
} dnnc_straight_t;

/* y = clamp((a * ma + b * mb + offset) >> shift) over up to four axes; a stride of 0 broadcasts. */
typedef struct {
  uint32_t size[4];
  uint32_t stride_a[4], stride_b[4]; /* elements */
  int32_t multiplier_a, multiplier_b;
  int32_t offset;
  int16_t lo, hi;
  uint8_t shift;
} dnnc_add_t;

/* y = clamp(zero_y + rescale((a - zero_a) * (b - zero_b))) over up to four axes; a stride of 0 broadcasts. */
typedef struct {
  uint32_t size[4];
  uint32_t stride_a[4], stride_b[4]; /* elements */
  int32_t multiplier;
  int16_t zero_a, zero_b, zero_y;
  int16_t lo, hi;
  uint8_t left_shift;
} dnnc_mul_t;

/* y = table[x - lo], or with int16 inputs linear interpolation between the 257 ends of 256 segments. */
typedef struct {
  const void *table; /* of the output's element type */
  uint32_t size;
  int16_t lo;
} dnnc_pointwise_t;

/* y = rescale(x - zero) with one multiplier for x >= zero and, below it, one a channel (or one in all). */
typedef struct {
  const int32_t *negative; /* channels elements */
  int32_t positive;
  uint32_t rows;
  uint16_t channels;
  uint16_t step; /* 1: a slope a channel; 0: one slope */
  int16_t in_zero, out_zero;
  int16_t lo, hi;
  uint8_t left_shift;
} dnnc_prelu_t;

/* Windows over an image [in_h, in_w, channels]. */
typedef struct {
  uint16_t in_h, in_w, channels;
  uint16_t out_h, out_w;
  uint16_t kernel_h, kernel_w;
  uint16_t stride_h, stride_w;
  uint16_t dilation_h, dilation_w;
  uint16_t pad_top, pad_left;
} dnnc_window_t;

typedef struct {
  dnnc_window_t window;
  int16_t lowest; /* what padding counts as */
} dnnc_maxpool_t;

/* Mean of windows. `count` lists the window sizes that occur, `multiplier` the rescaling of each; positions of rows
 * count_top <= i < count_bottom and columns count_left <= j < count_right are the ones that count. */
typedef struct {
  dnnc_window_t window;
  const int32_t *count;
  const int32_t *multiplier;
  int32_t count_top, count_bottom, count_left, count_right;
  int16_t in_zero, out_zero;
  int16_t lo, hi;
  uint8_t left_shift;
} dnnc_avgpool_t;

/* Mean over some axes: `kept` axes make the output in order, over `reduced` axes is summed. */
typedef struct {
  uint32_t kept[3], kept_stride[3];
  uint32_t reduced[3], reduced_stride[3];
  int32_t multiplier;
  int32_t zeros; /* number of summed elements * zero point of the input */
  int16_t out_zero;
  int16_t lo, hi;
  uint8_t left_shift;
} dnnc_mean_t;

/* Softmax of every row; table: round(65535 * exp(-scale * d)) for a code d below the row's largest. */
typedef struct {
  const uint16_t *table;
  uint32_t rows;
  uint16_t classes;
  int16_t lo;
  uint8_t bits;
} dnnc_softmax_t;

/* A copy of up to four axes from strided places to strided places: Transpose, Concat, Slice, Pad. */
typedef struct {
  uint32_t size[4];
  uint32_t stride_x[4], stride_y[4]; /* elements */
} dnnc_copy_t;

/* `size` elements set to `value`. */
typedef struct {
  uint32_t size;
  int16_t value;
} dnnc_fill_t;

/* Nearest neighbour: output pixel (i, j) is input pixel (rows[i], columns[j]). */
typedef struct {
  const uint16_t *rows, *columns;
  uint16_t in_w, out_h, out_w, channels;
} dnnc_resize_t;

/* Clamp to lo..hi. */
static inline int32_t dnnc_clamp(int32_t value, int32_t lo, int32_t hi) {
  return value < lo ? lo : value > hi ? hi : value;
}

/* round_half_up(acc * m * 2^(l - 32)): the normative rescaling of dnnc/fixed.py. acc << l fits 32 bits by proof. */
static inline int32_t dnnc_rescale(int32_t acc, int32_t m, unsigned l) {
  int32_t value = (int32_t)((uint32_t)acc << l);
#ifdef DNNC_NO_LONG_MULTIPLY
  /* The same from 16-bit halves, for machines whose widest product is 32 bits; no sum below overflows. */
  int32_t value_hi = value >> 16, value_lo = value & 0xffff;
  int32_t m_hi = m >> 16, m_lo = m & 0xffff;
  int32_t low = (int32_t)(((uint32_t)value_lo * (uint32_t)m_lo) >> 16);
  int32_t cross = value_hi * m_lo + low;
  int32_t middle = value_lo * m_hi + (cross & 0xffff);
  return value_hi * m_hi + (cross >> 16) + (((middle >> 15) + 1) >> 1);
#else
  /* Adding one half and dropping the low word is adding that word's top bit to the high word. */
  int64_t product = (int64_t)value * m;
  return (int32_t)(product >> 32) + (int32_t)((uint32_t)product >> 31);
#endif
}

/* dnnc_rescale for the multiplier 2^(31 - shift), 1 <= shift <= 31: no multiplication, no overflow. */
static inline int32_t dnnc_rescale_shift(int32_t acc, unsigned shift, unsigned l) {
  return (((int32_t)((uint32_t)acc << l) >> shift) + 1) >> 1;
}

#ifdef __cplusplus
}
#endif

#endif
