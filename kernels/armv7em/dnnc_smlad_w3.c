/* 3-bit weights: five pairs a word, five k-pairs of four channels in four words. */
#define DNNC_BITS 3
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

#define X "ldrd r2, r3, [r0], #8\n"
#define LAST "and lr, r12, #0x00070007\n"
#define FIELD LAST "lsr r12, r12, #3\n"
#define F0 "ldr r12, [r1], #4\n" FIELD
#define C0 DNNC_TWO_0("lr")
#define C1 DNNC_TWO_1("lr")
#define C2 DNNC_TWO_2("lr")
#define C3 DNNC_TWO_3("lr")

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE DNNC_TWO_START_CORRECTED DNNC_TWO_LOOP
                   X F0 C0 FIELD C1 FIELD C2 FIELD C3
                   X LAST C0 F0 C1 FIELD C2 FIELD C3
                   X FIELD C0 LAST C1 F0 C2 FIELD C3
                   X FIELD C0 FIELD C1 LAST C2 F0 C3
                   X FIELD C0 FIELD C1 FIELD C2 LAST C3 DNNC_TWO_AGAIN DNNC_TWO_FINISH);
}

#define ONE(w0, w1, w2, w3) "ldr r8, [r0], #4\n" DNNC_ONE_FIELDS("r8", "r9", w0, w1, w2, w3)

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER "mov r10, #0x00070007\n" DNNC_ONE_TILE DNNC_ONE_START_CORRECTED DNNC_ONE_LOOP
                   "ldm r1!, {r2, r3, r12, lr}\n"
                   ONE("r2", "r2, lsr #3", "r2, lsr #6", "r2, lsr #9")
                   ONE("r2, lsr #12", "r3", "r3, lsr #3", "r3, lsr #6")
                   ONE("r3, lsr #9", "r3, lsr #12", "r12", "r12, lsr #3")
                   ONE("r12, lsr #6", "r12, lsr #9", "r12, lsr #12", "lr")
                   ONE("lr, lsr #3", "lr, lsr #6", "lr, lsr #9", "lr, lsr #12") DNNC_ONE_AGAIN DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w3 = {dnnc_two, dnnc_one, 10, 4, 4};
