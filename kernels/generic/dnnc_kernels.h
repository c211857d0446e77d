/* dnnc kernels: integer neural network operations in freestanding C99.
 *
 * Activations are channels-last int8 (or int16) codes; real = scale * (q - zero_point). Every kernel computes exactly
 * what dnnc's simulator computes. No kernel allocates, keeps state, or reads past its operands by more than the three
 * bytes that the arena's 4-byte granularity provides.
 */
#ifndef DNNC_KERNELS_H
#define DNNC_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A linear layer: convolution, depthwise convolution or fully connected (a 1x1 image).
 *
 * weights: packed pairs, tile of four output channels after tile of four (dnnc/backends/c/pack.py describes them).
 * bias has the input's zero point folded in. bias and multiplier are padded to a multiple of four channels.
 * channels: NULL, or for a layer of mixed widths the output channel of each of this segment's out_c channels.
 */
typedef struct {
  const uint32_t *weights;
  const int32_t *bias;
  const int32_t *multiplier;
  const uint16_t *channels;
  uint16_t in_h, in_w, in_c;    /* the whole input */
  uint16_t out_h, out_w, out_c; /* out_c: channels of this call */
  uint16_t out_stride;          /* channels of the whole output: distance between pixels */
  uint16_t groups;              /* input channels a group are in_c / groups */
  uint8_t kernel_h, kernel_w;
  uint8_t stride_h, stride_w;
  uint8_t dilation_h, dilation_w;
  uint8_t pad_top, pad_left;
  int16_t in_zero, out_zero; /* zero points */
  int16_t lo, hi;            /* clamp, in codes */
  uint8_t left_shift;
} dnnc_linear_t;

/* Clamp to lo..hi. */
static inline int32_t dnnc_clamp(int32_t value, int32_t lo, int32_t hi) {
  return value < lo ? lo : value > hi ? hi : value;
}

/* round_half_up(acc * m * 2^(l - 32)): the normative rescaling of dnnc/fixed.py. acc << l fits 32 bits by proof. */
static inline int32_t dnnc_rescale(int32_t acc, int32_t m, unsigned l) {
  int64_t product = (int64_t)(int32_t)((uint32_t)acc << l) * m;
  return (int32_t)((product + INT64_C(0x80000000)) >> 32);
}

#ifdef __cplusplus
}
#endif

#endif
