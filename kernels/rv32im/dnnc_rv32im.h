/* The portable kernels for RV32IM. */
#ifndef DNNC_RV32IM_H
#define DNNC_RV32IM_H

/* The sums so far, in registers: a compiler that makes many products before it adds them runs out of registers. */
#if defined(__GNUC__) && defined(__riscv)
#define DNNC_KEEP(a) __asm__ volatile("" : "+r"((a)[0]), "+r"((a)[1]), "+r"((a)[2]), "+r"((a)[3]) : : "memory");
#endif

#endif
