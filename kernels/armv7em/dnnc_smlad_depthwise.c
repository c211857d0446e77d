/* Depthwise convolution, four channels at a time, by SMLAD along the rows of the image.
 *
 * The input rows under a window are held as 16-bit pairs of neighbouring columns, one ring of rows for a tile of four
 * channels: column pair after column pair, in it the rows of the ring, in it the four channels. So a window is one
 * contiguous run of words, whatever its size, and borders are zero points like any other value. Windows that begin at
 * an odd column use weights that are moved by one column; as the ring turns, so do the rows of the weights.
 */
#include "dnnc_smlad.h"

typedef struct {
  uint32_t rows;       /* of the ring: what a window spans */
  uint32_t window;     /* entries of a window: column pairs it spans * rows */
  uint32_t padded;     /* entries that the loop takes: whole threes */
  uint32_t columns;    /* column pairs of the image */
  uint32_t phases;     /* 2 where windows begin at even and odd columns */
} shape_t;

static shape_t shape_of(const dnnc_linear_t *layer) {
  shape_t shape;
  uint32_t span = (layer->kernel_w - 1u) * layer->dilation_w + 1u, odd = layer->stride_w & 1u;
  uint32_t pairs = odd ? span / 2 + 1 : (span + 1) / 2;
  shape.rows = (layer->kernel_h - 1u) * layer->dilation_h + 1u;
  shape.window = pairs * shape.rows;
  shape.padded = (shape.window + 2) / 3 * 3;
  shape.columns = (layer->out_w - 1u) * layer->stride_w / 2 + pairs;
  shape.phases = odd + 1;
  return shape;
}

#if DNNC_SMLAD_ASM

/* `count` column pairs of one row: the four bytes at `a` and those `next` bytes further, to four pairs. */
DNNC_NAKED static void split(int16_t *to DNNC_IN_ASM, const int8_t *a DNNC_IN_ASM, int32_t next DNNC_IN_ASM,
                             uint32_t count DNNC_IN_ASM, uint32_t step DNNC_IN_ASM, uint32_t to_step DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r4-r11}\n"
      "ldrd r10, r11, [sp, #32]\n"
      "1:\n"
      "ldr r4, [r1]\n"
      "ldr r5, [r1, r2]\n"
      "add r1, r1, r10\n"
      "sxtb16 r6, r4\n"
      "sxtb16 r8, r5\n"
      "sxtb16 r7, r4, ror #8\n"
      "sxtb16 r9, r5, ror #8\n"
      "pkhbt r4, r6, r8, lsl #16\n"
      "pkhtb r6, r8, r6, asr #16\n"
      "pkhbt r5, r7, r9, lsl #16\n"
      "pkhtb r7, r9, r7, asr #16\n"
      "stm r0, {r4-r7}\n"
      "add r0, r0, r11\n"
      "subs r3, r3, #1\n"
      "bne 1b\n"
      "pop {r4-r11}\n"
      "bx lr\n");
}

/* Four channels of the pixels y, y + y_step ... before y_end; w_end: where the weights end. */
DNNC_NAKED static void row(const int16_t *x DNNC_IN_ASM, const int16_t *w DNNC_IN_ASM, const int32_t *bias DNNC_IN_ASM,
                           const int32_t *multiplier DNNC_IN_ASM, int8_t *y DNNC_IN_ASM,
                           const int8_t *y_end DNNC_IN_ASM, uint32_t y_step DNNC_IN_ASM, uint32_t x_step DNNC_IN_ASM,
                           const int16_t *w_end DNNC_IN_ASM, int32_t zero DNNC_IN_ASM,
                           uint32_t left_shift DNNC_IN_ASM) {
#define PAIRS                          \
      "ldm r0!, {r8-r11}\n"            \
      "ldm r1!, {r2, r3, r12, lr}\n"   \
      "smlad r4, r8, r2, r4\n"         \
      "smlad r5, r9, r3, r5\n"         \
      "smlad r6, r10, r12, r6\n"       \
      "smlad r7, r11, lr, r7\n"
  /* x 0, w 4, bias 8, multiplier 12, y 52, y_end 56, y_step 60, x_step 64, w_end 68, zero 72, left_shift 76 */
  __asm__ volatile(
      "push {r0-r3, r4-r11, lr}\n"
      "1:\n"
      "ldrd r0, r1, [sp]\n"
      "ldr r2, [sp, #64]\n"
      "ldr r12, [sp, #8]\n"
      "add r2, r2, r0\n"
      "str r2, [sp]\n"
      "ldm r12, {r4-r7}\n"
      "2:\n" PAIRS PAIRS PAIRS
      "ldr r2, [sp, #68]\n"
      "cmp r1, r2\n"
      "bne 2b\n"
      "ldr r2, [sp, #76]\n"
      "cbz r2, 3f\n"
      "lsl r4, r4, r2\n"
      "lsl r5, r5, r2\n"
      "lsl r6, r6, r2\n"
      "lsl r7, r7, r2\n"
      "3:\n"
      "ldr r12, [sp, #12]\n"
      "ldr lr, [sp, #72]\n"
      "ldm r12, {r0-r3}\n"
      "smmlar r4, r4, r0, lr\n"
      "smmlar r5, r5, r1, lr\n"
      "smmlar r6, r6, r2, lr\n"
      "smmlar r7, r7, r3, lr\n"
      "ldrd r0, r1, [sp, #52]\n"
      "ldr r2, [sp, #60]\n"
      "ssat r4, #8, r4\n"
      "ssat r5, #8, r5\n"
      "ssat r6, #8, r6\n"
      "ssat r7, #8, r7\n"
      "strb r4, [r0]\n"
      "strb r5, [r0, #1]\n"
      "strb r6, [r0, #2]\n"
      "strb r7, [r0, #3]\n"
      "add r0, r0, r2\n"
      "str r0, [sp, #52]\n"
      "cmp r0, r1\n"
      "bne 1b\n"
      "pop {r0-r3, r4-r11, pc}\n");
#undef PAIRS
}

