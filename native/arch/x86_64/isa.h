/* isa.h - the inline half of the x86-64 port. */
#ifndef XMC_ISA_H
#define XMC_ISA_H
#include <errno.h>
#include <stdint.h>
#include <string.h>

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

/* Replace 16 aligned bytes. -EIO where they were not what was expected: then someone else writes there too. */
static inline int exchange16(uint64_t address, const uint8_t *wanted, const uint8_t *expected)
{
	uint64_t lo, hi, old_lo, old_hi;
	uint8_t done;

	memcpy(&lo, wanted, 8);
	memcpy(&hi, wanted + 8, 8);
	memcpy(&old_lo, expected, 8);
	memcpy(&old_hi, expected + 8, 8);
	__asm__ volatile("lock cmpxchg16b (%[at])"
	                 : "=@ccz"(done), "+a"(old_lo), "+d"(old_hi)
	                 : [at] "r"(address), "b"(lo), "c"(hi)
	                 : "memory");
	return done ? 0 : -EIO;
}

/*
 * One store of a form of its own (enum xmc_store). `operand` holds the bytes to come, `width` of them; for CMPXCHG16B
 * those that it expects follow. Returns 0 or -errno.
 */
static inline int xmc_arch_store_form(uint32_t form, uint64_t address, const uint8_t *operand, uint32_t width)
{
	uint64_t value = 0, count = width;

	switch (form) {
	case XMC_STORE_SSE16:
		__asm__ volatile("movups (%1), %%xmm0\n\tmovups %%xmm0, (%0)"
		                 :
		                 : "r"(address), "r"(operand)
		                 : "memory", "xmm0");
		return 0;
	case XMC_STORE_AVX32: /* vzeroupper: dirty upper halves would slow every SSE instruction after it */
		__asm__ volatile("vmovdqu (%1), %%ymm0\n\tvmovdqu %%ymm0, (%0)\n\tvzeroupper"
		                 :
		                 : "r"(address), "r"(operand)
		                 : "memory", "xmm0");
		return 0;
	case XMC_STORE_CMPXCHG16B:
		return exchange16(address, operand, operand + 16);
	case XMC_STORE_MOVSB:
		__asm__ volatile("rep movsb" : "+D"(address), "+S"(operand), "+c"(count) : : "memory");
		return 0;
	case XMC_STORE_NT:
		memcpy(&value, operand, width);
		if (width == 4)
			__asm__ volatile("movntil %k1, (%0)" : : "r"(address), "r"(value) : "memory");
		else
			__asm__ volatile("movntiq %1, (%0)" : : "r"(address), "r"(value) : "memory");
		return 0;
	default:
		return -ENOTSUP;
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

/* `jmp rel32` at `at` to `target`, and three breakpoints: what one aligned 8-byte store puts there. */
static inline uint64_t xmc_arch_jump(uint64_t at, uint64_t target)
{
	uint32_t rel = (uint32_t)(target - at - 5);

	return 0xe9ull | (uint64_t)rel << 8 | 0xccccccull << 40;
}

static inline void xmc_arch_relax(void)
{
	__asm__ volatile("pause");
}
#endif
