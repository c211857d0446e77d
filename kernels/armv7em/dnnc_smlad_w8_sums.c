/* 8-bit weights in sums: a half-word is c0 + 256 c1. So an odd channel needs no extraction, and the even ones' share is
 * taken out of its sum in the end, which holds while that sum, times 256, fits 32 bits. */
#define DNNC_BITS 8
#define DNNC_PLAIN(word) \
  (((word) & 0x00ff00ffu) | ((((word) >> 8 & 0x00ff00ffu) + ((word) >> 7 & 0x00010001u)) & 0x00ff00ffu) << 8)
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define TWO                     \
  "ldrd r12, lr, [r1], #8\n"    \
  "ldrd r2, r3, [r0], #8\n"     \
  DNNC_TWO_1("r12")             \
  "sxtb16 r12, r12\n"           \
  DNNC_TWO_3("lr")              \
  "sxtb16 lr, lr\n"             \
  DNNC_TWO_0("r12") DNNC_TWO_2("lr")

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE DNNC_TWO_START_SUMS DNNC_TWO_LOOP_HALVES TWO TWO "4:\n" TWO TWO
                       DNNC_TWO_AGAIN DNNC_TWO_PART_SUMS DNNC_TWO_FINISH);
}

#define ONE_WORD(w, x, a, b)           \
  "smlad " b ", " w ", " x ", " b "\n" \
  "sxtb16 " w ", " w "\n"              \
  "smlad " a ", " w ", " x ", " a "\n"
#define ONE                           \
  "ldm r1!, {r2, r3, r12, lr}\n"      \
  "ldrd r8, r9, [r0], #8\n"           \
  ONE_WORD("r2", "r8", "r4", "r5")    \
  ONE_WORD("r3", "r8", "r6", "r7")    \
  ONE_WORD("r12", "r9", "r4", "r5")   \
  ONE_WORD("lr", "r9", "r6", "r7")

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_ONE_TILE DNNC_ONE_START_SUMS DNNC_ONE_LOOP_HALVES ONE "4:\n" ONE DNNC_ONE_AGAIN
                       DNNC_ONE_PART_SUMS DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w8_sums = {dnnc_two, dnnc_one, 2, 2, 0};
