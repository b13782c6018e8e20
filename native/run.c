/* run.c - one run from plan to result: threads up, watch, threads down. */
#include "core.h"
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 10000000ull		/* the watchdog's: often enough for 0.1 s hangs, seldom enough to disturb little */
#define GRACE_NS 3000000000ull		/* for threads to end after `stop` */
#define FAST_TICK_NS 1000000ull

static struct core core;
static atomic_flag busy = ATOMIC_FLAG_INIT;

/* What the watchdog remembers of one executor. */
struct watch {
	uint64_t progress;
	uint64_t cpu_ns;
};

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t thread_cpu_ns(pthread_t thread)
{
	struct timespec t;
	clockid_t clock;

	if (pthread_getcpuclockid(thread, &clock) || clock_gettime(clock, &t))
		return 0;
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/* Pin the calling thread and look where it runs, rather than believe that it worked. */
int pin_self(int cpu)
{
	cpu_set_t set;

	if (cpu < 0 || cpu >= CPU_SETSIZE)
		return -EINVAL;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		return -errno;
	return sched_getcpu() == cpu ? 0 : -ENXIO;
}

int current_cpu(void)
{
	return sched_getcpu();
}

int own_tid(void)
{
	return (int)syscall(SYS_gettid);
}

void thread_usage(uint64_t *cpu_ns, uint64_t *voluntary, uint64_t *forced)
{
	struct rusage usage;

	*cpu_ns = thread_cpu_ns(pthread_self());
	if (getrusage(RUSAGE_THREAD, &usage))
		return;
	*voluntary = (uint64_t)usage.ru_nvcsw;
	*forced = (uint64_t)usage.ru_nivcsw;
}

static int check_images(const struct xmc_plan *plan)
{
	uint32_t end = plan->patch + plan->patch_len;

	if (plan->n_images < 2 || plan->n_images > XMC_IMAGES_MAX || !plan->region_len || !plan->patch_len)
		return -EINVAL;
	if (plan->region_len > XMC_IMAGE_BYTES_MAX || end > plan->region_len || plan->head > plan->patch ||
	    plan->entry >= plan->region_len || plan->split >= plan->patch_len)
		return -EINVAL;
	for (uint32_t i = 1; i < plan->n_images; i++)
		for (uint32_t at = 0; at < plan->region_len; at++)
			if ((at < plan->patch || at >= end) && plan->images[i].bytes[at] != plan->images[0].bytes[at])
				return -EINVAL;
	return 0;
}

static int check(const struct xmc_plan *plan)
{
	if (plan->abi != XMC_ABI || check_images(plan))
		return -EINVAL;
	if (plan->place < -4096 - XMC_IMAGE_BYTES_MAX || plan->place > 4096 || plan->n_pads > XMC_PADS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < plan->n_pads; i++)
		if (plan->pads[i].len > XMC_PAD_BYTES_MAX || plan->pads[i].offset <= -XMC_PAD_REACH ||
		    plan->pads[i].offset >= XMC_PAD_REACH)
			return -EINVAL;
	if (plan->n_steps > XMC_STEPS_MAX || plan->n_exec_steps > XMC_STEPS_MAX || !plan->n_provocations ||
	    plan->n_provocations > XMC_PROVOCATIONS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < plan->n_provocations; i++)
		if (plan->provocations[i].n_writer > 4 || plan->provocations[i].n_executor > 4)
			return -EINVAL;
	if (!plan->n_executors || plan->n_executors > XMC_EXECUTORS_MAX || plan->pace_log2 > 40)
		return -EINVAL;
	return plan->limit_ns || plan->limit_executions || plan->limit_patches ? 0 : -EINVAL;
}

/* Memory for the threads; touched here, so that no thread takes a page fault in its loop for the first time. */
static int prepare(const struct xmc_plan *plan, struct xmc_result *result)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
	void *executors, *alt;
	int rc;

	memset(&core, 0, sizeof(core));
	core.plan = plan;
	core.result = result;
	rc = region_map(&core.region, plan);
	if (rc)
		return rc;
	result->region_address = core.region.text;
	executors = mmap(NULL, plan->n_executors * sizeof(struct executor), PROT_READ | PROT_WRITE, flags, -1, 0);
	if (executors == MAP_FAILED)
		return -errno;
	core.executors = executors;
	alt = mmap(NULL, plan->n_executors * XMC_ALT_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (alt == MAP_FAILED)
		return -errno;
	core.alt_stacks = alt;
	for (uint32_t i = 0; i < plan->n_executors && !rc; i++) {
		struct executor *ex = &core.executors[i];

		ex->core = &core;
		ex->index = i;
		ex->out = &result->executors[i];
		rc = executor_prepare(ex);
	}
	return rc ? rc : program_compile(&core);
}

static void release(void)
{
	if (core.executors)
		munmap(core.executors, core.plan->n_executors * sizeof(struct executor));
	if (core.alt_stacks)
		munmap(core.alt_stacks, core.plan->n_executors * XMC_ALT_BYTES);
	region_unmap(&core.region);
}

static uint64_t executions(void)
{
	uint64_t sum = 0;

	for (uint32_t e = 0; e < core.plan->n_executors; e++)
		for (uint32_t s = 0; s < core.plan->n_provocations; s++)
			for (uint32_t i = 0; i < XMC_PHASES * XMC_OUTCOMES; i++)
				sum += ((volatile uint64_t *)core.executors[e].out->slices[s].outcomes)[i];
	return sum;
}

/* An executor that used `hang_ms` of CPU time without ending a batch hangs; one that was merely not scheduled does not. */
static void watch_executors(struct watch *watch)
{
	for (uint32_t i = 0; i < core.plan->n_executors; i++) {
		struct executor *ex = &core.executors[i];
		uint64_t progress = atomic_load_explicit(&ex->progress, memory_order_relaxed);
		uint64_t cpu;

		if (atomic_load_explicit(&ex->gone, memory_order_acquire))
			continue;
		cpu = thread_cpu_ns(ex->thread);
		if (progress != watch[i].progress) {
			watch[i] = (struct watch){ progress, cpu };
		} else if (cpu - watch[i].cpu_ns > core.plan->hang_ms * 1000000ull) {
			core.result->hangs_signalled++;
			pthread_kill(ex->thread, core.watch_signal);
			watch[i].cpu_ns = cpu;
		}
	}
}

static bool all_gone(void)
{
	for (uint32_t i = 0; i < core.plan->n_executors; i++)
		if (!atomic_load_explicit(&core.executors[i].gone, memory_order_acquire))
			return false;
	return core.plan->writer_cpu < 0 || atomic_load_explicit(&core.writer_gone, memory_order_acquire);
}

static void sleep_until(uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000ull), (long)(ns % 1000000000ull) };

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static bool over(uint64_t now)
{
	const struct xmc_plan *plan = core.plan;

	return (plan->limit_ns && now - core.start_ns >= plan->limit_ns) ||
	       (plan->limit_executions && executions() >= plan->limit_executions) ||
	       *(volatile uint32_t *)&core.result->stop || atomic_load(&core.shared.stop);
}

