/* 5-bit weights in sums: three k-pairs of four channels in four words. Each of the first three holds channels 0..2 of
 * its k-pair, u0 + 32 u1 + 1024 u2 with u = w + 16, the last one channel 3 of all. Channels 0..2 are multiplied with
 * all fields up to their own; what those before summed up to is taken out in the end, which holds while the sum of
 * channel 2, times 1024, fits 32 bits. */
#define DNNC_BITS 5
#define DNNC_PLAIN_BLOCK dnnc_plain_block

#include "dnnc_smlad.h"

#if !DNNC_SMLAD_ASM

static inline void dnnc_plain_block(uint32_t w[4]) {
  uint32_t natural[4] = {0, 0, 0, 0};
  for (uint32_t n = 0; n < 12; n++) {
    uint32_t pair = n / 4, channel = n % 4;
    uint32_t field = channel < 3 ? w[pair] >> 5 * channel : w[3] >> 5 * pair;
    natural[n / 3] |= (field & 0x001f001fu) << n % 3 * 5;
  }
  for (uint32_t i = 0; i < 4; i++) w[i] = natural[i];
}

#endif

#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

/* The loops take two blocks at a time, `both` bytes of pairs, and start at the second where the number of blocks is
 * odd. Once a call, as DNNC_ENTRIES. */
#define ENTRIES(slot, end, both)         \
  "ldr r4, [sp, #" end "]\n"             \
  "sub r4, r4, r0\n"                     \
  "mov r5, #" both "\n"                  \
  "udiv r6, r4, r5\n"                    \
  "mls r4, r6, r5, r4\n"                 \
  "sub r0, r0, r4\n"                     \
  "str r0, [sp]\n"                       \
  "adr.w r5, 2f\n"                       \
  "cmp r4, #0\n"                         \
  "it ne\n"                              \
  "subne r5, r5, #8\n"                   \
  "add r5, r5, #1\n"                     \
  "str r5, [sp, #" slot "]\n"

#define START(c0, c1, c2, c3)               \
  "add " c1 ", " c0 ", " c0 ", lsl #5\n"    \
  "add " c2 ", " c1 ", " c0 ", lsl #10\n"   \
  "mov " c3 ", " c0 "\n"
#define PART(c0, c1, c2, c3)             \
  "sub " c2 ", " c2 ", " c1 "\n"         \
  "sub " c1 ", " c1 ", " c0 "\n"         \
  "add " c0 ", r0, " c0 "\n"             \
  "add " c1 ", r2, " c1 ", asr #5\n"     \
  "add " c2 ", r12, " c2 ", asr #10\n"   \
  "add " c3 ", lr, " c3 "\n"

