/*
 * chooser.c - which turn is next? A bandit, and one without dice: what it chooses follows from what it was told, so a
 * record that holds that can be replayed.
 */
#include "turns.h"

#define SHARE 8u			/* of the time, one part in so many is shared out evenly, whatever is seen */
#define FIRST_NS 250000ull		/* the first slice of a turn, long against a batch; each later one is twice as long */

/*
 * Whether `a` is worth more than `b`: events a second, with one event granted to each. So where nothing has been seen
 * the turn that was on for the least time comes next, and all get the same. In doubles: the products overflow 64 bits.
 */
static bool worth_more(const struct arm *a, const struct arm *b)
{
	return ((double)a->reward + 1) * (double)b->ns > ((double)b->reward + 1) * (double)a->ns;
}

uint32_t chooser_next(const struct chooser *c)
{
	uint32_t least = 0, best = 0;

	for (uint32_t i = 1; i < c->n; i++) {
		if (c->arms[i].ns < c->arms[least].ns)
			least = i;
		if (worth_more(&c->arms[i], &c->arms[best]))
			best = i;
	}
	return c->arms[least].ns <= c->total_ns / (SHARE * c->n) ? least : best;
}

uint64_t chooser_slice_ns(const struct chooser *c, uint32_t turn, uint64_t longest_ns)
{
	uint32_t times = c->arms[turn].times;

	return times < 16 && FIRST_NS << times < longest_ns ? FIRST_NS << times : longest_ns;
}

void chooser_tell(struct chooser *c, uint32_t turn, uint64_t ns, uint64_t reward)
{
	c->arms[turn].ns += ns;
	c->arms[turn].reward += reward;
	c->arms[turn].times++;
	c->total_ns += ns;
}

int xmc_replay(uint32_t n_turns, uint32_t n, struct xmc_choice *choices)
{
	static struct chooser c;

	if (!n_turns || n_turns > XMC_TURNS_MAX)
		return -EINVAL;
	c = (struct chooser){ .n = n_turns };
	for (uint32_t i = 0; i < n; i++) {
		choices[i].turn = chooser_next(&c);
		chooser_tell(&c, choices[i].turn, choices[i].ns, choices[i].reward);
	}
	return 0;
}
