/* core.h - what the core's own files share. One run at a time, so there is one struct core. */
#ifndef XMC_CORE_H
#define XMC_CORE_H
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "arch/arch.h"

#define XMC_REACH 0x80000000ull		/* how far a rel32 branch goes, and so half of the reservation */
#define XMC_MAP_BYTES 0x20000ull	/* accessible, around the middle of the reservation */
#define XMC_ALT_BYTES 0x10000ull	/* an alternate stack; holds the largest AVX-512 and AMX signal frame */
#define XMC_STACK_BYTES 0x10000ull	/* what a region may use below its frame */
#define XMC_HUGE_BYTES 0x200000ull	/* of a huge page: the region lies in two of them, or in none */
#define XMC_STAMPS 64			/* publication times kept, a power of two */
#define XMC_CODE_CLOBBERED (-1)		/* a signature's code where a loop register was left changed */
#define XMC_MICRO_MAX 160		/* of one image's compiled patch */
#define XMC_OPERAND_BYTES 2048		/* of all its stores that have a form: 64 for each step that a plan can have */
#define XMC_SHADOW_MARGIN 32		/* a store may reach this far in front of the region, or behind it */
#define XMC_GATE_AT 0x800ull		/* before the end of the region's window: xmc_arch_gate */
#define XMC_PAGE 4096			/* what mappings are aligned to */

/* The code of a writer step: 0, -errno, or -EINTR where the run stopped while it waited. */
struct core;
struct micro;
typedef int (*step_code)(struct core *core, const struct micro *m, uint64_t generation);

/* A writer step with everything resolved that can be before the threads start. */
struct micro {
	uint32_t op;			/* enum xmc_step_op */
	uint32_t width;			/* STORE: bytes. FLUSH: unused. MEMBARRIER: command. PROTECT: enum xmc_protect */
	uint64_t address;		/* STORE, FLUSH: in the writer's mapping */
	uint64_t value;			/* STORE: what, or where `form` is set the address of what; DELAY, AWAIT,
					   DIE: how much */
	uint32_t step;			/* index of the plan's step that it came from */
	uint32_t form;			/* STORE: 0 a plain store of 1, 2, 4, 8 bytes; else which enum xmc_store */
};

struct program {
	uint32_t n;
	uint32_t operand_bytes;		/* used of `operands` */
	struct micro micro[XMC_MICRO_MAX];
	_Alignas(64) uint8_t operands[XMC_OPERAND_BYTES];	/* what a form stores, where a register does not hold it */
};

/* Bytes of the region: offset of the first from the region's, and how many. */
struct range {
	uint64_t start;
	uint32_t len;
};

/* One store step on its way into a program. Both shadows have XMC_SHADOW_MARGIN bytes more at either end. */
struct store_job {
	const struct xmc_plan *plan;
	struct program *program;
	const uint8_t *before;		/* the region as it was before the step */
	const uint8_t *shadow;		/* as it is to be after it */
	uint64_t data;			/* address of the region's first byte in the writer's mapping */
	uint32_t step;
};

/* The code under test. `text` is the region's first byte as executors see it, `data` the same byte for the writer. */
struct region {
	uint8_t *reservation;
	uint64_t reserved;
	uint8_t *window;		/* accessible, in the middle of the reservation */
	uint64_t window_bytes;
	uint8_t *arena;			/* XMC_ARENA_PAGES pages of other code */
	uint64_t bait;			/* address, for the mispredict step */
	uint8_t *alias;			/* NULL where the writer uses the executors' mapping */
	uint64_t text;
	uint64_t data;			/* the same as `text` where the kernel writes for the writer */
	int fd;				/* of the memfd behind `text`, for as long as it can be mapped anew; -1: none */
};

/* What writer and executors share. */
struct shared {
	/*
	 * `done` and `begun` lie in one line: an executor reads both in every round and the writer writes both in every
	 * patch, so two lines would only move twice as often.
	 */
	_Alignas(128) _Atomic uint64_t done;	/* generations published as complete */
	_Atomic uint64_t begun;			/* generations announced as begun */
	_Alignas(128) _Atomic uint32_t stop;
	_Atomic uint32_t turn;			/* index of the turn that is on */
	_Atomic uint32_t start;			/* 0 wait, 1 go */
	_Alignas(128) _Atomic uint64_t stamps[XMC_STAMPS];	/* TSC at publication of generation g, at g mod 64 */
	_Alignas(128) _Atomic uint64_t park;	/* odd: who gets the writer's signal stays in the handler until it changes */
};

