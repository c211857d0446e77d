/* The frame of the inner loops: what comes before and after the products is the same for every width.
 *
 * A file that includes this defines dnnc_two and dnnc_one as naked functions from these pieces; where there is no DSP
 * extension, DNNC_BITS and the functions below stand in for them.
 *
 * Two pixels: r4-r7 are the sums of pixel 0 for four channels, r8-r11 those of pixel 1; r0 walks along the pairs (the
 * two pixels' in turn: r2, r3), r1 along the weights; r12 and lr are free. One pixel: r4-r7 the sums, r0 and r1 as
 * before, r11 the end of the pairs, r10 a mask for the loop to set; r2, r3, r8, r9, r12, lr are free.
 */
#ifndef DNNC_SMLAD_ASM_H
#define DNNC_SMLAD_ASM_H

#include "dnnc_smlad.h"

#if DNNC_SMLAD_ASM

#define DNNC_TWO_ARGUMENTS                                                                                            \
  const uint32_t *x DNNC_IN_ASM, const uint32_t *w DNNC_IN_ASM, const int32_t *bias DNNC_IN_ASM,                      \
      const int32_t *multiplier DNNC_IN_ASM, int8_t *y0 DNNC_IN_ASM, int8_t *y1 DNNC_IN_ASM,                          \
      int32_t channels DNNC_IN_ASM, const uint32_t *x_end DNNC_IN_ASM, int32_t zero DNNC_IN_ASM,                      \
      uint32_t left_shift DNNC_IN_ASM, int32_t correction0 DNNC_IN_ASM, int32_t correction1 DNNC_IN_ASM,              \
      uint32_t half DNNC_IN_ASM

#define DNNC_ONE_ARGUMENTS                                                                                            \
  const uint32_t *x DNNC_IN_ASM, const uint32_t *w DNNC_IN_ASM, const int32_t *bias DNNC_IN_ASM,                      \
      const int32_t *multiplier DNNC_IN_ASM, int8_t *y DNNC_IN_ASM, int32_t channels DNNC_IN_ASM,                     \
      const uint32_t *x_end DNNC_IN_ASM, int32_t zero DNNC_IN_ASM, uint32_t left_shift DNNC_IN_ASM,                   \
      int32_t correction DNNC_IN_ASM, uint32_t half DNNC_IN_ASM

/* Both: [sp] x, [sp, 4] bias, [sp, 8] multiplier, then the saved registers; the arguments on the stack from 48. */
#define DNNC_ENTER "push {r0, r2, r3, r4-r11, lr}\n"
#define DNNC_LEAVE "pop {r0, r2, r3, r4-r11, pc}\n"

/* The biases of the next tile. */
#define DNNC_BIAS(registers)   \
  "ldr r12, [sp, #4]\n"        \
  "ldm r12!, {" registers "}\n" \
  "str r12, [sp, #4]\n"

/* Two pixels: y0 48, y1 52, channels 56, x_end 60, zero 64, left_shift 68, corrections 72 and 76, half 80. */
#define DNNC_TWO_TILE "1:\n"

/* The sums start at the bias ... */
#define DNNC_TWO_START    \
  DNNC_BIAS("r4-r7")      \
  "mov r8, r4\n"          \
  "mov r9, r5\n"          \
  "mov r10, r6\n"         \
  "mov r11, r7\n"

/* ... plus the correction ... */
#define DNNC_TWO_START_CORRECTED \
  DNNC_BIAS("r4-r7")             \
  "ldrd r12, lr, [sp, #72]\n"    \
  "add r8, r4, lr\n"             \
  "add r9, r5, lr\n"             \
  "add r10, r6, lr\n"            \
  "add r11, r7, lr\n"            \
  "add r4, r4, r12\n"            \
  "add r5, r5, r12\n"            \
  "add r6, r6, r12\n"            \
  "add r7, r7, r12\n"

/* ... or at the correction alone, where the sums of channel c are kept times 2^s[c] (s[0] = 0). */
#define DNNC_TWO_START_SCALED(s1, s2, s3) \
  "ldr r4, [sp, #72]\n"                   \
  "ldr r8, [sp, #76]\n"                   \
  "lsl r5, r4, #" s1 "\n"                 \
  "lsl r9, r8, #" s1 "\n"                 \
  "lsl r6, r4, #" s2 "\n"                 \
  "lsl r10, r8, #" s2 "\n"                \
  "lsl r7, r4, #" s3 "\n"                 \
  "lsl r11, r8, #" s3 "\n"

