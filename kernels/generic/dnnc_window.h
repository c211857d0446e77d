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

#endif
