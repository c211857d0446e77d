/* Depthwise convolution: the weights of four channels are unpacked once, then used at every pixel. */
#include "dnnc_tile.h"

/* The signed weights of a tile, four channels a tap. Padded taps follow the real ones. */
static void unpack(int8_t *taps, const uint32_t *w, uint32_t blocks) {
  for (; blocks; blocks--) {
#define DNNC_PUT(at, field) (at) = (int8_t)((field) * DNNC_FACTOR - DNNC_OFFSET);
#define DNNC_FOUR(j, p0, p1, p2, p3)             \
  DNNC_PUT(taps[8 * (j) + 0], DNNC_LOW(p0))      \
  DNNC_PUT(taps[8 * (j) + 1], DNNC_LOW(p1))      \
  DNNC_PUT(taps[8 * (j) + 2], DNNC_LOW(p2))      \
  DNNC_PUT(taps[8 * (j) + 3], DNNC_LOW(p3))      \
  DNNC_PUT(taps[8 * (j) + 4], DNNC_HIGH(p0))     \
  DNNC_PUT(taps[8 * (j) + 5], DNNC_HIGH(p1))     \
  DNNC_PUT(taps[8 * (j) + 6], DNNC_HIGH(p2))     \
  DNNC_PUT(taps[8 * (j) + 7], DNNC_HIGH(p3))
    DNNC_BLOCK(w)
#undef DNNC_FOUR
#undef DNNC_PUT
    taps += 4 * DNNC_BLOCK_K;
    w += DNNC_BLOCK_WORDS;
  }
}

/* One pixel of `count` channels: x and y point at their first channels, `at` says where each lies. */
static inline void pixel(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, int32_t top, int32_t left,
                         const int8_t *taps, uint32_t lane, const uint16_t *at, uint32_t count) {
  int32_t acc[4];
  for (uint32_t c = 0; c < count; c++) acc[c] = layer->bias[lane + c];
  for (uint32_t kh = 0; kh < layer->kernel_h; kh++) {
    int32_t h = top + (int32_t)(kh * layer->dilation_h);
    for (uint32_t kw = 0; kw < layer->kernel_w; kw++, taps += 4) {
      int32_t w = left + (int32_t)(kw * layer->dilation_w);
      if (h < 0 || h >= layer->in_h || w < 0 || w >= layer->in_w) {
        for (uint32_t c = 0; c < count; c++) acc[c] += layer->in_zero * taps[c];
      } else {
        const DNNC_X *from = x + ((uint32_t)h * layer->in_w + (uint32_t)w) * layer->in_stride;
        for (uint32_t c = 0; c < count; c++) acc[c] += from[at[c]] * taps[c];
      }
    }
  }
  for (uint32_t c = 0; c < count; c++) y[at[c]] = dnnc_code(layer, lane + c, acc[c]);
}

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_linear_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  int8_t *taps = scratch;
  uint32_t blocks = layer->blocks;
  for (uint32_t o = 0; o < layer->out_c; o += 4) {
    uint32_t count = layer->out_c - o < 4u ? layer->out_c - o : 4u;
    uint16_t at[4] = {0, 0, 0, 0};
    for (uint32_t c = 0; c < count; c++) at[c] = (uint16_t)dnnc_channel(layer, o + c);
    unpack(taps, layer->weights + (o / 4) * blocks * DNNC_BLOCK_WORDS, blocks);
    DNNC_Y *to = y;
    for (uint32_t i = 0; i < layer->out_h; i++) {
      int32_t top = (int32_t)(i * layer->stride_h) - layer->pad_top;
      for (uint32_t j = 0; j < layer->out_w; j++, to += layer->out_stride) {
        int32_t left = (int32_t)(j * layer->stride_w) - layer->pad_left;
        if (count == 4) {
          pixel(layer, x, to, top, left, taps, o, at, 4);
        } else {
          pixel(layer, x, to, top, left, taps, o, at, count);
        }
      }
    }
  }
}