#define DNNC_TWO_UNSCALE(s1, s2, s3)  \
  DNNC_BIAS("r0, r2, r3, lr")         \
  "add r4, r0, r4\n"                  \
  "add r8, r0, r8\n"                  \
  "add r5, r2, r5, asr #" s1 "\n"     \
  "add r9, r2, r9, asr #" s1 "\n"     \
  "add r6, r3, r6, asr #" s2 "\n"     \
  "add r10, r3, r10, asr #" s2 "\n"   \
  "add r7, lr, r7, asr #" s3 "\n"     \
  "add r11, lr, r11, asr #" s3 "\n"

/* Or in sums, where the products of an odd channel are made with whole half-words, which hold 256 times its weight plus
 * that of the channel before: they start at that one's bias, and what it summed up to is taken out in the end. */
#define DNNC_TWO_START_SUMS \
  "ldr r12, [sp, #4]\n"     \
  "ldr r4, [r12]\n"         \
  "ldr r6, [r12, #8]\n"     \
  "mov r5, r4\n"            \
  "mov r8, r4\n"            \
  "mov r9, r4\n"            \
  "mov r7, r6\n"            \
  "mov r10, r6\n"           \
  "mov r11, r6\n"

#define DNNC_TWO_PART_SUMS          \
  DNNC_BIAS("r0, r2, r3, lr")       \
  "sub r5, r5, r4\n"                \
  "sub r9, r9, r8\n"                \
  "sub r7, r7, r6\n"                \
  "sub r11, r11, r10\n"             \
  "add r5, r2, r5, asr #8\n"        \
  "add r9, r2, r9, asr #8\n"        \
  "add r7, lr, r7, asr #8\n"        \
  "add r11, lr, r11, asr #8\n"

/* A loop over the pairs, its body from 2; where half is set it starts at 4, in the middle of its body. */
#define DNNC_TWO_LOOP "ldr r0, [sp]\n2:\n"
#define DNNC_TWO_LOOP_HALVES \
  "ldr r0, [sp]\n"           \
  "ldr r2, [sp, #80]\n"      \
  "cmp r2, #0\n"             \
  "bne 4f\n"                 \
  "2:\n"
#define DNNC_TWO_AGAIN  \
  "ldr r12, [sp, #60]\n" \
  "cmp r0, r12\n"       \
  "bne 2b\n"

#define DNNC_TWO_MAC(a, b, w)     \
  "smlad " a ", " w ", r2, " a "\n" \
  "smlad " b ", " w ", r3, " b "\n"
#define DNNC_TWO_0(w) DNNC_TWO_MAC("r4", "r8", w)
#define DNNC_TWO_1(w) DNNC_TWO_MAC("r5", "r9", w)
#define DNNC_TWO_2(w) DNNC_TWO_MAC("r6", "r10", w)
#define DNNC_TWO_3(w) DNNC_TWO_MAC("r7", "r11", w)

/* Requantise eight sums, store them, and on to the next tile. */
#define DNNC_TWO_FINISH         \
  "ldr r2, [sp, #68]\n"         \
  "cbz r2, 5f\n"                \
  "lsl r4, r4, r2\n"            \
  "lsl r5, r5, r2\n"            \
  "lsl r6, r6, r2\n"            \
  "lsl r7, r7, r2\n"            \
  "lsl r8, r8, r2\n"            \
  "lsl r9, r9, r2\n"            \
  "lsl r10, r10, r2\n"          \
  "lsl r11, r11, r2\n"          \
  "5:\n"                        \
  "ldr lr, [sp, #8]\n"          \
  "ldm lr!, {r0, r2, r3, r12}\n" \
  "str lr, [sp, #8]\n"          \
  "ldr lr, [sp, #64]\n"         \
  "smmlar r4, r4, r0, lr\n"     \
  "smmlar r5, r5, r2, lr\n"     \
  "smmlar r6, r6, r3, lr\n"     \
  "smmlar r7, r7, r12, lr\n"    \
  "smmlar r8, r8, r0, lr\n"     \
  "smmlar r9, r9, r2, lr\n"     \
  "smmlar r10, r10, r3, lr\n"   \
  "smmlar r11, r11, r12, lr\n"  \
  "ldr r3, [sp, #56]\n"         \
  "ldrd r0, r2, [sp, #48]\n"    \
  "ssat r4, #8, r4\n"           \
  "ssat r5, #8, r5\n"           \
  "ssat r6, #8, r6\n"           \
  "ssat r7, #8, r7\n"           \
  "ssat r8, #8, r8\n"           \
  "ssat r9, #8, r9\n"           \
  "ssat r10, #8, r10\n"         \
  "ssat r11, #8, r11\n"         \
  "subs r3, r3, #4\n"           \
  "str r3, [sp, #56]\n"         \
  "blt 6f\n"                    \
  "strb r4, [r0], #1\n"         \
  "strb r5, [r0], #1\n"         \
  "strb r6, [r0], #1\n"         \
  "strb r7, [r0], #1\n"         \
  "strb r8, [r2], #1\n"         \
  "strb r9, [r2], #1\n"         \
  "strb r10, [r2], #1\n"        \
  "strb r11, [r2], #1\n"        \
  "strd r0, r2, [sp, #48]\n"    \
  "bgt 1b\n" DNNC_LEAVE         \
  "6:\n"                        \
  "strb r4, [r0]\n"             \
  "strb r8, [r2]\n"             \
  "cmn r3, #2\n"                \
  "itt ge\n"                    \
  "strbge r5, [r0, #1]\n"       \
  "strbge r9, [r2, #1]\n"       \
  "itt gt\n"                    \
  "strbgt r6, [r0, #2]\n"       \
  "strbgt r10, [r2, #2]\n" DNNC_LEAVE

