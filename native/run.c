/* run.c - one run from plan to result: threads up, watch, threads down. */
#include "core.h"
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>

#define TICK_NS 10000000ull		/* the watchdog's: often enough for 0.1 s hangs, seldom enough to disturb little */
#define GRACE_NS 3000000000ull		/* for threads to end after `stop` */
#define FAST_TICK_NS 1000000ull

static uint64_t executions(void)
{
	uint64_t sum = 0;

	for (uint32_t e = 0; e < the_core.plan->n_executors; e++)
		for (uint32_t s = 0; s < the_core.plan->n_provocations; s++)
			for (uint32_t i = 0; i < XMC_PHASES * XMC_OUTCOMES; i++)
				sum += ((volatile uint64_t *)the_core.executors[e].out->slices[s].outcomes)[i];
	return sum;
}

static bool all_gone(void)
{
	for (uint32_t i = 0; i < the_core.plan->n_executors; i++)
		if (!atomic_load_explicit(&the_core.executors[i].gone, memory_order_acquire))
			return false;
	return the_core.plan->writer_cpu < 0 || atomic_load_explicit(&the_core.writer_gone, memory_order_acquire);
}

static bool over(uint64_t now)
{
	const struct xmc_plan *plan = the_core.plan;

	return (plan->limit_ns && now - the_core.start_ns >= plan->limit_ns) ||
	       (plan->limit_executions && executions() >= plan->limit_executions) ||
	       *(volatile uint32_t *)&the_core.result->stop || atomic_load(&the_core.shared.stop);
}

/* The calling thread's work while the others race: turn the provocations, notice hangs, end the run. */
static void watchdog(void)
{
	const struct xmc_plan *plan = the_core.plan;
	static struct watch watch[XMC_EXECUTORS_MAX];
	uint64_t slice_ns = plan->slice_us * 1000ull, last = the_core.start_ns, turn = last + slice_ns, now = last;
	uint32_t slice = 0;

	memset(watch, 0, sizeof(watch));
	while (!over(now)) {
		uint64_t next = now + TICK_NS;

		if (plan->n_provocations > 1 && slice_ns && turn < next)
			next = turn;
		if (plan->limit_ns && the_core.start_ns + plan->limit_ns < next)
			next = the_core.start_ns + plan->limit_ns;
		sleep_until(next);
		now = now_ns();
		the_core.result->slice_ns[slice] += now - last;
		the_core.result->elapsed_ns = now - the_core.start_ns;
		last = now;
		if (plan->n_provocations > 1 && slice_ns && now >= turn) {
			slice = (slice + 1) % plan->n_provocations;
			atomic_store_explicit(&the_core.shared.slice, slice, memory_order_relaxed);
			turn = now + slice_ns;
		}
		watch_executors(watch);
	}
	atomic_store(&the_core.shared.stop, 1);
	for (uint64_t until = now + GRACE_NS; !all_gone() && now_ns() < until;) {
		sleep_until(now_ns() + FAST_TICK_NS);
		watch_executors(watch);
	}
}

static int start_threads(uint32_t *started, bool *writer)
{
	pthread_attr_t attr;
	int rc = pthread_attr_init(&attr);

	if (!rc)
		rc = pthread_attr_setstacksize(&attr, 256 * 1024);
	for (; *started < the_core.plan->n_executors && !rc; *started += !rc)
		rc = pthread_create(&the_core.executors[*started].thread, &attr, executor_main, &the_core.executors[*started]);
	if (!rc && the_core.plan->writer_cpu >= 0) {
		rc = pthread_create(&the_core.writer, &attr, writer_main, &the_core);
		*writer = !rc;
	}
	pthread_attr_destroy(&attr);
	return -rc;
}

static int first_error(void)
{
	int rc = the_core.result->writer.error;

	for (uint32_t i = 0; i < the_core.plan->n_executors && !rc; i++)
		rc = the_core.result->executors[i].error;
	return rc;
}

static int race(void)
{
	uint32_t started = 0;
	bool writer = false;
	int rc = start_threads(&started, &writer);
	uint64_t ticks;

	if (rc)
		atomic_store(&the_core.shared.stop, 1);
	for (uint32_t i = 0; i < started; i++)
		while (!atomic_load_explicit(&the_core.executors[i].ready, memory_order_acquire))
			sched_yield();
	the_core.start_ns = now_ns();
	ticks = xmc_arch_ticks();
	atomic_store_explicit(&the_core.shared.start, 1, memory_order_release);
	if (!rc) {
		watchdog();
		if (!all_gone())
			return -ETIMEDOUT;	/* their memory must stay: they still run on it */
	}
	for (uint32_t i = 0; i < started; i++)
		pthread_join(the_core.executors[i].thread, NULL);
	if (writer)
		pthread_join(the_core.writer, NULL);
	the_core.result->tsc_hz = (uint64_t)((double)(xmc_arch_ticks() - ticks) * 1e9 / (double)(now_ns() - the_core.start_ns));
	return rc ? rc : first_error();
}

int xmc_run(const struct xmc_plan *plan, struct xmc_result *result)
{
	int rc = plan_check(plan);

	if (rc)
		return rc;
	rc = core_take();
	if (rc)
		return rc;
	rc = core_prepare(plan, result);
	if (!rc)
		rc = fault_install(&the_core);
	if (!rc) {
		result->state = 1;
		rc = race();
		if (rc == -ETIMEDOUT)
			return rc;
		fault_remove();
		result->state = 2;
	}
	core_release();
	core_give();
	return rc;
}

uint64_t xmc_bare_loop(const struct xmc_plan *plan, uint64_t limit_ns, uint64_t *ns)
{
	uint64_t (*volatile entry)(void);
	uint64_t (*call)(void);
	uint64_t n = 0, good = 0, expect = plan->images[0].value, start;
	struct region region = { 0 };

	if (plan_check(plan) || region_map(&region, plan)) {
		region_unmap(&region);
		return 0;
	}
	entry = (uint64_t (*)(void))(uintptr_t)(region.text + plan->entry);
	call = entry;
	start = now_ns();
	do {
		for (uint32_t i = 0; i < 4096; i++)
			good += call() == expect;
		n += 4096;
		*ns = now_ns() - start;
	} while (*ns < limit_ns);
	region_unmap(&region);
	return good == n ? n : 0;
}

int xmc_die_with_parent(void)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}
