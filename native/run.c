/* run.c - one run from plan to result: threads up, watch, threads down. */
#include "core.h"
#include "publish.h"
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>

#define TICK_NS 10000000ull		/* the watchdog's: often enough for 0.1 s hangs, seldom enough to disturb little */
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

/* What the watchdog has in hand. Times are of CLOCK_MONOTONIC, in ns. */
struct round {
	uint64_t now;
	uint64_t last;			/* when `slice` was last charged for its time */
	uint64_t turn;			/* when the next provocation takes over; UINT64_MAX: never */
	uint64_t poke;			/* when the provocation's next signal is due; UINT64_MAX: never */
	uint64_t random;
	uint32_t slice;
	struct watch watch[XMC_EXECUTORS_MAX];
};

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Uniform in 1 to twice the mean: random, so that signals do not fall into step with anything. */
static uint64_t next_poke(struct round *r)
{
	uint64_t mean_ns = the_core.plan->provocations[r->slice].signal_us * 1000ull;

	if (!mean_ns)
		return UINT64_MAX;
	r->random = r->random * 6364136223846793005ull + 1442695040888963407ull;
	return r->now + 1 + (r->random >> 33) % (2 * mean_ns);
}

static uint64_t next_wake(const struct round *r)
{
	const struct xmc_plan *plan = the_core.plan;
	uint64_t next = least(least(r->now + TICK_NS, r->turn), r->poke);

	return plan->limit_ns ? least(next, the_core.start_ns + plan->limit_ns) : next;
}

static void poke_executors(void)
{
	for (uint32_t i = 0; i < the_core.plan->n_executors; i++)
		if (!atomic_load_explicit(&the_core.executors[i].gone, memory_order_acquire))
			the_core.result->signals_sent += !pthread_kill(the_core.executors[i].thread, the_core.poke_signal);
}

static void turn_provocation(struct round *r)
{
	const struct xmc_plan *plan = the_core.plan;

	if (r->now >= r->turn) {
		r->slice = (r->slice + 1) % plan->n_provocations;
		atomic_store_explicit(&the_core.shared.slice, r->slice, memory_order_relaxed);
		r->turn = r->now + plan->slice_us * 1000ull;
		r->poke = next_poke(r);
	} else if (r->now >= r->poke) {
		poke_executors();
		r->poke = next_poke(r);
	}
}

/* The calling thread's work while the others race: turn the provocations, notice hangs, end the run. */
static void watchdog(void)
{
	static struct round r;
	const struct xmc_plan *plan = the_core.plan;

	r = (struct round){ .now = the_core.start_ns, .last = the_core.start_ns, .random = plan->seed };
	r.turn = plan->n_provocations > 1 && plan->slice_us ? r.now + plan->slice_us * 1000ull : UINT64_MAX;
	r.poke = next_poke(&r);
	while (!over(r.now)) {
		sleep_until(next_wake(&r));
		r.now = now_ns();
		the_core.result->slice_ns[r.slice] += r.now - r.last;
		the_core.result->elapsed_ns = r.now - the_core.start_ns;
		r.last = r.now;
		turn_provocation(&r);
		watch_executors(r.watch);
		process_watch(&the_core);
	}
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
	if (crew->victim)
		pthread_join(the_core.victim, NULL);
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
