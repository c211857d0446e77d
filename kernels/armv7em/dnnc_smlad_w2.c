/* 2-bit weights: a word is two k-pairs of four channels. Channel c is kept times 4^c, which saves shifts. */
#define DNNC_BITS 2
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define TWO_PAIR                 \
  "ldrd r2, r3, [r0], #8\n"      \
  "and lr, r12, #0x00030003\n"   \
  DNNC_TWO_0("lr")               \
  "and lr, r12, #0x000c000c\n"   \
  DNNC_TWO_1("lr")               \
  "and lr, r12, #0x00300030\n"   \
  DNNC_TWO_2("lr")               \
  "and lr, r12, #0x00c000c0\n"   \
  DNNC_TWO_3("lr")
#define TWO "ldr r12, [r1], #4\n" TWO_PAIR "lsr r12, r12, #8\n" TWO_PAIR

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE DNNC_TWO_START_SCALED("2", "4", "6") DNNC_TWO_LOOP_HALVES TWO "4:\n" TWO
                       DNNC_TWO_AGAIN DNNC_TWO_UNSCALE("2", "4", "6") DNNC_TWO_FINISH);
}

#define ONE                                                                               \
  "ldr r2, [r1], #4\n"                                                                    \
  "ldrd r8, r9, [r0], #8\n"                                                               \
  DNNC_ONE_FIELDS("r8", "r12", "r2", "r2, lsr #2", "r2, lsr #4", "r2, lsr #6")            \
  DNNC_ONE_FIELDS("r9", "r12", "r2, lsr #8", "r2, lsr #10", "r2, lsr #12", "r2, lsr #14")

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER "mov r10, #0x00030003\n" DNNC_ONE_TILE DNNC_ONE_START_CORRECTED DNNC_ONE_LOOP_HALVES ONE
                   "4:\n" ONE DNNC_ONE_AGAIN DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w2 = {dnnc_two, dnnc_one, 4, 1, 2};
