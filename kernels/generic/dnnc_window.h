/* The part of a pooling window that lies inside the image. */
#ifndef DNNC_WINDOW_H
#define DNNC_WINDOW_H

#include "dnnc_kernels.h"

/* Positions first, first + dilation, ... of `kernel` ones along an axis: the numbers begin <= k < end are inside. */
typedef struct {
  int32_t first;
  int32_t begin, end;
} dnnc_span_t;

static inline dnnc_span_t dnnc_span(uint32_t index, uint32_t stride, uint32_t pad, uint32_t kernel, uint32_t dilation,
                                    uint32_t extent) {
  dnnc_span_t span = {(int32_t)(index * stride) - (int32_t)pad, 0, (int32_t)kernel};
  while (span.begin < span.end && span.first + span.begin * (int32_t)dilation < 0) span.begin++;
  while (span.begin < span.end && span.first + (span.end - 1) * (int32_t)dilation >= (int32_t)extent) span.end--;
  return span;
}

/* How many of the `kernel` positions from `first` lie in begin..end. */
static inline int32_t dnnc_overlap(int32_t first, int32_t kernel, int32_t begin, int32_t end) {
  int32_t from = first < begin ? begin : first, to = first + kernel > end ? end : first + kernel;
  return to > from ? to - from : 0;
}

/* The multiplier for windows of `count` positions; a window of none counts as one. */
static inline int32_t dnnc_mean_multiplier(const dnnc_avgpool_t *layer, int32_t count) {
  const int32_t *entry = layer->count;
  while (count > 1 && *entry != count) entry++;
  return layer->multiplier[entry - layer->count];
}

#endif
