/* 8-bit weights in sums: a half-word is c0 + 256 c1. So an odd channel needs no extraction, and the even ones' share is
 * taken out of its sum in the end, which holds while that sum, times 256, fits 32 bits.
 *
 * The loops load single words at fixed offsets, which cores that issue two instructions do beside an SMLAD: by LLVM's
 * model of the Cortex-M7 a k-pair of two pixels takes 14 instructions and 8.5 cycles; with LDRD, 12 and 10. */
#define DNNC_BITS 8
#define DNNC_PLAIN(word) \
  (((word) & 0x00ff00ffu) | ((((word) >> 8 & 0x00ff00ffu) + ((word) >> 7 & 0x00010001u)) & 0x00ff00ffu) << 8)
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

/* Two k-pairs, whose words begin at x and at w. */
#define TWO(x0, x1, x2, x3, w0, w1, w2, w3, next0, next1) \
  "ldr r2, [r0, #" x0 "]\n"                               \
  "ldr r12, [r1, #" w0 "]\n"                              \
  "ldr r3, [r0, #" x1 "]\n"                               \
  "smlad r5, r12, r2, r5\n"                               \
  "ldr lr, [r1, #" w1 "]\n"                               \
  "smlad r9, r12, r3, r9\n"                               \
  "sxtb16 r12, r12\n"                                     \
  "smlad r7, lr, r2, r7\n"                                \
  "smlad r8, r12, r3, r8\n"                               \
  "smlad r11, lr, r3, r11\n"                              \
  "sxtb16 lr, lr\n"                                       \
  "smlad r4, r12, r2, r4\n"                               \
  "ldr r12, [r1, #" w2 "]\n"                              \
  "smlad r6, lr, r2, r6\n"                                \
  "ldr r2, [r0, #" x2 "]\n"                               \
  "smlad r10, lr, r3, r10\n"                              \
  "ldr r3, [r0, #" x3 "]\n"                               \
  "smlad r5, r12, r2, r5\n"                               \
  "ldr lr, [r1, #" w3 "]\n"                               \
  "smlad r9, r12, r3, r9\n"                               \
  "sxtb16 r12, r12\n"                                     \
  "smlad r7, lr, r2, r7\n"                                \
  "smlad r4, r12, r2, r4\n"                               \
  "smlad r11, lr, r3, r11\n"                              \
  "sxtb16 lr, lr\n"                                       \
  "smlad r8, r12, r3, r8\n"                               \
  next0                                                   \
  "smlad r6, lr, r2, r6\n"                                \
  next1                                                   \
  "smlad r10, lr, r3, r10\n"

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_ENTRIES("3") DNNC_TWO_TILE DNNC_TWO_START_SUMS DNNC_ENTER_LOOP("80")
                   DNNC_SKIP("48", "23") DNNC_SKIP("32", "22") DNNC_SKIP("16", "21")
                   "2:\n" TWO("0", "4", "8", "12", "0", "4", "8", "12", "", "")
                   "21:\n" TWO("16", "20", "24", "28", "16", "20", "24", "28", "", "")
                   "22:\n" TWO("32", "36", "40", "44", "32", "36", "40", "44", "", "")
                   "23:\n" TWO("48", "52", "56", "60", "48", "52", "56", "60", "ldr r12, [sp, #60]\n", "adds r0, #64\n")
                   "adds r1, #64\n"
                   "cmp r0, r12\n"
                   "bne 2b\n" DNNC_TWO_FINISH_SUMS);
}

#define ONE(x, w0, w1, w2)             \
  "ldrd r2, r3, [r1, #" w0 "]\n"       \
  "ldrd r8, r9, [r0, #" x "]\n"        \
  "ldr r12, [r1, #" w1 "]\n"           \
  "smlad r5, r2, r8, r5\n"             \
  "ldr lr, [r1, #" w2 "]\n"            \
  "smlad r7, r3, r8, r7\n"             \
  "sxtb16 r3, r3\n"                    \
  "smlad r7, lr, r9, r7\n"             \
  "sxtb16 lr, lr\n"                    \
  "smlad r6, r3, r8, r6\n"             \
  "sxtb16 r2, r2\n"                    \
  "smlad r6, lr, r9, r6\n"             \
  "smlad r5, r12, r9, r5\n"            \
  "sxtb16 r12, r12\n"                  \
  "smlad r4, r2, r8, r4\n"             \
  "smlad r4, r12, r9, r4\n"

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_ONE_ENTRIES("3") DNNC_ONE_TILE DNNC_ONE_START_SUMS DNNC_ENTER_LOOP("72")
                   DNNC_SKIP("48", "23") DNNC_SKIP("32", "22") DNNC_SKIP("16", "21")
                   "2:\n" ONE("0", "0", "8", "12")
                   "21:\n" ONE("8", "16", "24", "28")
                   "22:\n" ONE("16", "32", "40", "44")
                   "23:\n" ONE("24", "48", "56", "60")
                   "adds r0, #32\n"
                   "adds r1, #64\n" DNNC_ONE_AGAIN DNNC_ONE_FINISH_SUMS);
}

#endif

const dnnc_smlad_t dnnc_smlad_w8_sums = {dnnc_two, dnnc_one, 2, 2, 0};
