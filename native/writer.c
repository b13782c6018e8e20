/* writer.c - the thread that patches: one compiled program a generation, in steps. */
#include "core.h"
#include "publish.h"

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
void pause_between(struct core *core, uint64_t *random)
{
	uint64_t r = next_random(random);
	uint32_t log2 = (uint32_t)(r >> 56) % (core->plan->pace_log2 + 1);
	uint64_t ticks = (r & 0xffffffffffff) & ((1ull << log2) - 1);

	if (ticks)
		run_spin(core, ticks);
}

static int run_program(struct core *core, const struct program *program, uint64_t generation)
{
	for (uint32_t i = 0; i < program->n; i++) {
		int rc = step_run(core, &program->micro[i], generation);

		if (rc) {
			core->counts->failed_step = program->micro[i].step + 1;
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
static int patch_once(struct core *core, uint64_t generation, uint32_t provocation)
{
	uint32_t image = (uint32_t)(generation % core->plan->n_images);

	(void)run_program(core, &core->provoke[provocation], generation);
	if (!core->plan->n_steps)
		return 0;
	if (core->plan->window) {
		atomic_store_explicit(&core->shared.begun, generation, memory_order_relaxed);
		atomic_thread_fence(memory_order_release);
	}
	return run_program(core, &core->programs[image], generation);
}

static int patch_until_stopped(struct core *core, struct xmc_writer_result *out)
{
	const struct xmc_plan *plan = core->plan;
	uint64_t random = plan->seed * 2 + 1, generation = 0;
	int rc = 0;

	while (!run_stopping(core) && !rc) {
		uint32_t provocation = atomic_load_explicit(&core->shared.slice, memory_order_relaxed);

		rc = patch_once(core, generation + 1, provocation);
		if (rc)
			break;
		if (plan->n_steps) {
			generation++;
			out->patches = generation;
			out->slice_patches[provocation]++;
			if (generation == plan->limit_patches)
				atomic_store(&core->shared.stop, 1);
		}
		if (plan->pace_log2)
			pause_between(core, &random);
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
	while (!atomic_load_explicit(&core->shared.start, memory_order_acquire) && !run_stopping(core))
		xmc_arch_relax();
	if (!out->error)
		out->error = core->publish ? publish_until_stopped(core, out) : patch_until_stopped(core, out);
	via_close(core);
	if (out->error)
		atomic_store(&core->shared.stop, 1);
	out->cpu_last = current_cpu();
	thread_usage(&out->cpu_ns, &out->switches_voluntary, &out->switches_forced);
	atomic_store_explicit(&core->writer_gone, 1, memory_order_release);
	return NULL;
}
