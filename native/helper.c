/* helper.c - another mm: a process that shares the memory of the slots, and nothing else, fills them on request. */
#include "publish.h"
#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Shared by the two processes. `asked` and `done` count requests; `end` ends the helper. */
struct desk {
	_Atomic uint32_t asked;
	_Atomic uint32_t done;
	uint64_t generation;
	uint32_t part;
};

static struct desk *desk;
static pid_t helper;

/* Sleep while *word is `value`, but not for ever: the run may stop. Not private: the other side is another process. */
static void sleep_while(_Atomic uint32_t *word, uint32_t value)
{
	const struct timespec limit = { .tv_nsec = 10000000 };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &limit, NULL, 0);
}

static void wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void serve(const struct core *core)
{
	uint64_t slots = (uint64_t)(uintptr_t)the_slots.alias;

	for (uint32_t served = 0;; served++) {
		while (atomic_load_explicit(&desk->asked, memory_order_acquire) == served)
			sleep_while(&desk->asked, served);
		body_store(core, slots + slot_offset(desk->generation), desk->generation, desk->part);
		/* The local barrier of the one who wrote; the release of `done` orders the rest. */
		xmc_arch_mfence();
		atomic_store_explicit(&desk->done, served + 1, memory_order_release);
		wake(&desk->done);
	}
}

int helper_start(struct core *core)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS;
	void *p = mmap(NULL, XMC_PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);

	if (p == MAP_FAILED)
		return -errno;
	desk = p;
	helper = fork();
	if (helper < 0) {
		helper = 0;
		return -errno;
	}
	if (helper)
		return 0;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	/* Its own mm: what it inherited of the executors' mappings goes, so that it can only write. */
	munmap(core->region.reservation, core->region.reserved);
	if (pin_self(core->plan->writer_cpu) < 0)
		_exit(1);
	serve(core);
	_exit(0);
}

int helper_fill(struct core *core, uint64_t generation, uint32_t part)
{
	uint32_t ticket = atomic_load_explicit(&desk->asked, memory_order_relaxed) + 1;

	desk->generation = generation;
	desk->part = part;
	atomic_store_explicit(&desk->asked, ticket, memory_order_release);
	wake(&desk->asked);
	/* Acquire: its stores to the slot are in front of whatever we publish now. */
	while (atomic_load_explicit(&desk->done, memory_order_acquire) != ticket) {
		if (run_stopping(core))
			return -EINTR;
		sleep_while(&desk->done, ticket - 1);
	}
	return 0;
}

void helper_end(void)
{
	if (helper > 0) {
		kill(helper, SIGKILL);
		waitpid(helper, NULL, 0);
	}
	if (desk)
		munmap(desk, XMC_PAGE);
	helper = 0;
	desk = NULL;
}
