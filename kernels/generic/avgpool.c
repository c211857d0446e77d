/* Mean of each window: a sum and one requantisation. */
#include "dnnc_window.h"

void DNNC_KERNEL(const dnnc_avgpool_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_avgpool_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  const dnnc_window_t *win = &layer->window;
  uint32_t channels = win->channels;
  (void)scratch;
  for (uint32_t i = 0; i < win->out_h; i++) {
    dnnc_span_t rows = dnnc_span(i, win->stride_h, win->pad_top, win->kernel_h, 1, win->in_h);
    int32_t counted = dnnc_overlap(rows.first, win->kernel_h, layer->count_top, layer->count_bottom);
    for (uint32_t j = 0; j < win->out_w; j++) {
      dnnc_span_t cols = dnnc_span(j, win->stride_w, win->pad_left, win->kernel_w, 1, win->in_w);
      int32_t count = counted * dnnc_overlap(cols.first, win->kernel_w, layer->count_left, layer->count_right);
      int32_t scale = dnnc_mean_multiplier(layer, count);
      int32_t zeros = (rows.end - rows.begin) * (cols.end - cols.begin) * layer->in_zero;
      for (uint32_t c = 0; c < channels; c++) {
        int32_t sum = -zeros;
        for (int32_t kh = rows.begin; kh < rows.end; kh++) {
          uint32_t at = (uint32_t)(rows.first + kh) * win->in_w + (uint32_t)(cols.first + cols.begin);
          const DNNC_X *from = x + at * channels + c;
          for (int32_t kw = cols.begin; kw < cols.end; kw++, from += channels) sum += *from;
        }
        int32_t scaled = dnnc_rescale(sum, scale, layer->left_shift);
        *y++ = (DNNC_Y)dnnc_clamp(scaled + layer->out_zero, layer->lo, layer->hi);
      }
    }
  }
}
