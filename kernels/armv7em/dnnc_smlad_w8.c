/* 8-bit weights: SXTB16 of a word gives channel 0's pair, of the word turned by 8 channel 1's. */
#define DNNC_BITS 8
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define TWO                       \
  "ldr r12, [r1], #4\n"           \
  "ldrd r2, r3, [r0], #8\n"       \
  "sxtb16 lr, r12\n"              \
  "sxtb16 r12, r12, ror #8\n"     \
  DNNC_TWO_0("lr")                \
  "ldr lr, [r1], #4\n"            \
  DNNC_TWO_1("r12")               \
  "sxtb16 r12, lr\n"              \
  "sxtb16 lr, lr, ror #8\n"       \
  DNNC_TWO_2("r12") DNNC_TWO_3("lr")

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE DNNC_TWO_START DNNC_TWO_LOOP_HALVES TWO TWO "4:\n" TWO TWO DNNC_TWO_AGAIN
                       DNNC_TWO_FINISH);
}

#define ONE_WORD(w, x, a, b)          \
  "sxtb16 r10, " w "\n"               \
  "sxtb16 " w ", " w ", ror #8\n"     \
  "smlad " a ", r10, " x ", " a "\n"  \
  "smlad " b ", " w ", " x ", " b "\n"
#define ONE                           \
  "ldm r1!, {r2, r3, r12, lr}\n"      \
  "ldrd r8, r9, [r0], #8\n"           \
  ONE_WORD("r2", "r8", "r4", "r5")    \
  ONE_WORD("r3", "r8", "r6", "r7")    \
  ONE_WORD("r12", "r9", "r4", "r5")   \
  ONE_WORD("lr", "r9", "r6", "r7")

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_ONE_TILE DNNC_ONE_START DNNC_ONE_LOOP_HALVES ONE "4:\n" ONE DNNC_ONE_AGAIN
                       DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w8 = {dnnc_two, dnnc_one, 2, 2, 0};
