/* watch.c - notice executors that hang, from outside. */
#include "core.h"

/* An executor that used `hang_ms` of CPU time without ending a batch hangs; one that was merely not scheduled does not. */
void watch_executors(struct watch *watch)
{
	for (uint32_t i = 0; i < the_core.plan->n_executors; i++) {
		struct executor *ex = &the_core.executors[i];
		uint64_t progress = atomic_load_explicit(&ex->progress, memory_order_relaxed);
		uint64_t cpu;

		if (atomic_load_explicit(&ex->gone, memory_order_acquire))
			continue;
		cpu = thread_cpu_ns(ex->thread);
		if (progress != watch[i].progress) {
			watch[i] = (struct watch){ progress, cpu };
		} else if (cpu - watch[i].cpu_ns > the_core.plan->hang_ms * 1000000ull) {
			the_core.result->hangs_signalled++;
			pthread_kill(ex->thread, the_core.watch_signal);
			watch[i].cpu_ns = cpu;
		}
	}
}
