/* An emulator watches this function's arguments. */
#include "harness_board.h"

void dnnc_trace(int32_t step, const void *data, uint32_t bytes);

__attribute__((noinline, used)) void dnnc_trace(int32_t step, const void *data, uint32_t bytes) {
  __asm__ volatile("" : : "r"(step), "r"(data), "r"(bytes) : "memory");
}
