/* Start-up of an RV32 test program for an emulator that supplies input and output from outside. No libc. */
#include "harness_board.h"

extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];

__asm__(
    ".section .board_vectors,\"ax\",@progbits\n"
    ".global board_reset\n"
    "board_reset:\n"
    "  la sp, __stack_top\n"
    "  j board_start\n"
    ".section .text.board_call,\"ax\",@progbits\n"
    ".global board_call\n"
    ".global board_returned\n"
    ".type board_call,@function\n"
    "board_call:\n"
    "  addi sp, sp, -16\n"
    "  sw ra, 12(sp)\n"
    "  jalr a2\n"
    "board_returned:\n"
    "  lw ra, 12(sp)\n"
    "  addi sp, sp, 16\n"
    "  ret\n"
    ".size board_call, . - board_call\n"
    ".text\n");

/* The emulator stops here and calls the model itself. */
__attribute__((noinline, used)) void board_ready(void) { __asm__ volatile("" ::: "memory"); }

__attribute__((used, noreturn)) void board_start(void);
void board_start(void) {
  const uint32_t *from = __data_load;
  for (volatile uint32_t *to = __data_start; to < __data_end; ++to) *to = *from++;
  for (volatile uint32_t *to = __bss_start; to < __bss_end; ++to) *to = 0;
  board_ready();
  board_main();
  for (;;) {
  }
}
