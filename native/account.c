/*
 * account.c - events into the black box: signatures, the ring, ages, and the reward of the turn that is on. On the
 * executor's thread.
 */
#include "core.h"
#include <string.h>

#define EVENTS_APART_TICKS 65536
#define LEARNT_AT 64			/* torn executions of one value before the value loop counts them itself */

static uint32_t bucket(uint64_t n)
{
	return n ? 64 - (uint32_t)__builtin_clzll(n) : 0;
}

static uint32_t hash_of(const struct verdict *v)
{
	uint64_t h = v->value ^ (uint64_t)v->pc << 17 ^ (uint64_t)(uint32_t)v->signal << 40 ^
		     (uint64_t)v->outcome << 50 ^ (uint64_t)v->phase << 56;

	return (uint32_t)(h * 0x9e3779b97f4a7c15ull >> 40) % XMC_SIGNATURES_MAX;
}

/* Open addressing: torn executions come by the million, of a few hundred kinds. Returns how many of this one there were. */
static uint64_t count_signature(struct xmc_executor_result *out, const struct verdict *v, uint64_t n)
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
		s->count += n;
		return s->count;
	}
	out->signatures_lost += n;
	return 0;
}

/* `age`: of a stale one, in ticks. */
static void record_event(struct executor *ex, const struct verdict *v, uint32_t provocation, const uint8_t *head,
			 uint64_t age)
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
				 .outcome = v->outcome, .phase = v->phase, .provocation = provocation,
				 .stale_by = v->stale_by, .stale_ticks = age };
	if (v->signal)
		memcpy(e->registers, ex->frame.fault_registers, sizeof(e->registers));
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

/* How long ago the code of a stale execution was superseded, in ticks; 0 where that is not known any more. */
static uint64_t record_age(struct executor *ex, const struct verdict *v)
{
	/* A trap that was to be gone is old by no generation: it is as old as the publication that said so. */
	uint64_t superseded = ex->frame.done - v->stale_by + (v->stale_by != 0), stamp, ticks;

	ex->out->stale_generations[bucket(v->stale_by)]++;
	if (v->stale_by >= XMC_STAMPS || atomic_load(&ex->core->shared.done) - superseded >= XMC_STAMPS)
		return 0;		/* the stamp has been overwritten */
	stamp = atomic_load_explicit(&ex->core->shared.stamps[superseded % XMC_STAMPS], memory_order_relaxed);
	ticks = xmc_arch_ticks() - stamp;
	ex->out->stale_ticks[bucket(ticks)]++;
	return ticks;
}

/*
 * Credit the turn that is on. An event in the post phase is what a regime claims not to have: it is worth as much as any
 * number of common ones, so that the chooser does not leave it for them. An interior one proves nothing. Relaxed, and no
 * locked instruction: only this thread writes, and the watchdog may be late.
 */
static void credit(struct executor *ex, uint32_t phase, uint64_t n)
{
	_Atomic uint64_t *reward = &ex->rewards[ex->turn];
	uint64_t worth = n * (phase == XMC_POST ? 1000 : phase != XMC_INTERIOR);

	atomic_store_explicit(reward, atomic_load_explicit(reward, memory_order_relaxed) + worth, memory_order_relaxed);
}

/* A value that has been torn so often will be again: let the loop count it. Those before were recorded one by one. */
static void learn(struct executor *ex, const struct verdict *v, uint64_t seen)
{
	if (seen != LEARNT_AT || v->outcome != XMC_TORN || v->code || ex->core->plan->window || ex->core->publish ||
	    v->phase != XMC_CONCURRENT || ex->n_values == XMC_FRAME_VALUES)
		return;
	ex->frame.values[ex->n_values++] = v->value;
}

void account_event(struct executor *ex, const struct verdict *v, uint32_t provocation, const uint8_t *head)
{
	credit(ex, v->phase, 1);
	count_event(ex);
	learn(ex, v, count_signature(ex->out, v, 1));
	record_event(ex, v, provocation, head, v->outcome == XMC_STALE ? record_age(ex, v) : 0);
}

struct counted add_up(const struct executor *ex)
{
	const struct xmc_frame *f = &ex->frame;
	struct counted sum = { 0 };

	for (uint64_t i = 0; i < ex->n_values; i++)
		*(i < f->n_images ? &sum.news : &sum.torn) += f->counts[i];
	return sum;
}

/* Into the black box with the torn ones: each is an event of a signature that exists. */
void account_counted(struct executor *ex, uint32_t phase, bool believed)
{
	struct xmc_frame *f = &ex->frame;

	for (uint64_t i = 0; i < ex->n_values; i++) {
		struct verdict v = { .outcome = XMC_TORN, .phase = phase, .value = f->values[i] };

		if (f->counts[i] && i >= f->n_images && believed) {
			credit(ex, phase, f->counts[i]);
			count_signature(ex->out, &v, f->counts[i]);
			ex->out->events += f->counts[i];
		}
		f->counts[i] = 0;
	}
}