/* One executor. Its stack lies below its frame. Members that others read have a line of their own. */
struct executor {
	_Alignas(4096) uint8_t stack[XMC_STACK_BYTES];
	_Alignas(128) struct xmc_frame frame;
	uint8_t above[128];		/* a torn pop or two beyond the frame hits no one else's data */
	struct core *core;
	struct xmc_executor_result *out;
	pthread_t thread;
	uint32_t index;
	uint32_t phase_resumed;		/* 1: the next execution is the first after a recovered signal */
	uint64_t last;			/* publish: the generation whose code it executed last */
	uint32_t turn;			/* the turn that its events are credited to */
	uint64_t recorded_tsc;		/* when the last event was written to the ring */
	uint64_t n_values;		/* of the frame: an interior execution hides them from the loop */
	_Alignas(128) _Atomic uint64_t progress;	/* executions, in batches; read by writer and watchdog */
	_Atomic uint32_t ready;
	_Atomic uint32_t gone;
	_Atomic int32_t tid;
	_Alignas(128) _Atomic uint64_t rewards[XMC_TURNS_MAX];	/* by turn; read by the watchdog */
	_Alignas(128) _Atomic uint64_t kicks;		/* signals of the writer handled */
	_Atomic uint64_t parked;			/* the value of `park` that it stays, or last stayed, in the handler for */
	_Alignas(128) _Atomic uint64_t adopted;		/* publish: it executes no generation older than this again */
};

