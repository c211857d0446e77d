/* Lines whose windows are two values apart: 6 multiplications for 9 products. */
#include "dnnc_smlad_line.h"

#if DNNC_SMLAD_ASM

/* As in dnnc_smlad_line_1.c, one output at a time. r5 is the multiplier, r7 the zero point. */
#define ONE(a, b, zero, one, two)      \
  "ldr r2, [r0, #" one "]\n"           \
  "smlabb " a ", r3, lr, " a "\n"      \
  "ldr " b ", [sp]\n"                  \
  "smlad " b ", r3, r12, " b "\n"      \
  "ldr r3, [r0, #" zero "]\n"          \
  "smlabb " a ", r2, r11, " a "\n"     \
  "smlabb " a ", r3, r9, " a "\n"      \
  "smlad " b ", r2, r10, " b "\n"      \
  "smmlar " a ", " a ", r5, r7\n"      \
  "smlad " b ", r3, r8, " b "\n"       \
  "ssat " a ", #8, " a "\n"            \
  "ldr r2, [sp, #12]\n"                \
  "strb " a ", [r1]\n"                 \
  "add r1, r1, r2\n"                   \
  "ldr r3, [r0, #" two "]\n"

DNNC_NAKED void dnnc_smlad_line_2(const dnnc_smlad_line_t *line DNNC_IN_ASM) {
  __asm__ volatile(DNNC_LINE_ENTER DNNC_LINE_CHANNEL
      "ldr r2, [r0, #16]\n"
      "ldr r3, [r0, #32]\n"
      "ldr r6, [r0]\n"
      "ldr r7, [sp, #20]\n"
      "smlad r4, r2, r10, r4\n"
      "smlad r4, r3, r12, r4\n"
      "ldr r3, [r0, #80]\n"
      "smlad r4, r6, r8, r4\n"
      "lsrs r2, r7, #1\n"
      "ldr r7, [sp, #8]\n"
      "bcc 2f\n"
      "mov r6, r4\n"
      "sub r0, r0, #48\n"
      "b 4f\n"
      "2:\n"
      "beq 5f\n"
      "3:\n" ONE("r4", "r6", "48", "64", "128")
      "4:\n" ONE("r6", "r4", "96", "112", "176")
      "add r0, r0, #96\n"
      "ldr r2, [sp, #44]\n"
      "cmp r0, r2\n"
      "blo 3b\n"
      "5:\n" /* the last one */
      "ldr r2, [r0, #64]\n"
      "ldr r0, [r0, #48]\n"
      "smlabb r4, r3, lr, r4\n"
      "smlabb r4, r2, r11, r4\n"
      "smlabb r4, r0, r9, r4\n"
      "smmlar r4, r4, r5, r7\n"
      "ssat r4, #8, r4\n"
      "strb r4, [r1]\n" DNNC_LINE_AGAIN);
}

#else

void dnnc_smlad_line_2(const dnnc_smlad_line_t *line) {
  for (uint32_t c = 0; c < line->count; c++) {
    int8_t *y = line->y + line->channel[c].at;
    for (uint32_t j = 0; j <= line->bodies; j++, y += line->step) {
      *y = dnnc_smlad_output(line, &line->channel[c], c, 2 * j);
    }
  }
}

#endif
