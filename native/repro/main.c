/* main.c - what a one-file reproducer says, and what it does from its beginning to its end. */
#include "repro.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

#define TICK_NS 1000000ull		/* between two looks of the main thread */

/* The writer's process has seen `stop`, or has said why it could not run. */
static void reap_writer(void)
{
	int status = 0;

	waitpid(the_core.child, &status, 0);
	if (!WIFEXITED(status))
		cannot("the writer's process died", ECHILD);
	if (WEXITSTATUS(status))
		exit(WEXITSTATUS(status));
	patches = the_core.remote.patches;
}

/* Run for `seconds`, or until the event is seen; how long that took, in seconds. */
static double race(double seconds)
{
	static struct watch watch[XMC_EXECUTORS_MAX];
	uint64_t start = now_ns(), tick = REPRO_POKES ? REPRO_POKES * 1000ull : TICK_NS;
	int rc = 0;

	if (REPRO_FORKS)
		rc = -process_start(&the_core);
	for (uint32_t i = 0; i < PLAN_N_EXECUTORS && !rc; i++)
		rc = pthread_create(&executors[i].thread, NULL, executor_main, &executors[i]);
	if (REPRO_KICKS)
		for (uint32_t i = 0; i < PLAN_N_EXECUTORS && !rc; i++)
			while (!atomic_load(&executors[i].tid))
				xmc_arch_relax();
	if (REPRO_TRACES && !rc)
		rc = pthread_create(&the_core.victim, NULL, victim_main, &the_core);
	if (REPRO_ANTAGONIST && !rc)
		rc = pthread_create(&the_core.antagonist, NULL, antagonist_main, &the_core);
	if (!REPRO_FORKS && !rc)
		rc = pthread_create(&the_core.writer, NULL, writer_main, &the_core);
	if (rc)
		cannot("threads", rc);
	while (!run_stopping(&the_core) && (double)(now_ns() - start) < seconds * 1e9) {
		sleep_until(now_ns() + tick);
		if (REPRO_POKES)
			for (uint32_t i = 0; i < PLAN_N_EXECUTORS; i++)
				pthread_kill(executors[i].thread, the_core.poke_signal);
		if (REPRO_HANGS)
			watch_executors(watch);
	}
	atomic_store(&the_core.shared.stop, 1);
	for (uint32_t i = 0; i < PLAN_N_EXECUTORS; i++) {
		if (REPRO_HANGS)
			while (!atomic_load(&executors[i].gone)) {
				sleep_until(now_ns() + TICK_NS);
				watch_executors(watch);
			}
		pthread_join(executors[i].thread, NULL);
	}
	if (REPRO_ANTAGONIST)
		pthread_join(the_core.antagonist, NULL);
	if (REPRO_FORKS)
		reap_writer();
	else
		pthread_join(the_core.writer, NULL);
	if (REPRO_TRACES) {
		victim_wake(&the_core);
		pthread_join(the_core.victim, NULL);
	}
	return (double)(now_ns() - start) / 1e9;
}

static void tell_counts(double seconds)
{
	static const char *const names[XMC_OUTCOMES] = {
		[XMC_OLD] = "old",
		[XMC_NEW] = "new",
		[XMC_TORN] = "torn",
		[XMC_STALE] = "stale",
		[XMC_FAULT] = "fault",
		[XMC_TRAP] = "trap",
		[XMC_HANG] = "hang",
	};

	printf("%.3f s, %llu patches; executions:", seconds, (unsigned long long)patches);
	for (uint32_t o = 0; o < XMC_OUTCOMES; o++) {
		uint64_t sum = 0;

		for (uint32_t i = 0; i < PLAN_N_EXECUTORS; i++)
			for (uint32_t p = 0; p < XMC_PHASES; p++)
				sum += seen_by[i].slices[0].outcomes[p][o];
		printf(" %llu %s", (unsigned long long)sum, names[o]);
	}
	printf("\n");
}

/* Whether executor `i` saw the event, told. */
static bool tell_event(uint32_t i)
{
	const struct xmc_event *e = &seen_by[i].ring[0];

	if (!seen_by[i].events)
		return false;
	printf("seen on CPU %d: ", cpus[1 + i]);
	if (REPRO_SIGNAL)
		printf("signal at byte %lld of the region, address %#llx", (long long)e->pc, (unsigned long long)e->value);
	else
		printf("the region returned %#llx", (unsigned long long)e->value);
	if (PLAN_WINDOW)
		printf("; patch %llu was complete before it, %llu begun behind it", (unsigned long long)e->done,
		       (unsigned long long)e->begun);
	printf("\nits memory just after:");
	for (uint32_t at = 0; at < XMC_EVENT_BYTES; at++)
		printf(" %02x", e->bytes[at]);
	printf("\n");
	return true;
}

int main(int argc, char **argv)
{
	static const int planned[REPRO_N_CPUS] = REPRO_CPUS;
	double seconds = argc > 1 ? strtod(argv[1], NULL) : REPRO_SECONDS;
	bool seen = false;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < REPRO_N_CPUS; i++)
		cpus[i] = argc > 2 + i ? atoi(argv[2 + i]) : planned[i];
	printf("%s\nat most %g s; usage: %s %s\n", REPRO_WHAT, seconds, argv[0], REPRO_USAGE);
	prepare();
	seconds = race(seconds);
	tell_counts(seconds);
	for (uint32_t i = 0; i < PLAN_N_EXECUTORS; i++)
		seen |= tell_event(i);
	printf(seen ? "REPRODUCED\n" : "not seen\n");
	return seen;
}
