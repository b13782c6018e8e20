/*
 * repro.h - for reading repro.c and main.c, and for compilers that check it: what stress/onefile.py makes of a plan. A reproducer
 * has this plan's values in their place.
 */
#ifndef XMC_REPRO_H
#define XMC_REPRO_H
#include "../publish.h"

enum {
	PLAN_ENTRY, PLAN_HEAD, PLAN_PATCH, PLAN_PATCH_LEN = 4, PLAN_N_IMAGES = 2, PLAN_N_EXECUTORS = 1, PLAN_WINDOW = 1,
	PLAN_VIA = 0, PLAN_PACE_LOG2 = 12, PLAN_SEED = 1, PLAN_HUGE_PAGES = 0, PUBLISH_REACH = XMC_REACH_POINTER,
	REPRO_OUTCOME = XMC_TORN,	/* the event: its outcome, */
	REPRO_POST = 1,			/* whether it was seen after the patch was complete, */
	REPRO_SIGNAL = 0,		/* signal and si_code of a fault */
	REPRO_CODE = 0,
	REPRO_OTHERS = 1,		/* 1: something else may go wrong, too */
	REPRO_FIRST_TRAPS = 0,		/* 1: image 0 traps instead of returning */
	REPRO_BEFORE = 1,		/* entries of the lists of executor steps */
	REPRO_ON_CHANGE = 1,
	REPRO_ALWAYS = 1,
	REPRO_CATCHES = 1,		/* 1: an execution may raise a signal */
	REPRO_KICKS = 1,		/* 1: the writer's steps send signals */
	REPRO_HANGS = 1,		/* 1: an execution may never end */
	REPRO_POKES = 1,		/* microseconds between a provocation's signals */
	REPRO_HANDLES = 1,		/* 1: any of these four */
	REPRO_PROGRESS = 1,		/* 1: somebody waits for executors, or watches them */
	REPRO_STEPS = 2,		/* compiled steps of every patch; 0: they have different numbers */
	REPRO_PROVOKES = 1,		/* 1: the writer does something before every patch */
	REPRO_PARKS = 1,		/* 1: its steps park executors */
	REPRO_REGISTRATIONS = 1,	/* membarrier(2) commands that register this process for those that the steps use */
	REPRO_BATCH = 4096,		/* executions between two looks at `stop` */
	REPRO_PUBLISHES = 1,		/* 1: code is made reachable instead of alternating in place */
	REPRO_FORKS = 1,		/* 1: the writer has a process of its own */
	REPRO_TRACES = 1,		/* 1: and traces a thread of ours, which it stops for that */
	REPRO_ANTAGONIST = XMC_ANTAGONIST_LINES,
	REPRO_N_CPUS = 3,
	REPRO_SECONDS = 10		/* unless the command line says */
};
#define REPRO_LOOP xmc_arch_loop_window_steps
#define REPRO_WHAT "what is patched, and how"
#define REPRO_CPUS { 0, 1, 0 }
#define REPRO_USAGE "[SECONDS [WRITER_CPU EXECUTOR_CPU... ANTAGONIST_CPU]]"

extern const struct xmc_image images[PLAN_N_IMAGES];
extern struct program programs[PLAN_N_IMAGES], provocation;
extern const xmc_code steps_before[1], steps_on_change[1], steps_always[1];
extern const int fault_signals[1], registrations[1];
int install(int sig, void (*handler)(int, siginfo_t *, void *), struct sigaction *old);
void on_fault(int sig, siginfo_t *info, void *context);
void on_kick(int sig, siginfo_t *info, void *context);
void on_watch(int sig, siginfo_t *info, void *context);
void on_poke(int sig, siginfo_t *info, void *context);
extern struct executor executors[XMC_EXECUTORS_MAX];
extern struct xmc_executor_result seen_by[XMC_EXECUTORS_MAX];
extern uint64_t patches;
extern int cpus[REPRO_N_CPUS];
void cannot(const char *what, int error);
void prepare(void);
int publish_once(struct core *core, uint64_t generation);
void run_pointer(struct executor *ex, xmc_loop loop, uint64_t batch, uint32_t provocation);
void run_branch(struct executor *ex, xmc_loop loop, uint64_t batch, uint32_t provocation);
void run_mapping(struct executor *ex, uint32_t provocation, uint64_t *next);
void grab_lines(const struct core *core);
void run_branches(const struct core *core);
int step_run(struct core *core, const struct micro *m, uint64_t generation);
#define N_FAULTS 1
#endif
