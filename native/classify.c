/*
 * classify.c - what did the execution that ended the loop show? Runs on the executor's thread, off the common path:
 * the loops leave only for news.
 */
#include "core.h"

static bool is_wrong(uint32_t outcome)
{
	return outcome == XMC_TORN || outcome == XMC_STALE || outcome == XMC_FAULT || outcome == XMC_HANG;
}

static int image_returning(const struct xmc_plan *plan, uint64_t value)
{
	for (uint32_t i = 0; i < plan->n_images; i++)
		if (!plan->images[i].traps && plan->images[i].value == value)
			return (int)i;
	return -1;
}

static int image_trapping(const struct xmc_plan *plan)
{
	for (uint32_t i = 0; i < plan->n_images; i++)
		if (plan->images[i].traps)
			return (int)i;
	return -1;
}

/* The value that generation `g` yields; a trapping image yields none, and poison is a value that none returns. */
static uint64_t value_of(const struct executor *ex, uint64_t g)
{
	const struct xmc_image *image = &ex->core->plan->images[g % ex->core->plan->n_images];

	return image->traps ? ex->frame.poison : image->value;
}

/* The youngest generation up to `begun` whose image is `image`; UINT64_MAX where there was none yet. */
static uint64_t generation_of(const struct xmc_plan *plan, uint32_t image, uint64_t begun)
{
	uint64_t back = (begun + plan->n_images - image) % plan->n_images;

	return back <= begun ? begun - back : UINT64_MAX;
}

/* Place an execution that ran `image` (or, -1, none of them) in the window [done, begun] around it. */
static void judge_window(const struct executor *ex, int image, uint32_t good, struct verdict *v)
{
	const struct xmc_frame *f = &ex->frame;
	uint64_t g = image < 0 ? UINT64_MAX : generation_of(ex->core->plan, (uint32_t)image, f->begun);

	v->phase = f->begun == f->done ? XMC_POST : XMC_CONCURRENT;
	if (g == UINT64_MAX) {
		v->outcome = XMC_TORN;
	} else if (g < f->done) {
		v->outcome = XMC_STALE;
		v->stale_by = f->done - g;
	} else if (good != XMC_NEW) {
		v->outcome = good;
	} else {
		v->outcome = g == f->done && v->phase == XMC_CONCURRENT ? XMC_OLD : XMC_NEW;
	}
}

/* Without a window, `new` is an execution whose image differs from that of the execution before. */
static void judge_value(struct executor *ex, uint64_t value, struct verdict *v)
{
	bool known = image_returning(ex->core->plan, value) >= 0;

	v->phase = XMC_CONCURRENT;
	v->outcome = !known ? XMC_TORN : value == ex->frame.expect ? XMC_OLD : XMC_NEW;
	if (known)
		ex->frame.expect = value;
}

static bool trapped_at_head(const struct executor *ex)
{
	const struct core *core = ex->core;

	return ex->frame.fault_signal == SIGTRAP &&
	       ex->frame.fault_pc == core->region.text + core->plan->head + xmc_arch_trap_advance;
}

/* A fetch that the page's rights refused, where the writer's steps take the right to execute away. */
static bool refused_fetch(const struct executor *ex)
{
	const struct xmc_frame *f = &ex->frame;

	return ex->core->plan->fault_is_ours && f->fault_signal == SIGSEGV && f->fault_code == SEGV_ACCERR &&
	       region_holds(&ex->core->region, f->fault_address);
}

/* `image`: the one that traps by itself, -1 where the regime made the trap. */
static void judge_trap(struct executor *ex, int image, struct verdict *v)
{
	const struct xmc_plan *plan = ex->core->plan;

	v->outcome = XMC_TRAP;
	if (!plan->window)
		ex->frame.expect = ex->frame.poison;	/* whatever returns next differs from this execution */
	else if (image >= 0)
		judge_window(ex, image, XMC_TRAP, v);
	else if (v->phase == XMC_POST)
		v->outcome = XMC_STALE;			/* the protocol had said that the trap was gone */
}

