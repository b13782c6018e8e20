/*
 * repro.c - what a one-file reproducer has of its own: it takes the place of core.c, run.c and executor.c, which do for
 * every plan what this does for one. Everything else comes from the core's files. stress/onefile.py puts both together,
 * makes constants of the plan (PLAN_*: its members; REPRO_*: what follows from it) and leaves out what they rule out.
 */
#include "repro.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

_Alignas(XMC_PAGE) struct core the_core;

struct executor executors[XMC_EXECUTORS_MAX];
static uint8_t alt_stacks[XMC_EXECUTORS_MAX][XMC_ALT_BYTES];
struct xmc_executor_result seen_by[XMC_EXECUTORS_MAX];
uint64_t patches;
int cpus[REPRO_N_CPUS];		/* the writer's, the executors', the antagonist's */

/* Say why this machine cannot show anything, and leave. */
void cannot(const char *what, int error)
{
	fprintf(stderr, "cannot run here: %s: %s\n", what, strerror(error < 0 ? -error : error));
	exit(2);
}

/* Around the region nothing is accessible: a torn branch that leads out of it faults. */
static uint8_t *reserve(uint64_t bytes)
{
	return mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}

/* What lies around the region, and its first image. */
static void fill(uint8_t *mapping, uint64_t bytes, const struct xmc_plan *plan)
{
	uint8_t *first = mapping + bytes / 2 + plan->place;

	if (REPRO_CATCHES || PLAN_HUGE_PAGES)	/* huge pages are there once they are touched */
		memset(mapping, xmc_arch_trap[0], bytes);
	for (uint32_t i = 0; i < plan->n_pads; i++)
		memcpy(first + plan->pads[i].offset, plan->pads[i].bytes, plan->pads[i].len);
	memcpy(first, images[0].bytes, plan->region_len);
}

/* A signal that no executor raised in the region: this program's own fault. Die of it. */
static void crash(int sig, const siginfo_t *info, const void *context)
{
	(void)info, (void)context;
	signal(sig, SIG_DFL);
}

/* They are not told here. */
void xmc_arch_registers(const void *context, uint64_t *out)
{
	(void)context, (void)out;
}

/* Only what this program is about ends it; whatever else went wrong is counted. */
void account_event(struct executor *ex, const struct verdict *v, uint32_t provocation, const uint8_t *head)
{
	struct xmc_event *e = &ex->out->ring[0];

	(void)provocation;
	if (REPRO_OTHERS && (v->outcome != REPRO_OUTCOME || v->code != REPRO_CODE))
		return;
	if ((PLAN_WINDOW && (v->phase == XMC_POST) != REPRO_POST) || (REPRO_CATCHES && v->signal != REPRO_SIGNAL))
		return;
	/* Of published code a verdict says in what a value is wrong, not what it was. */
	e->value = REPRO_PUBLISHES && !v->signal ? ex->frame.value : v->value;
	e->pc = v->pc;
	e->done = ex->frame.done;
	e->begun = ex->frame.begun;
	for (uint32_t i = 0; i < XMC_EVENT_BYTES; i++)
		e->bytes[i] = ((const volatile uint8_t *)head)[i];	/* volatile: the writer changes them under us */
	ex->out->events++;
	atomic_store_explicit(&ex->core->shared.stop, 1, memory_order_relaxed);
}

