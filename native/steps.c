/*
 * steps.c - what a writer can do in one step. Every step returns 0, -errno, or -EINTR where the run stopped while it
 * waited; none allocates or prints.
 */
#include "core.h"
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

void run_spin(struct core *core, uint64_t ticks)
{
	uint64_t until = xmc_arch_ticks() + ticks;

	while ((int64_t)(until - xmc_arch_ticks()) > 0)
		if (run_stopping(core))
			return;
}

/* The registrations that membarrier wants before its expedited commands (membarrier(2)); a fork inherits them. */
int register_membarriers(const struct xmc_plan *plan)
{
	for (uint32_t i = 0; i < plan->n_steps; i++) {
		uint32_t command = plan->steps[i].part;

		/* Every expedited command is followed, one bit up, by its registration; GLOBAL (1) needs none. */
		if (plan->steps[i].op == XMC_STEP_MEMBARRIER && command > 1 &&
		    syscall(SYS_membarrier, command << 1, 0, 0) < 0)
			return errno == EINVAL ? -ENOTSUP : -errno;
	}
	return 0;
}

static int step_store(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)generation;
	if (via_kernel(core->plan->via))
		return via_store(core, m);
	if (m->form)
		return xmc_arch_store_form(m->form, m->address, (const uint8_t *)(uintptr_t)m->value, m->width);
	xmc_arch_store(m->address, m->value, m->width);
	return 0;
}

static int step_mfence(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)core, (void)m, (void)generation;
	xmc_arch_mfence();
	return 0;
}

static int step_sfence(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)core, (void)m, (void)generation;
	xmc_arch_sfence();
	return 0;
}

static int step_lfence(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)core, (void)m, (void)generation;
	xmc_arch_lfence();
	return 0;
}

static int step_flush(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)core, (void)generation;
	xmc_arch_flush(m->address);
	return 0;
}

static int step_own(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)core, (void)generation;
	xmc_arch_own(m->address);
	return 0;
}

static int step_share(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)core, (void)generation;
	(void)*(volatile uint8_t *)(uintptr_t)m->address; /* volatile: the read is the step */
	return 0;
}

static int step_serialize(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)core, (void)m, (void)generation;
	xmc_arch_serialize();
	return 0;
}

/* The private commands reach the threads of the caller's memory map: from another process, no executor. */
static int step_membarrier(struct core *core, const struct micro *m, uint64_t generation)
{
	int rc = syscall(SYS_membarrier, m->width, 0, 0) < 0 ? -errno : 0;

	(void)core, (void)generation;
	/* GLOBAL takes milliseconds. Where a translator runs one thread at a time that was nobody else's turn. */
	if (m->width == XMC_MEMBARRIER_GLOBAL)
		sched_yield();
	return rc;
}

static int send_kick(struct core *core, const struct executor *ex)
{
	int tid = atomic_load_explicit(&ex->tid, memory_order_relaxed);

	/* The executors' process by its number: the writer may live in another one. */
	if (syscall(SYS_tgkill, core->pid, tid, core->kick_signal) == 0)
		return 0;
	return errno == ESRCH && run_stopping(core) ? -EINTR : -errno; /* it has seen the end before we did */
}

/* Wait until a counter that only grows is no longer `old`. Acquire: what its owner did before is done when we go on. */
static int await_change(struct core *core, const _Atomic uint64_t *counter, uint64_t old)
{
	while (atomic_load_explicit(counter, memory_order_acquire) == old) {
		if (run_stopping(core))
			return -EINTR;
		xmc_arch_relax();
	}
	return 0;
}

/*
 * Send every executor a signal and wait until each has been in the handler: what the handler's entry did to that CPU
 * has been done when we go on. Its exit comes before that CPU's next execution.
 */
static int step_signal(struct core *core, const struct micro *m, uint64_t generation)
{
	uint64_t before[XMC_EXECUTORS_MAX];
	int rc = 0;

	(void)m, (void)generation;
	for (uint32_t i = 0; i < core->plan->n_executors && !rc; i++) {
		before[i] = atomic_load_explicit(&core->executors[i].kicks, memory_order_acquire);
		rc = send_kick(core, &core->executors[i]);
	}
	for (uint32_t i = 0; i < core->plan->n_executors && !rc; i++)
		rc = await_change(core, &core->executors[i].kicks, before[i]);
	return rc;
}

