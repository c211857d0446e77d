/* 4-bit weights in sums: a half-word is u0 + 16 u1 + 256 u2 + 4096 w3, with u = w + 8. Channel c is multiplied with all
 * fields up to its own, so that nothing is shifted and the last one needs no extraction; what the channels before it
 * summed up to is taken out in the end, which holds while the last sum, times 4096, fits 32 bits. */
#define DNNC_BITS 4
#define DNNC_PLAIN(word) ((word) ^ 0x80008000u)
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

/* Two k-pairs, whose words begin at x and at w. One of the two loads its pairs by LDRD: an instruction less for half a
 * modelled cycle more on cores that issue two, so that 4 bits take no more instructions than 8. */
#define TWO(x0, x1, x2, w0, w1, next0, next1)     \
  "ldr r12, [r1, #" w0 "]\n"                      \
  "ldr r2, [r0, #" x0 "]\n"                       \
  "ldr r3, [r0, #" x1 "]\n"                       \
  "smlad r7, r12, r2, r7\n"                       \
  "bic lr, r12, #0xf000f000\n"                    \
  "smlad r11, r12, r3, r11\n"                     \
  "and r12, r12, #0x00ff00ff\n"                   \
  "smlad r10, lr, r3, r10\n"                      \
  "smlad r6, lr, r2, r6\n"                        \
  "and lr, r12, #0x000f000f\n"                    \
  "smlad r5, r12, r2, r5\n"                       \
  "smlad r9, r12, r3, r9\n"                       \
  "ldr r12, [r1, #" w1 "]\n"                      \
  "smlad r4, lr, r2, r4\n"                        \
  "smlad r8, lr, r3, r8\n"                        \
  "ldrd r2, r3, [r0, #" x2 "]\n"                  \
  "smlad r7, r12, r2, r7\n"                       \
  "bic lr, r12, #0xf000f000\n"                    \
  "smlad r11, r12, r3, r11\n"                     \
  "smlad r6, lr, r2, r6\n"                        \
  "and r12, r12, #0x00ff00ff\n"                   \
  "smlad r10, lr, r3, r10\n"                      \
  "smlad r5, r12, r2, r5\n"                       \
  "and lr, r12, #0x000f000f\n"                    \
  "smlad r9, r12, r3, r9\n"                       \
  next0                                           \
  "smlad r4, lr, r2, r4\n"                        \
  next1                                           \
  "smlad r8, lr, r3, r8\n"

/* Corrections of channels 0..2, each with those before it; the last one's is that of channel 2. */
#define START(c0, c1, c2, c3)               \
  "add " c1 ", " c0 ", " c0 ", lsl #4\n"    \
  "add " c2 ", " c1 ", " c0 ", lsl #8\n"    \
  "mov " c3 ", " c2 "\n"
#define PART(c0, c1, c2, c3)             \
  "sub " c3 ", " c3 ", " c2 "\n"         \
  "sub " c2 ", " c2 ", " c1 "\n"         \
  "sub " c1 ", " c1 ", " c0 "\n"         \
  "add " c0 ", r0, " c0 "\n"             \
  "add " c1 ", r2, " c1 ", asr #4\n"     \
  "add " c2 ", r12, " c2 ", asr #8\n"    \
  "add " c3 ", lr, " c3 ", asr #12\n"

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_ENTRIES("7") DNNC_TWO_TILE
                   "ldr r4, [sp, #72]\n"
                   "ldr r8, [sp, #76]\n"
                   START("r4", "r5", "r6", "r7") START("r8", "r9", "r10", "r11") DNNC_ENTER_LOOP("80")
                   DNNC_SKIP("56", "27") DNNC_SKIP("48", "26") DNNC_SKIP("40", "25") DNNC_SKIP("32", "24")
                   DNNC_SKIP("24", "23") DNNC_SKIP("16", "22") DNNC_SKIP("8", "21")
                   "2:\n" TWO("0", "4", "8", "0", "4", "", "")
                   "21:\n" TWO("16", "20", "24", "8", "12", "", "")
                   "22:\n" TWO("32", "36", "40", "16", "20", "", "")
                   "23:\n" TWO("48", "52", "56", "24", "28", "", "")
                   "24:\n" TWO("64", "68", "72", "32", "36", "", "")
                   "25:\n" TWO("80", "84", "88", "40", "44", "", "")
                   "26:\n" TWO("96", "100", "104", "48", "52", "", "")
                   "27:\n" TWO("112", "116", "120", "56", "60", "ldr r12, [sp, #60]\n", "adds r0, #128\n")
                   "adds r1, #64\n"
                   "cmp r0, r12\n"
                   "bne 2b\n" DNNC_LATE_BIAS PART("r4", "r5", "r6", "r7")
                       PART("r8", "r9", "r10", "r11") DNNC_TWO_FINISH);
}

#define ONE(x, w)                      \
  "ldrd r2, r3, [r1, #" w "]\n"        \
  "ldrd r8, r9, [r0, #" x "]\n"        \
  "bic r10, r2, #0xf000f000\n"         \
  "smlad r7, r2, r8, r7\n"             \
  "and r12, r2, #0x00ff00ff\n"         \
  "smlad r6, r10, r8, r6\n"            \
  "and lr, r2, #0x000f000f\n"          \
  "smlad r5, r12, r8, r5\n"            \
  "and r12, r3, #0x00ff00ff\n"         \
  "smlad r4, lr, r8, r4\n"             \
  "bic r10, r3, #0xf000f000\n"         \
  "smlad r7, r3, r9, r7\n"             \
  "smlad r5, r12, r9, r5\n"            \
  "and lr, r3, #0x000f000f\n"          \
  "smlad r6, r10, r9, r6\n"            \
  "smlad r4, lr, r9, r4\n"

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_ONE_ENTRIES("7") DNNC_ONE_TILE
                   "ldr r4, [sp, #68]\n" START("r4", "r5", "r6", "r7") DNNC_ENTER_LOOP("72")
                   DNNC_SKIP("56", "27") DNNC_SKIP("48", "26") DNNC_SKIP("40", "25") DNNC_SKIP("32", "24")
                   DNNC_SKIP("24", "23") DNNC_SKIP("16", "22") DNNC_SKIP("8", "21")
                   "2:\n" ONE("0", "0")
                   "21:\n" ONE("8", "8")
                   "22:\n" ONE("16", "16")
                   "23:\n" ONE("24", "24")
                   "24:\n" ONE("32", "32")
                   "25:\n" ONE("40", "40")
                   "26:\n" ONE("48", "48")
                   "27:\n" ONE("56", "56")
                   "adds r0, #64\n"
                   "adds r1, #64\n" DNNC_ONE_AGAIN DNNC_LATE_BIAS PART("r4", "r5", "r6", "r7")
                       DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w4_sums = {dnnc_two, dnnc_one, 2, 1, 8};
