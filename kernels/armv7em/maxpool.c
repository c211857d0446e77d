/* Largest element of each window, four channels at a time; there are at least as many. */
#include "dnnc_smlad_bytes.h"
#include "dnnc_window.h"

void DNNC_KERNEL(const dnnc_maxpool_t *layer, const int8_t *x, int8_t *y, void *scratch);

void DNNC_KERNEL(const dnnc_maxpool_t *layer, const int8_t *x, int8_t *y, void *scratch) {
  const dnnc_window_t *win = &layer->window;
  uint32_t channels = win->channels, row = win->in_w * channels;
  uint32_t next_row = win->dilation_h * row, next = win->dilation_w * channels;
  uint32_t lowest = (uint8_t)layer->lowest * 0x01010101u;
  (void)scratch;
  for (uint32_t i = 0; i < win->out_h; i++) {
    dnnc_span_t rows = dnnc_span(i, win->stride_h, win->pad_top, win->kernel_h, win->dilation_h, win->in_h);
    uint32_t height = (uint32_t)(rows.end - rows.begin);
    for (uint32_t j = 0; j < win->out_w; j++) {
      dnnc_span_t cols = dnnc_span(j, win->stride_w, win->pad_left, win->kernel_w, win->dilation_w, win->in_w);
      uint32_t width = (uint32_t)(cols.end - cols.begin), lines = width ? height : 0;
      const int8_t *from = x;
      if (lines) {
        from += (uint32_t)(rows.first + rows.begin * win->dilation_h) * row;
        from += (uint32_t)(cols.first + cols.begin * win->dilation_w) * channels;
      }
      for (uint32_t c = 0; c < channels; c += 4) {
        if (c + 4 > channels) c = channels - 4; /* some of the last four twice */
        uint32_t largest = lowest;
        const int8_t *line = from + c;
        for (uint32_t kh = lines; kh; kh--, line += next_row) {
          const int8_t *at = line;
          uint32_t kw = width;
          do {
            largest = dnnc_bytes_max(largest, dnnc_bytes_load(at));
            at += next;
          } while (--kw);
        }
        __builtin_memcpy(y + c, &largest, 4);
      }
      y += channels;
    }
  }
}