/* What the loop finds through the stack pointer. */
static void fill_frame(struct executor *ex)
{
	struct xmc_frame *f = &ex->frame;

	f->poison = (uint64_t)(uintptr_t)the_core.region.reservation + XMC_REACH / 2 + 0x5a5a5a0;
	for (uint32_t i = 0; i < XMC_FRAME_GUARDS; i++)
		f->guards[i] = f->poison + 0x1000 + i * 16;
	f->self = (uint64_t)(uintptr_t)f;
	f->entry = the_core.region.text + PLAN_ENTRY;
	f->published = (uint64_t)(uintptr_t)&the_core.shared.done;
	f->announced = (uint64_t)(uintptr_t)&the_core.shared.begun;
	f->expect = REPRO_FIRST_TRAPS ? f->poison : images[0].value;
	f->head = the_core.region.text + PLAN_HEAD;
	f->tail = the_core.region.text + PLAN_PATCH + PLAN_PATCH_LEN - 1;
	f->arena = (uint64_t)(uintptr_t)the_core.region.arena;
	f->bait = the_core.region.bait;
	if (REPRO_BEFORE)
		memcpy(f->before, steps_before, sizeof(steps_before));
	if (REPRO_ON_CHANGE)
		memcpy(f->on_change, steps_on_change, sizeof(steps_on_change));
	if (REPRO_ALWAYS)
		memcpy(f->always, steps_always, sizeof(steps_always));
}

static int handle_signals(void)
{
	int rc = 0;

	if (REPRO_CATCHES)
		for (size_t i = 0; i < N_FAULTS && !rc; i++)
			rc = install(fault_signals[i], on_fault, NULL);
	if (REPRO_KICKS && !rc)
		rc = install(the_core.kick_signal = SIGRTMIN + 4, on_kick, NULL);
	if (REPRO_HANGS && !rc)
		rc = install(the_core.watch_signal = SIGRTMIN + 5, on_watch, NULL);
	if (REPRO_POKES && !rc)
		rc = install(the_core.poke_signal = SIGRTMIN + 6, on_poke, NULL);
	return rc;
}

/* The compiled steps hold offsets from the region's first byte: make them addresses. */
static void place_steps(struct program *program)
{
	for (uint32_t i = 0; i < program->n; i++) {
		struct micro *m = &program->micro[i];

		if (m->op == XMC_STEP_STORE || m->op == XMC_STEP_FLUSH || m->op == XMC_STEP_OWN ||
		    m->op == XMC_STEP_SHARE)
			m->address += the_core.region.data;
		if (m->form)
			m->value += (uint64_t)(uintptr_t)program->operands;
	}
}

