/* writer.c - the thread that patches: one compiled program a generation, in steps. */
#include "core.h"
#include "publish.h"

#define BURST 64			/* patches between two looks at `stop` and at the turn */

/* xorshift64*: the pace must be reproducible from the seed and cost nothing. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t x = *state;

	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*state = x;
	return x * 0x2545f4914f6cdd1dull;
}

/* Log-uniform: as many pauses between 8 and 16 ticks as between 1024 and 2048, so that no scale is left out. */
void pause_between(struct core *core, uint64_t *random, uint32_t pace_log2)
{
	uint64_t r = next_random(random);
	uint32_t log2 = (uint32_t)(r >> 56) % (pace_log2 + 1);
	uint64_t ticks = (r & 0xffffffffffff) & ((1ull << log2) - 1);

	if (ticks)
		run_spin(core, ticks);
}

static int run_program(struct core *core, const struct program *program, uint64_t generation)
{
	const struct micro *end = program->micro + program->n;

	for (const struct micro *m = program->micro; m != end; m++) {
		int rc = step_table[m->op](core, m, generation);

		if (rc) {
			core->counts->failed_step = m->step + 1;
			return rc;
		}
	}
	return 0;
}

/*
 * One patch. `begun` is announced before the first byte changes: the fence keeps the store of it in front of the
 * stores of the program (on x86 it costs nothing, TSO orders them), so an executor that met any new byte and then
 * loads `begun` sees at least this generation.
 */
static int patch_once(struct core *core, uint64_t generation, uint32_t image, uint32_t provocation)
{
	(void)run_program(core, &core->provoke[provocation], generation);
	if (!core->plan->n_steps)
		return 0;
	if (core->plan->window) {
		atomic_store_explicit(&core->shared.begun, generation, memory_order_relaxed);
		atomic_thread_fence(memory_order_release);
	}
	return run_program(core, &core->programs[image], generation);
}

/* What a burst stores: the same place each time. `width` 0: these programs are more than that. */
struct burst {
	uint64_t address;
	uint64_t value[XMC_IMAGES_MAX];
	uint32_t width;
};

static struct burst burst_of(const struct core *core)
{
	struct burst burst = { .address = core->programs[0].micro[0].address };

	if (core->plan->window || via_kernel(core->plan->via))
		return burst;
	for (uint32_t i = 0; i < core->plan->n_images; i++) {
		const struct micro *m = core->programs[i].micro;

		if (core->programs[i].n != 1 || m->op != XMC_STEP_STORE || m->form || m->address != burst.address)
			return burst;
		burst.value[i] = m->value;
	}
	burst.width = core->programs[0].micro[0].width;
	return burst;
}

/*
 * `n` patches of one store each, with nothing in between: two nanoseconds are all that a bare loop takes. Inlined for each
 * width, so that the store is one instruction without a branch in front. Returns the image it ended with.
 */
static inline __attribute__((always_inline)) uint32_t store_burst(const struct burst *burst, uint32_t width,
								   uint32_t image, uint32_t images, uint64_t n)
{
	while (n--) {
		image = image + 1 == images ? 0 : image + 1;
		xmc_arch_store(burst->address, burst->value[image], width);
	}
	return image;
}

static uint32_t patch_burst(const struct burst *burst, uint32_t image, uint32_t images, uint64_t n)
{
	switch (burst->width) {
	case 1:
		return store_burst(burst, 1, image, images, n);
	case 2:
		return store_burst(burst, 2, image, images, n);
	case 4:
		return store_burst(burst, 4, image, images, n);
	default:
		return store_burst(burst, 8, image, images, n);
	}
}

/* Patches that may go in one burst under `turn`: 1 where anything happens between them. */
static uint64_t burst_length(const struct core *core, const struct burst *burst, const struct xmc_turn *turn,
			     uint64_t generation)
{
	uint64_t left = core->plan->limit_patches - generation; /* no limit: as good as none */

	if (!burst->width || turn->pace_log2 || core->provoke[turn->provocation].n)
		return 1;
	return left && left < BURST ? left : BURST;
}

/* The next patches of the toggle shape behind `generation`, *n of them. `image`: counted, for a division would cost as much. */
static int patch_some(struct core *core, const struct burst *burst, const struct xmc_turn *turn, uint64_t generation,
		      uint32_t *image, uint64_t *n)
{
	const uint32_t images = core->plan->n_images;

	*n = burst_length(core, burst, turn, generation);
	if (*n > 1) {
		*image = patch_burst(burst, *image, images, *n);
		return 0;
	}
	*image = *image + 1 == images ? 0 : *image + 1;
	return patch_once(core, generation + 1, *image, turn->provocation);
}

/* Patch or publish, and pause, as the turn that is on says. */
static int write_until_stopped(struct core *core, struct xmc_writer_result *out)
{
	const struct xmc_plan *plan = core->plan;
	const bool counts = core->publish || plan->n_steps;
	const struct burst burst = core->publish ? (struct burst){ 0 } : burst_of(core);
	uint64_t random = plan->seed * 2 + 1, generation = 0, n = 1;
	uint32_t image = 0;
	int rc = 0;

	while (!run_stopping(core)) {
		const struct xmc_turn *turn = turn_on(core);

		rc = core->publish ? publish_once(core, generation + 1, turn->provocation) :
				     patch_some(core, &burst, turn, generation, &image, &n);
		if (rc)
			break;
		if (counts) {
			generation += n;
			out->patches = generation;
			out->slice_patches[turn->provocation] += n;
			if (generation == plan->limit_patches)
				atomic_store(&core->shared.stop, 1);
		}
		if (turn->pace_log2)
			pause_between(core, &random, turn->pace_log2);
	}
	step_release_all(core);
	return rc == -EINTR ? 0 : rc;
}

void *writer_main(void *arg)
{
	struct core *core = arg;
	struct xmc_writer_result *out = core->counts;

	out->tid = own_tid();
	out->error = pin_self(core->plan->writer_cpu);
	out->cpu_first = current_cpu();
	if (!out->error)
		out->error = core->publish ? publish_register(core->publish) : via_open(core);
	atomic_store_explicit(&core->writer_ready, 1, memory_order_release);
	while (!atomic_load_explicit(&core->shared.start, memory_order_acquire) && !run_stopping(core))
		xmc_arch_relax();
	if (!out->error)
		out->error = write_until_stopped(core, out);
	via_close(core);
	if (out->error)
		atomic_store(&core->shared.stop, 1);
	out->cpu_last = current_cpu();
	thread_usage(&out->cpu_ns, &out->switches_voluntary, &out->switches_forced);
	atomic_store_explicit(&core->writer_gone, 1, memory_order_release);
	return NULL;
}
