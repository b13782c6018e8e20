/* watch.c - notice executors that hang, from outside. */
#include "core.h"

/* Parked executors spin in a handler, for as long as the writer wants: they hang no more than it does. */
static bool all_parked(void)
{
	return atomic_load_explicit(&the_core.shared.park, memory_order_relaxed) & 1;
}

/* Whether the writer's guard stands over the head at this moment: who meets it waits for the writer. */
static bool guarded(void)
{
	const struct xmc_plan *plan = the_core.plan;
	/* volatile: the writer changes them under us */
	const volatile uint8_t *head = (const volatile uint8_t *)(uintptr_t)(the_core.region.text + plan->head);

	for (uint32_t i = 0; i < xmc_arch_guard_len && plan->guard_is_ours; i++)
		if (head[i] != xmc_arch_guard[i])
			return false;
	return plan->guard_is_ours;
}

/* An executor that used `hang_ms` of CPU time without ending a batch hangs; one that was merely not scheduled does not. */
void watch_executors(struct watch *watch)
{
	bool parked = all_parked();

	for (uint32_t i = 0; i < the_core.plan->n_executors; i++) {
		struct executor *ex = &the_core.executors[i];
		uint64_t progress = atomic_load_explicit(&ex->progress, memory_order_relaxed);
		uint64_t cpu;

		if (atomic_load_explicit(&ex->gone, memory_order_acquire))
			continue;
		cpu = thread_cpu_ns(ex->thread);
		if (progress != watch[i].progress || parked) {
			watch[i] = (struct watch){ progress, cpu };
		} else if (cpu - watch[i].cpu_ns > the_core.plan->hang_ms * 1000000ull) {
			watch[i].cpu_ns = cpu;
			if (guarded()) {
				the_core.result->guard_waits++;
				continue;
			}
			the_core.result->hangs_signalled++;
			pthread_kill(ex->thread, the_core.watch_signal);
		}
	}
}
