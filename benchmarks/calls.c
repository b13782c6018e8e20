/* calls.c - the system calls that a way of publishing code needs, and nothing else: no code, no executor that waits. */
#define _GNU_SOURCE
#include "bare.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096ull
#define STRIDE (PAGE + 128)
#define FRAMES 512ull
#define BLOCK 256ull
#define ADDRESSES (1ull << 18)

enum { ALIAS, DROP_ALIAS, MAP, PROTECT, MEMBARRIER, RENEW };

struct call {
	uint32_t op;
	uint32_t arg;		/* protection; membarrier command */
};

static struct {
	uint8_t *base;
	int fd, cpu;
	int one;		/* 1: one address, whose frames take turns */
	_Atomic uint32_t on, stop;
} room;

/* As the executors do: their CPU runs this memory map, so whatever must reach it does. */
static void *be_there(void *arg)
{
	(void)arg;
	pin(room.cpu);
	atomic_store(&room.on, 1);
	while (!atomic_load_explicit(&room.stop, memory_order_relaxed))
		;
	return NULL;
}

static uint8_t *page_of(uint64_t generation)
{
	uint64_t slot = room.one ? 0 : generation % ADDRESSES;

	return (uint8_t *)((uint64_t)(room.base + slot * STRIDE) & ~(PAGE - 1));
}

static int make(const struct call *call, uint64_t generation)
{
	static uint8_t *alias;
	uint64_t offset = generation % FRAMES * PAGE;

	switch (call->op) {
	case ALIAS:
		alias = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, room.fd, (off_t)offset);
		if (alias != MAP_FAILED)
			*(volatile uint8_t *)alias = 1;	/* the page fault belongs to it */
		return alias == MAP_FAILED;
	case DROP_ALIAS:
		return munmap(alias, PAGE);
	case MAP:
		return mmap(page_of(generation), PAGE, (int)call->arg, MAP_SHARED | MAP_FIXED | MAP_POPULATE, room.fd,
			    (off_t)offset) == MAP_FAILED;
	case PROTECT:
		return mprotect(page_of(generation), PAGE, (int)call->arg);
	case MEMBARRIER:
		return (int)syscall(SYS_membarrier, call->arg, 0, 0);
	default: /* RENEW: the oldest block of addresses becomes desert again */
		if (generation % BLOCK || generation < FRAMES)
			return 0;
		return mmap(page_of(generation - FRAMES), BLOCK * STRIDE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) == MAP_FAILED;
	}
}

/* Rounds of `n` calls, on the calling thread, while `cpu` runs a thread of ours. 0 where a call fails. */
uint64_t make_calls(const struct call *calls, uint32_t n, int cpu, int one, uint64_t limit_ns, uint64_t *ns)
{
	const uint64_t bytes = ADDRESSES * STRIDE + BLOCK * STRIDE;
	uint64_t generation = 0, start;
	pthread_t thread;
	int bad = 0;

	room.base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	room.fd = memfd_create("calls", MFD_CLOEXEC);
	room.cpu = cpu;
	room.one = one;
	if (room.base == MAP_FAILED || ftruncate(room.fd, FRAMES * PAGE) < 0)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (calls[i].op == MEMBARRIER)
			syscall(SYS_membarrier, calls[i].arg << 1, 0, 0);
	atomic_store(&room.on, 0);
	atomic_store(&room.stop, 0);
	pthread_create(&thread, NULL, be_there, NULL);
	while (!atomic_load(&room.on))
		;
	start = now_ns();
	do {
		for (uint32_t i = 0; i < 16; i++, generation++)
			for (uint32_t j = 0; j < n; j++)
				bad |= make(&calls[j], generation);
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	atomic_store(&room.stop, 1);
	pthread_join(thread, NULL);
	munmap(room.base, bytes);
	close(room.fd);
	return bad ? 0 : generation;
}
