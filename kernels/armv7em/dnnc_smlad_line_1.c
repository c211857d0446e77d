/* Lines whose windows are one value apart: two outputs at a time, 12 multiplications for 18 products. */
#include "dnnc_smlad_line.h"

#if DNNC_SMLAD_ASM

/* The pair after the one that outputs a and b began with ends them; the next two, c and d, begin with it. Its values
 * lie at offsets zero and one, those of slot 2 are in r3, where those of the next pair (at offset two) follow. The
 * order is that of least cycles where an SMLAD and a load may issue together. */
#define TWO(a, b, c, d, zero, one, two)           \
  "smlabb " a ", r3, lr, " a "\n"                 \
  "ldr r2, [r0, #" one "]\n"                      \
  "smladx " b ", r3, lr, " b "\n"                 \
  "smlabb " a ", r2, r11, " a "\n"                \
  "smladx " b ", r2, r11, " b "\n"                \
  "ldr " c ", [sp]\n"                             \
  "smlatb " d ", r3, r12, " c "\n"                \
  "smlatb " d ", r2, r10, " d "\n"                \
  "smlad " c ", r3, r12, " c "\n"                 \
  "ldr r3, [r0, #" zero "]\n"                     \
  "smlad " c ", r2, r10, " c "\n"                 \
  "smladx " b ", r3, r9, " b "\n"                 \
  "smlatb " d ", r3, r8, " d "\n"                 \
  "smlad " c ", r3, r8, " c "\n"                  \
  "smlabb " a ", r3, r9, " a "\n"                 \
  "ldrd r2, r3, [sp, #4]\n"                       \
  "smmlar " a ", " a ", r2, r3\n"                 \
  "smmlar " b ", " b ", r2, r3\n"                 \
  "ssat " a ", #8, " a "\n"                       \
  "ldr r3, [r0, #" two "]\n"                      \
  "ldr r2, [sp, #12]\n"                           \
  "ssat " b ", #8, " b "\n"                       \
  "strb " a ", [r1]\n"                            \
  "strb " b ", [r1, r2]\n"                        \
  "add r1, r1, r2, lsl #1\n"

DNNC_NAKED void dnnc_smlad_line_1(const dnnc_smlad_line_t *line DNNC_IN_ASM) {
  __asm__ volatile(DNNC_LINE_ENTER DNNC_LINE_CHANNEL
      "ldr r2, [r0, #16]\n"
      "ldr r3, [r0, #32]\n"
      "ldr r6, [r0]\n"
      "ldr r7, [sp, #20]\n"
      "smlatb r5, r2, r10, r4\n"
      "smlad r4, r2, r10, r4\n"
      "smlatb r5, r3, r12, r5\n"
      "smlad r4, r3, r12, r4\n"
      "ldr r3, [r0, #80]\n"
      "smlatb r5, r6, r8, r5\n"
      "smlad r4, r6, r8, r4\n"
      "lsrs r7, r7, #1\n"
      "bcc 2f\n"
      "mov r6, r4\n"
      "mov r7, r5\n"
      "sub r0, r0, #48\n"
      "b 4f\n"
      "2:\n"
      "beq 5f\n"
      "3:\n" TWO("r4", "r5", "r6", "r7", "48", "64", "128")
      "4:\n" TWO("r6", "r7", "r4", "r5", "96", "112", "176")
      "add r0, r0, #96\n"
      "ldr r2, [sp, #44]\n"
      "cmp r0, r2\n"
      "blo 3b\n"
      "5:\n" /* the last one or two */
      "ldr r2, [r0, #64]\n"
      "ldr r0, [r0, #48]\n"
      "smlabb r4, r3, lr, r4\n"
      "smladx r5, r3, lr, r5\n"
      "smlabb r4, r2, r11, r4\n"
      "smladx r5, r2, r11, r5\n"
      "smlabb r4, r0, r9, r4\n"
      "smladx r5, r0, r9, r5\n"
      "ldrd r2, r3, [sp, #4]\n"
      "ldrd r6, r7, [sp, #12]\n"
      "smmlar r4, r4, r2, r3\n"
      "smmlar r5, r5, r2, r3\n"
      "ssat r4, #8, r4\n"
      "ssat r5, #8, r5\n"
      "strb r4, [r1]\n"
      "cbnz r7, 6f\n"
      "strb r5, [r1, r6]\n"
      "6:\n" DNNC_LINE_AGAIN);
}

#else

void dnnc_smlad_line_1(const dnnc_smlad_line_t *line) {
  for (uint32_t c = 0; c < line->count; c++) {
    int8_t *y = line->y + line->channel[c].at;
    uint32_t outputs = 2 * line->bodies + 2 - line->single;
    for (uint32_t j = 0; j < outputs; j++, y += line->step) *y = dnnc_smlad_output(line, &line->channel[c], c, j);
  }
}

#endif
