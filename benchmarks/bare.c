/*
 * bare.c - the loops that the core's are held against, as a C programmer writes them. Each runs for about limit_ns,
 * stores the time taken in *ns and returns how often it did what it does.
 */
#define _GNU_SOURCE
#include "bare.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

typedef uint64_t (*region)(void);

#define MAP_BYTES 0x20000

/* A mapping to put code into: writable, executable, low (so that one can say what lies above it), full of INT3. */
uint8_t *map_code(void)
{
	uint8_t *p = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	for (uint32_t i = 0; i < MAP_BYTES; i++)
		p[i] = 0xcc;
	return p;
}

void unmap_code(uint8_t *p)
{
	munmap(p, MAP_BYTES);
}

/* Call, compare, count. */
uint64_t count_calls(region entry, uint64_t expect, uint64_t limit_ns, uint64_t *ns)
{
	uint64_t n = 0, good = 0, start = now_ns();

	do {
		for (uint32_t i = 0; i < 4096; i++)
			good += entry() == expect;
		n += 4096;
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	return good == n ? n : 0;
}

static struct {
	_Alignas(128) _Atomic uint64_t done, begun;
} flags;

/* The same between two loads, as an executor reads the window around its execution. */
uint64_t count_windows(region entry, uint64_t expect, uint64_t limit_ns, uint64_t *ns)
{
	uint64_t n = 0, good = 0, start = now_ns();

	do {
		for (uint32_t i = 0; i < 4096; i++) {
			uint64_t done = atomic_load_explicit(&flags.done, memory_order_acquire);
			uint64_t value = entry();
			uint64_t begun = atomic_load_explicit(&flags.begun, memory_order_acquire);

			good += done == begun && value == expect;
		}
		n += 4096;
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	return good == n ? n : 0;
}

struct side {
	region entry;
	int cpu;
	_Atomic uint32_t on, stop;
	uint64_t sum;
};

static void *keep_calling(void *arg)
{
	struct side *side = arg;

	pin(side->cpu);
	atomic_store(&side->on, 1);
	while (!atomic_load_explicit(&side->stop, memory_order_relaxed))
		for (uint32_t i = 0; i < 1024; i++)
			side->sum += side->entry();
	return NULL;
}

/* Store `width` bytes of the images in turn at `at`, while a thread on `cpu` (-1: none) calls `entry`. */
uint64_t store_in_turn(region entry, int cpu, uint64_t at, uint32_t width, uint32_t images, const uint64_t *bytes,
		       uint64_t limit_ns, uint64_t *ns)
{
	struct side side = { .entry = entry, .cpu = cpu };
	pthread_t thread;
	uint64_t n = 0, start;

	if (cpu >= 0) {
		pthread_create(&thread, NULL, keep_calling, &side);
		while (!atomic_load(&side.on))
			;
	}
	start = now_ns();
	do {
		for (uint32_t i = 0; i < 1024; i++, n++) {
			if (width == 4)
				*(volatile uint32_t *)at = (uint32_t)bytes[n % images];
			else
				*(volatile uint64_t *)at = bytes[n % images];
		}
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	if (cpu >= 0) {
		atomic_store(&side.stop, 1);
		pthread_join(thread, NULL);
	}
	return n;
}

/* One byte load after another from `at`, thirty to the loop: what a table of 30 `share` steps does. */
uint64_t load_in_turn(const volatile uint8_t *at, uint64_t limit_ns, uint64_t *ns)
{
	uint64_t n = 0, start = now_ns();

	do {
		for (uint32_t i = 0; i < 1024; i++, n += 30) {
#pragma GCC unroll 30
			for (uint32_t j = 0; j < 30; j++)
				(void)*at;
		}
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	return n;
}

/* Call with `fences` LFENCEs in front, in line: what a list of so many executor steps does. */
uint64_t count_fenced_calls(region entry, uint32_t fences, uint64_t limit_ns, uint64_t *ns)
{
	uint64_t n = 0, sum = 0, start = now_ns();

	do {
		for (uint32_t i = 0; i < 1024; i++, n++) {
			if (fences == 1)
				__asm__ volatile("lfence" : : : "memory");
			else
				__asm__ volatile(".rept 6\n\tlfence\n\t.endr" : : : "memory");
			sum += entry();
		}
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	return sum ? n : 0;
}

/* Return to the caller of the code that faulted: the least that recovering from a fault can be. */
static void go_back(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	greg_t *reg = uc->uc_mcontext.gregs;

	(void)sig, (void)info;
	reg[REG_RIP] = *(greg_t *)reg[REG_RSP];
	reg[REG_RSP] += 8;
}

/* Call what raises `sig` and resume. The code lies low, and system calls from above it are let through. */
uint64_t raise_and_resume(region entry, int sig, uint64_t limit_ns, uint64_t *ns)
{
	struct sigaction sa = { .sa_sigaction = go_back, .sa_flags = SA_SIGINFO }, before;
	uint64_t n = 0, end = ((uint64_t)entry | 0xfff) + 1, start;

	if (sig == SIGSYS && prctl(59, 1, end, UINT64_MAX - end, 0)) /* PR_SET_SYSCALL_USER_DISPATCH, _ON */
		return 0;
	sigaction(sig, &sa, &before);
	start = now_ns();
	do {
		for (uint32_t i = 0; i < 64; i++, n++)
			(void)entry();
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	sigaction(sig, &before, NULL);
	if (sig == SIGSYS)
		prctl(59, 0, 0, 0, 0);
	return n;
}