/* One pixel: y 48, channels 52, x_end 56, zero 60, left_shift 64, correction 68, half 72. */
#define DNNC_ONE_TILE "ldr r11, [sp, #56]\n1:\n"
#define DNNC_ONE_START DNNC_BIAS("r4-r7")
#define DNNC_ONE_START_CORRECTED \
  DNNC_BIAS("r4-r7")             \
  "ldr lr, [sp, #68]\n"          \
  "add r4, r4, lr\n"             \
  "add r5, r5, lr\n"             \
  "add r6, r6, lr\n"             \
  "add r7, r7, lr\n"
#define DNNC_ONE_START_SUMS \
  "ldr r12, [sp, #4]\n"     \
  "ldr r4, [r12]\n"         \
  "ldr r6, [r12, #8]\n"     \
  "mov r5, r4\n"            \
  "mov r7, r6\n"
#define DNNC_ONE_PART_SUMS      \
  DNNC_BIAS("r0, r2, r3, lr")   \
  "sub r5, r5, r4\n"            \
  "sub r7, r7, r6\n"            \
  "add r5, r2, r5, asr #8\n"    \
  "add r7, lr, r7, asr #8\n"
#define DNNC_ONE_LOOP "ldr r0, [sp]\n2:\n"
#define DNNC_ONE_LOOP_HALVES \
  "ldr r0, [sp]\n"           \
  "ldr r2, [sp, #72]\n"      \
  "cmp r2, #0\n"             \
  "bne 4f\n"                 \
  "2:\n"
#define DNNC_ONE_AGAIN \
  "cmp r0, r11\n"      \
  "bne 2b\n"

/* The products of a k-pair of four channels: x its activations, w0..w3 the operands after `and t, mask,`. */
#define DNNC_ONE_FIELD(sum, x, t, w)  \
  "and " t ", r10, " w "\n"           \
  "smlad " sum ", " t ", " x ", " sum "\n"
#define DNNC_ONE_FIELDS(x, t, w0, w1, w2, w3) \
  DNNC_ONE_FIELD("r4", x, t, w0)              \
  DNNC_ONE_FIELD("r5", x, t, w1)              \
  DNNC_ONE_FIELD("r6", x, t, w2)              \
  DNNC_ONE_FIELD("r7", x, t, w3)

#define DNNC_ONE_FINISH         \
  "ldr r2, [sp, #64]\n"         \
  "cbz r2, 5f\n"                \
  "lsl r4, r4, r2\n"            \
  "lsl r5, r5, r2\n"            \
  "lsl r6, r6, r2\n"            \
  "lsl r7, r7, r2\n"            \
  "5:\n"                        \
  "ldr lr, [sp, #8]\n"          \
  "ldm lr!, {r0, r2, r3, r12}\n" \
  "str lr, [sp, #8]\n"          \
  "ldr lr, [sp, #60]\n"         \
  "smmlar r4, r4, r0, lr\n"     \
  "smmlar r5, r5, r2, lr\n"     \
  "smmlar r6, r6, r3, lr\n"     \
  "smmlar r7, r7, r12, lr\n"    \
  "ldrd r0, r3, [sp, #48]\n"    \
  "ssat r4, #8, r4\n"           \
  "ssat r5, #8, r5\n"           \
  "ssat r6, #8, r6\n"           \
  "ssat r7, #8, r7\n"           \
  "subs r3, r3, #4\n"           \
  "blt 6f\n"                    \
  "strb r4, [r0], #1\n"         \
  "strb r5, [r0], #1\n"         \
  "strb r6, [r0], #1\n"         \
  "strb r7, [r0], #1\n"         \
  "strd r0, r3, [sp, #48]\n"    \
  "bgt 1b\n" DNNC_LEAVE         \
  "6:\n"                        \
  "strb r4, [r0]\n"             \
  "cmn r3, #2\n"                \
  "it ge\n"                     \
  "strbge r5, [r0, #1]\n"       \
  "it gt\n"                     \
  "strbgt r6, [r0, #2]\n" DNNC_LEAVE

