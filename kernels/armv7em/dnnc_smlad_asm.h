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
  const uint32_t *x DNNC_IN_ASM, const uint32_t *w DNNC_IN_ASM, const void *tables DNNC_IN_ASM,                       \
      uint32_t scales DNNC_IN_ASM, int8_t *y0 DNNC_IN_ASM, int8_t *y1 DNNC_IN_ASM,                                    \
      int32_t channels DNNC_IN_ASM, const uint32_t *x_end DNNC_IN_ASM, int32_t zero DNNC_IN_ASM,                      \
      uint32_t left_shift DNNC_IN_ASM, int32_t correction0 DNNC_IN_ASM, int32_t correction1 DNNC_IN_ASM,              \
      uint32_t fours DNNC_IN_ASM

#define DNNC_ONE_ARGUMENTS                                                                                            \
  const uint32_t *x DNNC_IN_ASM, const uint32_t *w DNNC_IN_ASM, const void *tables DNNC_IN_ASM,                       \
      uint32_t scales DNNC_IN_ASM, int8_t *y DNNC_IN_ASM, int32_t channels DNNC_IN_ASM,                     \
      const uint32_t *x_end DNNC_IN_ASM, int32_t zero DNNC_IN_ASM, uint32_t left_shift DNNC_IN_ASM,                   \
      int32_t correction DNNC_IN_ASM, uint32_t fours DNNC_IN_ASM

/* Both: [sp] x, [sp, 4] tables, [sp, 8] scales, then the saved registers; the arguments on the stack from 48. */
#define DNNC_ENTER "push {r0, r2, r3, r4-r11, lr}\n"
#define DNNC_LEAVE "pop {r0, r2, r3, r4-r11, pc}\n"

/* The biases of a tile to r4-r7, before the loop. */
#define DNNC_BIAS           \
  "ldrd r2, r3, [sp, #4]\n" \
  "cbnz r3, 7f\n"           \
  "ldm r2, {r4-r7}\n"       \
  "b 8f\n"                  \
  "7:\n"                    \
  "ldrd r5, r7, [r2, #8]\n" \
  "smulbb r4, r5, r3\n"     \
  "smultb r5, r5, r3\n"     \
  "smulbb r6, r7, r3\n"     \
  "smultb r7, r7, r3\n"     \
  "8:\n"

/* The same to r0, r2, r12, lr, after the loop. */
#define DNNC_LATE_BIAS          \
  "ldrd r2, r3, [sp, #4]\n"     \
  "cbnz r3, 7f\n"               \
  "ldm r2, {r0, r2, r12, lr}\n" \
  "b 8f\n"                      \
  "7:\n"                        \
  "ldrd r12, lr, [r2, #8]\n"    \
  "smulbb r0, r12, r3\n"        \
  "smultb r2, r12, r3\n"        \
  "smulbb r12, lr, r3\n"        \
  "smultb lr, lr, r3\n"         \
  "8:\n"

/* The biases of channels 0 and 2 to r4, r6. */
#define DNNC_EVEN_BIAS      \
  "ldrd r2, r3, [sp, #4]\n" \
  "cbnz r3, 7f\n"           \
  "ldr r4, [r2]\n"          \
  "ldr r6, [r2, #8]\n"      \
  "b 8f\n"                  \
  "7:\n"                    \
  "ldrd r4, r6, [r2, #8]\n" \
  "smulbb r4, r4, r3\n"     \
  "smulbb r6, r6, r3\n"     \
  "8:\n"

/* In wide tables at r2: the biases of channels 1 and 3 to r0, lr; multipliers to r0, r2, r12, lr, after which sums are
 * due to be shifted left by what lies at `left_shift` on the stack; on to the next tile's, and to 7. */
#define DNNC_WIDE_ODD_BIAS \
  "ldr r0, [r2, #4]\n"     \
  "ldr lr, [r2, #12]\n"
#define DNNC_WIDE_MULTIPLIERS(left_shift, shifted)  \
  "ldr r0, [sp, #" left_shift "]\n" shifted         \
  "add r3, r2, #32\n"                               \
  "str r3, [sp, #4]\n"                              \
  "add r2, r2, #16\n"                               \
  "ldm r2, {r0, r2, r12, lr}\n"                     \
  "b 7f\n"

