/* Sum (or difference) of two int8 tensors with one rounding: both products of an element are one SMLAD. */
#include "dnnc_smlad.h"

#if DNNC_SMLAD_ASM

/* Eight times `eights` elements; multipliers: of a in the low half, of b in the high one. The order of the instructions
 * is that of least cycles where two may issue together. */
DNNC_NAKED static void add(int8_t *y DNNC_IN_ASM, const int8_t *a DNNC_IN_ASM, const int8_t *b DNNC_IN_ASM,
                           uint32_t eights DNNC_IN_ASM, uint32_t multipliers DNNC_IN_ASM, int32_t offset DNNC_IN_ASM,
                           uint32_t shift DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r4-r11, lr}\n"
      "ldrd r10, r11, [sp, #36]\n"
      "ldr r12, [sp, #44]\n"
      "1:\n"
      "ldr r4, [r1]\n"
      "ldr r6, [r2]\n"
      "subs r3, r3, #1\n"
      "pkhbt r5, r4, r6, lsl #16\n"
      "pkhtb r6, r6, r4, asr #16\n"
      "sxtb16 r7, r6\n"
      "ldr r8, [r1, #4]\n"
      "sxtb16 r4, r5\n"
      "smlad r7, r7, r10, r11\n"
      "sxtb16 r5, r5, ror #8\n"
      "smlad r4, r4, r10, r11\n"
      "sxtb16 r6, r6, ror #8\n"
      "smlad r5, r5, r10, r11\n"
      "asr r4, r4, r12\n"
      "smlad r6, r6, r10, r11\n"
      "asr r7, r7, r12\n"
      "ldr lr, [r2, #4]\n"
      "ssat r4, #8, r4\n"
      "ssat r7, #8, r7\n"
      "pkhbt r9, r8, lr, lsl #16\n"
      "strb r4, [r0]\n"
      "pkhtb lr, lr, r8, asr #16\n"
      "asr r6, r6, r12\n"
      "sxtb16 r8, r9\n"
      "asr r5, r5, r12\n"
      "ssat r5, #8, r5\n"
      "strb r7, [r0, #2]\n"
      "sxtb16 r9, r9, ror #8\n"
      "add r1, r1, #8\n"
      "ssat r6, #8, r6\n"
      "sxtb16 r7, lr\n"
      "smlad r9, r9, r10, r11\n"
      "sxtb16 lr, lr, ror #8\n"
      "smlad r7, r7, r10, r11\n"
      "asr r9, r9, r12\n"
      "smlad r8, r8, r10, r11\n"
      "strb r5, [r0, #1]\n"
      "ssat r9, #8, r9\n"
      "strb r6, [r0, #3]\n"
      "asr r7, r7, r12\n"
      "strb r9, [r0, #5]\n"
      "add r2, r2, #8\n"
      "smlad lr, lr, r10, r11\n"
      "asr r8, r8, r12\n"
      "ssat r8, #8, r8\n"
      "ssat r7, #8, r7\n"
      "asr lr, lr, r12\n"
      "strb r7, [r0, #6]\n"
      "ssat lr, #8, lr\n"
      "strb r8, [r0, #4]\n"
      "strb lr, [r0, #7]\n"
      "add r0, r0, #8\n"
      "bne 1b\n"
      "pop {r4-r11, pc}\n");
}

#else

static void add(int8_t *y, const int8_t *a, const int8_t *b, uint32_t eights, uint32_t multipliers, int32_t offset,
                uint32_t shift) {
  int32_t ma = (int16_t)(uint16_t)multipliers, mb = (int16_t)(uint16_t)(multipliers >> 16);
  for (uint32_t i = 0; i < 8 * eights; i++) {
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
  uint32_t eights = sa[3] == 1 && sb[3] == 1 ? size[3] / 8 : 0;
  for (uint32_t i = 0; i < size[0]; i++) {
    for (uint32_t j = 0; j < size[1]; j++) {
      for (uint32_t k = 0; k < size[2]; k++) {
        const int8_t *from_a = a + i * sa[0] + j * sa[1] + k * sa[2];
        const int8_t *from_b = b + i * sb[0] + j * sb[1] + k * sb[2];
        if (eights) {
          add(y, from_a, from_b, eights, multipliers, offset, shift);
          dnnc_smlad_clamp(lo, hi, y, 8 * eights);
          y += 8 * eights;
          from_a += 8 * eights;
          from_b += 8 * eights;
        }
        for (uint32_t n = size[3] - 8 * eights; n; n--, from_a += sa[3], from_b += sb[3]) {
          *y++ = (int8_t)dnnc_clamp((*from_a * ma + *from_b * mb + offset) >> shift, lo, hi);
        }
      }
    }
  }
}