/* Who writes one never takes a line, or the pair that is fetched with it, from who writes or reads another. */
#define XMC_LINES_APART(type, a, b) \
	_Static_assert(offsetof(type, b) / 128 != offsetof(type, a) / 128, #a " and " #b " share a line")
XMC_LINES_APART(struct shared, begun, stop);
XMC_LINES_APART(struct shared, start, stamps);
XMC_LINES_APART(struct shared, stamps, park);
XMC_LINES_APART(struct executor, n_values, rewards);
XMC_LINES_APART(struct executor, recorded_tsc, progress);
XMC_LINES_APART(struct executor, rewards, progress);
XMC_LINES_APART(struct executor, tid, kicks);
XMC_LINES_APART(struct executor, parked, adopted);
_Static_assert(sizeof(struct executor) % 128 == 0, "two executors share a line");

/* The one run. */
struct core {
	/*
	 * It lies in pages of its own that a forked writer shares, and so do the executors: what either side stores the
	 * other sees, and no store after the fork costs a page fault.
	 */
	_Alignas(XMC_PAGE) struct shared shared;
	const struct xmc_plan *plan;
	const struct xmc_publish *publish;		/* NULL: the toggle shape */
	struct xmc_result *result;
	struct xmc_writer_result *counts;	/* what the writer counts in: the result's, or `remote` */
	struct xmc_writer_result remote;	/* a writer of another process counts here; copied into the result */
	struct region region;
	struct executor *executors;	/* n_executors of them, one mapping */
	uint8_t *alt_stacks;		/* one each, side by side: the handler's stack address says whose it is */
	struct program programs[XMC_IMAGES_MAX];	/* programs[i] takes the region from image i - 1 to image i */
	struct program provoke[XMC_PROVOCATIONS_MAX];
	struct xmc_turn turns[XMC_TURNS_MAX];
	uint32_t n_turns;
	pthread_t writer;
	_Atomic uint32_t writer_ready;
	_Atomic uint32_t writer_gone;
	pid_t pid;			/* of the process that the executors live in */
	pid_t child;			/* of the writer, where it has a process of its own; 0: none, or reaped */
	pthread_t antagonist;
	_Atomic uint32_t antagonist_gone;
	pthread_t victim;		/* the thread that a tracer stops, so that it may write */
	_Atomic int32_t victim_tid;	/* 0: not started yet */
	int mem_fd;			/* /proc/self/mem; -1: not open */
	uint64_t start_ns;
	int kick_signal;		/* the writer's: proves that a handler was entered and left */
	int poke_signal;		/* a provocation's: interrupts, and nothing more */
	int watch_signal;		/* the watchdog's: recovers a hung executor */
};

/* What one execution showed. */
struct verdict {
	uint32_t outcome;
	uint32_t phase;
	uint64_t stale_by;		/* generations, where outcome is STALE */
	int32_t signal;
	int32_t code;
	uint64_t value;
	int64_t pc;
};

/* What the watchdog remembers of one executor. */
struct watch {
	uint64_t progress;
	uint64_t cpu_ns;
};

extern struct core the_core;

/* core.c: take the one run (0 or -EBUSY), map and fill everything that it needs (0 or -errno), undo both. */
int core_take(void);
void core_give(void);
int core_prepare(const struct xmc_plan *plan, const struct xmc_publish *publish, struct xmc_result *result);
void core_release(void);

/* check.c: 0 or -EINVAL. */
int plan_check(const struct xmc_plan *plan);

/* region.c */
int memory_file(void);
int region_map(struct region *region, const struct xmc_plan *plan);
void region_unmap(struct region *region);
/* Change the executors' rights (enum xmc_protect), or map the same memory over itself. 0 or -errno. */
int region_protect(const struct region *region, uint32_t protect);
int region_remap(const struct region *region);
/* How many pages of XMC_HUGE_BYTES the kernel has the region in. Reads /proc: not while threads run. */
uint32_t region_huge_pages(const struct region *region);
/* Forget the writer's mapping in this process: another one has inherited it. */
void region_drop_alias(struct region *region);
/* Whether `address` lies in the accessible middle of the reservation. */
bool region_holds(const struct region *region, uint64_t address);

/* program.c: 0, -EINVAL or -ENOTSUP; and: append one micro step, -EINVAL where the program is full. */
int program_compile(struct core *core);
int program_emit(struct program *program, struct micro micro);

/* stores.c: append the stores of `r`; 0, -EINVAL or -ENOTSUP. */
int store_compile(const struct store_job *job, uint32_t store, struct range r);
int store_compile_split(const struct store_job *job, struct range r, bool back_first);

/* steps.c: the code of every step. */
extern const step_code step_table[XMC_STEP_OPS];

/* steps.c: two of them, for the publish shape: wait for progress as often as `m->value` says; publish `generation`. */
int step_await(struct core *core, const struct micro *m, uint64_t generation);
int step_publish(struct core *core, const struct micro *m, uint64_t generation);

/* steps.c: let every parked executor go. */
void step_release_all(struct core *core);
/* steps.c: spin for `ticks`, or until the run stops. */
void run_spin(struct core *core, uint64_t ticks);
/* steps.c: what the plan's membarrier steps want done once in the executors' process; 0 or -errno. */
int register_membarriers(const struct xmc_plan *plan);

static inline bool run_stopping(struct core *core)
{
	return atomic_load_explicit(&core->shared.stop, memory_order_relaxed);
}

/* No locked instruction: nobody else writes it, and that would wait for every store before it. */
static inline void report_progress(struct executor *ex)
{
	uint64_t progress = atomic_load_explicit(&ex->progress, memory_order_relaxed) + 1;

	atomic_store_explicit(&ex->progress, progress, memory_order_release);
}

static inline const struct xmc_turn *turn_on(struct core *core)
{
	return &core->turns[atomic_load_explicit(&core->shared.turn, memory_order_relaxed)];
}

/* via.c: ways to the bytes that are no store instruction. Called by the writer; 0 or -errno. */
int via_open(struct core *core);
int via_store(struct core *core, const struct micro *m);
void via_close(struct core *core);
/* via.c: the body of the thread that a tracer stops. */
void *victim_main(void *core);
/* via.c: let it go, now that the run stops. */
void victim_wake(struct core *core);
/* via.c: bits of enum xmc_feature for the ways that this kernel lets us go. */
uint64_t via_probe(void);

/* Whether the kernel copies the bytes, and whether the writer needs a process of its own. */
static inline bool via_kernel(uint32_t via)
{
	return via >= XMC_VIA_PROCMEM;
}

static inline bool via_process(uint32_t via)
{
	return via == XMC_VIA_PROCESS || via == XMC_VIA_PTRACE;
}

/* process.c: the writer as a process. Fork it (0 or -errno), look after it now and then, end it. */
int process_start(struct core *core);
void process_watch(struct core *core);
void process_end(struct core *core, bool now);

/* writer.c, executor.c, antagonist.c: thread bodies. */
void *writer_main(void *core);
void *antagonist_main(void *core);
void *executor_main(void *executor);

/* antagonist.c: whether a provocation of the plan wants this antagonist, or (NONE) any. */
bool wants_antagonist(const struct xmc_plan *plan, uint32_t antagonist);

/* writer.c: a pause of the pace that is on. */
void pause_between(struct core *core, uint64_t *random, uint32_t pace_log2);

/* executor.c: put the plan's and a provocation's steps into the frame. 0, -ENOTSUP, -EINVAL. */
int change_provocation(struct executor *ex, uint32_t provocation);

/* executor.c: fill the frame once the region is mapped. */
int executor_prepare(struct executor *ex);

/* observer.c: read the patched bytes as data until the run stops. The plan's images must count generations. */
int observe_until_stopped(struct executor *ex);

/* classify.c: account for what ended a batch; called by the executor's own thread. */
void classify_batch(struct executor *ex, uint64_t began_with, struct xmc_slice *slice, uint32_t provocation);

/* account.c: put an event, `v`, into signatures, ring and age histograms; `head`: readable bytes that it ran. */
void account_event(struct executor *ex, const struct verdict *v, uint32_t provocation, const uint8_t *head);

/* What the value loop counted itself in a batch: changes of image, and torn values that it knew. */
struct counted {
	uint64_t news;
	uint64_t torn;
};

/* account.c: add that up; then forget it, after putting the torn ones where events go, if the counts are believed. */
struct counted add_up(const struct executor *ex);
void account_counted(struct executor *ex, uint32_t phase, bool believed);

/* fault.c */
int fault_install(struct core *core);
void fault_remove(void);
int fault_adopt_thread(struct executor *ex);
void fault_release_thread(void);
bool fault_contain_syscalls(const struct region *region);
void fault_release_syscalls(void);

/* watch.c: signal every executor that used hang_ms of CPU time without progress; `watch` is zeroed at first. */
void watch_executors(struct watch *watch);

/* threads.c */
uint64_t now_ns(void);
uint64_t thread_cpu_ns(pthread_t thread);
void sleep_until(uint64_t ns);
int pin_self(int cpu);
void thread_usage(uint64_t *cpu_ns, uint64_t *voluntary, uint64_t *forced);
int current_cpu(void);
int own_tid(void);
#endif
