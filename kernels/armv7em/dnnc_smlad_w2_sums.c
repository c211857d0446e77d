/* 2-bit weights in sums: a half-word is u0 + 2**14 w1, so one SMLAD serves two channels. What channel 0 sums up to,
 * with u = w + 2, fits the low 14 bits for ten k-pairs; every eight it is moved to a sum of its own. That of channel 1
 * holds while it, times 2**14, fits 32 bits.
 *
 * A word is two k-pairs of four channels: turned right by 0, 4, 8 or 12, its bits 0, 1, 14 and 15 of both halves are
 * channels 0 and 1, then 2 and 3, of the first pair, and the same of the second. */
#define DNNC_BITS 2
#define DNNC_PLAIN(word) dnnc_plain(word)

#include "dnnc_smlad.h"

#if !DNNC_SMLAD_ASM

static inline uint32_t dnnc_plain(uint32_t word) {
  uint32_t fields = 0;
  for (unsigned turn = 0; turn < 16; turn += 4) {
    uint32_t turned = turn ? word >> turn | word << (32 - turn) : word;
    fields |= ((turned & 0x00030003u) | ((turned >> 14 & 0x00030003u) ^ 0x00020002u) << 2) << turn;
  }
  return fields;
}

#endif

#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define MASK(register)               \
  "movw " register ", #0xc003\n"     \
  "movt " register ", #0xc003\n"

/* Moves the sum of a channel 0 out of both; t is free. */
#define MOVE(to, both, t)                     \
  "sbfx " t ", " both ", #0, #14\n"           \
  "sub " both ", " both ", " t "\n"           \
  "add " to ", " to ", " t "\n"

/* Two k-pairs, whose words begin at x0, x1 and at w; r10 is the mask, the sums of channels 0 lie on the stack. */
#define TWO(x0, x1, w)                \
  "ldr r12, [r1, #" w "]\n"           \
  "ldrd r2, r3, [r0, #" x0 "]\n"      \
  "and lr, r10, r12\n"                \
  "and r8, r10, r12, ror #4\n"        \
  "smlad r5, lr, r2, r5\n"            \
  "smlad r9, lr, r3, r9\n"            \
  "ldrd r4, r6, [r0, #" x1 "]\n"      \
  "and lr, r10, r12, ror #8\n"        \
  "smlad r7, r8, r2, r7\n"            \
  "smlad r11, r8, r3, r11\n"          \
  "and r8, r10, r12, ror #12\n"       \
  "smlad r5, lr, r4, r5\n"            \
  "smlad r9, lr, r6, r9\n"            \
  "smlad r7, r8, r4, r7\n"            \
  "smlad r11, r8, r6, r11\n"

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_ENTRIES("3") DNNC_TWO_TILE
                   "ldrd r2, r4, [sp, #72]\n"
                   "ldr r0, [sp]\n"
                   "mov r3, r2\n"
                   "mov r6, r4\n"
                   "push {r2, r3, r4, r6}\n"
                   "mov r5, #0\n"
                   "mov r7, #0\n"
                   "mov r9, #0\n"
                   "mov r11, #0\n" MASK("r10")
                   "ldr.w pc, [sp, #96]\n"
                   DNNC_SKIP("12", "23") DNNC_SKIP("8", "22") DNNC_SKIP("4", "21")
                   "2:\n" TWO("0", "8", "0")
                   "21:\n" TWO("16", "24", "4")
                   "22:\n" TWO("32", "40", "8")
                   "23:\n" TWO("48", "56", "12")
                   "ldm sp, {r2, r3, r4, r6}\n"
                   "adds r0, #64\n"
                   "adds r1, #16\n" MOVE("r2", "r5", "r8") MOVE("r3", "r7", "lr") MOVE("r4", "r9", "r8")
                       MOVE("r6", "r11", "lr")
                   "ldr r12, [sp, #76]\n"
                   "stm sp, {r2, r3, r4, r6}\n"
                   "cmp r0, r12\n"
                   "bne 2b\n"
                   "pop {r4, r6, r8, r10}\n" DNNC_LATE_BIAS
                   "add r4, r0, r4\n"
                   "add r8, r0, r8\n"
                   "add r5, r2, r5, asr #14\n"
                   "add r9, r2, r9, asr #14\n"
                   "add r6, r12, r6\n"
                   "add r10, r12, r10\n"
                   "add r7, lr, r7, asr #14\n"
                   "add r11, lr, r11, asr #14\n" DNNC_TWO_FINISH);
}

#define ONE(x, w)                    \
  "ldr r2, [r1, #" w "]\n"           \
  "ldrd r8, r9, [r0, #" x "]\n"      \
  "and r12, r10, r2\n"               \
  "and lr, r10, r2, ror #4\n"        \
  "smlad r5, r12, r8, r5\n"          \
  "and r12, r10, r2, ror #8\n"       \
  "smlad r7, lr, r8, r7\n"           \
  "and lr, r10, r2, ror #12\n"       \
  "smlad r5, r12, r9, r5\n"          \
  "smlad r7, lr, r9, r7\n"

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_ONE_ENTRIES("3") MASK("r10") DNNC_ONE_TILE
                   "ldr r4, [sp, #68]\n"
                   "mov r5, #0\n"
                   "mov r6, r4\n"
                   "mov r7, #0\n" DNNC_ENTER_LOOP("72")
                   DNNC_SKIP("12", "23") DNNC_SKIP("8", "22") DNNC_SKIP("4", "21")
                   "2:\n" ONE("0", "0")
                   "21:\n" ONE("8", "4")
                   "22:\n" ONE("16", "8")
                   "23:\n" ONE("24", "12")
                   "adds r0, #32\n"
                   "adds r1, #16\n" MOVE("r4", "r5", "r12") MOVE("r6", "r7", "lr") DNNC_ONE_AGAIN
                       DNNC_LATE_BIAS
                   "add r4, r0, r4\n"
                   "add r5, r2, r5, asr #14\n"
                   "add r6, r12, r6\n"
                   "add r7, lr, r7, asr #14\n" DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w2_sums = {dnnc_two, dnnc_one, 4, 1, 2};
