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

/* The scratch: pairs of two pixels | two output pixels, where they are scattered. Each part is whole words. */
void dnnc_smlad_dense(const dnnc_linear_t *layer, const int8_t *x, int8_t *y, void *scratch,
                      const dnnc_smlad_t *weights) {
  uint32_t k = layer->in_c, fours = k / 4, outputs = layer->out_c;
  uint32_t padded = dnnc_smlad_padded(weights, k), half = padded / 4 & 1;
  uint32_t pixels = (uint32_t)layer->out_h * layer->out_w;
  uint32_t *pairs = scratch;
  int8_t *held = (int8_t *)(pairs + (pixels > 1 ? (padded + 3u) & ~3u : (padded / 2 + 3u) & ~3u));
  int32_t offset = weights->offset;
  uint32_t j = 0;
  const int8_t *row = x;
  while (pixels) {
    uint32_t count = pixels > 1 ? 2 : 1;
    const int8_t *from[2];
    for (uint32_t p = 0; p < count; p++) {
      from[p] = x;
      x += (uint32_t)layer->stride_w * layer->in_stride;
      if (++j == layer->out_w) {
        j = 0;
        x = row += (uint32_t)layer->stride_h * layer->in_w * layer->in_stride;
      }
    }
    uint32_t *at = pairs + fours * 2 * count;
    uint32_t *end = pairs + padded / 2 * count, *sums_end = pairs + ((padded / 2 * count + 3u) & ~3u);
    int32_t sums[2] = {0, 0};
    int8_t *y0 = y, *y1 = y + layer->out_stride, *to0 = y0, *to1 = y1;
    if (layer->channels) to0 = held, to1 = held + outputs;
    if (count == 2) {
      dnnc_smlad_widen_two(pairs, from[0], from[1], fours);
    } else {
      dnnc_smlad_widen_one(pairs, from[0], fours);
    }
    if (k % 4) {
      uint32_t last[2] = {rest(from[0] + 4 * fours, k % 4), rest(from[count - 1] + 4 * fours, k % 4)};
      if (count == 2) {
        dnnc_smlad_widen_two(at, (const int8_t *)&last[0], (const int8_t *)&last[1], 1);
      } else {
        dnnc_smlad_widen_one(at, (const int8_t *)&last[0], 1);
      }
      at += 2 * count;
    }
    while (at < sums_end) *at++ = 0;
    if (offset) dnnc_smlad_sums(pairs, sums_end, sums);
    if (count == 2) {
      weights->two(pairs, layer->weights, layer->bias, layer->multiplier, to0, to1, (int32_t)outputs, end,
                   layer->out_zero, layer->left_shift, -sums[0] * offset, -sums[1] * offset, half);
    } else {
      weights->one(pairs, layer->weights, layer->bias, layer->multiplier, to0, (int32_t)outputs, end, layer->out_zero,
                   layer->left_shift, -(sums[0] + sums[1]) * offset, half);
    }
    dnnc_smlad_clamp(layer->lo, layer->hi, to0, outputs);
    if (layer->channels) scatter(layer->channels, to0, outputs, y0);
    if (count == 2) {
      dnnc_smlad_clamp(layer->lo, layer->hi, to1, outputs);
      if (layer->channels) scatter(layer->channels, to1, outputs, y1);
    }
    y += count * layer->out_stride;
    pixels -= count;
  }
}
