/* bare.h - what the baselines share: a clock, a wait, a pin. Nothing of the core's is used by any of them. */
#ifndef BARE_H
#define BARE_H
#include <sched.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline void spin(uint64_t ticks)
{
	uint64_t until = __builtin_ia32_rdtsc() + ticks;

	while ((int64_t)(until - __builtin_ia32_rdtsc()) > 0)
		;
}

static inline void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}
#endif