#else

static void split(int16_t *to, const int8_t *a, int32_t next, uint32_t count, uint32_t step, uint32_t to_step) {
  for (uint32_t i = 0; i < count; i++, to += to_step / 2) {
    for (uint32_t c = 0; c < 4; c++) {
      to[2 * c] = a[i * step + c];
      to[2 * c + 1] = a[i * step + (uint32_t)next + c];
    }
  }
}

static void row(const int16_t *x, const int16_t *w, const int32_t *bias, const int32_t *multiplier, int8_t *y,
                const int8_t *y_end, uint32_t y_step, uint32_t x_step, const int16_t *w_end, int32_t zero,
                uint32_t left_shift) {
  for (; y != y_end; y += y_step, x += x_step / 2) {
    for (uint32_t c = 0; c < 4; c++) {
      int32_t sum = bias[c];
      for (uint32_t i = 2 * c; i < (uint32_t)(w_end - w); i += 8) sum += x[i] * w[i] + x[i + 1] * w[i + 1];
      y[c] = (int8_t)dnnc_clamp(zero + dnnc_rescale(sum, multiplier[c], left_shift), -128, 127);
    }
  }
}

#endif

/* The weights for a ring that begins at its slot 0: for every phase a window, the rest zeros. */
static void place(const dnnc_linear_t *layer, shape_t shape, const int8_t *taps, int16_t *windows) {
  uint32_t count = shape.padded * 8;
  for (uint32_t i = 0; i < count * shape.phases; i++) windows[i] = 0;
  for (uint32_t kh = 0; kh < layer->kernel_h; kh++) {
    for (uint32_t kw = 0; kw < layer->kernel_w; kw++, taps += 4) {
      for (uint32_t phase = 0; phase < shape.phases; phase++) {
        uint32_t column = kw * layer->dilation_w + phase;
        int16_t *to = windows + phase * count + (column / 2 * shape.rows + kh * layer->dilation_h) * 8 + column % 2;
        to[0] = taps[0];
        to[2] = taps[1];
        to[4] = taps[2];
        to[6] = taps[3];
      }
    }
  }
}

typedef struct {
  int16_t pairs[8];
} entry_t;

/* The same weights for a ring that begins at another slot. */
static void turn(shape_t shape, const int16_t *from, uint32_t slot, int16_t *to) {
  const entry_t *source = (const entry_t *)(const void *)from;
  entry_t *target = (entry_t *)(void *)to;
  for (uint32_t phase = 0; phase < shape.phases; phase++, source += shape.padded, target += shape.padded) {
    uint32_t i = 0;
    for (; i < shape.window; i += shape.rows) {
      for (uint32_t r = 0; r < shape.rows; r++) {
        uint32_t turned = r + slot;
        target[i + (turned < shape.rows ? turned : turned - shape.rows)] = source[i + r];
      }
    }
    for (; i < shape.padded; i++) target[i] = source[i];
  }
}

/* One tile: its channels, and whether they lie together, four of them, so that words can be read and written. */
typedef struct {
  uint32_t first, count;
  uint16_t at[4];
  int together;
} tile_t;