/* The calling thread's work while the others race: turn the provocations, notice hangs, end the run. */
static void watchdog(void)
{
	const struct xmc_plan *plan = core.plan;
	static struct watch watch[XMC_EXECUTORS_MAX];
	uint64_t slice_ns = plan->slice_us * 1000ull, last = core.start_ns, turn = last + slice_ns, now = last;
	uint32_t slice = 0;

	memset(watch, 0, sizeof(watch));
	while (!over(now)) {
		uint64_t next = now + TICK_NS;

		if (plan->n_provocations > 1 && slice_ns && turn < next)
			next = turn;
		if (plan->limit_ns && core.start_ns + plan->limit_ns < next)
			next = core.start_ns + plan->limit_ns;
		sleep_until(next);
		now = now_ns();
		core.result->slice_ns[slice] += now - last;
		core.result->elapsed_ns = now - core.start_ns;
		last = now;
		if (plan->n_provocations > 1 && slice_ns && now >= turn) {
			slice = (slice + 1) % plan->n_provocations;
			atomic_store_explicit(&core.shared.slice, slice, memory_order_relaxed);
			turn = now + slice_ns;
		}
		watch_executors(watch);
	}
	atomic_store(&core.shared.stop, 1);
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
	for (; *started < core.plan->n_executors && !rc; *started += !rc)
		rc = pthread_create(&core.executors[*started].thread, &attr, executor_main, &core.executors[*started]);
	if (!rc && core.plan->writer_cpu >= 0) {
		rc = pthread_create(&core.writer, &attr, writer_main, &core);
		*writer = !rc;
	}
	pthread_attr_destroy(&attr);
	return -rc;
}

static int first_error(void)
{
	int rc = core.result->writer.error;

	for (uint32_t i = 0; i < core.plan->n_executors && !rc; i++)
		rc = core.result->executors[i].error;
	return rc;
}

static int race(void)
{
	uint32_t started = 0;
	bool writer = false;
	int rc = start_threads(&started, &writer);
	uint64_t ticks;

	if (rc)
		atomic_store(&core.shared.stop, 1);
	for (uint32_t i = 0; i < started; i++)
		while (!atomic_load_explicit(&core.executors[i].ready, memory_order_acquire))
			sched_yield();
	core.start_ns = now_ns();
	ticks = xmc_arch_ticks();
	atomic_store_explicit(&core.shared.start, 1, memory_order_release);
	if (!rc) {
		watchdog();
		if (!all_gone())
			return -ETIMEDOUT;	/* their memory must stay: they still run on it */
	}
	for (uint32_t i = 0; i < started; i++)
		pthread_join(core.executors[i].thread, NULL);
	if (writer)
		pthread_join(core.writer, NULL);
	core.result->tsc_hz = (uint64_t)((double)(xmc_arch_ticks() - ticks) * 1e9 / (double)(now_ns() - core.start_ns));
	return rc ? rc : first_error();
}

int xmc_run(const struct xmc_plan *plan, struct xmc_result *result)
{
	int rc = check(plan);

	if (rc)
		return rc;
	if (atomic_flag_test_and_set(&busy))
		return -EBUSY;
	rc = prepare(plan, result);
	if (!rc)
		rc = fault_install(&core);
	if (!rc) {
		result->state = 1;
		rc = race();
		if (rc == -ETIMEDOUT)
			return rc;
		fault_remove();
		result->state = 2;
	}
	release();
	atomic_flag_clear(&busy);
	return rc;
}

uint64_t xmc_bare_loop(const struct xmc_plan *plan, uint64_t limit_ns, uint64_t *ns)
{
	uint64_t (*volatile entry)(void);
	uint64_t (*call)(void);
	uint64_t n = 0, good = 0, expect = plan->images[0].value, start;
	struct region region = { 0 };

	if (check(plan) || region_map(&region, plan)) {
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
