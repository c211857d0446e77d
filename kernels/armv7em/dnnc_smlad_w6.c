/* 6-bit weights: two pairs a word; what is left of three words makes two more, channels 2, 3 of the second k-pair. */
#define DNNC_BITS 6
#include "dnnc_smlad_asm.h"

#if DNNC_SMLAD_ASM

/* The fields at bits 0 and 6 of a word in r12, for two channels; leaves the word shifted right by 6. */
#define FIELDS(c0, c1)           \
  "and lr, r12, #0x003f003f\n"   \
  "lsr r12, r12, #6\n"           \
  c0("lr")                       \
  "and lr, r12, #0x003f003f\n"   \
  c1("lr")
#define TWO                           \
  "ldr r12, [r1]\n"                   \
  "ldrd r2, r3, [r0], #8\n"           \
  FIELDS(DNNC_TWO_0, DNNC_TWO_1)      \
  "ldr r12, [r1, #4]\n"               \
  FIELDS(DNNC_TWO_2, DNNC_TWO_3)      \
  "ldr lr, [r1]\n"                    \
  "ldr r2, [r1, #8]\n"                \
  "lsr r12, r12, #2\n"                \
  "lsr lr, lr, #12\n"                 \
  "lsr r2, r2, #12\n"                 \
  "and lr, lr, #0x000f000f\n"         \
  "and r3, r12, #0x00300030\n"        \
  "and r2, r2, #0x000f000f\n"         \
  "and r12, r12, #0x00c000c0\n"       \
  "orr lr, lr, r3\n"                  \
  "orr r12, r2, r12, lsr #2\n"        \
  "ldrd r2, r3, [r0], #8\n"           \
  DNNC_TWO_2("lr")                    \
  DNNC_TWO_3("r12")                   \
  "ldr r12, [r1, #8]\n"               \
  "add r1, r1, #12\n"                 \
  FIELDS(DNNC_TWO_0, DNNC_TWO_1)

DNNC_NAKED static void dnnc_two(DNNC_TWO_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER DNNC_TWO_TILE DNNC_TWO_START_CORRECTED DNNC_TWO_LOOP TWO DNNC_TWO_AGAIN DNNC_TWO_FINISH);
}

/* A field whose low four bits are left over in `low` and whose high two bits lie at `shift` + 4 of r3. */
#define LEFT(low, shift, sum)          \
  "lsr lr, " low ", #12\n"             \
  "lsr r9, r3, #" shift "\n"           \
  "and lr, lr, #0x000f000f\n"          \
  "and r9, r9, #0x00300030\n"          \
  "orr lr, lr, r9\n"                   \
  "smlad " sum ", lr, r8, " sum "\n"

DNNC_NAKED static void dnnc_one(DNNC_ONE_ARGUMENTS) {
  __asm__ volatile(DNNC_ENTER "mov r10, #0x003f003f\n" DNNC_ONE_TILE DNNC_ONE_START_CORRECTED DNNC_ONE_LOOP
                   "ldm r1!, {r2, r3, r12}\n"
                   "ldr r8, [r0], #4\n"
                   DNNC_ONE_FIELDS("r8", "r9", "r2", "r2, lsr #6", "r3", "r3, lsr #6")
                   "ldr r8, [r0], #4\n"
                   DNNC_ONE_FIELD("r4", "r8", "r9", "r12")
                   DNNC_ONE_FIELD("r5", "r8", "r9", "r12, lsr #6")
                   LEFT("r2", "8", "r6")
                   LEFT("r12", "10", "r7") DNNC_ONE_AGAIN DNNC_ONE_FINISH);
}

#endif

const dnnc_smlad_t dnnc_smlad_w6 = {dnnc_two, dnnc_one, 4, 3, 32};
