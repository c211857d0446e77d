/* int8 to 16-bit pairs in the order "sxtb16", sums of pairs, and the clamp of finished bytes. */
#include "dnnc_smlad.h"

#if DNNC_SMLAD_ASM

DNNC_NAKED void dnnc_smlad_widen_two(uint32_t *to DNNC_IN_ASM, const int8_t *a DNNC_IN_ASM,
                                     const int8_t *b DNNC_IN_ASM, uint32_t fours DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r4-r7}\n"
      "lsrs r12, r3, #1\n"
      "bcc 2f\n"
#define DNNC_FOUR(at)            \
      "ldr r4, [r1, #" at "]\n"  \
      "ldr r5, [r2, #" at "]\n"  \
      "sxtb16 r6, r4, ror #8\n"  \
      "sxtb16 r4, r4\n"          \
      "sxtb16 r7, r5, ror #8\n"  \
      "sxtb16 r5, r5\n"          \
      "stm r0!, {r4-r7}\n"
      DNNC_FOUR("0")
      "adds r1, #4\n"
      "adds r2, #4\n"
      "2:\n"
      "subs r12, r12, #1\n"
      "blt 3f\n"
      "1:\n" DNNC_FOUR("0") DNNC_FOUR("4")
      "adds r1, #8\n"
      "adds r2, #8\n"
      "subs r12, r12, #1\n"
      "bge 1b\n"
      "3:\n"
      "pop {r4-r7}\n"
      "bx lr\n");
#undef DNNC_FOUR
}

DNNC_NAKED void dnnc_smlad_widen_one(uint32_t *to DNNC_IN_ASM, const int8_t *a DNNC_IN_ASM,
                                     uint32_t fours DNNC_IN_ASM) {
  __asm__ volatile(
      "1:\n"
      "subs r2, r2, #1\n"
      "itttt ge\n"
      "ldrge r3, [r1], #4\n"
      "sxtb16ge r12, r3\n"
      "sxtb16ge r3, r3, ror #8\n"
      "strge r12, [r0], #4\n"
      "itt ge\n"
      "strge r3, [r0], #4\n"
      "bge 1b\n"
      "bx lr\n");
}

#define DNNC_FOUR(a, b, c, d)         \
  "smlad r3, " a ", r2, r3\n"         \
  "smlad r12, " b ", r2, r12\n"       \
  "smlad r3, " c ", r2, r3\n"         \
  "smlad r12, " d ", r2, r12\n"
DNNC_NAKED void dnnc_smlad_sums(const uint32_t *x DNNC_IN_ASM, const uint32_t *x_end DNNC_IN_ASM,
                                int32_t sums[2] DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r2, r4-r11}\n"
      "mov r3, #0\n"
      "mov r12, #0\n"
      "mov r2, #0x00010001\n"
      "sub r4, r1, r0\n" /* an odd number of fours: one of them first */
      "lsls r4, r4, #27\n"
      "bpl 1f\n"
      "ldm r0!, {r4-r7}\n" DNNC_FOUR("r4", "r5", "r6", "r7")
      "cmp r0, r1\n"
      "beq 2f\n"
      "1:\n"
      "ldm r0!, {r4-r11}\n" DNNC_FOUR("r4", "r5", "r6", "r7") DNNC_FOUR("r8", "r9", "r10", "r11")
      "cmp r0, r1\n"
      "bne 1b\n"
      "2:\n"
      "pop {r2}\n"
      "strd r3, r12, [r2]\n"
      "pop {r4-r11}\n"
      "bx lr\n");
#undef DNNC_FOUR
}

/* The four bytes of `value`, each clamped to those of lo and hi. */
static inline uint32_t clamp_four(uint32_t value, uint32_t lo, uint32_t hi) {
  uint32_t difference;
  __asm__("ssub8 %1, %0, %2\n\tsel %0, %0, %2\n\tssub8 %1, %3, %0\n\tsel %0, %0, %3"
          : "+&r"(value), "=&r"(difference)
          : "r"(lo), "r"(hi));
  return value;
}

#else

static uint32_t pair(int8_t low, int8_t high) { return (uint16_t)low | (uint32_t)(uint16_t)high << 16; }

void dnnc_smlad_widen_two(uint32_t *to, const int8_t *a, const int8_t *b, uint32_t fours) {
  for (; fours; fours--, a += 4, b += 4) {
    *to++ = pair(a[0], a[2]);
    *to++ = pair(b[0], b[2]);
    *to++ = pair(a[1], a[3]);
    *to++ = pair(b[1], b[3]);
  }
}

void dnnc_smlad_widen_one(uint32_t *to, const int8_t *a, uint32_t fours) {
  for (; fours; fours--, a += 4) {
    *to++ = pair(a[0], a[2]);
    *to++ = pair(a[1], a[3]);
  }
}

void dnnc_smlad_sums(const uint32_t *x, const uint32_t *x_end, int32_t sums[2]) {
  sums[0] = 0;
  sums[1] = 0;
  for (uint32_t i = 0; x != x_end; i ^= 1, x++) sums[i] += (int16_t)(uint16_t)*x + (int16_t)(uint16_t)(*x >> 16);
}

static uint32_t clamp_four(uint32_t value, uint32_t lo, uint32_t hi) {
  uint32_t clamped = 0;
  for (unsigned shift = 0; shift < 32; shift += 8) {
    int32_t byte = dnnc_clamp((int8_t)(uint8_t)(value >> shift), (int8_t)(uint8_t)lo, (int8_t)(uint8_t)hi);
    clamped |= (uint32_t)(uint8_t)byte << shift;
  }
  return clamped;
}

#endif

void dnnc_smlad_clamp(int32_t lo, int32_t hi, int8_t *y, uint32_t count) {
  uint32_t los = (uint8_t)lo * 0x01010101u, his = (uint8_t)hi * 0x01010101u;
  if (lo <= -128 && hi >= 127) return;
  for (; count >= 4; count -= 4, y += 4) {
    uint32_t word;
    __builtin_memcpy(&word, y, 4);
    word = clamp_four(word, los, his);
    __builtin_memcpy(y, &word, 4);
  }
  for (; count; count--, y++) *y = (int8_t)dnnc_clamp(*y, lo, hi);
}
