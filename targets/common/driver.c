/* The test driver: input blocks from a file, through the model, output blocks to another.
 *
 * harness_model.h, generated, defines HARNESS_INPUT_T, HARNESS_OUTPUT_T, HARNESS_INPUT, HARNESS_OUTPUT and HARNESS_RUN.
 * input.bin: blocks, one after another. output.bin: blocks. measured.bin: of the first sample, stack bytes and timer
 * ticks, one word each. trace.bin: for each step its number and bytes, one word each, then the value.
 */
#include "harness_board.h"
#include "harness_model.h"

static uintptr_t trace_file;

void dnnc_trace(int32_t step, const void *data, uint32_t bytes);

void dnnc_trace(int32_t step, const void *data, uint32_t bytes) {
  board_write(trace_file, &step, sizeof step);
  board_write(trace_file, &bytes, sizeof bytes);
  board_write(trace_file, data, bytes);
}

#ifdef BOARD_HAS_OWN_CALL
/* Typed here as the model is: the call goes through assembly. */
int board_call(const HARNESS_INPUT_T *in, HARNESS_OUTPUT_T *out, int (*run)(const HARNESS_INPUT_T *, HARNESS_OUTPUT_T *));
#else
static int board_call(const HARNESS_INPUT_T *in, HARNESS_OUTPUT_T *out,
                      int (*run)(const HARNESS_INPUT_T *, HARNESS_OUTPUT_T *)) {
  return run(in, out);
}
#endif

int board_main(void) {
  const uintptr_t source = board_open("input.bin", 0);
  const uintptr_t sink = board_open("output.bin", 1);
  const uintptr_t measured = board_open("measured.bin", 1);
#ifdef DNNC_TRACE
  trace_file = board_open("trace.bin", 1);
#endif
  for (uint32_t sample = 0;; ++sample) {
    HARNESS_INPUT_T *in = HARNESS_INPUT();
    HARNESS_OUTPUT_T *out = HARNESS_OUTPUT();
#ifdef DRIVER_COPIES
    /* every other sample takes the path that copies from and to buffers of the caller's */
    static HARNESS_INPUT_T own_in;
    static HARNESS_OUTPUT_T own_out;
    if (sample % 2 == 1) {
      in = &own_in;
      out = &own_out;
    }
#endif
    if (board_read(source, in, sizeof *in) != sizeof *in) return 0;
    board_paint_stack();
    board_start_ticks();
    const int code = board_call(in, out, HARNESS_RUN);
    uint32_t figures[2];
    figures[1] = board_ticks(); /* before anything else: the clock runs */
    figures[0] = board_painted_depth();
    if (sample == 0) board_write(measured, figures, sizeof figures);
    if (code != 0) return 2;
    board_write(sink, out, sizeof *out);
  }
}