#else

#include "dnnc_decode.h"

/* A word of weights in the layout of dnnc_decode.h. */
#ifndef DNNC_PLAIN
#define DNNC_PLAIN(word) (word)
#endif

/* acc[c] += field . x for a pixel whose pairs lie `step` words apart. */
static inline void dnnc_smlad_products(uint32_t acc[4], const uint32_t *x, const uint32_t *x_end, uint32_t step,
                                       const uint32_t *packed) {
  while (x != x_end) {
    uint32_t w[DNNC_BLOCK_WORDS];
    for (uint32_t i = 0; i < DNNC_BLOCK_WORDS; i++) w[i] = DNNC_PLAIN(packed[i]);
#define DNNC_LANE(c, p)                                                          \
  acc[c] += (uint32_t)((int32_t)(int16_t)(uint16_t)pair * (DNNC_LOW(p))) +       \
            (uint32_t)((int32_t)(int16_t)(uint16_t)(pair >> 16) * (DNNC_HIGH(p)));
#define DNNC_FOUR(j, p0, p1, p2, p3) \
  {                                  \
    uint32_t pair = x[step * (j)];   \
    DNNC_LANE(0, p0)                 \
    DNNC_LANE(1, p1)                 \
    DNNC_LANE(2, p2)                 \
    DNNC_LANE(3, p3)                 \
  }
    DNNC_BLOCK(w)
#undef DNNC_FOUR
#undef DNNC_LANE
    x += step * (DNNC_BLOCK_K / 2u);
    packed += DNNC_BLOCK_WORDS;
  }
}

/* One pixel whose pairs lie `step` words apart. */
static inline void dnnc_smlad_pixel(const uint32_t *x, const uint32_t *x_end, uint32_t step, const uint32_t *w,
                                    const int32_t *bias, const int32_t *multiplier, int8_t *y, int32_t channels,
                                    int32_t zero, uint32_t left_shift, int32_t correction) {
  for (int32_t o = 0; o < channels; o += 4) {
    uint32_t acc[4] = {0, 0, 0, 0};
    dnnc_smlad_products(acc, x, x_end, step, w);
    w += (uint32_t)(x_end - x) / step / (DNNC_BLOCK_K / 2u) * DNNC_BLOCK_WORDS;
    for (int32_t c = 0; c < 4 && o + c < channels; c++) {
      int32_t sum = (int32_t)(acc[c] * DNNC_FACTOR + (uint32_t)correction + (uint32_t)bias[o + c]);
      y[o + c] = (int8_t)dnnc_clamp(zero + dnnc_rescale(sum, multiplier[o + c], left_shift), -128, 127);
    }
  }
}

static void dnnc_two(const uint32_t *x, const uint32_t *w, const int32_t *bias, const int32_t *multiplier, int8_t *y0,
                     int8_t *y1, int32_t channels, const uint32_t *x_end, int32_t zero, uint32_t left_shift,
                     int32_t correction0, int32_t correction1, uint32_t half) {
  (void)half;
  dnnc_smlad_pixel(x, x_end, 2, w, bias, multiplier, y0, channels, zero, left_shift, correction0);
  dnnc_smlad_pixel(x + 1, x_end + 1, 2, w, bias, multiplier, y1, channels, zero, left_shift, correction1);
}

static void dnnc_one(const uint32_t *x, const uint32_t *w, const int32_t *bias, const int32_t *multiplier, int8_t *y,
                     int32_t channels, const uint32_t *x_end, int32_t zero, uint32_t left_shift, int32_t correction,
                     uint32_t half) {
  (void)half;
  dnnc_smlad_pixel(x, x_end, 1, w, bias, multiplier, y, channels, zero, left_shift, correction);
}

#endif

#endif
