/* Largest element of each window. */
#include "dnnc_window.h"

void DNNC_KERNEL(const dnnc_maxpool_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch);

void DNNC_KERNEL(const dnnc_maxpool_t *layer, const DNNC_X *x, DNNC_Y *y, void *scratch) {
  const dnnc_window_t *win = &layer->window;
  uint32_t channels = win->channels;
  (void)scratch;
  for (uint32_t i = 0; i < win->out_h; i++) {
    dnnc_span_t rows = dnnc_span(i, win->stride_h, win->pad_top, win->kernel_h, win->dilation_h, win->in_h);
    for (uint32_t j = 0; j < win->out_w; j++, y += channels) {
      dnnc_span_t cols = dnnc_span(j, win->stride_w, win->pad_left, win->kernel_w, win->dilation_w, win->in_w);
      for (uint32_t c = 0; c < channels; c++) y[c] = (DNNC_Y)layer->lowest;
      for (int32_t kh = rows.begin; kh < rows.end; kh++) {
        for (int32_t kw = cols.begin; kw < cols.end; kw++) {
          int32_t h = rows.first + kh * win->dilation_h, w = cols.first + kw * win->dilation_w;
          const DNNC_X *from = x + ((uint32_t)h * win->in_w + (uint32_t)w) * channels;
          for (uint32_t c = 0; c < channels; c++) {
            if (from[c] > y[c]) y[c] = from[c];
          }
        }
      }
    }
  }
}
