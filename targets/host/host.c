/* The test driver's board on a computer with an operating system. */
#include <stdio.h>
#include <stdlib.h>

#include "harness_board.h"

uintptr_t board_open(const char *name, int writing) {
  FILE *file = fopen(name, writing ? "wb" : "rb");
  if (file == NULL) board_exit(3);
  return (uintptr_t)file;
}

size_t board_read(uintptr_t file, void *data, size_t bytes) { return fread(data, 1, bytes, (FILE *)file); }

void board_write(uintptr_t file, const void *data, size_t bytes) {
  if (fwrite(data, 1, bytes, (FILE *)file) != bytes) board_exit(3);
}

void board_exit(int code) { exit(code); }

/* Neither stack nor time are measured here. */
void board_paint_stack(void) {}
uint32_t board_painted_depth(void) { return 0; }
void board_start_ticks(void) {}
uint32_t board_ticks(void) { return BOARD_NO_TICKS; }

int main(void) { return board_main(); }
