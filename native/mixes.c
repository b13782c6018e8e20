/* mixes.c - execute byte mixes one by one, with nobody patching: what does each of them do on this CPU? */
#include "core.h"
#include <string.h>

#define TICK_NS 1000000ull

/* The mixes of one call, and what the thread that executes them is to fill. */
struct mix_job {
	uint32_t n;
	const struct xmc_mix *mixes;
	struct xmc_signature *out;
};

static struct mix_job mix_job;

/* Write a mix where the executors will fetch it from. Nobody executes meanwhile, so how it is stored does not matter. */
static void place_mix(const struct xmc_mix *mix)
{
	volatile uint8_t *data = (volatile uint8_t *)(uintptr_t)the_core.region.data;

	for (uint32_t i = 0; i < the_core.plan->region_len; i++)
		data[i] = mix->bytes[i];
	xmc_arch_sync_range(the_core.region.text, the_core.plan->region_len);
	xmc_arch_serialize();		/* this CPU may have fetched or speculated into the old bytes */
}

static void execute_mix(struct executor *ex, struct xmc_signature *out)
{
	struct xmc_frame *f = &ex->frame;

	f->expect = f->poison;		/* no region returns it: the loop ends after one execution */
	f->left = 1;
	f->fault_signal = 0;
	xmc_arch_loop_value(f);
	*out = (struct xmc_signature){ .count = 1, .value = f->value, .code = f->clobbered ? XMC_CODE_CLOBBERED : 0 };
	if (!f->fault_signal)
		return;
	out->signal = f->fault_signal;
	out->code = f->fault_code;
	out->value = f->fault_address;
	out->pc = (int64_t)(f->fault_pc - the_core.region.text);
	out->outcome = f->fault_signal == the_core.watch_signal ? XMC_HANG : XMC_FAULT;
}

static void *mixes_main(void *arg)
{
	struct executor *ex = arg;

	ex->out->error = pin_self(the_core.plan->executor_cpu[0]);
	if (!ex->out->error)
		ex->out->error = fault_adopt_thread(ex);
	(void)fault_contain_syscalls(&the_core.region);
	for (uint32_t i = 0; i < mix_job.n && !ex->out->error; i++) {
		place_mix(&mix_job.mixes[i]);
		execute_mix(ex, &mix_job.out[i]);
		atomic_fetch_add_explicit(&ex->progress, 1, memory_order_release);
	}
	fault_release_thread();
	atomic_store_explicit(&ex->gone, 1, memory_order_release);
	return NULL;
}

static int run_mixes(void)
{
	struct executor *ex = &the_core.executors[0];
	static struct watch watch[XMC_EXECUTORS_MAX];
	int rc = -pthread_create(&ex->thread, NULL, mixes_main, ex);

	memset(watch, 0, sizeof(watch));
	if (rc)
		return rc;
	while (!atomic_load_explicit(&ex->gone, memory_order_acquire)) {
		sleep_until(now_ns() + TICK_NS);
		watch_executors(watch);
	}
	pthread_join(ex->thread, NULL);
	return ex->out->error;
}

int xmc_run_mixes(const struct xmc_plan *plan, uint32_t n, const struct xmc_mix *mixes, struct xmc_signature *out)
{
	static struct xmc_plan alone;
	static struct xmc_result result;
	int rc = plan_check(plan);

	if (rc || n > XMC_MIXES_MAX)
		return rc ? rc : -EINVAL;
	rc = core_take();
	if (rc)
		return rc;
	alone = *plan;
	/* We place the mixes ourselves, with plain stores. */
	alone.via = plan->via == XMC_VIA_SAME || plan->via == XMC_VIA_VMWRITEV ? XMC_VIA_SAME : XMC_VIA_ALIAS;
	alone.guard_is_ours = 0;	/* a branch to itself is then a mix like any other */
	alone.n_executors = 1;
	/* Nothing else runs here: a mix that takes longer will take for ever. Under an emulator, 20 times as long. */
	alone.hang_ms = plan->hang_ms > 100 ? plan->hang_ms / 20 : 5;
	memset(&result, 0, sizeof(result));
	mix_job = (struct mix_job){ n, mixes, out };
	rc = core_prepare(&alone, NULL, &result);
	if (!rc)
		rc = fault_install(&the_core);
	if (!rc) {
		rc = run_mixes();
		fault_remove();
	}
	core_release();
	core_give();
	return rc;
}
