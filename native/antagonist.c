/*
 * antagonist.c - a further thread that gets in the way while a provocation asks for it: of the patched lines, or of the
 * core that an executor runs on. It stores nothing, so what is promised stays promised.
 */
#include "core.h"

#define IDLE_NS 1000000ull		/* between two looks at which provocation is on, while none wants it */
#define ROUNDS 64			/* between two looks at `stop`: some 10 us */
#define TOUR_PAGES 16			/* as many as the arena has lines of its own for: more than an L1I holds */

bool wants_antagonist(const struct xmc_plan *plan, uint32_t antagonist)
{
	for (uint32_t i = 0; i < plan->n_provocations; i++)
		if (plan->provocations[i].antagonist &&
		    (antagonist == XMC_ANTAGONIST_NONE || plan->provocations[i].antagonist == antagonist))
			return true;
	return false;
}

/* Take a line away from who has it: a copy for reading first, then, by a hint that changes nothing, for writing. */
static void grab(uint64_t address)
{
	(void)*(volatile uint8_t *)(uintptr_t)address;	/* volatile: the read is the point */
	xmc_arch_own(address);
}

static void grab_lines(const struct core *core)
{
	const struct xmc_plan *plan = core->plan;
	/* Where there is an alias only that one is writable, and a hint to write may be dropped on any other. */
	uint64_t region = core->region.alias ? core->region.data : core->region.text;

	grab(region + plan->head);
	grab(region + plan->patch + plan->patch_len - 1);
}

/* One page of branches a round: other instructions to fetch, decode and predict than the executor's. */
static void run_branches(const struct core *core)
{
	static uint32_t page;

	page = (page + 1) % TOUR_PAGES;
	((xmc_code)(uintptr_t)(core->region.arena + page * XMC_PAGE))();
}

static void (*const rounds[XMC_ANTAGONISTS])(const struct core *) = {
	[XMC_ANTAGONIST_LINES] = grab_lines,
	[XMC_ANTAGONIST_SMT] = run_branches,
};

/* While none of the provocations that have their turn wants it, it sleeps, and disturbs nobody. */
static int antagonize(struct core *core)
{
	int cpu = -1, rc = 0;

	while (!run_stopping(core) && !rc) {
		uint32_t on = turn_on(core)->provocation;
		const struct xmc_provocation *p = &core->plan->provocations[on];

		if (!p->antagonist || !atomic_load_explicit(&core->shared.start, memory_order_relaxed)) {
			sleep_until(now_ns() + IDLE_NS);
			continue;
		}
		if (cpu != p->antagonist_cpu) {
			cpu = p->antagonist_cpu;
			rc = pin_self(cpu);
		}
		for (uint32_t i = 0; i < ROUNDS && !rc; i++)
			rounds[p->antagonist](core);
		core->result->antagonist_rounds[on] += rc ? 0 : ROUNDS;
	}
	return rc;
}

void *antagonist_main(void *arg)
{
	struct core *core = arg;

	core->result->antagonist_error = antagonize(core);
	if (core->result->antagonist_error)
		atomic_store(&core->shared.stop, 1);
	atomic_store_explicit(&core->antagonist_gone, 1, memory_order_release);
	return NULL;
}
