/* executor.c - the thread that executes the region: batches of a tight loop, and what ends them. */
#include "core.h"
#include "publish.h"

#define BATCH_BARE 4096			/* executions between two looks at `stop`: some 10 us */
#define BATCH_STEPS 256			/* the same where every execution also runs steps of the regime */
#define BATCH_PROVOKED 64		/* the same where it flushes, so that a new turn begins within microseconds */

/* Append the code of `steps` that run `when` to `list`, which holds `used` so far; NULL-terminated. */
static int append_list(xmc_code *list, uint32_t used, const struct xmc_exec_step *steps, uint32_t n, uint32_t when)
{

	for (uint32_t i = 0; i < n; i++) {
		xmc_code code = xmc_arch_exec_step(steps[i].op);

		if (steps[i].when != when)
			continue;
		if (!code)
			return -ENOTSUP;
		if (used == XMC_FRAME_STEPS - 1)
			return -EINVAL;
		list[used++] = code;
	}
	list[used] = NULL;
	return 0;
}

int executor_prepare(struct executor *ex)
{
	struct core *core = ex->core;
	const struct xmc_plan *plan = core->plan;
	struct xmc_frame *f = &ex->frame;
	int rc;

	/* A quarter into the desert: not canonical-adjacent, not null-adjacent, and recognizable in a register dump. */
	f->poison = (uint64_t)(uintptr_t)core->region.reservation + XMC_REACH / 2 + 0x5a5a5a0;
	for (uint32_t i = 0; i < XMC_FRAME_GUARDS; i++)
		f->guards[i] = f->poison + 0x1000 + i * 16;
	f->self = (uint64_t)(uintptr_t)f;
	f->entry = core->region.text + plan->entry;
	f->published = (uint64_t)(uintptr_t)&core->shared.done;
	f->announced = (uint64_t)(uintptr_t)&core->shared.begun;
	f->expect = plan->images[0].traps ? f->poison : plan->images[0].value;
	f->head = core->region.text + plan->head;
	f->arena = (uint64_t)(uintptr_t)core->region.arena;
	f->bait = core->region.bait;
	f->tail = core->region.text + plan->patch + plan->patch_len - 1;
	rc = append_list(f->on_change, 0, plan->exec_steps, plan->n_exec_steps, XMC_ON_CHANGE);
	return rc ? rc : append_list(f->always, 0, plan->exec_steps, plan->n_exec_steps, XMC_ALWAYS);
}

/* The tightest loop that still runs every step there is. */
static xmc_loop loop_for(const struct xmc_plan *plan, uint32_t provocation)
{
	bool before = plan->provocations[provocation].n_executor;

	bool steps = before || plan->n_exec_steps;

	if (plan->window)
		return steps ? xmc_arch_loop_window_steps : xmc_arch_loop_window;
	return steps ? xmc_arch_loop_value_steps : xmc_arch_loop_value;
}

int change_provocation(struct executor *ex, uint32_t provocation)
{
	const struct xmc_plan *plan = ex->core->plan;
	const struct xmc_provocation *p = &plan->provocations[provocation];
	int rc = append_list(ex->frame.before, 0, p->executor, p->n_executor, XMC_ALWAYS);

	/* Without a window there is one place for steps: the value loop knows only `before`. */
	if (!rc && !plan->window)
		rc = append_list(ex->frame.before, p->n_executor, plan->exec_steps, plan->n_exec_steps, XMC_ALWAYS);
	return rc;
}

/* Another executor's turn. Whoever waits for our progress must not wait for ever. */
static void wait_a_little(struct executor *ex)
{
	for (uint32_t i = 0; i < 64; i++)
		xmc_arch_relax();
	report_progress(ex);
}

