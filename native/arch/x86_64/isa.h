/* isa.h - the inline half of the x86-64 port. */
#ifndef XMC_ISA_H
#define XMC_ISA_H
#include <stdint.h>

/*
 * One store instruction of `width` bytes. The asm is what makes it one: a C assignment may be split or merged by the
 * compiler. "memory" keeps it in program order against the flags; TSO does the rest.
 */
static inline void xmc_arch_store(uint64_t address, uint64_t value, uint32_t width)
{
	switch (width) {
	case 1:
		__asm__ volatile("movb %b1, (%0)" : : "r"(address), "q"(value) : "memory");
		break;
	case 2:
		__asm__ volatile("movw %w1, (%0)" : : "r"(address), "r"(value) : "memory");
		break;
	case 4:
		__asm__ volatile("movl %k1, (%0)" : : "r"(address), "r"(value) : "memory");
		break;
	default:
		__asm__ volatile("movq %1, (%0)" : : "r"(address), "r"(value) : "memory");
		break;
	}
}

/* Orders all earlier loads and stores before all later ones, on the writer. */
static inline void xmc_arch_mfence(void)
{
	__asm__ volatile("mfence" : : : "memory");
}

static inline void xmc_arch_sfence(void)
{
	__asm__ volatile("sfence" : : : "memory");
}

static inline void xmc_arch_lfence(void)
{
	__asm__ volatile("lfence" : : : "memory");
}

/* CPUID serializes on every x86 (SDM volume 3A, "Serializing Instructions"; APM volume 2, 7.6.4). */
static inline void xmc_arch_serialize(void)
{
	uint32_t a = 0, b, c = 0, d;

	__asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d) : : "memory");
}

/* Bytes of the line that xmc_arch_flush acts on: 64 on every x86-64 so far. */
#define XMC_ARCH_LINE 64ull

/* Write back and invalidate one line everywhere. Ordered against stores to that line, so no fence is needed here. */
static inline void xmc_arch_flush(uint64_t address)
{
	__asm__ volatile("clflush (%0)" : : "r"(address) : "memory");
}

/* Bring the line here in a state that allows writing, and write nothing. A hint: a CPU may ignore it. */
static inline void xmc_arch_own(uint64_t address)
{
	__asm__ volatile("prefetchw (%0)" : : "r"(address) : "memory");
}

/* Nothing: x86 keeps instruction fetch coherent with stores, by physical address. */
static inline void xmc_arch_sync_range(uint64_t address, uint64_t len)
{
	(void)address;
	(void)len;
}

static inline uint64_t xmc_arch_ticks(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static inline void xmc_arch_relax(void)
{
	__asm__ volatile("pause");
}
#endif
