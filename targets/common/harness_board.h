/* What the test driver asks of a board. Files are those of the computer that runs or emulates it. */
#ifndef HARNESS_BOARD_H
#define HARNESS_BOARD_H

#include <stddef.h>
#include <stdint.h>

/* Opens a file of the current folder; ends the program where it cannot. */
uintptr_t board_open(const char *name, int writing);
/* Bytes read; fewer at the file's end. */
size_t board_read(uintptr_t file, void *data, size_t bytes);
void board_write(uintptr_t file, const void *data, size_t bytes);
void board_exit(int code);

/* Fills the free stack; afterwards, how many bytes of it the last board_call has written (0: not known). */
void board_paint_stack(void);
uint32_t board_painted_depth(void);

/* A timer of a rate that the board has; BOARD_NO_TICKS: it wrapped round, or there is none. */
#define BOARD_NO_TICKS 0xFFFFFFFFu
void board_start_ticks(void);
uint32_t board_ticks(void);

/* The test driver. */
int board_main(void);

#endif