/* The multipliers whose codes are in r0, r12 to r0, r2, r12, lr; tables in r2, scales in r3; on to the next tile. */
#define DNNC_EXPAND        \
  "smultt lr, r12, r3\n"   \
  "add r2, r2, #16\n"      \
  "smulbt r12, r12, r3\n"  \
  "str r2, [sp, #4]\n"     \
  "smultt r2, r0, r3\n"    \
  "smulbt r0, r0, r3\n"
#define DNNC_MULTIPLIERS(left_shift, shifted)  \
  "ldrd r2, r3, [sp, #4]\n"                    \
  "cbnz r3, 5f\n"                              \
  DNNC_WIDE_MULTIPLIERS(left_shift, shifted)   \
  "5:\n"                                       \
  "ldr r12, [r2, #4]\n"                        \
  "ldr r0, [r2]\n"                             \
  DNNC_EXPAND                                  \
  "7:\n"

/* Two pixels: y0 48, y1 52, channels 56, x_end 60, zero 64, left_shift 68, corrections 72 and 76, fours 80. */
#define DNNC_TWO_TILE "1:\n"

/* The sums start at the bias ... */
#define DNNC_TWO_START    \
  DNNC_BIAS               \
  "mov r8, r4\n"          \
  "mov r9, r5\n"          \
  "mov r10, r6\n"         \
  "mov r11, r7\n"

/* ... plus the correction ... */
#define DNNC_TWO_START_CORRECTED \
  DNNC_BIAS                      \
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
  DNNC_LATE_BIAS                      \
  "add r4, r0, r4\n"                  \
  "add r8, r0, r8\n"                  \
  "add r5, r2, r5, asr #" s1 "\n"     \
  "add r9, r2, r9, asr #" s1 "\n"     \
  "add r6, r12, r6, asr #" s2 "\n"    \
  "add r10, r12, r10, asr #" s2 "\n"  \
  "add r7, lr, r7, asr #" s3 "\n"     \
  "add r11, lr, r11, asr #" s3 "\n"

/* Or in sums, where the products of an odd channel are made with whole half-words, which hold 256 times its weight plus
 * that of the channel before: they start at that one's bias, and what it summed up to is taken out in the end. */
#define DNNC_TWO_START_SUMS \
  DNNC_EVEN_BIAS            \
  "mov r5, r4\n"            \
  "mov r8, r4\n"            \
  "mov r9, r4\n"            \
  "mov r7, r6\n"            \
  "mov r10, r6\n"           \
  "mov r11, r6\n"

/* A loop whose body, from 2, takes 4 (8) fours of k: the first time it skips what the number of fours lacks to a whole
 * number of bodies. Once a call: the pairs start that much earlier, and the slot of `fours` gets the place to enter at,
 * which is 2 or one of the DNNC_SKIPs before it, 8 bytes each, that of the most fours first. A four of pairs takes
 * 1 << shift bytes; DNNC_SKIP says how many the weights of the skipped fours would take, and where the others begin. */
#define DNNC_ENTRIES(slot, last_four, shift) \
  "ldr r4, [sp, #" slot "]\n"               \
  "rsb r4, r4, #0\n"                        \
  "and r4, r4, #" last_four "\n"            \
  "sub r0, r0, r4, lsl #" shift "\n"        \
  "str r0, [sp]\n"                          \
  "adr.w r5, 2f\n"                          \
  "sub r4, r5, r4, lsl #3\n"                \
  "add r4, r4, #1\n"                        \
  "str r4, [sp, #" slot "]\n"
#define DNNC_ENTER_LOOP(slot) \
  "ldr r0, [sp]\n"           \
  "ldr.w pc, [sp, #" slot "]\n"
#define DNNC_SKIP(bytes, label)     \
  "sub.w r1, r1, #" bytes "\n"     \
  "b.w " label "f\n"
