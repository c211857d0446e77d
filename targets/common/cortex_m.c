/* Start-up of a Cortex-M test program: vectors, memory, floating-point unit, and the call whose instructions are
 * counted. Input and output go through Arm semihosting (Arm IHI 0102). No libc. */
#include "board.h"

extern uint32_t __stack_bottom[], __stack_top[];
extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];

#define SCB_VTOR (*(volatile uint32_t *)0xE000ED08u)
#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#define SCB_CFSR (*(volatile uint32_t *)0xE000ED28u)
#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define SYST_COUNTFLAG (1u << 16)

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT_EXTENDED = 0x20 };
enum { OPEN_READ = 1, OPEN_WRITE = 5 };
enum { ADP_APPLICATION_EXIT = 0x20026 };

void board_reset(void);
void board_fault(void);

/* int board_call(const void *in, void *out, board_function f): the label after the call marks the end of the count. */
__asm__(
    ".syntax unified\n"
    ".thumb\n"
    ".section .text.board_call,\"ax\",%progbits\n"
    ".global board_call\n"
    ".global board_returned\n"
    ".type board_call,%function\n"
    ".type board_returned,%function\n"
    ".thumb_func\n"
    "board_call:\n"
    "  push {r4, lr}\n"
    "  blx r2\n"
    ".thumb_func\n"
    "board_returned:\n"
    "  pop {r4, pc}\n"
    ".size board_call, . - board_call\n"
    ".text\n");

/* The emulator that counts from outside stops here and calls the model itself. */
__attribute__((noinline, used)) void board_ready(void) { __asm__ volatile("" ::: "memory"); }

void board_reset(void) {
#if defined(__ARM_FP)
  SCB_CPACR |= 0xFu << 20;
  __asm__ volatile("dsb\n isb" ::: "memory");
#endif
  const uint32_t *from = __data_load;
  for (volatile uint32_t *to = __data_start; to < __data_end; ++to) *to = *from++;
  for (volatile uint32_t *to = __bss_start; to < __bss_end; ++to) *to = 0;
  board_ready();
  board_exit(board_main());
}

static uintptr_t semihost(uintptr_t operation, const void *argument) {
  register uintptr_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = argument;
  __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

uintptr_t board_open(const char *name, int writing) {
  size_t length = 0;
  while (name[length]) ++length;
  const uintptr_t block[3] = {(uintptr_t)name, writing ? OPEN_WRITE : OPEN_READ, length};
  return semihost(SYS_OPEN, block);
}

size_t board_read(uintptr_t file, void *data, size_t bytes) {
  const uintptr_t block[3] = {file, (uintptr_t)data, bytes};
  return bytes - (size_t)semihost(SYS_READ, block);
}

void board_write(uintptr_t file, const void *data, size_t bytes) {
  const uintptr_t block[3] = {file, (uintptr_t)data, bytes};
  if (semihost(SYS_WRITE, block) != 0) board_exit(3);
}

void board_exit(int code) {
  const uintptr_t block[2] = {ADP_APPLICATION_EXIT, (uintptr_t)code};
  semihost(SYS_EXIT_EXTENDED, block);
  for (;;) {
  }
}

void board_fault(void) { board_exit(4); }

void board_paint_stack(void) {
  uint32_t here;
  for (volatile uint32_t *p = __stack_bottom; (uintptr_t)p + 64 < (uintptr_t)&here; ++p) *p = BOARD_PAINT;
}

uint32_t board_painted_depth(uintptr_t from) {
  const volatile uint32_t *p = __stack_bottom;
  while ((uintptr_t)p < from && *p == BOARD_PAINT) ++p;
  return (uint32_t)(from - (uintptr_t)p);
}

void board_start_ticks(void) {
  SYST_CSR = 0;
  SYST_RVR = 0xFFFFFF;
  SYST_CVR = 0;
  SYST_CSR = 5;
}

uint32_t board_ticks(void) {
  const uint32_t now = SYST_CVR;
  return (SYST_CSR & SYST_COUNTFLAG) ? BOARD_NO_TICKS : 0xFFFFFFu - now;
}

__attribute__((used, section(".board_vectors"))) static void *const vectors[16] = {
    (void *)__stack_top, (void *)board_reset, (void *)board_fault, (void *)board_fault,
    (void *)board_fault, (void *)board_fault, (void *)board_fault, (void *)board_fault,
    0, 0, 0, (void *)board_fault, (void *)board_fault, 0, (void *)board_fault, (void *)board_fault};
