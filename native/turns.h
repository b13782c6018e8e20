/* turns.h - which turn is on, and until when: shared by turns.c, chooser.c and the watchdog in run.c. */
#ifndef XMC_TURNS_H
#define XMC_TURNS_H
#include "core.h"

/* What the chooser knows of one turn. */
struct arm {
	uint64_t ns;			/* that it was on, */
	uint64_t reward;		/* what was seen meanwhile, */
	uint32_t times;			/* in so many slices */
};

struct chooser {
	uint32_t n;
	uint64_t total_ns;
	struct arm arms[XMC_TURNS_MAX];
};

/* What the watchdog has in hand. Times are of CLOCK_MONOTONIC, in ns. */
struct round {
	uint64_t now;
	uint64_t last;			/* when the provocation that is on was last charged for its time */
	uint64_t since;			/* when `turn` began */
	uint64_t until;			/* when the next one takes over; UINT64_MAX: never */
	uint64_t poke;			/* when the provocation's next signal is due; UINT64_MAX: never */
	uint64_t random;
	uint64_t told[XMC_TURNS_MAX];	/* of each turn's rewards, what the chooser has been told */
	uint32_t turn;
	struct chooser chooser;
	struct watch watch[XMC_EXECUTORS_MAX];
};

/* chooser.c: which turn comes next, for how long at most, and what came of one. */
uint32_t chooser_next(const struct chooser *c);
uint64_t chooser_slice_ns(const struct chooser *c, uint32_t turn, uint64_t longest_ns);
void chooser_tell(struct chooser *c, uint32_t turn, uint64_t ns, uint64_t reward);

/* turns.c: the plan's turns, or one for each provocation; and the watchdog's clockwork. */
void turns_prepare(struct core *core);
void round_begin(struct core *core, struct round *r);
uint64_t round_next_wake(const struct core *core, const struct round *r);
void round_go_on(struct core *core, struct round *r);
void round_end(struct core *core, struct round *r);
#endif
