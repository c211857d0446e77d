/* Convolution: the windows of two pixels are gathered and widened once, then met by all tiles of output channels. */
#include "dnnc_smlad.h"

/* Where the window of an output pixel begins: its row, its column, the element of the input (it may lie outside). */
typedef struct {
  int32_t row, column, element;
} corner_t;

/* The windows of the output pixels in their order; `left` more of a row. */
typedef struct {
  corner_t at;
  uint32_t left;
} windows_t;

static windows_t windows_of(const dnnc_linear_t *layer) {
  int32_t top = -(int32_t)layer->pad_top, left = -(int32_t)layer->pad_left;
  windows_t windows = {{top, left, (top * layer->in_w + left) * layer->in_stride}, layer->out_w};
  return windows;
}

static inline corner_t next(windows_t *windows, const dnnc_linear_t *layer) {
  corner_t at = windows->at;
  windows->at.column += layer->stride_w;
  windows->at.element += layer->stride_w * layer->in_stride;
  if (--windows->left == 0) {
    windows->left = layer->out_w;
    windows->at.row += layer->stride_h;
    windows->at.column = -(int32_t)layer->pad_left;
    windows->at.element = (windows->at.row * layer->in_w + windows->at.column) * layer->in_stride;
  }
  return at;
}

/* Elements of consecutive taps that lie together in the input, where they are inside it; 0 where none do. */
static uint32_t together(const dnnc_linear_t *layer, uint32_t depth) {
  return layer->dilation_w == 1 && depth == layer->in_stride ? layer->kernel_w * depth : 0;
}

/* Whether a row of the window lies in the image from its first column to its last. */
static int whole(const dnnc_linear_t *layer, corner_t at) {
  return (uint32_t)at.row < layer->in_h && at.column >= 0 &&
         at.column + (layer->kernel_w - 1) * layer->dilation_w < layer->in_w;
}

static const int8_t *tap(const dnnc_linear_t *layer, const int8_t *x, const int8_t *zeros, corner_t at, uint32_t kw) {
  uint32_t step = kw * layer->dilation_w;
  if ((uint32_t)at.row >= layer->in_h || (uint32_t)at.column + step >= layer->in_w) return zeros;
  return x + at.element + step * layer->in_stride;
}

static corner_t below(const dnnc_linear_t *layer, corner_t at) {
  at.row += layer->dilation_h;
  at.element += layer->dilation_h * layer->in_w * layer->in_stride;
  return at;
}

/* Both windows straight into pairs; the depth is a multiple of four and zeros holds as many zero points. */
static void gather_pairs(const dnnc_linear_t *layer, const int8_t *x, uint32_t depth, corner_t a, corner_t b,
                         const int8_t *zeros, uint32_t *pairs) {
  uint32_t run = together(layer, depth);
  for (uint32_t kh = layer->kernel_h; kh; kh--, a = below(layer, a), b = below(layer, b)) {
    if (run && whole(layer, a) && whole(layer, b)) {
      dnnc_smlad_widen_two(pairs, x + a.element, x + b.element, run / 4);
      pairs += run;
    } else {
      for (uint32_t kw = 0; kw < layer->kernel_w; kw++, pairs += depth) {
        dnnc_smlad_widen_two(pairs, tap(layer, x, zeros, a, kw), tap(layer, x, zeros, b, kw), depth / 4);
      }
    }
  }
}

#if DNNC_SMLAD_ASM

/* `rows` runs of `run` bytes, `step` bytes apart, one after another to `to`. */
DNNC_NAKED static void copy(int8_t *to DNNC_IN_ASM, const int8_t *from DNNC_IN_ASM, uint32_t run DNNC_IN_ASM,
                            uint32_t rows DNNC_IN_ASM, uint32_t step DNNC_IN_ASM) {
  __asm__ volatile(
      "push {r4-r6}\n"
      "ldr r12, [sp, #12]\n"
      "1:\n"
      "mov r4, r1\n"
      "lsrs r5, r2, #2\n"
      "beq 3f\n"
      "2:\n"
      "ldr r6, [r4], #4\n"
      "subs r5, r5, #1\n"
      "str r6, [r0], #4\n"
      "bne 2b\n"
      "3:\n"
      "lsls r5, r2, #31\n"
      "itt cs\n"
      "ldrhcs r6, [r4], #2\n"
      "strhcs r6, [r0], #2\n"
      "itt mi\n"
      "ldrbmi r6, [r4]\n"
      "strbmi r6, [r0], #1\n"
      "add r1, r1, r12\n"
      "subs r3, r3, #1\n"
      "bne 1b\n"
      "pop {r4-r6}\n"
      "bx lr\n");
}

#else

static void copy(int8_t *to, const int8_t *from, uint32_t run, uint32_t rows, uint32_t step) {
  for (uint32_t r = 0; r < rows; r++) {
    for (uint32_t i = 0; i < run; i++) *to++ = from[r * step + i];
  }
}

#endif

/* Windows that lie in the image, whose rows lie together in it: `rows` runs of `run` elements, `step` elements apart,
 * where the corner is at most at row `bottom` and column `right`; `right` is -1 where there are none. */
typedef struct {
  uint32_t run, rows, step;
  int32_t bottom, right;
} inside_t;

