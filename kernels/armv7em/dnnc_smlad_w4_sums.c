/* 4-bit weights in sums: a half-word is u0 + 16 u1 + 256 u2 + 4096 w3, with u = w + 8. Channels 0..2 are kept times 1,
 * 16 and 256; channel 3 needs no extraction, and the others' share is taken out of its sum in the end, which holds
 * while that sum, times 4096, fits 32 bits. */
#define DNNC_BITS 4
#define DNNC_PLAIN(word) ((word) ^ 0x80008000u)
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define TWO                       \
  "ldr r12, [r1], #4\n"           \
  "ldrd r2, r3, [r0], #8\n"       \
  "and lr, r12, #0x000f000f\n"    \
  DNNC_TWO_0("lr")                \
  "and lr, r12, #0x00f000f0\n"    \
  DNNC_TWO_1("lr")                \
  "and lr, r12, #0x0f000f00\n"    \
  DNNC_TWO_2("lr") DNNC_TWO_3("r12")

/* Corrections of channels 0..2; that of channel 3 is theirs together. */
#define START(c0, c1, c2, c3)            \
  "lsl " c1 ", " c0 ", #4\n"             \
  "lsl " c2 ", " c0 ", #8\n"             \
  "add " c3 ", " c0 ", " c1 "\n"         \
  "add " c3 ", " c3 ", " c2 "\n"
#define PART(c0, c1, c2, c3)             \
  "sub " c3 ", " c3 ", " c0 "\n"         \
  "sub " c3 ", " c3 ", " c1 "\n"         \
  "sub " c3 ", " c3 ", " c2 "\n"         \
  "add " c0 ", r0, " c0 "\n"             \
  "add " c1 ", r2, " c1 ", asr #4\n"     \
  "add " c2 ", r3, " c2 ", asr #8\n"     \
  "add " c3 ", lr, " c3 ", asr #12\n"

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE
                   "ldr r4, [sp, #72]\n"
                   "ldr r8, [sp, #76]\n"
                   START("r4", "r5", "r6", "r7") START("r8", "r9", "r10", "r11") DNNC_TWO_LOOP_HALVES TWO TWO
                   "4:\n" TWO TWO DNNC_TWO_AGAIN DNNC_BIAS("r0, r2, r3, lr") PART("r4", "r5", "r6", "r7")
                       PART("r8", "r9", "r10", "r11") DNNC_TWO_FINISH);
}

#define ONE_WORD(w, x)                 \
  "and r12, " w ", #0x000f000f\n"      \
  "and lr, " w ", #0x00f000f0\n"       \
  "and r10, " w ", #0x0f000f00\n"      \
  "smlad r4, r12, " x ", r4\n"         \
  "smlad r5, lr, " x ", r5\n"          \
  "smlad r6, r10, " x ", r6\n"         \
  "smlad r7, " w ", " x ", r7\n"
#define ONE                            \
  "ldrd r2, r3, [r1], #8\n"            \
  "ldrd r8, r9, [r0], #8\n"            \
  ONE_WORD("r2", "r8") ONE_WORD("r3", "r9")

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_ONE_TILE
                   "ldr r4, [sp, #68]\n" START("r4", "r5", "r6", "r7") DNNC_ONE_LOOP_HALVES ONE
                   "4:\n" ONE DNNC_ONE_AGAIN DNNC_BIAS("r0, r2, r3, lr") PART("r4", "r5", "r6", "r7") DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w4_sums = {dnnc_two, dnnc_one, 2, 1, 8};
