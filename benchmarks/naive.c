/*
 * naive.c - what one writes by hand to see torn code: a thread that patches, then pauses; a thread that calls and
 * compares. No provocation, no jitter, no classification. The baseline of the detection figures.
 */
#define _GNU_SOURCE
#include "bare.h"
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define SYNC_CORE 32	/* MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE: the kernel's ABI */
#define IMAGES_MAX 16

struct naive {
	uint64_t entry;			/* what the executor calls */
	uint64_t head;			/* first byte of the patched instruction */
	uint64_t patch;			/* first patched byte */
	uint32_t width;			/* patched bytes, 4 or 8: one store */
	uint32_t images;
	uint64_t bytes[IMAGES_MAX];	/* what the store stores, and what the region then returns */
	uint64_t value[IMAGES_MAX];
	uint32_t trap;			/* 1: INT3 over the head, the bytes, the head */
	uint32_t protocol;		/* 1: the head is stored again, trap or not, so there are three places to synchronize */
	uint32_t syncs;			/* bit n: membarrier SYNC_CORE in the nth place */
	uint32_t until_first;		/* 1: the first torn execution ends it */
	uint64_t delay;			/* ticks to wait in each place instead */
	uint64_t pause;			/* ticks after each patch */
	uint64_t limit_ns;
	int32_t writer_cpu;
	int32_t executor_cpu;
	/* Out; what the two threads count lies apart. */
	uint64_t before[16];
	uint64_t patches;
	uint64_t behind[16];
	uint64_t executions;
	uint64_t torn;
	uint64_t changes;		/* executions that returned another image than the one before */
	uint64_t first_ns;		/* to the first torn execution; 0: none */
	uint64_t ns;
};

static struct naive *n;
static _Atomic uint32_t ready, stop;
static uint64_t started;
static sigjmp_buf resume;

static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)sig, (void)info;
	if ((uint64_t)uc->uc_mcontext.gregs[REG_RIP] == n->head + 1)
		uc->uc_mcontext.gregs[REG_RIP]--;	/* the protocol's own: try again */
	else
		siglongjmp(resume, 1);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)sig, (void)info, (void)context;
	siglongjmp(resume, 1);
}

static void place_sync(uint32_t place)
{
	if (n->syncs >> place & 1)
		syscall(SYS_membarrier, SYNC_CORE, 0, 0);
	if (n->delay)
		spin(n->delay);
}

static void patch(uint32_t image)
{
	if (n->protocol) {
		if (n->trap)
			*(volatile uint8_t *)n->head = 0xcc;
		place_sync(0);
	}
	if (n->width == 4)
		*(volatile uint32_t *)n->patch = (uint32_t)n->bytes[image];
	else
		*(volatile uint64_t *)n->patch = n->bytes[image];
	if (n->protocol) {
		place_sync(1);
		*(volatile uint8_t *)n->head = 0xb8;
		place_sync(2);
	}
}

static void *write_code(void *arg)
{
	(void)arg;
	pin(n->writer_cpu);
	atomic_fetch_add(&ready, 1);
	while (atomic_load(&ready) < 3)
		;
	for (uint64_t g = 1; !atomic_load_explicit(&stop, memory_order_relaxed); g++) {
		patch(g % n->images);
		n->patches = g;
		if (n->pause)
			spin(n->pause);
		if ((n->pause || n->syncs || g % 1024 == 0) && now_ns() - started > n->limit_ns)
			atomic_store(&stop, 1);
	}
	return NULL;
}

static void torn(void)
{
	if (!n->torn++)
		n->first_ns = now_ns() - started;
	if (n->until_first)
		atomic_store(&stop, 1);
}

static void *execute_code(void *arg)
{
	uint64_t (*call)(void) = (uint64_t (*)(void))n->entry;
	volatile uint64_t last = n->value[0], executions = 0;

	(void)arg;
	pin(n->executor_cpu);
	atomic_fetch_add(&ready, 1);
	while (atomic_load(&ready) < 3)
		;
	if (sigsetjmp(resume, 0))
		torn();
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		uint64_t expected = last;

		for (uint32_t i = 0; i < 1024; i++) {
			uint64_t value = call();
			uint32_t image = 0;

			if (value == expected)
				continue;
			while (image < n->images && n->value[image] != value)
				image++;
			if (image == n->images) {
				torn();
			} else {
				n->changes++;
				expected = value;
			}
		}
		last = expected;
		executions += 1024;
		n->executions = executions;
	}
	return NULL;
}

/* Run until the limit. Patches, tears and the rest come back in *naive. The calling thread only waits. */
void naive_run(struct naive *naive)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct sigaction trap = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_NODEFER }, before[5];
	struct sigaction fault = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	pthread_t writer, executor;

	n = naive;
	atomic_store(&ready, 0);
	atomic_store(&stop, 0);
	if (n->syncs)
		syscall(SYS_membarrier, SYNC_CORE << 1, 0, 0);
	sigaction(SIGTRAP, &trap, &before[4]);
	for (int i = 0; i < 4; i++)
		sigaction(faults[i], &fault, &before[i]);
	pthread_create(&writer, NULL, write_code, NULL);
	pthread_create(&executor, NULL, execute_code, NULL);
	while (atomic_load(&ready) < 2)
		;
	started = now_ns();
	atomic_fetch_add(&ready, 1);
	pthread_join(writer, NULL);
	pthread_join(executor, NULL);
	n->ns = now_ns() - started;
	for (int i = 0; i < 4; i++)
		sigaction(faults[i], &before[i], NULL);
	sigaction(SIGTRAP, &before[4], NULL);
}
