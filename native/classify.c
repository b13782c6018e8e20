/*
 * classify.c - what did the execution that ended the loop show? Runs on the executor's thread, off the common path:
 * the loops leave only for news.
 */
#include "core.h"
#include <string.h>

#define EVENTS_APART_TICKS 65536

static uint32_t bucket(uint64_t n)
{
	return n ? 64 - (uint32_t)__builtin_clzll(n) : 0;
}

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

static uint32_t hash_of(const struct verdict *v)
{
	uint64_t h = v->value ^ (uint64_t)v->pc << 17 ^ (uint64_t)(uint32_t)v->signal << 40 ^
		     (uint64_t)v->outcome << 50 ^ (uint64_t)v->phase << 56;

	return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 40) % XMC_SIGNATURES_MAX;
}

/* Open addressing: torn executions come by the million, of a few hundred kinds. */
static void count_signature(struct xmc_executor_result *out, const struct verdict *v)
{
	uint32_t at = hash_of(v);

	for (uint32_t tries = 0; tries < XMC_SIGNATURES_MAX; tries++, at = (at + 1) % XMC_SIGNATURES_MAX) {
		struct xmc_signature *s = &out->signatures[at];

		if (!s->count)
			*s = (struct xmc_signature){ .value = v->value, .pc = v->pc, .signal = v->signal,
						     .code = v->code, .outcome = v->outcome, .phase = v->phase };
		else if (s->value != v->value || s->pc != v->pc || s->signal != v->signal || s->code != v->code ||
			 s->outcome != v->outcome || s->phase != v->phase)
			continue;
		s->count++;
		return;
	}
	out->signatures_lost++;
}

static void record_event(struct executor *ex, const struct verdict *v, uint32_t provocation, const uint8_t *head)
{
	struct xmc_executor_result *out = ex->out;
	struct xmc_event *e = &out->ring[out->recorded % XMC_EVENTS_MAX];
	uint64_t tsc = xmc_arch_ticks();

	/* By the million, the reading alone would take the line from the writer each time, and the race with it. */
	if (out->recorded >= XMC_EVENTS_MAX && tsc - ex->recorded_tsc < EVENTS_APART_TICKS)
		return;
	ex->recorded_tsc = tsc;
	out->recorded++;
	*e = (struct xmc_event){ .tsc = tsc, .done = ex->frame.done, .begun = ex->frame.begun,
				 .value = v->value, .pc = v->pc, .signal = v->signal, .code = v->code,
				 .outcome = v->outcome, .phase = v->phase, .provocation = provocation };
	for (uint32_t i = 0; i < XMC_EVENT_BYTES; i++)
		e->bytes[i] = ((const volatile uint8_t *)head)[i];	/* volatile: the writer changes them under us */
}

static void count_event(struct executor *ex)
{
	if (ex->out->events++)
		return;
	ex->out->first_event_ns = now_ns() - ex->core->start_ns;
	if (ex->core->plan->until == XMC_UNTIL_FIRST_EVENT)
		atomic_store_explicit(&ex->core->shared.stop, 1, memory_order_relaxed);
}

static void record_age(struct executor *ex, const struct verdict *v)
{
	/* A trap that was to be gone is old by no generation: it is as old as the publication that said so. */
	uint64_t superseded = ex->frame.done - v->stale_by + (v->stale_by != 0), stamp;

	ex->out->stale_generations[bucket(v->stale_by)]++;
	if (v->stale_by >= XMC_STAMPS || atomic_load(&ex->core->shared.done) - superseded >= XMC_STAMPS)
		return;			/* the stamp has been overwritten: the age in ticks is not known */
	stamp = atomic_load_explicit(&ex->core->shared.stamps[superseded % XMC_STAMPS], memory_order_relaxed);
	ex->out->stale_ticks[bucket(xmc_arch_ticks() - stamp)]++;
}

/*
 * Credit the turn that is on. An event in the post phase is what a regime claims not to have: it is worth as much as any
 * number of common ones, so that the chooser does not leave it for them. An interior one proves nothing. Relaxed, and no
 * locked instruction: only this thread writes, and the watchdog may be late.
 */
static void credit(struct executor *ex, uint32_t phase)
{
	_Atomic uint64_t *reward = &ex->rewards[ex->turn];
	uint64_t worth = phase == XMC_POST ? 1000 : phase != XMC_INTERIOR;

	atomic_store_explicit(reward, atomic_load_explicit(reward, memory_order_relaxed) + worth, memory_order_relaxed);
}

void account_event(struct executor *ex, const struct verdict *v, uint32_t provocation, const uint8_t *head)
{
	credit(ex, v->phase);
	count_event(ex);
	count_signature(ex->out, v);
	record_event(ex, v, provocation, head);
	if (v->outcome == XMC_STALE)
		record_age(ex, v);
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
static bool counts_agree(const struct xmc_frame *f, uint64_t began_with)
{
	if (!f->interior_left)
		return f->ran + f->news + f->left == began_with;
	return f->ran + f->news + f->interior_left - began_with <= 1;
}

void classify_batch(struct executor *ex, uint64_t began_with, struct xmc_slice *slice, uint32_t provocation)
{
	struct xmc_frame *f = &ex->frame;
	bool window = ex->core->plan->window, resumed = ex->phase_resumed, faulted = f->fault_signal;
	uint32_t usual = window ? XMC_NEW : XMC_OLD;
	uint32_t usual_phase = resumed ? XMC_RESUMED : window ? XMC_POST : XMC_CONCURRENT;
	uint64_t left = f->interior_left ? f->interior_left : f->left, *usually, news = f->news;
	uint32_t phase_over = f->interior_left ? XMC_INTERIOR : resumed ? XMC_RESUMED : XMC_PHASES;
	struct verdict v = { .outcome = usual };

	/* A torn execution that changed a count: then claim no execution that cannot be proven. */
	if (!counts_agree(f, began_with)) {
		f->clobbered |= !faulted;
		left = began_with;
		news = 0;
	}
	usually = &slice->outcomes[usual_phase][usual];
	*usually += began_with - left - news;
	slice->outcomes[usual_phase][XMC_NEW] += news;
	ex->phase_resumed = faulted;
	if (!left && !faulted && !f->clobbered)
		return;
	if (!left)			/* the last of the batch passed for usual, and left a register changed */
		--*(news ? &slice->outcomes[usual_phase][XMC_NEW] : usually);
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
