/* 1-bit weights, w = 2 u - 1: a word is four k-pairs of four channels. Products are with 2 u; channel c is kept times
 * 2^c, which saves shifts. */
#define DNNC_BITS 1
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define TWO_PAIR                 \
  "ldrd r2, r3, [r0], #8\n"      \
  "and lr, r12, #0x00020002\n"   \
  DNNC_TWO_0("lr")               \
  "and lr, r12, #0x00040004\n"   \
  DNNC_TWO_1("lr")               \
  "and lr, r12, #0x00080008\n"   \
  DNNC_TWO_2("lr")               \
  "and lr, r12, #0x00100010\n"   \
  DNNC_TWO_3("lr")
#define TWO             \
  "ldr r12, [r1], #4\n" \
  "ror r12, r12, #31\n" \
  TWO_PAIR              \
  "ror r12, r12, #4\n"  \
  TWO_PAIR              \
  "ror r12, r12, #4\n"  \
  TWO_PAIR              \
  "ror r12, r12, #4\n"  \
  TWO_PAIR

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE DNNC_TWO_START_SCALED("1", "2", "3") DNNC_TWO_LOOP TWO DNNC_TWO_AGAIN
                       DNNC_TWO_UNSCALE("1", "2", "3") DNNC_TWO_FINISH);
}

#define ONE                                                                                  \
  "ldr r2, [r1], #4\n"                                                                       \
  "ldrd r8, r9, [r0], #8\n"                                                                  \
  DNNC_ONE_FIELDS("r8", "r12", "r2, lsl #1", "r2", "r2, lsr #1", "r2, lsr #2")               \
  DNNC_ONE_FIELDS("r9", "r12", "r2, lsr #3", "r2, lsr #4", "r2, lsr #5", "r2, lsr #6")       \
  "ldrd r8, r9, [r0], #8\n"                                                                  \
  DNNC_ONE_FIELDS("r8", "r12", "r2, lsr #7", "r2, lsr #8", "r2, lsr #9", "r2, lsr #10")      \
  DNNC_ONE_FIELDS("r9", "r12", "r2, lsr #11", "r2, lsr #12", "r2, lsr #13", "r2, lsr #14")

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER "mov r10, #0x00020002\n" DNNC_ONE_TILE DNNC_ONE_START_CORRECTED DNNC_ONE_LOOP ONE
                       DNNC_ONE_AGAIN DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w1 = {dnnc_two, dnnc_one, 8, 1, 1};
