/*
 * provoke.c - do the steps that provocations are made of do what their names say? Prints a line for each: a name, then
 * what was counted, or how many ticks a load took afterwards (medians). Linked with the sources that the core is made
 * of; started by tests/test_provocations.py.
 */
#include "core.h"
#include "ticks.h"
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define COUNTED_FIRST 128		/* offsets in a page of its counters: of calls to its start, */
#define COUNTED_LAST 132		/* and to its last line */

static _Alignas(4096) uint8_t stack[65536 + sizeof(struct xmc_frame)];
static _Alignas(64) uint8_t lines[3 * 64];
static struct xmc_frame *frame = (struct xmc_frame *)(stack + 65536);

static uint8_t *pages(uint64_t n)
{
	uint8_t *p = mmap(NULL, n * 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		exit(2);
	return p;
}

/* One execution of `xor %eax, %eax; ret`, one executor step before it. */
static void step(uint32_t op)
{
	frame->before[0] = xmc_arch_exec_step(op);
	frame->before[1] = NULL;
	frame->left = 1;
	xmc_arch_loop_value_steps(frame);
}

/* Both lines are near; then the step; then either is loaded, in turn. */
static void flushes(const char *name, uint32_t op)
{
	static uint64_t head[TIMES], tail[TIMES];

	for (int i = 0; i < 2 * TIMES; i++) {
		load_ticks(lines);
		load_ticks(lines + 128);
		step(op);
		xmc_arch_mfence();
		if (i & 1)
			head[i / 2] = load_ticks(lines);
		else
			tail[i / 2] = load_ticks(lines + 128);
	}
	printf("%s %llu %llu\n", name, (unsigned long long)median(head), (unsigned long long)median(tail));
}

/* Pages that count who calls them where: how many were called exactly once, and how many more often. */
static void tours(const char *name, uint32_t op, uint32_t counter)
{
	uint8_t *arena = pages(XMC_ARENA_PAGES);
	uint32_t once = 0, often = 0;

	for (uint32_t i = 0; i < XMC_ARENA_PAGES; i++) {
		memcpy(arena + i * 4096, "\xff\x05\x7a\0\0\0\xc3", 7);		/* incl COUNTED_FIRST; ret */
		memcpy(arena + i * 4096 + 4032, "\xff\x05\xbe\xf0\xff\xff\xc3", 7);	/* incl COUNTED_LAST; ret */
	}
	frame->arena = (uint64_t)arena;
	step(op);
	for (uint32_t i = 0; i < XMC_ARENA_PAGES; i++) {
		uint32_t calls;

		memcpy(&calls, arena + i * 4096 + counter, 4);
		once += calls == 1;
		often += calls > 1;
	}
	printf("%s %u %u\n", name, once, often);
}

/* Branches that one page of the core's arena runs before it returns. */
static void count_branches(void)
{
	uint8_t *page = pages(1);
	uint32_t at = 0, n = 0;

	xmc_arch_fill_arena(page, 4096);
	for (; page[at] == 0xeb; n++)
		at += 2 + page[at + 1];
	printf("branches %u %d\n", n, page[at] == 0xc3);
}

/* A line that only the region reads, and the region is never reached: flushed, and after the step. */
static void mispredicts(void)
{
	static uint64_t without[TIMES], with[TIMES];
	uint8_t *code = pages(1), *line = pages(1) + 1024;

	memcpy(code, "\x48\xb8", 2);			/* movabs $line, %rax; mov (%rax), %rax; ret */
	memcpy(code + 2, &line, 8);
	memcpy(code + 10, "\x48\x8b\x00\xc3", 4);
	frame->bait = (uint64_t)code + 2048;
	xmc_arch_fill_bait(code + 2048, frame->bait, (uint64_t)code);
	*line = 1;
	for (int i = 0; i < 2 * TIMES; i++) {
		xmc_arch_flush((uint64_t)line);
		xmc_arch_mfence();
		if (i & 1)
			step(XMC_EXEC_MISPREDICT);
		(i & 1 ? with : without)[i / 2] = load_ticks(line);
	}
	printf("mispredict %llu %llu\n", (unsigned long long)median(with), (unsigned long long)median(without));
}

/* A line that was flushed, and then whatever `touch` does to it. */
static void touches(const char *name, void (*touch)(uint64_t))
{
	static uint64_t ticks[TIMES];

	for (int i = 0; i < TIMES; i++) {
		xmc_arch_flush((uint64_t)lines);
		xmc_arch_mfence();
		touch((uint64_t)lines);
		for (uint64_t until = xmc_arch_ticks() + 3000; xmc_arch_ticks() < until;)
			xmc_arch_relax();
		ticks[i] = load_ticks(lines);
	}
	printf("%s %llu\n", name, (unsigned long long)median(ticks));
}

static void nothing(uint64_t address)
{
	(void)address;
}

/* Which lines the writer's steps act on, from the boundary that a patch of four bytes has two in front of. */
static void compiled(void)
{
	static struct core core;
	static struct xmc_plan plan = { .n_images = 2, .region_len = 6, .patch = 1, .patch_len = 4, .split = 2,
					.n_provocations = 1, .provocations[0].n_writer = 4 };
	uint64_t boundary = (uint64_t)pages(1) + 1024;

	for (uint32_t i = 0; i < 4; i++)
		plan.provocations[0].writer[i] = (struct xmc_step){
			.op = (uint32_t[]){ XMC_STEP_FLUSH, XMC_STEP_FLUSH, XMC_STEP_OWN, XMC_STEP_SHARE }[i],
			.part = (uint32_t[]){ XMC_PART_FIRST, XMC_PART_BACK, XMC_PART_FIRST, XMC_PART_BACK }[i],
		};
	core.plan = &plan;
	core.region.data = boundary - 3;
	if (program_compile(&core))
		exit(3);
	printf("lines");
	for (uint32_t i = 0; i < core.provoke[0].n; i++)
		printf(" %u %lld", core.provoke[0].micro[i].op, (long long)(core.provoke[0].micro[i].address - boundary));
	printf("\n");
}

int main(void)
{
	uint8_t *code = pages(1);

	memcpy(code, "\x31\xc0\xc3", 3);
	frame->self = (uint64_t)frame;
	frame->entry = (uint64_t)code;
	frame->poison = (uint64_t)code;
	frame->head = (uint64_t)lines;
	frame->tail = (uint64_t)lines + 128;
	flushes("flush-head", XMC_EXEC_FLUSH_HEAD);
	flushes("flush-tail", XMC_EXEC_FLUSH_TAIL);
	tours("evict-tlb", XMC_EXEC_EVICT_TLB, COUNTED_LAST);
	tours("cold-branches", XMC_EXEC_COLD_BRANCHES, COUNTED_FIRST);
	count_branches();
	mispredicts();
	touches("flush", nothing);
	touches("own", xmc_arch_own);
	compiled();
	return 0;
}
