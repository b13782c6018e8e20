/* turns.c - the watchdog's clockwork: which turn is on and until when, and the signals of its provocation. */
#include "turns.h"

#define TICK_NS 10000000ull		/* often enough for hangs of 0.1 s, seldom enough to disturb little */

static uint64_t least(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void turns_prepare(struct core *core)
{
	const struct xmc_plan *plan = core->plan;

	core->n_turns = plan->n_turns ? plan->n_turns : plan->n_provocations;
	for (uint32_t i = 0; i < core->n_turns; i++)
		core->turns[i] = plan->n_turns ? plan->turns[i] :
						 (struct xmc_turn){ i, plan->pace_log2, plan->n_executors, 0 };
}

/* What all executors saw under turn `turn` since this was asked last; a batch that ended late is credited then. */
static uint64_t take_reward(struct core *core, struct round *r)
{
	uint64_t sum = 0, before = r->told[r->turn];

	for (uint32_t i = 0; i < core->plan->n_executors; i++)
		sum += atomic_load_explicit(&core->executors[i].rewards[r->turn], memory_order_relaxed);
	r->told[r->turn] = sum;
	return sum - before;
}

static void note_choice(struct core *core, const struct round *r, uint64_t reward)
{
	struct xmc_result *result = core->result;

	if (result->n_choices < XMC_CHOICES_MAX)
		result->choices[result->n_choices] = (struct xmc_choice){ r->turn, 0, r->now - r->since, reward };
	result->n_choices++;
}

/* Uniform in 1 to twice the mean: random, so that signals do not fall into step with anything. */
static uint64_t next_poke(const struct core *core, struct round *r)
{
	uint64_t mean_ns = core->plan->provocations[core->turns[r->turn].provocation].signal_us * 1000ull;

	if (!mean_ns)
		return UINT64_MAX;
	r->random = r->random * 6364136223846793005ull + 1442695040888963407ull;
	return r->now + 1 + (r->random >> 33) % (2 * mean_ns);
}

/* Put `turn` on. Where there is but one, or no slice, it stays. */
static void take_turn(struct core *core, struct round *r, uint32_t turn)
{
	uint64_t slice_ns = core->plan->slice_us * 1000ull;

	if (core->plan->n_turns)
		slice_ns = chooser_slice_ns(&r->chooser, turn, slice_ns);
	r->turn = turn;
	r->since = r->now;
	r->until = core->n_turns > 1 && slice_ns ? r->now + slice_ns : UINT64_MAX;
	r->poke = next_poke(core, r);
	atomic_store_explicit(&core->shared.turn, turn, memory_order_relaxed);
}

void round_begin(struct core *core, struct round *r)
{
	*r = (struct round){ .now = core->start_ns, .last = core->start_ns, .random = core->plan->seed };
	r->chooser.n = core->n_turns;
	take_turn(core, r, 0);
}

uint64_t round_next_wake(const struct core *core, const struct round *r)
{
	uint64_t next = least(least(r->now + TICK_NS, r->until), r->poke);

	return core->plan->limit_ns ? least(next, core->start_ns + core->plan->limit_ns) : next;
}

static void poke_executors(struct core *core)
{
	for (uint32_t i = 0; i < core->plan->n_executors; i++)
		if (!atomic_load_explicit(&core->executors[i].gone, memory_order_acquire))
			core->result->signals_sent += !pthread_kill(core->executors[i].thread, core->poke_signal);
}

void round_end(struct core *core, struct round *r)
{
	uint64_t reward;

	if (!core->plan->n_turns || r->now == r->since)
		return;			/* a slice that has not begun is none */
	reward = take_reward(core, r);
	chooser_tell(&r->chooser, r->turn, r->now - r->since, reward);
	note_choice(core, r, reward);
}

void round_go_on(struct core *core, struct round *r)
{
	r->now = now_ns();
	core->result->slice_ns[core->turns[r->turn].provocation] += r->now - r->last;
	core->result->elapsed_ns = r->now - core->start_ns;
	r->last = r->now;
	if (r->now >= r->until) {
		round_end(core, r);
		take_turn(core, r, core->plan->n_turns ? chooser_next(&r->chooser) : (r->turn + 1) % core->n_turns);
	} else if (r->now >= r->poke) {
		poke_executors(core);
		r->poke = next_poke(core, r);
	}
}
