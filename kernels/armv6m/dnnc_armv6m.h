/* The portable kernels for Armv6-M. Its loads extend the sign of a byte only without an offset, so kernels of tiles
 * have weights of 8 bits in offset binary (DNNC_UNSIGNED), as all others are. */
#ifndef DNNC_ARMV6M_H
#define DNNC_ARMV6M_H

/* The sums so far, in low registers: a compiler that makes many products before it adds them runs out of registers. */
#if defined(__GNUC__) && defined(__thumb__) && !defined(__thumb2__)
#define DNNC_KEEP(a) __asm__ volatile("" : "+l"((a)[0]), "+l"((a)[1]), "+l"((a)[2]), "+l"((a)[3]) : : "memory");
#endif

#endif
