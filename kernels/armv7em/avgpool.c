/* Mean of each window, four channels at a time (there are at least as many): sums in 16-bit lanes, one rounding. */
#include "dnnc_smlad_bytes.h"
#include "dnnc_window.h"

void DNNC_KERNEL(const dnnc_avgpool_t *layer, const int8_t *x, int8_t *y, void *scratch);

void DNNC_KERNEL(const dnnc_avgpool_t *layer, const int8_t *x, int8_t *y, void *scratch) {
  const dnnc_window_t *win = &layer->window;
  uint32_t channels = win->channels, row = win->in_w * channels;
  (void)scratch;
  for (uint32_t i = 0; i < win->out_h; i++) {
    dnnc_span_t rows = dnnc_span(i, win->stride_h, win->pad_top, win->kernel_h, 1, win->in_h);
    int32_t counted = dnnc_overlap(rows.first, win->kernel_h, layer->count_top, layer->count_bottom);
    uint32_t height = (uint32_t)(rows.end - rows.begin);
    for (uint32_t j = 0; j < win->out_w; j++) {
      dnnc_span_t cols = dnnc_span(j, win->stride_w, win->pad_left, win->kernel_w, 1, win->in_w);
      int32_t count = counted * dnnc_overlap(cols.first, win->kernel_w, layer->count_left, layer->count_right);
      int32_t scale = dnnc_mean_multiplier(layer, count);
      uint32_t width = (uint32_t)(cols.end - cols.begin), lines = height;
      int32_t zeros = (int32_t)(height * width) * layer->in_zero;
      const int8_t *from = x;
      if (height && width) {
        from += (uint32_t)(rows.first + rows.begin) * row + (uint32_t)(cols.first + cols.begin) * channels;
      }
      if (width == win->in_w) { /* rows without gaps are one */
        width *= lines;
        lines = 1;
      }
      for (uint32_t c = 0; c < channels; c += 4) {
        if (c + 4 > channels) c = channels - 4; /* some of the last four twice */
        int32_t totals[4] = {-zeros, -zeros, -zeros, -zeros};
        for (uint32_t kh = 0; kh < lines; kh++) dnnc_bytes_total(totals, from + c + kh * row, channels, width);
        for (uint32_t k = 0; k < 4; k++) {
          int32_t scaled = dnnc_rescale(totals[k], scale, layer->left_shift);
          y[c + k] = (int8_t)dnnc_clamp(scaled + layer->out_zero, layer->lo, layer->hi);
        }
      }
      y += channels;
    }
  }
}
