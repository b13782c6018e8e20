/*
 * observer.c - the data witness: does a store reach memory as one event?
 *
 * The plan's images hold their own index in every patched byte, so a byte read tells its generation modulo n_images.
 * Two adjacent bytes are read, one right after the other. If the second is older than the first, then between the two
 * reads memory held the new value of one and the old value of the other.
 */
#include "core.h"

#define SAMPLES 32			/* of one pair in one order, before the next has its turn */
#define NEAR_TICKS 400			/* two reads further apart than this were interrupted: prove nothing */

/* Acquire: the second load is performed after the first (on x86 every load is; the compiler must not swap them). */
static uint8_t load(const uint8_t *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

/* Whether `second` is older than `first`, modulo `n`; a distance of half a turn or more is read as backwards. */
static bool is_older(uint8_t second, uint8_t first, uint32_t n)
{
	uint32_t back = (uint32_t)(first + n - second) % n;

	return back != 0 && back < n / 2;
}

static void observe_pair(struct executor *ex, const uint8_t *first, const uint8_t *second, struct xmc_pair *out,
			 uint32_t order)
{
	uint32_t n = ex->core->plan->n_images;

	for (uint32_t i = 0; i < SAMPLES; i++) {
		uint64_t from, to;
		uint8_t a, b;

		/* lfence: rdtsc must neither run before the loads in front of it have ended, nor after later ones. */
		xmc_arch_lfence();
		from = xmc_arch_ticks();
		xmc_arch_lfence();
		a = load(first);
		b = load(second);
		xmc_arch_lfence();
		to = xmc_arch_ticks();
		if (to - from > NEAR_TICKS) {
			ex->out->samples_discarded++;
			continue;
		}
		out->samples[order]++;
		out->tears[order][a % XMC_WITNESS_STORES] += is_older(b, a, n);
		/* Do not fall into step with the writer. */
		for (uint64_t spin = to >> 3 & 15; spin; spin--)
			xmc_arch_relax();
	}
}

/* Half of the samples go to the two ends of the patch, which see a tear wherever it is; the others say where. */
int observe_until_stopped(struct executor *ex)
{
	const struct xmc_plan *plan = ex->core->plan;
	const uint8_t *patch = (const uint8_t *)(uintptr_t)(ex->core->region.text + plan->patch);
	uint32_t last = plan->patch_len - 1, turn = 0;

	if (plan->n_images % XMC_WITNESS_STORES || plan->n_images < 8 || !last)
		return -EINVAL;
	for (; !atomic_load_explicit(&ex->core->shared.stop, memory_order_relaxed); turn++) {
		uint32_t order = turn & 1, ends = turn & 2, pair = ends ? last : (turn >> 2) % last;
		const uint8_t *low = ends ? patch : patch + pair, *high = ends ? patch + last : low + 1;

		observe_pair(ex, order ? high : low, order ? low : high, &ex->out->pairs[pair], order);
		atomic_fetch_add_explicit(&ex->progress, 1, memory_order_release);
	}
	return 0;
}
