/*
 * calls.c - the system calls that a way of publishing code needs, and nothing else: no code, no executor that waits. But
 * where one address is all there is, whoever executes it meets each call too: a page fault, which ends when the call does.
 */
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

enum { ALIAS, DROP_ALIAS, MAP, PROTECT, MEMBARRIER, RENEW };

struct call {
	uint32_t op;
	uint32_t arg;		/* protection; membarrier command */
};

static struct {
	uint8_t *base;
	int fd, cpu;
	uint64_t addresses;	/* that take turns */
	_Atomic uint32_t on, stop;
	_Alignas(128) _Atomic uint64_t came;	/* one address: times that it was executed */
} room;

static uint8_t *page_of(uint64_t generation)
{
	return (uint8_t *)((uint64_t)(room.base + generation % room.addresses * STRIDE) & ~(PAGE - 1));
}

/* As the executors do: their CPU runs this memory map, so whatever must reach it does. */
static void *be_there(void *arg)
{
	void (*code)(void) = (void (*)(void))(uintptr_t)page_of(0);

	(void)arg;
	pin(room.cpu);
	atomic_store(&room.on, 1);
	while (!atomic_load_explicit(&room.stop, memory_order_relaxed)) {
		if (room.addresses > 1)
			continue;
		code();
		atomic_store_explicit(&room.came, room.came + 1, memory_order_release);
	}
	return NULL;
}

/* Until the one address has been executed anew: who still waits for the last page cannot be in the way of the next. */
static void come_back(void)
{
	uint64_t before = atomic_load_explicit(&room.came, memory_order_acquire);

	while (atomic_load_explicit(&room.came, memory_order_acquire) < before + 2)
		__builtin_ia32_pause();
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

static int make_all(const struct call *calls, uint32_t n, uint64_t generation)
{
	int bad = 0;

	for (uint32_t i = 0; i < n; i++)
		bad |= make(&calls[i], generation);
	return bad;
}

/* Rounds of `n` calls, on the calling thread, while `cpu` runs a thread of ours. 0 where a call fails. */
uint64_t make_calls(const struct call *calls, uint32_t n, int cpu, uint64_t addresses, uint64_t limit_ns, uint64_t *ns)
{
	const uint64_t bytes = (addresses + BLOCK) * STRIDE;
	uint64_t generation = 0, start;
	pthread_t thread;
	int bad = 0;

	room.base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	room.fd = memfd_create("calls", MFD_CLOEXEC);
	room.cpu = cpu;
	room.addresses = addresses;
	if (room.base == MAP_FAILED || ftruncate(room.fd, FRAMES * PAGE) < 0)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (calls[i].op == MEMBARRIER)
			syscall(SYS_membarrier, calls[i].arg << 1, 0, 0);
	for (uint64_t i = 0; i < FRAMES; i++)
		bad |= pwrite(room.fd, "\xc3", 1, (off_t)(i * PAGE)) != 1;	/* ret */
	bad |= make_all(calls, n, generation);
	atomic_store(&room.on, 0);
	atomic_store(&room.stop, 0);
	if (bad || pthread_create(&thread, NULL, be_there, NULL))
		return 0;
	while (!atomic_load(&room.on))
		;
	start = now_ns();
	do {
		for (uint32_t i = 0; i < 16; i++) {
			bad |= make_all(calls, n, ++generation);
			if (addresses == 1)
				come_back();
		}
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	atomic_store(&room.stop, 1);
	pthread_join(thread, NULL);
	munmap(room.base, bytes);
	close(room.fd);
	return bad ? 0 : generation;
}
