/* threads.c - clocks, pinning, and what a thread used. */
#include "core.h"
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

uint64_t thread_cpu_ns(pthread_t thread)
{
	struct timespec t;
	clockid_t clock;

	if (pthread_getcpuclockid(thread, &clock) || clock_gettime(clock, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Pin the calling thread and look where it runs, rather than believe that it worked. */
int pin_self(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		return -errno;
	return sched_getcpu() == cpu ? 0 : -ENXIO;
}

int current_cpu(void)
{
	return sched_getcpu();
}

int own_tid(void)
{
	return (int)syscall(SYS_gettid);
}

void thread_usage(uint64_t *cpu_ns, uint64_t *voluntary, uint64_t *forced)
{
	struct rusage usage;

	*cpu_ns = thread_cpu_ns(pthread_self());
	if (getrusage(RUSAGE_THREAD, &usage))
		return;
	*voluntary = (uint64_t)usage.ru_nvcsw;
	*forced = (uint64_t)usage.ru_nivcsw;
}

void sleep_until(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000ull), (long)(ns % 1000000000ull) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}