#define DNNC_TWO_ENTRIES(last_four) DNNC_ENTRIES("80", last_four, "4")
#define DNNC_ONE_ENTRIES(last_four) DNNC_ENTRIES("72", last_four, "3")

/* A loop over the pairs, its body from 2; where the number of fours is odd it starts at 4, in its middle. */
#define DNNC_TWO_LOOP "ldr r0, [sp]\n2:\n"
#define DNNC_TWO_LOOP_HALVES \
  "ldr r0, [sp]\n"           \
  "ldr r2, [sp, #80]\n"      \
  "lsls r2, r2, #31\n"       \
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

/* Requantise eight sums with the multipliers in r0, r2, r12, lr, store them, and on to the next tile. Cores that issue
 * two instructions saturate beside the products and the stores. */
#define DNNC_TWO_STORE        \
  "ldr r3, [sp, #64]\n"       \
  "smmlar r4, r4, r0, r3\n"   \
  "smmlar r8, r8, r0, r3\n"   \
  "ldr r0, [sp, #56]\n"       \
  "smmlar r5, r5, r2, r3\n"   \
  "ssat r4, #8, r4\n"         \
  "smmlar r9, r9, r2, r3\n"   \
  "subs r0, r0, #4\n"         \
  "ssat r8, #8, r8\n"         \
  "smmlar r6, r6, r12, r3\n"  \
  "str r0, [sp, #56]\n"       \
  "smmlar r10, r10, r12, r3\n"\
  "ldr r0, [sp, #48]\n"       \
  "smmlar r7, r7, lr, r3\n"   \
  "ldr r2, [sp, #52]\n"       \
  "smmlar r11, r11, lr, r3\n" \
  "blt 6f\n"                  \
  "strb r4, [r0]\n"           \
  "ssat r5, #8, r5\n"         \
  "strb r8, [r2]\n"           \
  "ssat r9, #8, r9\n"         \
  "strb r5, [r0, #1]\n"       \
  "ssat r6, #8, r6\n"         \
  "strb r9, [r2, #1]\n"       \
  "ssat r10, #8, r10\n"       \
  "strb r6, [r0, #2]\n"       \
  "ssat r7, #8, r7\n"         \
  "strb r10, [r2, #2]\n"      \
  "ssat r11, #8, r11\n"       \
  "strb r7, [r0, #3]\n"       \
  "add r0, r0, #4\n"          \
  "strb r11, [r2, #3]\n"      \
  "add r2, r2, #4\n"          \
  "strd r0, r2, [sp, #48]\n"  \
  "bgt 1b\n" DNNC_LEAVE       \
  "6:\n"                      \
  "ldr r3, [sp, #56]\n"       \
  "strb r4, [r0]\n"           \
  "strb r8, [r2]\n"           \
  "ssat r5, #8, r5\n"         \
  "ssat r9, #8, r9\n"         \
  "ssat r6, #8, r6\n"         \
  "ssat r10, #8, r10\n"       \
  "cmn r3, #2\n"              \
  "itt ge\n"                  \
  "strbge r5, [r0, #1]\n"     \
  "strbge r9, [r2, #1]\n"     \
  "itt gt\n"                  \
  "strbgt r6, [r0, #2]\n"     \
  "strbgt r10, [r2, #2]\n" DNNC_LEAVE

#define DNNC_TWO_SHIFTED  \
  "lsl r4, r4, r0\n"      \
  "lsl r5, r5, r0\n"      \
  "lsl r6, r6, r0\n"      \
  "lsl r7, r7, r0\n"      \
  "lsl r8, r8, r0\n"      \
  "lsl r9, r9, r0\n"      \
  "lsl r10, r10, r0\n"    \
  "lsl r11, r11, r0\n"
#define DNNC_TWO_FINISH DNNC_MULTIPLIERS("68", DNNC_TWO_SHIFTED) DNNC_TWO_STORE

/* The same after sums. The biases of the odd channels, from a record of 16 bits, in r0 and lr; and its second word. */
#define DNNC_ODD_BIAS       \
  "ldr r0, [r2, #8]\n"      \
  "ldr lr, [r2, #12]\n"     \
  "smultb r0, r0, r3\n"     \
  "ldr r12, [r2, #4]\n"     \
  "smultb lr, lr, r3\n"