static void judge_fault(struct executor *ex, struct verdict *v)
{
	struct xmc_frame *f = &ex->frame;

	f->begun = atomic_load_explicit(&ex->core->shared.begun, memory_order_acquire);
	v->phase = ex->core->plan->window && f->begun == f->done ? XMC_POST : XMC_CONCURRENT;
	v->signal = f->fault_signal;
	v->code = f->fault_code;
	v->value = f->fault_address;
	v->pc = (int64_t)(f->fault_pc - ex->core->region.text);
	if (f->fault_signal == ex->core->watch_signal)
		v->outcome = XMC_HANG;
	else if (trapped_at_head(ex) && (ex->core->plan->trap_is_ours || image_trapping(ex->core->plan) >= 0))
		judge_trap(ex, image_trapping(ex->core->plan), v);
	else if (refused_fetch(ex))
		judge_trap(ex, -1, v);
	else
		v->outcome = XMC_FAULT;
}

static void judge_returned(struct executor *ex, struct verdict *v)
{
	struct xmc_frame *f = &ex->frame;

	v->value = f->value;
	if (ex->core->plan->window)
		judge_window(ex, image_returning(ex->core->plan, f->value), XMC_NEW, v);
	else
		judge_value(ex, f->value, v);
	if (f->clobbered) {
		ex->out->clobbers++;
		v->outcome = XMC_TORN;
		v->code = XMC_CODE_CLOBBERED;
	}
}

static void account(struct executor *ex, struct verdict *v, struct xmc_slice *slice, uint32_t provocation,
		    uint32_t phase_over)
{
	const uint8_t *head = (const uint8_t *)(uintptr_t)ex->core->region.text + ex->core->plan->head;

	if (phase_over != XMC_PHASES)
		v->phase = phase_over;
	slice->outcomes[v->phase][v->outcome]++;
	if (is_wrong(v->outcome))
		account_event(ex, v, provocation, head);
}

/*
 * Whether the loop's counts agree with what it began with. An interrupt inside the patched bytes cuts a batch
 * short: then what was left at that moment is what counts, and the execution it interrupted may have been no news.
 */
static bool counts_agree(const struct xmc_frame *f, uint64_t began_with, uint64_t counted)
{
	if (!f->interior_left)
		return f->ran + counted + f->left == began_with;
	return f->ran + counted + f->interior_left - began_with <= 1;
}

void classify_batch(struct executor *ex, uint64_t began_with, struct xmc_slice *slice, uint32_t provocation)
{
	struct xmc_frame *f = &ex->frame;
	bool window = ex->core->plan->window, resumed = ex->phase_resumed, faulted = f->fault_signal;
	uint32_t usual = window ? XMC_NEW : XMC_OLD;
	uint32_t usual_phase = resumed ? XMC_RESUMED : window ? XMC_POST : XMC_CONCURRENT;
	uint64_t left = f->interior_left ? f->interior_left : f->left, *row = slice->outcomes[usual_phase];
	struct counted counted = add_up(ex);
	uint32_t phase_over = f->interior_left ? XMC_INTERIOR : resumed ? XMC_RESUMED : XMC_PHASES;
	struct verdict v = { .outcome = usual };

	/* A torn execution that changed a count: then claim no execution that cannot be proven. */
	if (!counts_agree(f, began_with, counted.news + counted.torn)) {
		f->clobbered |= !faulted;
		left = began_with;
		counted = (struct counted){ 0 };
	}
	row[usual] += began_with - left - counted.news - counted.torn;
	row[XMC_NEW] += counted.news;
	row[XMC_TORN] += counted.torn;
	if (counted.news || counted.torn || left == began_with)
		account_counted(ex, usual_phase, counted.torn);
	ex->phase_resumed = faulted;
	if (!left && !faulted && !f->clobbered)
		return;
	if (!left)			/* the last of the batch passed for usual, and left a register changed */
		row[counted.news ? XMC_NEW : counted.torn == began_with ? XMC_TORN : usual]--;
	if (faulted)
		judge_fault(ex, &v);
	else if (f->left || f->clobbered)
		judge_returned(ex, &v);
	account(ex, &v, slice, provocation, phase_over);
	if (window) {
		f->seen = f->begun;
		f->expect = value_of(ex, f->begun);
	}
}