/* Three k-pairs, whose words begin at x and at w. */
#define TWO(x0, x1, x2, x3, x4, x5, w0, w1, w2, w3, next0, next1)  \
  "ldr r2, [r0, #" x0 "]\n"                                        \
  "ldr r12, [r1, #" w0 "]\n"                                       \
  "ldr r3, [r0, #" x1 "]\n"                                        \
  "smlad r6, r12, r2, r6\n"                                        \
  "bic lr, r12, #0xfc00fc00\n"                                     \
  "smlad r10, r12, r3, r10\n"                                      \
  "and r12, lr, #0x001f001f\n"                                     \
  "smlad r5, lr, r2, r5\n"                                         \
  "smlad r9, lr, r3, r9\n"                                         \
  "ldr lr, [r1, #" w3 "]\n"                                        \
  "smlad r8, r12, r3, r8\n"                                        \
  "and lr, lr, #0x001f001f\n"                                      \
  "smlad r4, r12, r2, r4\n"                                        \
  "ldr r12, [r1, #" w1 "]\n"                                       \
  "smlad r7, lr, r2, r7\n"                                         \
  "ldr r2, [r0, #" x2 "]\n"                                        \
  "smlad r11, lr, r3, r11\n"                                       \
  "ldr r3, [r0, #" x3 "]\n"                                        \
  "smlad r6, r12, r2, r6\n"                                        \
  "bic lr, r12, #0xfc00fc00\n"                                     \
  "smlad r10, r12, r3, r10\n"                                      \
  "smlad r5, lr, r2, r5\n"                                         \
  "and r12, lr, #0x001f001f\n"                                     \
  "smlad r9, lr, r3, r9\n"                                         \
  "ldr lr, [r1, #" w3 "]\n"                                        \
  "smlad r4, r12, r2, r4\n"                                        \
  "lsr lr, lr, #5\n"                                               \
  "smlad r8, r12, r3, r8\n"                                        \
  "and lr, lr, #0x001f001f\n"                                      \
  "ldr r12, [r1, #" w2 "]\n"                                       \
  "smlad r7, lr, r2, r7\n"                                         \
  "ldr r2, [r0, #" x4 "]\n"                                        \
  "smlad r11, lr, r3, r11\n"                                       \
  "ldr r3, [r0, #" x5 "]\n"                                        \
  "smlad r6, r12, r2, r6\n"                                        \
  "bic lr, r12, #0xfc00fc00\n"                                     \
  "smlad r10, r12, r3, r10\n"                                      \
  "and r12, lr, #0x001f001f\n"                                     \
  "smlad r5, lr, r2, r5\n"                                         \
  "smlad r9, lr, r3, r9\n"                                         \
  "ldr lr, [r1, #" w3 "]\n"                                        \
  "smlad r4, r12, r2, r4\n"                                        \
  "lsr lr, lr, #10\n"                                              \
  "smlad r8, r12, r3, r8\n"                                        \
  "and lr, lr, #0x001f001f\n"                                      \
  next0                                                            \
  "smlad r7, lr, r2, r7\n"                                         \
  next1                                                            \
  "smlad r11, lr, r3, r11\n"

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER ENTRIES("80", "60", "48") DNNC_TWO_TILE
                   "ldr r4, [sp, #72]\n"
                   "ldr r8, [sp, #76]\n"
                   START("r4", "r5", "r6", "r7") START("r8", "r9", "r10", "r11") DNNC_ENTER_LOOP("80")
                   DNNC_SKIP("16", "21")
                   "2:\n" TWO("0", "4", "8", "12", "16", "20", "0", "4", "8", "12", "", "")
                   "21:\n" TWO("24", "28", "32", "36", "40", "44", "16", "20", "24", "28", "ldr r12, [sp, #60]\n",
                               "adds r0, #48\n")
                   "adds r1, #32\n"
                   "cmp r0, r12\n"
                   "bne 2b\n" DNNC_LATE_BIAS PART("r4", "r5", "r6", "r7")
                       PART("r8", "r9", "r10", "r11") DNNC_TWO_FINISH);
}

/* Channels 0..2 of a k-pair from the word w, channel 3 from the register `from`, where it lies after `third`. */
#define ONE_WORD(w, x, third, from)          \
  "bic r9, " w ", #0xfc00fc00\n"       \
  "smlad r6, " w ", " x ", r6\n"       \
  "and " w ", " w ", #0x001f001f\n"    \
  "smlad r5, r9, " x ", r5\n"          \
  third                                \
  "smlad r4, " w ", " x ", r4\n"       \
  "and r9, " from ", #0x001f001f\n"     \
  "smlad r7, r9, " x ", r7\n"
#define ONE(x0, x1, w0, w1)                       \
  "ldrd r2, r3, [r1, #" w0 "]\n"                  \
  "ldrd r12, lr, [r0, #" x0 "]\n"                 \
  "ldr r10, [r0, #" x1 "]\n"                      \
  ONE_WORD("r2", "r12", "ldr r8, [r1, #" w1 " + 4]\n", "r8")  \
  ONE_WORD("r3", "lr", "lsr r9, r8, #5\n", "r9")        \
  "ldr r2, [r1, #" w1 "]\n"                       \
  ONE_WORD("r2", "r10", "lsr r9, r8, #10\n", "r9")

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER ENTRIES("72", "56", "24") DNNC_ONE_TILE
                   "ldr r4, [sp, #68]\n" START("r4", "r5", "r6", "r7") DNNC_ENTER_LOOP("72")
                   DNNC_SKIP("16", "21")
                   "2:\n" ONE("0", "8", "0", "8")
                   "21:\n" ONE("12", "20", "16", "24")
                   "adds r0, #24\n"
                   "adds r1, #32\n" DNNC_ONE_AGAIN DNNC_LATE_BIAS PART("r4", "r5", "r6", "r7")
                       DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w5_sums = {dnnc_two, dnnc_one, 6, 4, 16};