/* What the value loop may take for an image without asking us. One that traps returns nothing. */
static void know_images(struct executor *ex)
{
	const struct xmc_plan *plan = ex->core->plan;
	struct xmc_frame *f = &ex->frame;

	for (uint32_t i = 0; i < plan->n_images && !plan->window; i++)
		if (!plan->images[i].traps)
			f->values[f->n_images++] = plan->images[i].value;
	ex->n_values = f->n_images;
}

static int execute_until_stopped(struct executor *ex)
{
	struct shared *shared = &ex->core->shared;
	const struct xmc_plan *plan = ex->core->plan;
	uint32_t provocation = XMC_PROVOCATIONS_MAX;
	xmc_loop loop = NULL;
	uint64_t batch = 0;
	int rc = 0;

	know_images(ex);
	while (!atomic_load_explicit(&shared->stop, memory_order_relaxed) && !rc) {
		const struct xmc_turn *turn = turn_on(ex->core);
		uint32_t on = turn->provocation;
		uint64_t count;

		if (ex->index >= turn->executors) {
			wait_a_little(ex);
			continue;
		}
		ex->turn = (uint32_t)(turn - ex->core->turns);
		if (on != provocation) {
			provocation = on;
			rc = change_provocation(ex, on);
			loop = loop_for(plan, on);
			batch = plan->provocations[on].n_executor ? BATCH_PROVOKED :
				plan->n_exec_steps		  ? BATCH_STEPS :
								    BATCH_BARE;
		}
		count = ex->phase_resumed ? 1 : batch;
		ex->frame.left = count;
		ex->frame.n_values = ex->n_values;
		ex->frame.fault_signal = 0;
		ex->frame.interior_left = 0;
		loop(&ex->frame);
		classify_batch(ex, count, &ex->out->slices[on], on);
		/* Release: whoever waits for progress may rely on these executions having happened. */
		report_progress(ex);
	}
	return rc;
}

/*
 * Whether a system call made next to the region is stopped: asked for, then tried. A translator may pass the request on
 * to the kernel, which says yes, and then make its guest's calls from code of its own, which the kernel lets through.
 */
static bool contain(struct executor *ex)
{
	const struct region *region = &ex->core->region;
	struct xmc_frame *f = &ex->frame;
	uint64_t entry = f->entry;
	bool contained;

	if (!fault_contain_syscalls(region))
		return false;
	f->entry = (uint64_t)(uintptr_t)region->window + region->window_bytes - XMC_GATE_AT;
	f->left = 1;
	xmc_arch_loop_value(f);
	contained = f->fault_signal == SIGSYS;
	f->fault_signal = 0;
	f->entry = entry;
	return contained;
}

void *executor_main(void *arg)
{
	struct executor *ex = arg;
	struct core *core = ex->core;
	struct xmc_executor_result *out = ex->out;

	out->tid = own_tid();
	atomic_store_explicit(&ex->tid, out->tid, memory_order_relaxed);	/* published by `ready` */
	out->error = pin_self(core->plan->executor_cpu[ex->index]);
	if (!out->error)
		out->error = fault_adopt_thread(ex);
	out->cpu_first = current_cpu();
	if (!out->error) {
		bool contained = contain(ex);

		if (ex->index == 0)
			core->result->syscalls_contained = contained;
	}
	atomic_store_explicit(&ex->ready, 1, memory_order_release);
	while (!atomic_load_explicit(&core->shared.start, memory_order_acquire) &&
	       !atomic_load_explicit(&core->shared.stop, memory_order_relaxed))
		xmc_arch_relax();
	if (!out->error)
		out->error = core->publish	    ? publish_execute(ex) :
			     core->plan->observe ? observe_until_stopped(ex) :
						   execute_until_stopped(ex);
	if (out->error)
		atomic_store(&core->shared.stop, 1);
	out->cpu_last = current_cpu();
	thread_usage(&out->cpu_ns, &out->switches_voluntary, &out->switches_forced);
	fault_release_thread();
	atomic_store_explicit(&ex->gone, 1, memory_order_release);
	return NULL;
}