#define DNNC_TWO_ODD            \
  "add r5, r0, r5, asr #8\n"    \
  "add r9, r0, r9, asr #8\n"    \
  "add r7, lr, r7, asr #8\n"    \
  "add r11, lr, r11, asr #8\n"
#define DNNC_TWO_FINISH_SUMS                                                        \
  "sub r5, r5, r4\n"                                                                \
  "ldrd r2, r3, [sp, #4]\n"                                                         \
  "sub r9, r9, r8\n"                                                                \
  "sub r7, r7, r6\n"                                                                \
  "sub r11, r11, r10\n"                                                             \
  "cbnz r3, 5f\n"                                                                   \
  DNNC_WIDE_ODD_BIAS DNNC_TWO_ODD DNNC_WIDE_MULTIPLIERS("68", DNNC_TWO_SHIFTED)     \
  "5:\n" DNNC_ODD_BIAS                                                              \
  "add r5, r0, r5, asr #8\n"                                                        \
  "add r9, r0, r9, asr #8\n"                                                        \
  "ldr r0, [r2]\n"                                                                  \
  "add r7, lr, r7, asr #8\n"                                                        \
  "add r11, lr, r11, asr #8\n"                                                      \
  DNNC_EXPAND                                                                       \
  "7:\n" DNNC_TWO_STORE

/* One pixel: y 48, channels 52, x_end 56, zero 60, left_shift 64, correction 68, fours 72. */
#define DNNC_ONE_TILE "ldr r11, [sp, #56]\n1:\n"
#define DNNC_ONE_START DNNC_BIAS
#define DNNC_ONE_START_CORRECTED \
  DNNC_BIAS                      \
  "ldr lr, [sp, #68]\n"          \
  "add r4, r4, lr\n"             \
  "add r5, r5, lr\n"             \
  "add r6, r6, lr\n"             \
  "add r7, r7, lr\n"
#define DNNC_ONE_START_SUMS \
  DNNC_EVEN_BIAS            \
  "mov r5, r4\n"            \
  "mov r7, r6\n"
#define DNNC_ONE_LOOP "ldr r0, [sp]\n2:\n"
#define DNNC_ONE_LOOP_HALVES \
  "ldr r0, [sp]\n"           \
  "ldr r2, [sp, #72]\n"      \
  "lsls r2, r2, #31\n"       \
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

#define DNNC_ONE_STORE        \
  "ldr r3, [sp, #60]\n"       \
  "smmlar r4, r4, r0, r3\n"   \
  "smmlar r5, r5, r2, r3\n"   \
  "ldr r0, [sp, #48]\n"       \
  "smmlar r6, r6, r12, r3\n"  \
  "ssat r4, #8, r4\n"         \
  "smmlar r7, r7, lr, r3\n"   \
  "ldr r3, [sp, #52]\n"       \
  "ssat r5, #8, r5\n"         \
  "subs r3, r3, #4\n"         \
  "ssat r6, #8, r6\n"         \
  "blt 6f\n"                  \
  "strb r4, [r0]\n"           \
  "ssat r7, #8, r7\n"         \
  "strb r5, [r0, #1]\n"       \
  "strb r6, [r0, #2]\n"       \
  "strb r7, [r0, #3]\n"       \
  "add r0, r0, #4\n"          \
  "strd r0, r3, [sp, #48]\n"  \
  "bgt 1b\n" DNNC_LEAVE       \
  "6:\n"                      \
  "strb r4, [r0]\n"           \
  "cmn r3, #2\n"              \
  "it ge\n"                   \
  "strbge r5, [r0, #1]\n"     \
  "it gt\n"                   \
  "strbgt r6, [r0, #2]\n" DNNC_LEAVE

#define DNNC_ONE_SHIFTED \
  "lsl r4, r4, r0\n"     \
  "lsl r5, r5, r0\n"     \
  "lsl r6, r6, r0\n"     \
  "lsl r7, r7, r0\n"
