/* writer.c - the thread that patches: one compiled program a generation, in steps. */
#include "core.h"
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* xorshift64*: the pace must be reproducible from the seed and cost nothing. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

static bool stopping(struct core *core)
{
	return atomic_load_explicit(&core->shared.stop, memory_order_relaxed);
}

/* Spin for `ticks`, or until the run stops. */
static void spin(struct core *core, uint64_t ticks)
{
	uint64_t until = xmc_arch_ticks() + ticks;

	while ((int64_t)(until - xmc_arch_ticks()) > 0)
		if (stopping(core))
			return;
}

/* Log-uniform: as many pauses between 8 and 16 ticks as between 1024 and 2048, so that no scale is left out. */
static void pause_between(struct core *core, uint64_t *random)
{
	uint64_t r = next_random(random);
	uint32_t log2 = (uint32_t)(r >> 56) % (core->plan->pace_log2 + 1);
	uint64_t ticks = (r & 0xffffffffffff) & ((1ull << log2) - 1);

	if (ticks)
		spin(core, ticks);
}

/*
 * Send every executor a signal and wait until each has been in the handler. The acquire load of `kicks` pairs with the
 * handler's release increment: what the handler's entry and exit did to that CPU has been done when we go on.
 */
static int kick_executors(struct core *core)
{
	uint64_t before[XMC_EXECUTORS_MAX];
	pid_t pid = getpid();

	for (uint32_t i = 0; i < core->plan->n_executors; i++) {
		before[i] = atomic_load_explicit(&core->executors[i].kicks, memory_order_acquire);
		if (syscall(SYS_tgkill, pid, core->executors[i].out->tid, core->kick_signal) < 0)
			return -errno;
	}
	for (uint32_t i = 0; i < core->plan->n_executors; i++)
		while (atomic_load_explicit(&core->executors[i].kicks, memory_order_acquire) == before[i]) {
			if (stopping(core))
				return -EINTR;
			xmc_arch_relax();
		}
	return 0;
}

/* Wait until every executor has reported progress `times` times: a batch done, or a wrong execution recovered from. */
static int await_executors(struct core *core, uint64_t times)
{
	for (uint32_t i = 0; i < core->plan->n_executors; i++) {
		uint64_t from = atomic_load_explicit(&core->executors[i].progress, memory_order_acquire);

		while (atomic_load_explicit(&core->executors[i].progress, memory_order_acquire) < from + times) {
			if (stopping(core))
				return -EINTR;
			xmc_arch_relax();
		}
	}
	return 0;
}

/* Die as a broken harness would: only planted defects come here. */
static int die(uint64_t signal_number)
{
	volatile int *volatile nowhere = (volatile int *)8;

	if (signal_number == SIGSEGV)
		*nowhere = 0;
	raise((int)signal_number);
	return -EINTR;
}

/* Everything published before the release store is visible to whoever loads `done` with acquire and sees it. */
static void publish(struct core *core, uint64_t generation)
{
	atomic_store_explicit(&core->shared.stamps[generation % XMC_STAMPS], xmc_arch_ticks(), memory_order_relaxed);
	atomic_store_explicit(&core->shared.done, generation, memory_order_release);
}

static int run_micro(struct core *core, const struct micro *m, uint64_t generation)
{
	switch (m->op) {
	case XMC_STEP_STORE:
		if (m->form)
			return xmc_arch_store_form(m->form, m->address, (const uint8_t *)(uintptr_t)m->value, m->width);
		xmc_arch_store(m->address, m->value, m->width);
		return 0;
	case XMC_STEP_MFENCE:
		xmc_arch_mfence();
		return 0;
	case XMC_STEP_SFENCE:
		xmc_arch_sfence();
		return 0;
	case XMC_STEP_LFENCE:
		xmc_arch_lfence();
		return 0;
	case XMC_STEP_FLUSH:
		xmc_arch_flush(m->address);
		return 0;
	case XMC_STEP_OWN:
		xmc_arch_own(m->address);
		return 0;
	case XMC_STEP_SHARE:
		(void)*(volatile uint8_t *)(uintptr_t)m->address;	/* volatile: the read is the step */
		return 0;
	case XMC_STEP_SERIALIZE:
		xmc_arch_serialize();
		return 0;
	case XMC_STEP_MEMBARRIER:
		return syscall(SYS_membarrier, m->width, 0, 0) < 0 ? -errno : 0;
	case XMC_STEP_SIGNAL:
		return kick_executors(core);
	case XMC_STEP_DELAY:
		spin(core, m->value);
		return 0;
	case XMC_STEP_AWAIT:
		return await_executors(core, m->value);
	case XMC_STEP_DIE:
		return die(m->value);
	default:
		publish(core, generation);
		return 0;
	}
}

