/* What the test driver asks of a board. Files are those of the computer that emulates it. */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

#define BOARD_PAINT 0xA5C3E1F7u
#define BOARD_NO_TICKS 0xFFFFFFFFu

typedef int (*board_function)(const void *in, void *out);

/* f(in, out); instructions are counted from f's first to the one that returns to the label board_returned. */
int board_call(const void *in, void *out, board_function f);

/* Opens a file of the current folder; ends the program where it cannot. */
uintptr_t board_open(const char *name, int writing);
/* Bytes read. */
size_t board_read(uintptr_t file, void *data, size_t bytes);
void board_write(uintptr_t file, const void *data, size_t bytes);
void board_exit(int code);

/* Fills the free stack; afterwards, how far below `from` it has been written, in bytes. */
void board_paint_stack(void);
uint32_t board_painted_depth(uintptr_t from);

/* A timer of board-specific rate; BOARD_NO_TICKS: it has wrapped round. */
void board_start_ticks(void);
uint32_t board_ticks(void);

/* The test driver. */
int board_main(void);

#endif