/* Input row `r`, which may lie outside the image, into its slot of the ring. */
static void load(const dnnc_linear_t *layer, shape_t shape, const tile_t *tile, const int8_t *x, int32_t r,
                 int8_t *words, int16_t *to) {
  uint32_t step = shape.rows * 8, stride = layer->in_stride, left = layer->pad_left, width = layer->in_w;
  const int8_t *from = words;
  if ((uint32_t)r >= layer->in_h) {
    for (uint32_t i = 0; i < shape.columns; i++, to += step) {
      for (uint32_t c = 0; c < 8; c++) to[c] = layer->in_zero;
    }
    return;
  }
  x += (uint32_t)r * width * stride;
  if (tile->together) {
    from = x + tile->at[0];
  } else {
    for (uint32_t j = 0; j < width; j++, x += stride) {
      for (uint32_t c = 0; c < tile->count; c++) words[4 * j + c] = x[tile->at[c]];
    }
    stride = 4;
  }
  /* Pairs [begin, end) have both columns inside; the one before and the one after may have one. */
  uint32_t begin = (left + 1) / 2, end = (width + left) / 2;
  if (end > shape.columns) end = shape.columns;
  int16_t *at = to + begin * step;
  if (left % 2 && begin <= shape.columns) {
    for (uint32_t c = 0; c < 4; c++) (at - step)[2 * c + 1] = from[c];
    from += stride;
  }
  if (end > begin) {
    split(at, from, (int32_t)stride, end - begin, 2 * stride, 2 * step);
    at += (end - begin) * step;
    from += (end - begin) * 2 * stride;
  }
  if ((width + left) % 2 && end < shape.columns) {
    for (uint32_t c = 0; c < 4; c++) at[2 * c] = from[c];
    for (uint32_t c = 0; c < 4; c++) at[2 * c + 1] = layer->in_zero;
  }
}

/* The scratch: the taps | for each turn of the ring, for each phase, a window of weights | the ring, and two entries
 * that a window in threes may reach beyond it | four bytes a column of a row gathered from scattered channels | four
 * bytes a pixel of a row to be scattered. */
void dnnc_smlad_depthwise(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                          dnnc_smlad_unpack_t *unpack, uint32_t taps_bytes) {
  shape_t shape = shape_of(layer);
  uint32_t turns = layer->out_h < shape.rows ? layer->out_h : shape.rows;
  uint32_t weights = shape.padded * 8, turn_size = weights * shape.phases;
  int8_t *taps = scratch;
  int16_t *windows = (int16_t *)(void *)(taps + taps_bytes);
  int16_t *ring = windows + turns * turn_size;
  uint32_t ring_size = (shape.columns * shape.rows + 2) * 8;
  int8_t *words = (int8_t *)(ring + ring_size);
  int8_t *held = words + 4u * layer->in_w;
  const uint32_t *packed = layer->weights;
  for (uint32_t i = 0; i < ring_size; i++) ring[i] = layer->in_zero;
  for (uint32_t o = 0; o < layer->out_c; o += 4) {
    tile_t tile = {o, layer->out_c - o < 4u ? layer->out_c - o : 4u, {0, 0, 0, 0}, 0};
    for (uint32_t c = 0; c < tile.count; c++) tile.at[c] = layer->channels ? layer->channels[o + c] : (uint16_t)(o + c);
    tile.together = tile.count == 4 && !layer->channels;
    packed = unpack(taps, packed, layer->kernel_h * (uint32_t)layer->kernel_w);
    place(layer, shape, taps, windows);
    int32_t next = -(int32_t)layer->pad_top; /* the next input row to load */
    uint32_t next_slot = 0, slot = 0, at_turn = 0;
    for (uint32_t i = 0; i < layer->out_h; i++) {
      int32_t top = (int32_t)(i * layer->stride_h) - layer->pad_top;
      for (; next < top + (int32_t)shape.rows; next++) {
        if (next >= top) load(layer, shape, &tile, x, next, words, ring + next_slot * 8);
        if (++next_slot == shape.rows) next_slot = 0;
      }
      int16_t *turned = windows + at_turn * turn_size;
      if (i && i < turns) turn(shape, windows, slot, turned);
      int8_t *to = y + i * layer->out_w * layer->out_stride + tile.at[0];
      uint32_t stride = layer->out_stride;
      if (!tile.together) to = held, stride = 4;
      for (uint32_t phase = 0; phase < shape.phases && phase < layer->out_w; phase++) {
        uint32_t pixels = (layer->out_w - phase + shape.phases - 1) / shape.phases;
        const int16_t *w = turned + phase * weights;
        row(ring + phase * layer->stride_w / 2 * shape.rows * 8, w, layer->bias + o, layer->multiplier + o,
            to + phase * stride, to + (phase + pixels * shape.phases) * stride, shape.phases * stride,
            shape.phases * layer->stride_w / 2 * shape.rows * 16, w + weights, layer->out_zero, layer->left_shift);
      }
      if (!tile.together) {
        dnnc_smlad_clamp(layer, held, 4u * layer->out_w);
        for (uint32_t j = 0; j < layer->out_w; j++) {
          int8_t *pixel = y + (i * layer->out_w + j) * layer->out_stride;
          for (uint32_t c = 0; c < tile.count; c++) pixel[tile.at[c]] = held[4 * j + c];
        }
      }
      if (++at_turn == shape.rows) at_turn = 0;
      for (slot += layer->stride_h; slot >= shape.rows;) slot -= shape.rows;
    }
  }
  if (!layer->channels) dnnc_smlad_clamp(layer, y, (uint32_t)layer->out_h * layer->out_w * layer->out_stride);
}