static int run_program(struct core *core, const struct program *program, uint64_t generation)
{
	for (uint32_t i = 0; i < program->n; i++) {
		int rc = run_micro(core, &program->micro[i], generation);

		if (rc) {
			core->result->writer.failed_step = program->micro[i].step + 1;
			return rc;
		}
	}
	return 0;
}

/*
 * One patch. `begun` is announced before the first byte changes: the fence keeps the store of it in front of the
 * stores of the program (on x86 it costs nothing, TSO orders them), so an executor that met any new byte and then
 * loads `begun` sees at least this generation.
 */
static int patch_once(struct core *core, uint64_t generation, uint32_t provocation)
{
	uint32_t image = (uint32_t)(generation % core->plan->n_images);

	(void)run_program(core, &core->provoke[provocation], generation);
	if (!core->plan->n_steps)
		return 0;
	if (core->plan->window) {
		atomic_store_explicit(&core->shared.begun, generation, memory_order_relaxed);
		atomic_thread_fence(memory_order_release);
	}
	return run_program(core, &core->programs[image], generation);
}

static int patch_until_stopped(struct core *core, struct xmc_writer_result *out)
{
	const struct xmc_plan *plan = core->plan;
	uint64_t random = plan->seed * 2 + 1, generation = 0;
	int rc = 0;

	while (!stopping(core) && !rc) {
		uint32_t provocation = atomic_load_explicit(&core->shared.slice, memory_order_relaxed);

		rc = patch_once(core, generation + 1, provocation);
		if (rc)
			break;
		if (plan->n_steps) {
			generation++;
			out->patches = generation;
			out->slice_patches[provocation]++;
			if (generation == plan->limit_patches)
				atomic_store(&core->shared.stop, 1);
		}
		if (plan->pace_log2)
			pause_between(core, &random);
	}
	return rc == -EINTR ? 0 : rc;
}

/* The registrations that membarrier wants before its expedited commands (membarrier(2)). */
static int register_membarriers(const struct xmc_plan *plan)
{
	for (uint32_t i = 0; i < plan->n_steps; i++) {
		uint32_t command = plan->steps[i].part;

		/* Every expedited command is followed, one bit up, by its registration; GLOBAL (1) needs none. */
		if (plan->steps[i].op == XMC_STEP_MEMBARRIER && command > 1 &&
		    syscall(SYS_membarrier, command << 1, 0, 0) < 0)
			return -errno;
	}
	return 0;
}

void *writer_main(void *arg)
{
	struct core *core = arg;
	struct xmc_writer_result *out = &core->result->writer;

	out->tid = own_tid();
	out->error = pin_self(core->plan->writer_cpu);
	out->cpu_first = current_cpu();
	if (!out->error)
		out->error = register_membarriers(core->plan);
	while (!atomic_load_explicit(&core->shared.start, memory_order_acquire) && !stopping(core))
		xmc_arch_relax();
	if (!out->error)
		out->error = patch_until_stopped(core, out);
	if (out->error)
		atomic_store(&core->shared.stop, 1);
	out->cpu_last = current_cpu();
	thread_usage(&out->cpu_ns, &out->switches_voluntary, &out->switches_forced);
	atomic_store_explicit(&core->writer_gone, 1, memory_order_release);
	return NULL;
}
