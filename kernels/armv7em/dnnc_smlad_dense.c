/* Fully connected layers and 1x1 convolutions without padding: pixels are widened where they lie, two at a time. */
#include "dnnc_smlad.h"

static void scatter(const uint16_t *channels, const int8_t *from, uint32_t count, int8_t *y) {
  for (uint32_t c = 0; c < count; c++) y[channels[c]] = from[c];
}

/* The last one to three values of a row as four, with zeros. */
static uint32_t rest(const int8_t *x, uint32_t count) {
  uint32_t four = 0;
  for (uint32_t i = 0; i < count; i++) four |= (uint32_t)(uint8_t)x[i] << 8 * i;
  return four;
}

static void clear(uint32_t *at, const uint32_t *end) {
  while (at < end) *at++ = 0;
}

/* The pixels of the input that are read, in their order: `left` more of a row. */
typedef struct {
  const int8_t *x, *row;
  uint32_t left;
} reader_t;

static inline const int8_t *next(reader_t *reader, const dnnc_linear_t *layer, uint32_t step) {
  const int8_t *x = reader->x;
  reader->x = x + step;
  if (--reader->left == 0) {
    reader->left = layer->out_w;
    reader->x = reader->row += (uint32_t)layer->stride_h * layer->in_w * layer->in_stride;
  }
  return x;
}

/* What comes after the products of a pixel: clamp, and the channels' own places in it. */
static void finish(const dnnc_linear_t *layer, int8_t *made, int8_t *y) {
  dnnc_smlad_clamp(layer->lo, layer->hi, made, layer->out_c);
  if (layer->channels) scatter(layer->channels, made, layer->out_c, y);
}

/* The scratch: pairs of two pixels | two output pixels, where they are scattered. Each part is whole words. */
void dnnc_smlad_dense(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                      const dnnc_smlad_t *weights) {
  uint32_t k = layer->in_c, fours = k / 4, outputs = layer->out_c, out_stride = layer->out_stride;
  uint32_t padded = dnnc_smlad_padded(weights, k), padded_fours = padded / 4;
  uint32_t pixels = (uint32_t)layer->out_h * layer->out_w, step = (uint32_t)layer->stride_w * layer->in_stride;
  uint32_t *pairs = scratch;
  int8_t *held = (int8_t *)(pairs + (pixels > 1 ? (padded + 3u) & ~3u : (padded / 2 + 3u) & ~3u));
  int32_t offset = weights->offset, sums[2] = {0, 0};
  int finished = !layer->channels && layer->lo <= -128 && layer->hi >= 127;
  reader_t reader = {x, x, layer->out_w};
  if (pixels > 1) {
    uint32_t *last = pairs + 4 * fours, *end = pairs + padded, *sums_end = pairs + ((padded + 3u) & ~3u);
    clear(k % 4 ? last + 4 : last, sums_end);
    for (; pixels > 1; pixels -= 2) {
      const int8_t *a = next(&reader, layer, step), *b = next(&reader, layer, step);
      int8_t *y1 = y + out_stride, *to0 = y, *to1 = y1;
      dnnc_smlad_widen_two(pairs, a, b, fours);
      if (k % 4) {
        uint32_t rest0 = rest(a + 4 * fours, k % 4), rest1 = rest(b + 4 * fours, k % 4);
        dnnc_smlad_widen_two(last, (const int8_t *)&rest0, (const int8_t *)&rest1, 1);
      }
      if (offset) dnnc_smlad_sums(pairs, sums_end, sums);
      if (layer->channels) to0 = held, to1 = held + outputs;
      weights->two(pairs, layer->weights, layer->bias, layer->scales, to0, to1, (int32_t)outputs, end, layer->out_zero,
                   layer->left_shift, -sums[0] * offset, -sums[1] * offset, padded_fours);
      if (!finished) {
        finish(layer, to0, y);
        finish(layer, to1, y1);
      }
      y = y1 + out_stride;
    }
  }
  if (pixels) {
    uint32_t *last = pairs + 2 * fours, *end = pairs + padded / 2, *sums_end = pairs + ((padded / 2 + 3u) & ~3u);
    clear(k % 4 ? last + 2 : last, sums_end);
    dnnc_smlad_widen_one(pairs, reader.x, fours);
    if (k % 4) {
      uint32_t rest0 = rest(reader.x + 4 * fours, k % 4);
      dnnc_smlad_widen_one(last, (const int8_t *)&rest0, 1);
    }
    if (offset) dnnc_smlad_sums(pairs, sums_end, sums);
    int8_t *to = layer->channels ? held : y;
    weights->one(pairs, layer->weights, layer->bias, layer->scales, to, (int32_t)outputs, end, layer->out_zero,
                 layer->left_shift, -(sums[0] + sums[1]) * offset, padded_fours);
    if (!finished) finish(layer, to, y);
  }
}
