/* What a depthwise 3x3 convolution makes at a time: a line of outputs of one tile of four channels.
 *
 * A line is a row of the image, or a column where those are longer; its taps run `along` it, and three input lines lie
 * `across`. They are held in a ring of three slots as 16-bit pairs of neighbouring values, pair after pair, in it the
 * slots, in it the four channels. Weights wait in registers while a channel's line is walked along: for every slot two
 * words, (w0, w1) and (w2, w1), so that a pair of values makes the better part of two neighbouring outputs.
 */
#ifndef DNNC_SMLAD_LINE_H
#define DNNC_SMLAD_LINE_H

#include "dnnc_smlad.h"

/* Pairs of four channels. */
typedef struct {
  int16_t pairs[8];
} dnnc_smlad_entry_t;

/* What a channel needs. turns: (w0, w1), (w2, w1) of the taps across 0, 1, 2, 0, 1: a ring whose first line lies in
 * slot s reads three from the (3 - s)th on. at: bytes from the tile's first output to its own. */
typedef struct {
  int32_t bias, multiplier;
  uint32_t at;
  int16_t turns[5][4];
} dnnc_smlad_channel_t;

/* A line of `count` channels. The order is the stack frame of the assembly, which fills in bias and multiplier.
 * single: 1 where the number of outputs is odd (of stride 2: not used). bodies: outputs, or pairs of them, but the
 * last. turn: bytes to be skipped in `turns`. end: of the pairs of channel 0 that the loop takes. */
typedef struct {
  int32_t bias, multiplier;
  int32_t zero;
  uint32_t step; /* bytes between outputs */
  uint32_t single, bodies;
  const dnnc_smlad_entry_t *x;
  const dnnc_smlad_channel_t *channel;
  uint32_t turn;
  int8_t *y;
  uint32_t count;
  const dnnc_smlad_entry_t *end;
} dnnc_smlad_line_t;

/* Lines whose windows are one value apart, and two. */
typedef void dnnc_smlad_make_t(const dnnc_smlad_line_t *line);
dnnc_smlad_make_t dnnc_smlad_line_1, dnnc_smlad_line_2;

/* The layer; `unpack` as in dnnc_smlad_depthwise(). make: of the stride along rows. */
void dnnc_smlad_depthwise_3x3(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                              dnnc_smlad_unpack_t *unpack, uint32_t taps_bytes, dnnc_smlad_make_t *make);

#if DNNC_SMLAD_ASM

/* On the stack: bias 0, multiplier 4, zero 8, step 12, single 16, bodies 20, x 24, channel 28, turn 32, y 36, count 40,
 * end 44. r0 walks along the pairs, r1 along the outputs; r8, r10, r12 are (w0, w1) of the slots, r9, r11, lr their
 * (w2, w1). Ends with the bias in r4, the multiplier in r5. */
#define DNNC_LINE_ENTER    \
  "push {r4-r11, lr}\n"    \
  "ldm r0, {r1-r12}\n"     \
  "push {r1-r12}\n"
#define DNNC_LINE_CHANNEL      \
  "1:\n"                       \
  "ldrd r0, r2, [sp, #24]\n"   \
  "ldrd r3, r1, [sp, #32]\n"   \
  "ldm r2!, {r4-r6}\n"         \
  "add r3, r2, r3\n"           \
  "ldm r3, {r8-r12, lr}\n"     \
  "strd r4, r5, [sp]\n"        \
  "add r1, r1, r6\n"           \
  "add r3, r0, #4\n"           \
  "add r2, r2, #40\n"          \
  "strd r3, r2, [sp, #24]\n"
#define DNNC_LINE_AGAIN     \
  "ldr r2, [sp, #40]\n"     \
  "subs r2, r2, #1\n"       \
  "str r2, [sp, #40]\n"     \
  "bne 1b\n"                \
  "add sp, sp, #48\n"       \
  "pop {r4-r11, pc}\n"

#else

/* One output: three pairs of slots and the values after them. */
static inline int8_t dnnc_smlad_output(const dnnc_smlad_line_t *line, const dnnc_smlad_channel_t *channel, uint32_t c,
                                       uint32_t first) {
  uint32_t sum = (uint32_t)channel->bias;
  for (uint32_t slot = 0; slot < 3; slot++) {
    const int16_t *w = channel->turns[slot + line->turn / 8];
    const int16_t taps[3] = {w[0], w[1], w[2]};
    for (uint32_t tap = 0; tap < 3; tap++) {
      uint32_t column = first + tap;
      sum += (uint32_t)(line->x[column / 2 * 3 + slot].pairs[2 * c + column % 2] * taps[tap]);
    }
  }
  return (int8_t)dnnc_clamp(line->zero + dnnc_rescale((int32_t)sum, channel->multiplier, 0), -128, 127);
}

#endif

#endif
