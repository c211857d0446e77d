/* Sum (or difference) of two int8 tensors with one rounding: both products of an element are one SMLAD. */
#include "dnnc_smlad.h"

#if DNNC_SMLAD_ASM

/* Four times `fours` elements; multipliers: of a in the low half, of b in the high one. */
DNNC_NAKED static void add(int8_t *y DNNC_IN_ASM, const int8_t *a DNNC_IN_ASM, const int8_t *b DNNC_IN_ASM,
                           uint32_t fours DNNC_IN_ASM, uint32_t multipliers DNNC_IN_ASM, int32_t offset DNNC_IN_ASM,
                           uint32_t shift DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r4-r11}\n"
      "ldrd r10, r11, [sp, #32]\n"
      "ldr r12, [sp, #40]\n"
      "1:\n"
      "ldr r4, [r1], #4\n"
      "ldr r6, [r2], #4\n"
      "sxtb16 r5, r4, ror #8\n"
      "sxtb16 r4, r4\n"
      "sxtb16 r7, r6, ror #8\n"
      "sxtb16 r6, r6\n"
      "pkhbt r8, r4, r6, lsl #16\n"
      "pkhtb r4, r6, r4, asr #16\n"
      "pkhbt r9, r5, r7, lsl #16\n"
      "pkhtb r5, r7, r5, asr #16\n"
      "smlad r8, r8, r10, r11\n"
      "smlad r9, r9, r10, r11\n"
      "smlad r4, r4, r10, r11\n"
      "smlad r5, r5, r10, r11\n"
      "asr r8, r8, r12\n"
      "asr r9, r9, r12\n"
      "asr r4, r4, r12\n"
      "asr r5, r5, r12\n"
      "ssat r8, #8, r8\n"
      "ssat r9, #8, r9\n"
      "ssat r4, #8, r4\n"
      "ssat r5, #8, r5\n"
      "strb r8, [r0], #1\n"
      "strb r9, [r0], #1\n"
      "strb r4, [r0], #1\n"
      "strb r5, [r0], #1\n"
      "subs r3, r3, #1\n"
      "bne 1b\n"
      "pop {r4-r11}\n"
      "bx lr\n");
}

#else

static void add(int8_t *y, const int8_t *a, const int8_t *b, uint32_t fours, uint32_t multipliers, int32_t offset,
                uint32_t shift) {
  int32_t ma = (int16_t)(uint16_t)multipliers, mb = (int16_t)(uint16_t)(multipliers >> 16);
  for (uint32_t i = 0; i < 4 * fours; i++) {
    y[i] = (int8_t)dnnc_clamp((a[i] * ma + b[i] * mb + offset) >> shift, -128, 127);
  }
}

#endif

void DNNC_KERNEL(const dnnc_add_t *layer, const int8_t *a, const int8_t *b, int8_t *y, void *scratch);

void DNNC_KERNEL(const dnnc_add_t *layer, const int8_t *a, const int8_t *b, int8_t *y, void *scratch) {
  (void)scratch;
  const uint32_t *size = layer->size, *sa = layer->stride_a, *sb = layer->stride_b;
  int32_t ma = layer->multiplier_a, mb = layer->multiplier_b, offset = layer->offset, lo = layer->lo, hi = layer->hi;
  uint32_t multipliers = (uint16_t)ma | (uint32_t)mb << 16, shift = layer->shift;
  uint32_t fours = sa[3] == 1 && sb[3] == 1 ? size[3] / 4 : 0;
  for (uint32_t i = 0; i < size[0]; i++) {
    for (uint32_t j = 0; j < size[1]; j++) {
      for (uint32_t k = 0; k < size[2]; k++) {
        const int8_t *from_a = a + i * sa[0] + j * sa[1] + k * sa[2];
        const int8_t *from_b = b + i * sb[0] + j * sb[1] + k * sb[2];
        if (fours) {
          add(y, from_a, from_b, fours, multipliers, offset, shift);
          dnnc_smlad_clamp(lo, hi, y, 4 * fours);
          y += 4 * fours;
          from_a += 4 * fours;
          from_b += 4 * fours;
        }
        for (uint32_t n = size[3] - 4 * fours; n; n--, from_a += sa[3], from_b += sb[3]) {
          *y++ = (int8_t)dnnc_clamp((*from_a * ma + *from_b * mb + offset) >> shift, lo, hi);
        }
      }
    }
  }
}