static inside_t inside_of(const dnnc_linear_t *layer, uint32_t depth) {
  inside_t inside;
  inside.run = together(layer, depth);
  inside.rows = layer->kernel_h;
  inside.step = (uint32_t)layer->dilation_h * layer->in_w * layer->in_stride;
  inside.bottom = layer->in_h - (layer->kernel_h - 1) * layer->dilation_h - 1;
  inside.right = inside.run ? layer->in_w - layer->kernel_w : -1;
  return inside;
}

/* One window, byte by byte, for any depth. */
static void gather_taps(const dnnc_linear_t *layer, const int8_t *x, uint32_t depth, corner_t a, const int8_t *zeros,
                        int8_t *bytes) {
  for (uint32_t kernel_h = layer->kernel_h; kernel_h; kernel_h--, a = below(layer, a)) {
    for (uint32_t kw = 0; kw < layer->kernel_w; kw++, bytes += depth) {
      copy(bytes, tap(layer, x, zeros, a, kw), depth, 1, 0);
    }
  }
}

static inline void gather_bytes(const dnnc_linear_t *layer, const inside_t *inside, const int8_t *x, uint32_t depth,
                                corner_t a, const int8_t *zeros, int8_t *bytes) {
  if (a.row >= 0 && a.row <= inside->bottom && a.column >= 0 && a.column <= inside->right) {
    copy(bytes, x + a.element, inside->run, inside->rows, inside->step);
  } else {
    gather_taps(layer, x, depth, a, zeros, bytes);
  }
}

/* Channels of a call that go to their own places in a pixel, from where they lie one after another. */
static void scatter(const uint16_t *channels, const int8_t *from, uint32_t count, int8_t *y) {
  for (uint32_t c = 0; c < count; c++) y[channels[c]] = from[c];
}

/* The scratch: pairs of two windows | zero points, depth of them | the windows in bytes, where the depth is no multiple
 * of four | two output pixels, where they are scattered. Each part is whole words. */
void dnnc_smlad_conv(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                     const dnnc_smlad_t *weights) {
  uint32_t depth = layer->in_c, outputs = layer->out_c;
  uint32_t k = (uint32_t)layer->kernel_h * layer->kernel_w * depth, k4 = (k + 3u) & ~3u;
  uint32_t padded = dnnc_smlad_padded(weights, k), tile = dnnc_smlad_tile(weights, padded);
  uint32_t *pairs = scratch, *end = pairs + padded, *sums_end = pairs + ((padded + 3u) & ~3u);
  int8_t *zeros = (int8_t *)sums_end;
  int8_t *bytes = zeros + ((depth + 3u) & ~3u);
  int8_t *held = depth % 4 ? bytes + 2 * k4 : bytes;
  for (uint32_t *at = pairs + k4; at < sums_end; at++) *at = 0;
  for (uint32_t c = 0; c < depth; c++) zeros[c] = (int8_t)layer->in_zero;
  if (depth % 4) {
    for (uint32_t at = k; at < k4; at++) bytes[at] = bytes[k4 + at] = 0;
  }
  uint32_t pixels = (uint32_t)layer->out_h * layer->out_w;
  const uint32_t *w = layer->weights;
  const uint8_t *tables = layer->bias;
  inside_t inside = inside_of(layer, depth);
  int clamped = layer->lo > -128 || layer->hi < 127;
  for (uint32_t g = 0; g < layer->groups; g++, x += depth) {
    windows_t windows = windows_of(layer);
    for (uint32_t p = 0; p < pixels; p += 2) {
      corner_t a = next(&windows, layer), b = a;
      uint32_t other = p; /* an odd last pixel is computed twice, to the same place */
      if (p + 1 < pixels) {
        other = p + 1;
        b = next(&windows, layer);
      }
      if (depth % 4) {
        gather_bytes(layer, &inside, x, depth, a, zeros, bytes);
        gather_bytes(layer, &inside, x, depth, b, zeros, bytes + k4);
        dnnc_smlad_widen_two(pairs, bytes, bytes + k4, k4 / 4);
      } else {
        gather_pairs(layer, x, depth, a, b, zeros, pairs);
      }
      int32_t sums[2] = {0, 0};
      if (weights->offset) dnnc_smlad_sums(pairs, sums_end, sums);
      int8_t *y0 = y + p * layer->out_stride, *y1 = y + other * layer->out_stride;
      int8_t *to0 = y0 + g * outputs, *to1 = y1 + g * outputs;
      if (layer->channels) to0 = held, to1 = held + outputs;
      weights->two(pairs, w, tables, layer->scales, to0, to1, (int32_t)outputs, end,
                   layer->out_zero, layer->left_shift, -sums[0] * weights->offset, -sums[1] * weights->offset,
                   padded / 4);
      if (clamped) {
        dnnc_smlad_clamp(layer->lo, layer->hi, to0, outputs);
        dnnc_smlad_clamp(layer->lo, layer->hi, to1, outputs);
      }
      if (layer->channels) {
        scatter(layer->channels + g * outputs, to0, outputs, y0);
        scatter(layer->channels + g * outputs, to1, outputs, y1);
      }
    }
    uint32_t tiles = (outputs + 3u) / 4;
    tables += 4 * tiles * dnnc_smlad_table_bytes(layer);
    w += tiles * tile;
  }
}
