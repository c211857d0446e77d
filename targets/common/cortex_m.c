/* Start-up of a Cortex-M test program: vectors, memory, floating-point unit, and the call whose instructions are
 * counted. Input and output go through Arm semihosting (Arm IHI 0102). No libc. */
#include "harness_board.h"

extern uint32_t __stack_bottom[], __stack_top[];
extern uint32_t __data_load[], __data_start[], __data_end[], __bss_start[], __bss_end[];

#define SCB_CPACR (*(volatile uint32_t *)0xE000ED88u)
#define SYST_CSR (*(volatile uint32_t *)0xE000E010u)
#define SYST_RVR (*(volatile uint32_t *)0xE000E014u)
#define SYST_CVR (*(volatile uint32_t *)0xE000E018u)
#define SYST_COUNTFLAG (1u << 16)

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, SYS_EXIT_EXTENDED = 0x20 };
enum { OPEN_READ = 1, OPEN_WRITE = 5 };
enum { ADP_APPLICATION_EXIT = 0x20026 };

#define PAINT 0xA5C3E1F7u

void board_reset(void);
void board_fault(void);

/* int board_call(in, out, run) returns run(in, out); the label after the call marks the end of what is counted.
 * board_paint_stack fills the stack below its caller's. */
uint32_t board_call_sp;
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
    "  ldr r3, =board_call_sp\n"
    "  mov r4, sp\n"
    "  str r4, [r3]\n"
    "  blx r2\n"
    ".thumb_func\n"
    "board_returned:\n"
    "  pop {r4, pc}\n"
    ".ltorg\n"
    ".size board_call, . - board_call\n"
    ".section .text.board_paint_stack,\"ax\",%progbits\n"
    ".global board_paint_stack\n"
    ".type board_paint_stack,%function\n"
    ".thumb_func\n"
    "board_paint_stack:\n"
    "  ldr r0, =__stack_bottom\n"
    "  ldr r1, =0xA5C3E1F7\n"
    "1: cmp r0, sp\n"
    "  bhs 2f\n"
    "  stmia r0!, {r1}\n"
    "  b 1b\n"
    "2: bx lr\n"
    ".ltorg\n"
    ".size board_paint_stack, . - board_paint_stack\n"
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
  /* volatile: no compiler turns the loop into a call of strlen, which would count as the model's code */
  for (const volatile char *p = name; *p; ++p) ++length;
  const uintptr_t block[3] = {(uintptr_t)name, writing ? OPEN_WRITE : OPEN_READ, length};
  const uintptr_t file = semihost(SYS_OPEN, block);
  if (file == (uintptr_t)-1) board_exit(3);
  return file;
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

uint32_t board_painted_depth(void) {
  const volatile uint32_t *p = __stack_bottom;
  while ((uintptr_t)p < board_call_sp && *p == PAINT) ++p;
  return (uint32_t)(board_call_sp - (uintptr_t)p);
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
