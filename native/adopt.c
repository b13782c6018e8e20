/* adopt.c - the executor of the publish shape: acquire, call, and tell what it was that ran. */
#include "publish.h"

#define BATCH 1024			/* executions between two looks at `stop` */
#define BATCH_STEPS 64			/* the same where each flushes, guesses or serializes */
#define NEAR 65536			/* a data address this near to the slot is told relative to it */

static struct xmc_slice *slice_of(struct executor *ex, uint32_t provocation)
{
	return &ex->out->slices[provocation];
}

/* The generation whose whole code returned `value`; UINT64_MAX where none up to `begun` does. */
static uint64_t generation_returning(uint64_t value, uint64_t begun)
{
	uint64_t g;

	if ((uint32_t)value != (uint32_t)~(value >> 32))
		return UINT64_MAX;
	g = (begun & ~0xffffffffull) | (uint32_t)value;
	return g <= begun ? g : UINT64_MAX;
}

/* Whether generations g and `wanted` can stand at one address: the same slot, or the same page frame. */
static bool shares_place(uint64_t g, uint64_t wanted)
{
	uint64_t apart = g < wanted ? wanted - g : g - wanted;

	return !(apart & the_slots.mask) || (the_slots.paged && apart % the_slots.frames == 0);
}

/* What a signal says of an execution at `text`. */
static void judge_signal(const struct executor *ex, uint64_t text, struct verdict *v)
{
	const struct xmc_frame *f = &ex->frame;
	int64_t off = (int64_t)(f->fault_pc - text), to = (int64_t)(f->fault_address - text);

	v->signal = f->fault_signal;
	v->code = f->fault_code;
	v->pc = off;
	v->value = to > -NEAR && to < NEAR ? (uint64_t)to : f->fault_address;
	if (f->fault_signal == ex->core->watch_signal)
		v->outcome = XMC_HANG;
	else if (f->fault_signal == SIGTRAP && off == xmc_arch_trap_advance)
		v->outcome = XMC_TRAP;
	else if (off > 0 && off <= (int64_t)ex->core->plan->region_len && f->fault_address != f->fault_pc)
		v->outcome = XMC_TORN;		/* a head that was filled, and something behind it that can fault */
	else
		v->outcome = XMC_FAULT;
}

/*
 * How a value is wrong, in few words, so that equal ones share a signature. Bit 0, 1: its lower, upper half is that of
 * `wanted`'s code. Bit 4: the first instruction is of `wanted` and the rest of a later generation, each whole; this is
 * what a thread shows that was interrupted between them. Bit 5: the other way round.
 */
static uint64_t tell_apart(uint64_t value, uint64_t wanted, uint64_t begun)
{
	uint64_t wrong = value ^ code_of(wanted);
	uint64_t told = ((uint32_t)wrong ? 0 : 1) | (wrong >> 32 ? 0 : 2);

	for (uint64_t later = wanted + 1; later <= begun && later < wanted + 8 && !told; later++) {
		uint64_t swap = second_field(wanted) ^ second_field(later);

		told |= wrong == swap ? 16 : value == (code_of(later) ^ swap) ? 32 : 0;
	}
	return told;
}

/*
 * What a returned value says where `wanted` was called. Of a stale one the signature's value is its age in
 * generations.
 */
static void judge_body(struct executor *ex, uint64_t wanted, struct verdict *v)
{
	uint64_t begun = ex->frame.begun, g = generation_returning(ex->frame.value, begun);
	bool branch = ex->core->publish->reach == XMC_REACH_BRANCH;

	v->value = tell_apart(ex->frame.value, wanted, begun);
	if (ex->frame.clobbered) {
		ex->out->clobbers++;
		v->outcome = XMC_TORN;
		v->code = XMC_CODE_CLOBBERED;
	} else if (g == UINT64_MAX || (!branch && !shares_place(g, wanted))) {
		v->outcome = XMC_TORN;
	} else if (g < wanted) {
		v->outcome = XMC_STALE;
		v->stale_by = wanted - g;
		v->value = v->stale_by;
	} else {
		v->outcome = g == ex->last ? XMC_OLD : XMC_NEW;
		ex->last = g;
	}
}

static void account_call(struct executor *ex, const struct verdict *v, uint64_t wanted, uint32_t provocation)
{
	slice_of(ex, provocation)->outcomes[v->phase][v->outcome]++;
	if (v->outcome != XMC_OLD && v->outcome != XMC_NEW)
		account_event(ex, v, provocation, the_slots.view + slot_offset(wanted));
}

/* The execution that ended a pointer loop: concurrent only if the writer had come round to its slot again. */
static void judge_pointer(struct executor *ex, uint32_t phase, uint32_t provocation)
{
	struct xmc_frame *f = &ex->frame;
	struct verdict v = { .phase = phase };

	f->begun = atomic_load_explicit(&ex->core->shared.begun, memory_order_acquire);
	if (phase == XMC_POST && f->begun > f->done + the_slots.mask)
		v.phase = XMC_CONCURRENT;
	if (f->fault_signal)
		judge_signal(ex, f->entry, &v);
	else
		judge_body(ex, f->done, &v);
	account_call(ex, &v, f->done, provocation);
}

/*
 * How many of the `count` executions that the loop began with were no news; `left` is not 0 afterwards where one was.
 * Counts that do not agree were changed by what ran: then none is claimed that cannot be proven.
 */
static uint64_t settle(struct xmc_frame *f, uint64_t count)
{
	if (f->ran + f->left != count) {
		f->clobbered |= !f->fault_signal;
		f->left = count;
	}
	if (!f->left && (f->fault_signal || f->clobbered))
		f->left = 1;			/* the last of the batch passed for usual, and left a register changed */
	return count - f->left;
}

