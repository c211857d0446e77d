/* A linear or pooling layer whose input or output is packed: bands of output rows through DNNC_INNER, the kernel for
 * bytes. DNNC_IMAGE(layer) is what of its description says how it walks the image.
 *
 * The scratch: input rows of a band in bytes, where the input is packed | its output rows in bytes, where the output is
 * | the scratch of the kernel. Rows of packed tensors are whole words, unless one band makes the whole layer. */
#include "dnnc_nibbles.h"

#if DNNC_POOL
#define DNNC_WALK dnnc_window_t
#define DNNC_IMAGE(layer) ((layer).window)
#define DNNC_IN_STRIDE(layer) ((layer)->window.channels)
#define DNNC_OUT_STRIDE(layer) ((layer)->window.channels)
#define DNNC_SCATTERS 0
#else
#define DNNC_WALK dnnc_linear_t
#define DNNC_IMAGE(layer) (layer)
#define DNNC_IN_STRIDE(layer) ((layer)->in_stride)
#define DNNC_OUT_STRIDE(layer) ((layer)->out_stride)
#define DNNC_SCATTERS 1
#endif

void DNNC_INNER(const DNNC_LAYER *layer, const int8_t *x, int8_t *y, void *scratch);
void DNNC_KERNEL(const DNNC_LAYER *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const DNNC_LAYER *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  DNNC_LAYER part = *layer;
  const DNNC_WALK *image = &DNNC_IMAGE(*layer);
  uint32_t out_h = image->out_h, rows = dnnc_band_rows(out_h, image->out_w);
  uint32_t span = (image->kernel_h - 1u) * image->dilation_h + 1u;
  uint32_t in_row = (uint32_t)image->in_w * DNNC_IN_STRIDE(layer);
  uint32_t out_row = (uint32_t)image->out_w * DNNC_OUT_STRIDE(layer);
  uint32_t *free = scratch;
#if DNNC_PACKED_X
  uint32_t most = (rows - 1u) * image->stride_h + span;
  uint32_t *bytes_x = free;
  free += 2 * dnnc_nibbles_words((most < image->in_h ? most : image->in_h) * in_row);
#endif
#if DNNC_PACKED_Y
  uint32_t *bytes_y = free;
  free += 2 * dnnc_nibbles_words(rows * out_row);
#endif
  for (uint32_t row = 0; row < out_h; row += rows) {
    if (rows > out_h - row) rows = out_h - row;
    dnnc_band_t band = dnnc_band(row, rows, image->stride_h, image->pad_top, span, image->in_h);
    DNNC_IMAGE(part).in_h = (uint16_t)band.count;
    DNNC_IMAGE(part).out_h = (uint16_t)rows;
    DNNC_IMAGE(part).pad_top = (uint16_t)band.pad;
#if DNNC_COUNTS /* which rows of a window count is said in rows of the image */
    part.count_top = layer->count_top - (int32_t)band.first;
    part.count_bottom = layer->count_bottom - (int32_t)band.first;
#endif
#if DNNC_PACKED_X
    dnnc_nibbles_unpack(x + band.first * in_row / 8, dnnc_nibbles_words(band.count * in_row), bytes_x);
    const int8_t *from = (const int8_t *)bytes_x;
#else
    const int8_t *from = x + band.first * in_row;
#endif
#if DNNC_PACKED_Y
    uint32_t *words = y + row * out_row / 8, count = dnnc_nibbles_words(rows * out_row);
#if DNNC_SCATTERS
    if (layer->channels) dnnc_nibbles_unpack(words, count, bytes_y); /* other calls made the other channels */
#endif
    DNNC_INNER(&part, from, (int8_t *)bytes_y, free);
    dnnc_nibbles_pack(bytes_y, count, words);
#else
    DNNC_INNER(&part, from, y + row * out_row, free);
#endif
  }
}
