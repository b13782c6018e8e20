/* run.c - one run from plan to result: threads up, watch, threads down. */
#include "core.h"
#include "publish.h"
#include "turns.h"
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>

#define GRACE_NS 8000000000ull		/* for threads to end after `stop`: an overloaded machine starves pinned ones */
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
	if (wants_antagonist(the_core.plan, XMC_ANTAGONIST_NONE) &&
	    !atomic_load_explicit(&the_core.antagonist_gone, memory_order_acquire))
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

/* The calling thread's work while the others race: turn the turns, notice hangs, end the run. */
static void watchdog(void)
{
	static struct round r;

	round_begin(&the_core, &r);
	while (!over(r.now)) {
		sleep_until(round_next_wake(&the_core, &r));
		round_go_on(&the_core, &r);
		watch_executors(r.watch);
		process_watch(&the_core);
	}
	round_end(&the_core, &r);
	atomic_store(&the_core.shared.stop, 1);
	for (uint64_t until = r.now + GRACE_NS; !all_gone() && now_ns() < until;) {
		sleep_until(now_ns() + FAST_TICK_NS);
		watch_executors(r.watch);
		process_watch(&the_core);
	}
}

/* Which threads there are, to be joined. */
struct crew {
	uint32_t executors;
	bool writer;
	bool antagonist;
	bool victim;
};

static int start_threads(struct crew *crew)
{
	const struct xmc_plan *plan = the_core.plan;
	pthread_attr_t attr;
	int rc = pthread_attr_init(&attr);

	if (!rc)
		rc = pthread_attr_setstacksize(&attr, 256 * 1024);
	for (uint32_t i = 0; i < plan->n_executors && !rc; i++, crew->executors += !rc)
		rc = pthread_create(&the_core.executors[i].thread, &attr, executor_main, &the_core.executors[i]);
	if (!rc && plan->via == XMC_VIA_PTRACE) {
		rc = pthread_create(&the_core.victim, &attr, victim_main, &the_core);
		crew->victim = !rc;
	}
	if (!rc && plan->writer_cpu >= 0 && !via_process(plan->via)) {
		rc = pthread_create(&the_core.writer, &attr, writer_main, &the_core);
		crew->writer = !rc;
	}
	if (!rc && wants_antagonist(plan, XMC_ANTAGONIST_NONE)) {
		rc = pthread_create(&the_core.antagonist, &attr, antagonist_main, &the_core);
		crew->antagonist = !rc;
	}
	pthread_attr_destroy(&attr);
	return -rc;
}

static void join_threads(const struct crew *crew)
{
	for (uint32_t i = 0; i < crew->executors; i++)
		pthread_join(the_core.executors[i].thread, NULL);
	if (crew->writer)
		pthread_join(the_core.writer, NULL);
	if (crew->antagonist)
		pthread_join(the_core.antagonist, NULL);
	process_end(&the_core, false);		/* before its victim: it holds it */
	if (crew->victim) {
		victim_wake(&the_core);
		pthread_join(the_core.victim, NULL);
	}
}

/* The writer's process first: a fork is simplest, and cheapest, while there is one thread. */
static int start_all(struct crew *crew)
{
	int rc = register_membarriers(the_core.plan);

	if (!rc && the_core.plan->writer_cpu >= 0 && via_process(the_core.plan->via))
		rc = process_start(&the_core);
	return rc ? rc : start_threads(crew);
}

static int first_error(void)
{
	int rc = the_core.result->writer.error ? the_core.result->writer.error : the_core.result->antagonist_error;

	for (uint32_t i = 0; i < the_core.plan->n_executors && !rc; i++)
		rc = the_core.result->executors[i].error;
	return rc;
}

static int race(void)
{
	struct crew crew = { 0 };
	int rc = start_all(&crew);
	uint64_t ticks;

	if (rc)
		atomic_store(&the_core.shared.stop, 1);
	for (uint32_t i = 0; i < crew.executors; i++)
		while (!atomic_load_explicit(&the_core.executors[i].ready, memory_order_acquire))
			sched_yield();
	/* A thread always comes so far; a process may die before, which the watchdog sees. */
	while (crew.writer && !atomic_load_explicit(&the_core.writer_ready, memory_order_acquire))
		sched_yield();
	the_core.start_ns = now_ns();
	ticks = xmc_arch_ticks();
	atomic_store_explicit(&the_core.shared.start, 1, memory_order_release);
	if (!rc) {
		watchdog();
		if (!all_gone()) {
			process_end(&the_core, true);
			return -ETIMEDOUT;	/* their memory must stay: they still run on it */
		}
	}
	join_threads(&crew);
	the_core.result->tsc_hz = (uint64_t)((double)(xmc_arch_ticks() - ticks) * 1e9 / (double)(now_ns() - the_core.start_ns));
	return rc ? rc : first_error();
}

static int run(const struct xmc_plan *plan, const struct xmc_publish *publish, struct xmc_result *result)
{
	int rc = plan_check(plan);

	if (rc)
		return rc;
	rc = core_take();
	if (rc)
		return rc;
	rc = core_prepare(plan, publish, result);
	if (!rc)
		rc = fault_install(&the_core);
	if (!rc) {
		result->state = 1;
		rc = race();
		if (rc == -ETIMEDOUT)
			return rc;
		fault_remove();
		result->huge_pages = plan->huge_pages ? region_huge_pages(&the_core.region) : 0;
		result->state = 2;
	}
	core_release();
	core_give();
	return rc;
}

int xmc_run(const struct xmc_plan *plan, struct xmc_result *result)
{
	return run(plan, NULL, result);
}

int xmc_publish(const struct xmc_plan *plan, const struct xmc_publish *publish, struct xmc_result *result)
{
	return publish_check(plan, publish) ? -EINVAL : run(plan, publish, result);
}

int xmc_die_with_parent(void)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
}