/* New pages, which a forked writer will share. */
static void share(void *at, size_t bytes)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;

	if (mmap(at, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
		cannot("memory that two processes share", errno);
}

void prepare(void)
{
	int rc;

	if (REPRO_FORKS) {
		share(&the_core, sizeof(the_core));
		share(executors, sizeof(executors));
	}
	rc = region_map(&the_core.region, the_core.plan);
	if (rc)
		cannot("no memory that is executable and can be patched", rc);
	the_core.executors = executors;
	the_core.alt_stacks = alt_stacks[0];
	the_core.pid = getpid();
	for (uint32_t i = 0; i < PLAN_N_EXECUTORS; i++) {
		executors[i].core = &the_core;
		executors[i].index = i;
		executors[i].out = &seen_by[i];
		fill_frame(&executors[i]);
	}
	if (REPRO_PUBLISHES) {
		rc = publish_prepare(&the_core);
		if (rc)
			cannot("slots for code", rc);
	} else {
		for (uint32_t i = 0; i < PLAN_N_IMAGES; i++)
			place_steps(&programs[i]);
		if (REPRO_PROVOKES)
			place_steps(&provocation);
	}
	for (uint32_t i = 0; i < REPRO_REGISTRATIONS; i++)
		if (syscall(SYS_membarrier, registrations[i], 0, 0) < 0)
			cannot("membarrier is refused", errno);
	if (REPRO_HANDLES) {
		rc = handle_signals();
		if (rc)
			cannot("signals", rc);
	}
}

static int run_program(struct core *core, const struct program *program, uint64_t generation)
{
	for (uint32_t i = 0; i < program->n; i++) {
		int rc = step_run(core, &program->micro[i], generation);

		if (rc)
			return rc;
	}
	return 0;
}

/* One patch: the writer's steps, from the image that is there to the one of this generation. */
static int patch_once(struct core *core, uint64_t generation)
{
	if (REPRO_PROVOKES)
		(void)run_program(core, &provocation, generation);
	if (PLAN_WINDOW) {
		/* Announced before the first byte changes: who meets a new byte and then loads `begun` sees it. */
		atomic_store_explicit(&core->shared.begun, generation, memory_order_relaxed);
		atomic_thread_fence(memory_order_release);
	}
	if (REPRO_STEPS == 1)
		return step_run(core, programs[generation % PLAN_N_IMAGES].micro, generation);
	return run_program(core, &programs[generation % PLAN_N_IMAGES], generation);
}

void *writer_main(void *arg)
{
	struct core *core = arg;
	uint64_t random = PLAN_SEED * 2 + 1, generation = 0;
	int rc = pin_self(cpus[0]);

	if (rc)
		cannot("the writer's CPU", rc);
	if (via_kernel(PLAN_VIA))
		rc = via_open(core);
	while (!rc && !run_stopping(core)) {
		rc = REPRO_PUBLISHES ? publish_once(core, ++generation) : patch_once(core, ++generation);
		if (PLAN_PACE_LOG2)
			pause_between(core, &random, PLAN_PACE_LOG2);
	}
	if (REPRO_PARKS)
		step_release_all(core);
	if (REPRO_FORKS)
		core->remote.patches = generation;
	else
		patches = generation;
	if (rc && rc != -EINTR)
		cannot("a step of the writer", rc);
	atomic_store(&core->shared.stop, 1);
	return NULL;
}

/* The loop counts nothing by itself here (value.inc). */
struct counted add_up(const struct executor *ex)
{
	(void)ex;
	return (struct counted){ 0 };
}

void account_counted(struct executor *ex, uint32_t phase, bool believed)
{
	(void)ex, (void)phase, (void)believed;
}

static void call_until_stopped(struct executor *ex)
{
	uint64_t next = 1;

	while (!run_stopping(ex->core)) {
		if (PUBLISH_REACH == XMC_REACH_POINTER)
			run_pointer(ex, REPRO_LOOP, REPRO_BATCH, 0);
		else if (PUBLISH_REACH == XMC_REACH_BRANCH)
			run_branch(ex, REPRO_LOOP, REPRO_BATCH, 0);
		else
			run_mapping(ex, 0, &next);
		if (REPRO_PROGRESS)
			report_progress(ex);
	}
}

static void execute_until_stopped(struct executor *ex)
{
	while (!run_stopping(ex->core)) {
		uint64_t count = ex->phase_resumed ? 1 : REPRO_BATCH;

		ex->frame.left = count;
		ex->frame.fault_signal = 0;
		ex->frame.interior_left = 0;
		REPRO_LOOP(&ex->frame);
		classify_batch(ex, count, &ex->out->slices[0], 0);
		if (REPRO_PROGRESS)
			report_progress(ex);
	}
}

void *executor_main(void *arg)
{
	struct executor *ex = arg;
	stack_t alt = { .ss_sp = alt_stacks[ex->index], .ss_size = XMC_ALT_BYTES };
	int rc;

	atomic_store(&ex->tid, own_tid());
	if (REPRO_HANDLES && sigaltstack(&alt, NULL) < 0)
		cannot("a stack for signals", errno);
	rc = pin_self(cpus[1 + ex->index]);
	if (rc)
		cannot("an executor's CPU", rc);
	if (REPRO_PUBLISHES)
		call_until_stopped(ex);
	else
		execute_until_stopped(ex);
	atomic_store(&ex->core->shared.stop, 1);
	atomic_store(&ex->gone, 1);
	return NULL;
}

void *antagonist_main(void *arg)
{
	struct core *core = arg;
	int rc = pin_self(cpus[REPRO_N_CPUS - 1]);

	if (rc)
		cannot("the antagonist's CPU", rc);
	while (!run_stopping(core))
		if (REPRO_ANTAGONIST == XMC_ANTAGONIST_LINES)
			grab_lines(core);
		else
			run_branches(core);
	return NULL;
}