#define DNNC_ONE_FINISH DNNC_MULTIPLIERS("64", DNNC_ONE_SHIFTED) DNNC_ONE_STORE

#define DNNC_ONE_ODD            \
  "add r5, r0, r5, asr #8\n"    \
  "add r7, lr, r7, asr #8\n"
#define DNNC_ONE_FINISH_SUMS                                                        \
  "sub r5, r5, r4\n"                                                                \
  "ldrd r2, r3, [sp, #4]\n"                                                         \
  "sub r7, r7, r6\n"                                                                \
  "cbnz r3, 5f\n"                                                                   \
  DNNC_WIDE_ODD_BIAS DNNC_ONE_ODD DNNC_WIDE_MULTIPLIERS("64", DNNC_ONE_SHIFTED)     \
  "5:\n" DNNC_ODD_BIAS                                                              \
  "add r5, r0, r5, asr #8\n"                                                        \
  "ldr r0, [r2]\n"                                                                  \
  "add r7, lr, r7, asr #8\n"                                                        \
  DNNC_EXPAND                                                                       \
  "7:\n" DNNC_ONE_STORE

#else

#include "dnnc_decode.h"

/* A word of weights, or those of a block, in the layout of dnnc_decode.h. */
#ifndef DNNC_PLAIN
#define DNNC_PLAIN(word) (word)
#endif
#ifndef DNNC_PLAIN_BLOCK
#define DNNC_PLAIN_BLOCK(w) ((void)0)
#endif

/* acc[c] += field . x for a pixel whose pairs lie `step` words apart. */
static inline void dnnc_smlad_products(uint32_t acc[4], const uint32_t *x, const uint32_t *x_end, uint32_t step,
                                       const uint32_t *packed) {
  while (x != x_end) {
    uint32_t w[DNNC_BLOCK_WORDS];
    for (uint32_t i = 0; i < DNNC_BLOCK_WORDS; i++) w[i] = DNNC_PLAIN(packed[i]);
    DNNC_PLAIN_BLOCK(w);
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
                                    const void *tables, uint32_t scales, int8_t *y, int32_t channels, int32_t zero,
                                    uint32_t left_shift, int32_t correction) {
  for (int32_t o = 0; o < channels; o += 4) {
    uint32_t acc[4] = {0, 0, 0, 0};
    int32_t bias[4], multiplier[4];
    dnnc_smlad_tables(tables, scales, (uint32_t)o, bias, multiplier);
    dnnc_smlad_products(acc, x, x_end, step, w);
    w += (uint32_t)(x_end - x) / step / (DNNC_BLOCK_K / 2u) * DNNC_BLOCK_WORDS;
    for (int32_t c = 0; c < 4 && o + c < channels; c++) {
      int32_t sum = (int32_t)(acc[c] * DNNC_FACTOR + (uint32_t)correction + (uint32_t)bias[c]);
      y[o + c] = (int8_t)dnnc_clamp(zero + dnnc_rescale(sum, multiplier[c], left_shift), -128, 127);
    }
  }
}

static void dnnc_two(const uint32_t *x, const uint32_t *w, const void *tables, uint32_t scales, int8_t *y0, int8_t *y1,
                     int32_t channels, const uint32_t *x_end, int32_t zero, uint32_t left_shift, int32_t correction0,
                     int32_t correction1, uint32_t fours) {
  (void)fours;
  dnnc_smlad_pixel(x, x_end, 2, w, tables, scales, y0, channels, zero, left_shift, correction0);
  dnnc_smlad_pixel(x + 1, x_end + 1, 2, w, tables, scales, y1, channels, zero, left_shift, correction1);
}

static void dnnc_one(const uint32_t *x, const uint32_t *w, const void *tables, uint32_t scales, int8_t *y,
                     int32_t channels, const uint32_t *x_end, int32_t zero, uint32_t left_shift, int32_t correction,
                     uint32_t fours) {
  (void)fours;
  dnnc_smlad_pixel(x, x_end, 1, w, tables, scales, y, channels, zero, left_shift, correction);
}

#endif

#endif
