/* 4-bit weights: a word is one k-pair of four channels. Channels 1 and 3 are kept times 16, which saves a shift. */
#define DNNC_BITS 4
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define TWO                       \
  "ldr r12, [r1], #4\n"           \
  "ldrd r2, r3, [r0], #8\n"       \
  "and lr, r12, #0x000f000f\n"    \
  DNNC_TWO_0("lr")                \
  "and lr, r12, #0x00f000f0\n"    \
  "lsr r12, r12, #8\n"            \
  DNNC_TWO_1("lr")                \
  "and lr, r12, #0x000f000f\n"    \
  "and r12, r12, #0x00f000f0\n"   \
  DNNC_TWO_2("lr") DNNC_TWO_3("r12")

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE DNNC_TWO_START_SCALED("4", "0", "4") DNNC_TWO_LOOP_HALVES TWO TWO
                   "4:\n" TWO TWO DNNC_TWO_AGAIN DNNC_TWO_UNSCALE("4", "0", "4") DNNC_TWO_FINISH);
}

#define ONE                                                                              \
  "ldrd r2, r3, [r1], #8\n"                                                              \
  "ldrd r8, r9, [r0], #8\n"                                                              \
  DNNC_ONE_FIELDS("r8", "r12", "r2", "r2, lsr #4", "r2, lsr #8", "r2, lsr #12")          \
  DNNC_ONE_FIELDS("r9", "r12", "r3", "r3, lsr #4", "r3, lsr #8", "r3, lsr #12")

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER "mov r10, #0x000f000f\n" DNNC_ONE_TILE DNNC_ONE_START_CORRECTED DNNC_ONE_LOOP_HALVES ONE
                   "4:\n" ONE DNNC_ONE_AGAIN DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w4 = {dnnc_two, dnnc_one, 2, 1, 8};
