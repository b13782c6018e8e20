/* ticks.h - how long a load takes, and the median of such: for guess.c and provoke.c. */
#ifndef TICKS_H
#define TICKS_H
#include "arch/arch.h"
#include <stdlib.h>

#define TIMES 301

static inline uint64_t load_ticks(const void *at)
{
	uint64_t from;

	xmc_arch_mfence();
	xmc_arch_lfence();
	from = xmc_arch_ticks();
	xmc_arch_lfence();
	*(const volatile uint8_t *)at;
	xmc_arch_lfence();
	return xmc_arch_ticks() - from;
}

static inline int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Of TIMES ticks, which are put in order. */
static inline uint64_t median(uint64_t *ticks)
{
	qsort(ticks, TIMES, sizeof(*ticks), by_value);
	return ticks[TIMES / 2];
}
#endif