/* Each stop has a number of its own, so that an executor that has not left the last one cannot miss the next. */
static int step_quiesce(struct core *core, const struct micro *m, uint64_t generation)
{
	uint64_t park = atomic_load_explicit(&core->shared.park, memory_order_relaxed) + 1;
	uint64_t before[XMC_EXECUTORS_MAX];
	int rc = park & 1 ? 0 : -EINVAL; /* already parked */

	(void)m, (void)generation;
	if (!rc)
		atomic_store_explicit(&core->shared.park, park, memory_order_release);
	for (uint32_t i = 0; i < core->plan->n_executors && !rc; i++) {
		before[i] = atomic_load_explicit(&core->executors[i].parked, memory_order_relaxed);
		rc = send_kick(core, &core->executors[i]);
	}
	for (uint32_t i = 0; i < core->plan->n_executors && !rc; i++)
		rc = await_change(core, &core->executors[i].parked, before[i]);
	return rc;
}

/* Release: whoever sees the new number, and so leaves its handler, finds every store that we made before. */
void step_release_all(struct core *core)
{
	uint64_t park = atomic_load_explicit(&core->shared.park, memory_order_relaxed);

	if (park & 1)
		atomic_store_explicit(&core->shared.park, park + 1, memory_order_release);
}

static int step_release(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)m, (void)generation;
	step_release_all(core);
	return 0;
}

/*
 * Run on every executor's CPU once, then go home. The scheduler takes each executor off its CPU for us, by interrupt,
 * and puts it back: that serializes by accident, and across processes the change of page tables does too.
 */
static int step_hop(struct core *core, const struct micro *m, uint64_t generation)
{
	int rc = 0, home;

	(void)m, (void)generation;
	for (uint32_t i = 0; i < core->plan->n_executors && !rc; i++) {
		rc = run_stopping(core) ? -EINTR : pin_self(core->plan->executor_cpu[i]);
		core->counts->hops += !rc;
	}
	home = pin_self(core->plan->writer_cpu);
	return rc ? rc : home;
}

/* Takes rights away or gives them: the kernel makes every CPU that runs this memory map forget the old translation. */
static int step_protect(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)generation;
	return region_protect(&core->region, m->width);
}

static int step_remap(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)m, (void)generation;
	return region_remap(&core->region);
}

static int step_delay(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)generation;
	run_spin(core, m->value);
	return 0;
}

/* Wait until every executor has reported progress `times` times: a batch done, or a wrong execution recovered from. */
int step_await(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)generation;
	/* What was stored or published before must be visible before the first report is looked at. */
	atomic_thread_fence(memory_order_seq_cst);
	for (uint32_t i = 0; i < core->plan->n_executors; i++) {
		uint64_t from = atomic_load_explicit(&core->executors[i].progress, memory_order_acquire);

		for (uint64_t n = 0; n < m->value; n++)
			if (await_change(core, &core->executors[i].progress, from + n))
				return -EINTR;
	}
	return 0;
}

/* Die as a broken harness would: only planted defects come here. */
static int step_die(struct core *core, const struct micro *m, uint64_t generation)
{
	volatile int *volatile nowhere = (volatile int *)8;

	(void)core, (void)generation;
	if (m->value == SIGSEGV)
		*nowhere = 0;
	raise((int)m->value);
	return -EINTR;
}

/* Everything published before the release store is visible to whoever loads `done` with acquire and sees it. */
int step_publish(struct core *core, const struct micro *m, uint64_t generation)
{
	(void)m;
	atomic_store_explicit(&core->shared.stamps[generation % XMC_STAMPS], xmc_arch_ticks(), memory_order_relaxed);
	atomic_store_explicit(&core->shared.done, generation, memory_order_release);
	return 0;
}

/* Every step once, in any order. */
#define STEPS(X) \
	X(STORE, store) \
	X(MFENCE, mfence) \
	X(SFENCE, sfence) \
	X(LFENCE, lfence) \
	X(FLUSH, flush) \
	X(OWN, own) \
	X(SHARE, share) \
	X(SERIALIZE, serialize) \
	X(MEMBARRIER, membarrier) \
	X(SIGNAL, signal) \
	X(DELAY, delay) \
	X(AWAIT, await) \
	X(DIE, die) \
	X(PUBLISH, publish) \
	X(QUIESCE, quiesce) \
	X(RELEASE, release) \
	X(HOP, hop) \
	X(PROTECT, protect) \
	X(REMAP, remap)
#define COUNT(op, name) +1
#define ENTRY(op, name) [XMC_STEP_##op] = step_##name,

_Static_assert(STEPS(COUNT) == XMC_STEP_OPS, "a step has no function, or two");

const step_code step_table[XMC_STEP_OPS] = { STEPS(ENTRY) };
