/*
 * guess.c - does the guess loop fetch and run, speculatively, the slot that comes next? Prints how many ticks a load of
 * a line takes that only the next slot's code reads: flushed, then after the plain loop, then after the guess loop,
 * medians. Linked with the loops that the core uses; started by tests/test_publish.py.
 */
#include "ticks.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static _Alignas(4096) uint8_t stack[65536 + sizeof(struct xmc_frame)];
static uint64_t zero_generation, adopted;

/* Median ticks of the load after `loop` ran 64 executions of generation 0; NULL: after nothing. */
static uint64_t after(struct xmc_frame *f, xmc_loop loop, uint64_t *line)
{
	static uint64_t ticks[TIMES];

	for (int i = 0; i < TIMES; i++) {
		xmc_arch_flush((uint64_t)line);
		xmc_arch_mfence();
		f->left = 64;
		if (loop)
			loop(f);
		if (loop && f->left)
			exit(1);	/* an execution was not generation 0's: the next slot ran in earnest */
		ticks[i] = load_ticks(line);
	}
	return median(ticks);
}

int main(void)
{
	struct xmc_frame *f = (struct xmc_frame *)(stack + 65536);
	uint8_t *slots = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t *line = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint64_t code = 0xffffffff00000000ull, address = (uint64_t)line + 1024;

	if (slots == MAP_FAILED || (void *)line == MAP_FAILED)
		return 2;
	line[128] = 1;
	memcpy(slots, "\x48\xb8", 2);		/* movabs $code, %rax; ret */
	memcpy(slots + 2, &code, 8);
	slots[10] = 0xc3;
	memcpy(slots + 128, "\x48\xb8", 2);	/* movabs $line, %rax; mov (%rax), %rax; ret */
	memcpy(slots + 130, &address, 8);
	memcpy(slots + 138, "\x48\x8b\x00\xc3", 4);
	f->self = (uint64_t)f;
	f->base = (uint64_t)slots;
	f->mask = 1;
	f->stride = 128;
	f->published = (uint64_t)&zero_generation;
	f->adopted = (uint64_t)&adopted;
	f->poison = (uint64_t)slots;
	f->random = 1;
	printf("%llu %llu %llu %llu\n", (unsigned long long)after(f, NULL, line + 128),
	       (unsigned long long)after(f, xmc_arch_loop_publish, line + 128),
	       (unsigned long long)after(f, xmc_arch_loop_guess, line + 128),
	       (unsigned long long)after(f, xmc_arch_loop_guess_flush, line + 128));
	return 0;
}