static void run_pointer(struct executor *ex, xmc_loop loop, uint64_t batch, uint32_t provocation)
{
	struct xmc_frame *f = &ex->frame;
	uint32_t phase = ex->phase_resumed ? XMC_RESUMED : XMC_POST;
	uint64_t count = ex->phase_resumed ? 1 : batch, good, firsts;

	f->left = count;
	f->firsts = 0;
	f->fault_signal = 0;
	loop(f);
	good = settle(f, count);
	firsts = f->firsts - (f->left ? f->first : 0);
	firsts = firsts < good ? firsts : good;
	slice_of(ex, provocation)->outcomes[phase][XMC_NEW] += firsts;
	slice_of(ex, provocation)->outcomes[phase][XMC_OLD] += good - firsts;
	ex->phase_resumed = f->fault_signal != 0;
	if (f->left)
		judge_pointer(ex, phase, provocation);
}

/* The slot whose code a branch led to, when it ended at `pc`; the branch itself where it is no slot's. */
static uint64_t text_around(const struct core *core, uint64_t pc)
{
	uint64_t at = pc - (uint64_t)(uintptr_t)the_slots.base;

	return at < the_slots.bytes ? pc - at % the_slots.stride + the_slots.body_at : core->region.text;
}

static void run_branch(struct executor *ex, xmc_loop loop, uint64_t batch, uint32_t provocation)
{
	struct xmc_frame *f = &ex->frame;
	uint64_t count = ex->phase_resumed ? 1 : batch, good;
	struct verdict v = { .phase = XMC_POST };

	f->entry = ex->core->region.text;
	f->left = count;
	f->fault_signal = 0;
	loop(f);
	good = settle(f, count);
	if (good) {			/* no news: they ran the code of `seen` */
		uint64_t *row = slice_of(ex, provocation)->outcomes[ex->phase_resumed ? XMC_RESUMED : XMC_POST];
		bool first = ex->last != f->seen;

		row[XMC_NEW] += first;
		row[XMC_OLD] += good - first;
		ex->last = f->seen;
	}
	if (f->left) {
		f->begun = atomic_load_explicit(&ex->core->shared.begun, memory_order_acquire);
		v.phase = ex->phase_resumed ? XMC_RESUMED : f->begun == f->done ? XMC_POST : XMC_CONCURRENT;
		if (f->fault_signal)
			judge_signal(ex, text_around(ex->core, f->fault_pc), &v);
		else
			judge_body(ex, f->done, &v);
		account_call(ex, &v, f->done, provocation);
	}
	ex->phase_resumed = f->fault_signal != 0;
	f->seen = f->begun;
	f->expect = code_of(f->begun);
	/* It came from there, or will never again run what is older: the branch was seen to lead there. */
	atomic_store_explicit(&ex->adopted, ex->last, memory_order_release);
}

/*
 * Call the next generation's slot until it is there. Every execution after a fault follows a signal's return: that is
 * how this experiment is, so the phase is told by the flag alone.
 */
static void run_mapping(struct executor *ex, uint32_t provocation, uint64_t *next)
{
	struct xmc_frame *f = &ex->frame;
	struct verdict v = { .phase = XMC_CONCURRENT };

	atomic_store_explicit(&ex->adopted, *next, memory_order_release);
	f->done = atomic_load_explicit(&ex->core->shared.done, memory_order_acquire);
	f->entry = slot_text(*next);
	f->expect = code_of(*next);
	f->left = 1;
	f->fault_signal = 0;
	xmc_arch_loop_value(f);
	f->begun = atomic_load_explicit(&ex->core->shared.begun, memory_order_acquire);
	if (f->done >= *next)
		v.phase = XMC_POST;
	if (f->fault_signal)
		judge_signal(ex, f->entry, &v);
	else
		judge_body(ex, *next, &v);
	account_call(ex, &v, *next, provocation);
	if (!f->fault_signal)
		*next = (f->done > *next ? f->done : *next) + 1;
}

static xmc_loop loop_for(const struct core *core, uint32_t provocation)
{
	const struct xmc_publish *publish = core->publish;
	bool steps = core->plan->n_exec_steps || core->plan->provocations[provocation].n_executor;

	if (publish->reach == XMC_REACH_BRANCH)
		return steps ? xmc_arch_loop_window_steps : xmc_arch_loop_window;
	if (publish->guesses_flushed >> provocation & 1)
		return xmc_arch_loop_guess_flush;
	if (publish->guesses >> provocation & 1)
		return xmc_arch_loop_guess;
	return steps ? xmc_arch_loop_publish_steps : xmc_arch_loop_publish;
}

int publish_execute(struct executor *ex)
{
	struct core *core = ex->core;
	uint32_t reach = core->publish->reach, provocation = XMC_PROVOCATIONS_MAX;
	uint64_t next = 1, batch = BATCH;
	xmc_loop loop = NULL;
	int rc = 0;

	while (!run_stopping(core) && !rc) {
		const struct xmc_turn *turn = turn_on(core);
		uint32_t on = turn->provocation;

		ex->turn = (uint32_t)(turn - core->turns);
		if (on != provocation) {
			provocation = on;
			rc = change_provocation(ex, on);
			loop = loop_for(core, on);
			batch = loop == xmc_arch_loop_publish ? BATCH : BATCH_STEPS;
		}
		if (reach == XMC_REACH_POINTER)
			run_pointer(ex, loop, batch, provocation);
		else if (reach == XMC_REACH_BRANCH)
			run_branch(ex, loop, batch, provocation);
		else
			run_mapping(ex, provocation, &next);
		/* Release: whoever waits for progress may rely on these executions having happened. */
		atomic_fetch_add_explicit(&ex->progress, 1, memory_order_release);
	}
	return rc;
}
