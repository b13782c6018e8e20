/*
 * xmc.h - the native core's whole public interface.
 *
 * This file is both the C include and, with the lines that start with '#' removed, the cffi cdef: so constants are
 * enums, types are plain structs of fixed-width members, and nothing here needs the preprocessor.
 *
 * A plan goes in, a result comes out; both are plain memory without pointers. The result may lie in a mapping that
 * another process shares (the black box): what was counted there stays readable when this process dies.
 */
#ifndef XMC_H
#define XMC_H
#include <stdint.h>

enum xmc_limit {
	XMC_IMAGES_MAX = 16,
	XMC_IMAGE_BYTES_MAX = 64,
	XMC_PADS_MAX = 8,
	XMC_PAD_BYTES_MAX = 16,
	XMC_STEPS_MAX = 32,
	XMC_MIXES_MAX = 4096,
	XMC_EXECUTORS_MAX = 64,
	XMC_PROVOCATIONS_MAX = 16,
	XMC_TURNS_MAX = 128,
	XMC_CHOICES_MAX = 4096,
	XMC_APART = 16,			/* words between what two CPUs write: two lines, which prefetchers fetch together */
	XMC_SIGNATURES_MAX = 1024,	/* a power of two: they are hashed */
	XMC_EVENTS_MAX = 32,
	XMC_EVENT_BYTES = 16,
	XMC_REGISTERS_MAX = 40,		/* general registers that an ISA may have, and its flags */
	XMC_OPERAND_MAX = 64,		/* bytes that one store needs beyond a register */
	XMC_BUCKETS = 65,		/* log2 buckets: 0, 1, 2..3, 4..7, ... */
	XMC_PAD_REACH = 32768,		/* a pad lies less than this many bytes from the region's first byte */
	XMC_ABI = 1
};

/* What one execution showed. */
enum xmc_outcome {
	XMC_OLD,
	XMC_NEW,
	XMC_TORN,
	XMC_STALE,
	XMC_FAULT,
	XMC_TRAP,
	XMC_HANG,
	XMC_OUTCOMES
};

/* When it happened, relative to the patches that surround it. */
enum xmc_phase {
	XMC_CONCURRENT,			/* a patch was in flight, or nothing is claimed about completion */
	XMC_POST,			/* every patch begun was complete before the execution began */
	XMC_INTERIOR,			/* the thread was interrupted inside the patched bytes: proves nothing */
	XMC_RESUMED,			/* the execution after a recovered signal, which serialized: no proof of freshness */
	XMC_PHASES
};

/* How the writer reaches the bytes. From PROCMEM on the kernel copies them: plain stores only, up to 8 bytes each. */
enum xmc_via {
	XMC_VIA_SAME,			/* one mapping, writable and executable */
	XMC_VIA_ALIAS,			/* two mappings of one memfd */
	XMC_VIA_PROCESS,		/* the writer is a process that shares the memfd; its memory maps hold no code */
	XMC_VIA_REOPEN,			/* as ALIAS, but the second mapping is of the memfd opened anew */
	XMC_VIA_MREMAP,			/* two mappings of anonymous shared memory, which has no name: mremap of 0 bytes */
	XMC_VIA_SHMAT,			/* a System V segment attached twice */
	XMC_VIA_PROCMEM,		/* pwrite to /proc/self/mem; the executors' mapping is not writable */
	XMC_VIA_VMWRITEV,		/* process_vm_writev */
	XMC_VIA_PTRACE,			/* the writer is a tracer that holds one idle thread of the executors' process */
	XMC_VIAS
};

/* How a part lands. Bytes beyond it keep their value; a part inside an aligned block of the width is stored in there. */
enum xmc_store {
	XMC_STORE_WHOLE,		/* one store, the smallest of 1, 2, 4, 8, 16, 32 bytes that covers the part */
	XMC_STORE_QWORD,		/* the whole naturally aligned 8 bytes around the part */
	XMC_STORE_BYTES,		/* a byte at a time, ascending */
	XMC_STORE_SPLIT,		/* two runs, at the straddle point (or the middle where nothing straddles) */
	XMC_STORE_REVERSED,		/* a byte at a time, descending */
	XMC_STORE_SSE16,		/* one MOVUPS of 16 bytes, */
	XMC_STORE_AVX32,		/* or VMOVDQU of 32 */
	XMC_STORE_CMPXCHG16B,		/* one LOCK CMPXCHG16B of the naturally aligned 16 bytes around the part */
	XMC_STORE_MOVSB,		/* one REP MOVSB of the part */
	XMC_STORE_NT,			/* one MOVNTI, the smaller of 4, 8 bytes that covers the part; no fence follows */
	XMC_STORES
};

/* Writer steps. Their arguments are in struct xmc_step. */
enum xmc_step_op {
	XMC_STEP_STORE,			/* part (enum xmc_part), value (enum xmc_value) */
	XMC_STEP_MFENCE,
	XMC_STEP_SFENCE,
	XMC_STEP_LFENCE,
	XMC_STEP_FLUSH,			/* part: its cache lines */
	XMC_STEP_OWN,			/* part: fetch its lines for writing, by a prefetch that changes nothing */
	XMC_STEP_SHARE,			/* part: read its lines */
	XMC_STEP_SERIALIZE,		/* the writer's own CPU */
	XMC_STEP_MEMBARRIER,		/* part (enum xmc_membarrier) */
	XMC_STEP_SIGNAL,		/* every executor enters and leaves a signal handler */
	XMC_STEP_DELAY,			/* value: TSC ticks */
	XMC_STEP_AWAIT,			/* value: executor progress to wait for; only planted defects use it */
	XMC_STEP_DIE,			/* value: a signal to die of, outside any region; only planted defects use it */
	XMC_STEP_PUBLISH,		/* the generation is complete: done = begun */
	XMC_STEP_QUIESCE,		/* every executor enters a signal handler and stays there */
	XMC_STEP_RELEASE,		/* they may leave it */
	XMC_STEP_HOP,			/* the writer moves to each executor's CPU and back to its own */
	XMC_STEP_PROTECT,		/* part (enum xmc_protect): mprotect the executors' mapping */
	XMC_STEP_REMAP,			/* map the executors' mapping over itself */
	XMC_STEP_OPS
};

enum xmc_part {
	XMC_PART_ALL,			/* the patched bytes, and the head byte where the steps plant traps */
	XMC_PART_FIRST,			/* the head of the patched instruction: as long as a trap, or where the steps
					   plant guards as a guard */
	XMC_PART_REST,			/* the patched bytes but for those */
	XMC_PART_FRONT,			/* the patched bytes in front of the straddle point (or middle) */
	XMC_PART_BACK			/* those behind it */
};

/* What a step stores: the image to come; a breakpoint; a branch to itself, in which who meets it waits. */
enum xmc_value { XMC_VALUE_NEW, XMC_VALUE_TRAP, XMC_VALUE_GUARD };

enum xmc_protect { XMC_PROTECT_RW, XMC_PROTECT_RX, XMC_PROTECT_RWX, XMC_PROTECTS };

/* Commands of membarrier(2): the kernel's ABI (linux/membarrier.h). */
enum xmc_membarrier {
	XMC_MEMBARRIER_GLOBAL = 1,
	XMC_MEMBARRIER_GLOBAL_EXPEDITED = 2,
	XMC_MEMBARRIER_PRIVATE = 8,
	XMC_MEMBARRIER_SYNC_CORE = 32,
	XMC_MEMBARRIER_RSEQ = 128
};

/* Executor steps; also what provocations make of the executor before it enters. */
enum xmc_exec_op {
	XMC_EXEC_LFENCE,
	XMC_EXEC_MFENCE,
	XMC_EXEC_LOCK,
	XMC_EXEC_SYSCALL,
	XMC_EXEC_CPUID,
	XMC_EXEC_SERIALIZE,
	XMC_EXEC_IRET,
	XMC_EXEC_FLUSH_HEAD,		/* the cache line of the patched instruction's first byte */
	XMC_EXEC_FLUSH_TAIL,		/* the cache line of the last patched byte */
	XMC_EXEC_EVICT_TLB,		/* call into so many other pages that no TLB still holds the region's */
	XMC_EXEC_COLD_BRANCHES,		/* run so many other branches that no predictor still knows the region's */
	XMC_EXEC_MISPREDICT,		/* let a return be mispredicted into the region: fetched, never retired */
	XMC_EXEC_OPS
};

/* What a further thread does while a provocation is on. It stores nothing anywhere. */
enum xmc_antagonist {
	XMC_ANTAGONIST_NONE,
	XMC_ANTAGONIST_LINES,		/* read the head's and the tail's line and fetch them for writing */
	XMC_ANTAGONIST_SMT,		/* run many branches: meant for the SMT sibling of an executor */
	XMC_ANTAGONISTS
};

enum xmc_exec_when { XMC_ALWAYS, XMC_ON_CHANGE };

enum xmc_until { XMC_UNTIL_DEADLINE, XMC_UNTIL_FIRST_EVENT };

struct xmc_step {
	uint32_t op;
	uint32_t part;
	uint64_t value;
};

struct xmc_exec_step {
	uint32_t op;			/* enum xmc_exec_op */
	uint32_t when;			/* enum xmc_exec_when */
};

struct xmc_provocation {
	uint32_t n_writer;		/* run before the writer steps of every patch: FLUSH, OWN, SHARE */
	uint32_t n_executor;		/* run before every execution */
	uint32_t signal_us;		/* signals reach every executor this far apart on average; 0: none do */
	uint32_t antagonist;		/* enum xmc_antagonist */
	int32_t antagonist_cpu;		/* where it runs; not looked at without one */
	uint32_t reserved;
	struct xmc_step writer[4];
	struct xmc_exec_step executor[4];
};

/* What is on together for a slice of time. */
struct xmc_turn {
	uint32_t provocation;		/* index */
	uint32_t pace_log2;		/* as in struct xmc_plan */
	uint32_t executors;		/* the first so many execute, the others wait */
	uint32_t reserved;
};

struct xmc_image {
	uint8_t bytes[XMC_IMAGE_BYTES_MAX];
	uint64_t value;			/* what the region returns */
	uint32_t traps;			/* 1: instead of returning, it traps at its head */
	uint32_t reserved;
};

/* Fixed code that the images may branch to; offset from the region's first byte. */
struct xmc_pad {
	int32_t offset;
	uint32_t len;
	uint8_t bytes[XMC_PAD_BYTES_MAX];
};

struct xmc_plan {
	uint32_t abi;			/* XMC_ABI */
	uint32_t n_images;		/* 2..XMC_IMAGES_MAX */
	uint32_t region_len;		/* bytes of every image */
	uint32_t entry;			/* offset of the byte that the executor calls */
	uint32_t head;			/* offset of the first byte of the patched instruction */
	uint32_t patch;			/* offset of the first patched byte; the head lies in front of the last one */
	uint32_t patch_len;
	uint32_t split;			/* patched bytes in front of the straddle point, 1..patch_len - 1; 0: none */
	int32_t place;			/* region's first byte, from the page boundary in the middle of the mapping */
	uint32_t n_pads;
	uint32_t via;			/* enum xmc_via */
	uint32_t store;			/* enum xmc_store */
	uint32_t window;		/* 1: executors read done and begun; 0: they read nothing but the code */
	uint32_t observe;		/* 1: executors read the patched bytes as data instead: the witness; image i
					   is stored as enum xmc_witness_store i % 3 says */
	uint32_t trap_is_ours;		/* 1: the writer's steps plant traps, so a trap at the head is expected */
	uint32_t fault_is_ours;		/* 1: they forbid execution, so a fetch that is refused is such a trap too */
	uint32_t guard_is_ours;		/* 1: they plant guards, so who spins at the head may be waiting */
	uint32_t huge_pages;		/* 1: the region lies in pages of 2 MiB, which meet in the middle; via SAME only */
	uint32_t n_steps;
	uint32_t n_exec_steps;
	uint32_t n_provocations;	/* at least 1 */
	uint32_t n_executors;
	uint32_t until;			/* enum xmc_until */
	uint32_t slice_us;		/* longest time that a turn stays on before the next one */
	uint32_t n_turns;		/* 0: the provocations take equal turns; else whichever of `turns` shows most is
					   on most, and each at least an eighth of an even share */
	int32_t writer_cpu;		/* -1: no writer at all */
	int32_t executor_cpu[XMC_EXECUTORS_MAX];
	uint32_t pace_log2;		/* pause after each patch: 0 to 2^u - 1 ticks, u uniform in 0..pace_log2; 0: none */
	uint32_t hang_ms;		/* CPU time without progress before an executor counts as hung */
	uint64_t seed;
	uint64_t limit_ns;		/* wall time, 0: none (one limit must be given) */
	uint64_t limit_executions;	/* of all executors together, 0: none; met to within a watchdog tick */
	uint64_t limit_patches;		/* 0: none; met exactly */
	struct xmc_step steps[XMC_STEPS_MAX];
	struct xmc_exec_step exec_steps[XMC_STEPS_MAX];
	struct xmc_provocation provocations[XMC_PROVOCATIONS_MAX];
	struct xmc_turn turns[XMC_TURNS_MAX];
	struct xmc_image images[XMC_IMAGES_MAX];
	struct xmc_pad pads[XMC_PADS_MAX];
};

/* How a wrong execution showed itself; equal ones share an entry and are counted. */
struct xmc_signature {
	uint64_t count;
	uint64_t value;			/* returned; or the faulting data address */
	int64_t pc;			/* of a fault: PC from the region's first byte; else 0 */
	int32_t signal;			/* 0: it returned */
	int32_t code;			/* si_code */
	uint32_t outcome;
	uint32_t phase;
};

struct xmc_event {
	uint64_t tsc;
	uint64_t done;			/* generation published as complete before the execution */
	uint64_t begun;			/* generation announced as begun after it */
	uint64_t value;			/* as in struct xmc_signature */
	int64_t pc;
	int32_t signal;
	int32_t code;
	uint32_t outcome;
	uint32_t phase;
	uint32_t provocation;
	uint32_t reserved;
	uint64_t stale_by;		/* generations, of a stale execution; else 0 */
	uint64_t stale_ticks;		/* TSC ticks since its code was superseded, 0: not known */
	uint64_t registers[XMC_REGISTERS_MAX];	/* at the fault, in the order of xmc_register_names; else 0 */
	uint8_t bytes[XMC_EVENT_BYTES];	/* the region's memory from its head on, read as data just after */
};

/* What one executor counted while one provocation was on. */
struct xmc_slice {
	uint64_t outcomes[XMC_PHASES][XMC_OUTCOMES];
};

/* What the writer of a witness does in turn: the store in question, and two controls that are two events for certain. */
enum xmc_witness_store {
	XMC_WITNESS_REAL,		/* the plan's own store */
	XMC_WITNESS_FRONT_FIRST,	/* two stores that meet at the straddle point, the lower one first */
	XMC_WITNESS_BACK_FIRST,
	XMC_WITNESS_STORES
};

/*
 * What data readers saw of two patched bytes, read one after the other: [0] the lower address first, [1] the higher.
 * Loads are performed in program order, so a second read that is older than the first proves that the store reached
 * memory as two events, with the byte read first changed first. Tears are counted by the store that was in flight.
 */
struct xmc_pair {
	uint64_t samples[2];
	uint64_t tears[2][XMC_WITNESS_STORES];
};

struct xmc_executor_result {
	int32_t tid;
	int32_t cpu_first;		/* CPU it ran on when it began, and when it ended */
	int32_t cpu_last;
	int32_t error;			/* 0, or -errno that ended this thread early */
	uint64_t cpu_ns;
	uint64_t switches_voluntary;
	uint64_t switches_forced;
	uint64_t clobbers;		/* executions that returned but left a wrong value in a loop register */
	uint64_t signatures_lost;	/* events whose signature found no free entry */
	uint64_t events;		/* all there were */
	uint64_t recorded;		/* ever written to the ring, whose last XMC_EVENTS_MAX are kept: the first ones,
					   and of the others those that come 2^16 ticks or more after the one before */
	uint64_t first_event_ns;	/* from the start of the run; 0: none */
	uint64_t stale_generations[XMC_BUCKETS];
	uint64_t stale_ticks[XMC_BUCKETS];
	struct xmc_slice slices[XMC_PROVOCATIONS_MAX];
	struct xmc_signature signatures[XMC_SIGNATURES_MAX];
	struct xmc_event ring[XMC_EVENTS_MAX];
	struct xmc_pair pairs[XMC_IMAGE_BYTES_MAX];	/* observe only: bytes i and i + 1 of the patch; at
							   patch_len - 1 its first and its last byte */
	uint64_t samples_discarded;	/* pairs whose two reads lay too far apart in time */
	uint64_t apart[XMC_APART];
};

struct xmc_writer_result {
	int32_t tid;
	int32_t cpu_first;
	int32_t cpu_last;
	int32_t error;
	uint64_t cpu_ns;
	uint64_t switches_voluntary;
	uint64_t switches_forced;
	uint64_t patches;
	uint64_t hops;			/* times that it was seen to run on an executor's CPU */
	uint64_t failed_step;		/* index + 1 of the writer step that ended the run early; 0: none */
	uint64_t slice_patches[XMC_PROVOCATIONS_MAX];
};

/* Why a signal was not an outcome of the region: the harness itself is broken. Filled before the process dies. */
struct xmc_crash {
	int32_t signal;
	int32_t code;
	int32_t tid;
	int32_t reserved;
	uint64_t pc;
	uint64_t address;
};

/* One slice: which turn was on, for how long, and what the executors saw under it meanwhile. */
struct xmc_choice {
	uint32_t turn;
	uint32_t reserved;
	uint64_t ns;
	uint64_t reward;		/* events; one in the post phase, which a regime claims not to have, is worth 1000 */
};

struct xmc_result {
	uint32_t state;			/* 0 not begun, 1 running, 2 ended */
	uint32_t stop;			/* anyone may set it to end the run within a watchdog tick */
	uint64_t elapsed_ns;
	uint64_t tsc_hz;
	uint64_t region_address;
	uint32_t hangs_signalled;
	uint32_t signals_sent;		/* by provocations */
	uint32_t guard_waits;		/* times that an executor had made no progress for hang_ms, and a guard stood */
	uint32_t syscalls_contained;	/* 1: a torn system call raises SIGSYS; 0: the kernel cannot do that */
	uint64_t slice_ns[XMC_PROVOCATIONS_MAX];	/* wall time that each provocation was on */
	uint64_t antagonist_rounds[XMC_PROVOCATIONS_MAX];	/* what the antagonist did, in rounds */
	int32_t antagonist_error;	/* 0, or -errno that kept it from its CPU */
	uint32_t huge_pages;		/* pages of 2 MiB that the region still lay in when the run ended */
	uint64_t n_choices;		/* slices there were; the first XMC_CHOICES_MAX are kept */
	struct xmc_choice choices[XMC_CHOICES_MAX];
	struct xmc_crash crash;
	uint64_t before_writer[XMC_APART];
	struct xmc_writer_result writer;
	uint64_t behind_writer[XMC_APART];
	struct xmc_executor_result executors[XMC_EXECUTORS_MAX];
};

enum xmc_feature {
	XMC_FEATURE_SERIALIZE = 1,	/* CPUID.7.0:EDX[14] */
	XMC_FEATURE_FRED = 2,		/* CPUID.7.1:EAX[17]; whether the kernel uses it is not visible here */
	XMC_FEATURE_INVLPGB = 4,	/* CPUID.80000008:EBX[3] */
	XMC_FEATURE_MFENCE_SERIALIZES = 8,	/* AMD and Hygon: APM volume 2, section 7.6.4 */
	XMC_FEATURE_CLFLUSHOPT = 16,
	XMC_FEATURE_CX16 = 32,
	XMC_FEATURE_AVX = 64,
	XMC_FEATURE_HYPERVISOR = 128,
	XMC_FEATURE_SYSCALL_DISPATCH = 256,	/* torn system calls can be stopped */
	XMC_FEATURE_RWX = 512,		/* a mapping both writable and executable is allowed */
	XMC_FEATURE_ALIAS = 1024,	/* two mappings of one memfd, one of them executable, are allowed */
	XMC_FEATURE_RESERVE = 2048,	/* the inaccessible reservation can be had */
	XMC_FEATURE_PROCMEM = 4096,	/* /proc/self/mem writes where the mapping is not writable */
	XMC_FEATURE_VMWRITEV = 8192,
	XMC_FEATURE_PTRACE = 16384,	/* a child may trace us */
	XMC_FEATURE_PROTECT_X = 32768,	/* a page that was writable may be made executable again */
	XMC_FEATURE_HUGE_PAGES = 65536	/* transparent pages of 2 MiB can be had for writable and executable memory */
};

struct xmc_probe {
	uint64_t features;		/* bits of enum xmc_feature */
	uint64_t membarrier;		/* what membarrier(MEMBARRIER_CMD_QUERY) answers; 0 where it is refused */
	uint64_t tsc_hz;		/* ticks a second, measured over 5 ms */
	uint32_t line_bytes;		/* of the unit that the flush steps act on */
	uint32_t step_ops;		/* bit n: writer step n exists here */
	uint32_t exec_ops;		/* bit n: executor step n exists here */
	uint32_t reserved;
	char vendor[16];
	char isa[16];
};

/*
 * Fill *probe with what this CPU and kernel allow. Returns 0. Maps and unmaps memory, starts a thread, takes over signals
 * as xmc_run does; prints nothing. While a run is on, it finds that system calls cannot be contained.
 */
int xmc_probe(struct xmc_probe *probe);

/*
 * Run one plan to its end: start the threads, watch them, join them, fill *result.
 *
 * The calling thread becomes the watchdog and sleeps. The handlers of SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE,
 * SIGSYS and two real-time signals are replaced for the duration and put back. One run at a time in a process.
 *
 * Returns 0, or -EINVAL (the plan contradicts itself), -ENOTSUP (a step or mapping that this machine does not have),
 * -EBUSY (another run is on), -ECHILD (the writer's process went away), -ETIMEDOUT (a thread did not end; the process
 * should), or another -errno of the system call that failed. *result is valid in every case.
 */
int xmc_run(const struct xmc_plan *plan, struct xmc_result *result);

/*
 * The publish shape: code is prepared where nobody can reach it, then made reachable. The body is image 0 with the
 * generation coded into two fields of 8 bytes; it returns the generation below and its complement above. Generation g
 * lies in slot g mod n_slots of a ring of slots. Generation 0 is published before the threads start.
 */
enum xmc_reach {
	XMC_REACH_POINTER,		/* the executor loads the generation, which is the slot's address, and calls */
	XMC_REACH_BRANCH,		/* the executor calls a branch, which the writer retargets with one store */
	XMC_REACH_MAPPING		/* the executor calls the next slot until it is there; done only says so */
};

enum xmc_address {
	XMC_ADDRESS_FRESH,		/* never executable before, a page each; a ring of 2^18, serialized at its turn */
	XMC_ADDRESS_INT3,		/* executable, full of breakpoints, and everyone has serialized since */
	XMC_ADDRESS_REUSED		/* what was published and executed there before */
};

enum xmc_fill_via {
	XMC_FILL_SAME,			/* through the executors' mapping */
	XMC_FILL_ALIAS,			/* through another mapping of the same process */
	XMC_FILL_PROCESS		/* by another process, and so another mm, which fences before it answers */
};

enum xmc_pub_op {
	XMC_PUB_FILL,			/* part: ALL, FRONT or BACK of the line boundary */
	XMC_PUB_MFENCE,
	XMC_PUB_SFENCE,
	XMC_PUB_LFENCE,
	XMC_PUB_SERIALIZE,		/* the writer's own CPU */
	XMC_PUB_MEMBARRIER,		/* part (enum xmc_membarrier) */
	XMC_PUB_ALIAS,			/* make the writable alias of this slot's page; without it one lasts for ever */
	XMC_PUB_DROP_ALIAS,		/* and unmap it */
	XMC_PUB_MAP,			/* value (enum xmc_rights): install this generation's page at its address */
	XMC_PUB_PROTECT,		/* value: the same */
	XMC_PUB_UNMAP,			/* make the slot's page inaccessible */
	XMC_PUB_MEET,			/* wait until everybody has acquired what was published last */
	XMC_PUB_DRAIN,			/* wait until nobody executes what this slot held before */
	XMC_PUB_BRANCH,			/* retarget the executors' branch: one aligned 8-byte store */
	XMC_PUB_PUBLISH,		/* store-release of the generation */
	XMC_PUB_DELAY,			/* value: TSC ticks */
	XMC_PUB_AWAIT,			/* value: executor progress to wait for; only planted defects use it */
	XMC_PUB_OPS
};

enum xmc_rights { XMC_RIGHTS_RX = 1, XMC_RIGHTS_RW, XMC_RIGHTS_RWX };

struct xmc_publish {
	uint32_t reach;			/* enum xmc_reach */
	uint32_t address;		/* enum xmc_address */
	uint32_t fill_via;		/* enum xmc_fill_via */
	uint32_t n_slots;		/* a power of two */
	uint32_t fields[2];		/* offsets in the body of the two 8-byte fields */
	uint32_t front;			/* bytes of the body in front of the line boundary */
	uint32_t n_steps;
	uint32_t guesses;		/* bit n: under provocation n the executor guesses (arch.h) */
	uint32_t guesses_flushed;	/* the same, and flushes the published word first */
	struct xmc_step steps[XMC_STEPS_MAX];
};

/*
 * As xmc_run, in the publish shape: the plan's steps, store and split are not used, its CPUs, limits, executor steps
 * and provocations are; the writer's flushes of those go to the slot that is about to be filled.
 */
int xmc_publish(const struct xmc_plan *plan, const struct xmc_publish *publish, struct xmc_result *result);

/* A content of the region's first region_len bytes that may arise while it is patched. */
struct xmc_mix {
	uint8_t bytes[XMC_IMAGE_BYTES_MAX];
};

/*
 * Execute each of `n` mixes once, at the plan's place, on a thread of its own pinned to the first executor's CPU, with
 * nobody patching; out[i] says how mix i shows itself (count 1, phase and outcome without meaning but for XMC_HANG).
 * What the plan says of images, steps, provocations and limits does not matter, but it must be a valid plan.
 *
 * Returns and takes over signals as xmc_run does.
 */
int xmc_run_mixes(const struct xmc_plan *plan, uint32_t n, const struct xmc_mix *mixes, struct xmc_signature *out);

/* One compiled writer step, as the core runs it. */
struct xmc_micro {
	uint32_t program;		/* the image to come; n_images + i: what provocation i does before every patch */
	uint32_t op;			/* enum xmc_step_op */
	uint32_t width;			/* STORE: bytes; else the step's part: membarrier's command, enum xmc_protect */
	uint32_t form;			/* STORE: 0 a plain store, else enum xmc_store */
	uint32_t step;			/* index of the plan's step that it came from */
	uint32_t operand_bytes;
	int64_t offset;			/* STORE, FLUSH, OWN, SHARE: where, from the region's first byte */
	uint64_t value;			/* STORE without a form: what; else the step's value */
	uint8_t operand[XMC_OPERAND_MAX];	/* STORE with a form: what; of CMPXCHG16B what it expects follows */
};

/*
 * Compile the patches of `plan` and put them into out[], in their order. Returns how many they are, -ENOSPC where `n`
 * are too few, or as xmc_run.
 */
int xmc_compile(const struct xmc_plan *plan, uint32_t n, struct xmc_micro *out);

/* The names of an event's registers, separated by blanks. */
const char *xmc_register_names(void);

/*
 * Choose `n` turns out of `n_turns` one after the other, as a run would that was told the times and rewards in
 * `choices`; fills in each choice's turn. Returns 0 or -EINVAL. Not for two threads at a time.
 */
int xmc_replay(uint32_t n_turns, uint32_t n, struct xmc_choice *choices);

/* Ask the kernel to kill this process when the thread that started it dies. Returns 0 or -errno. */
int xmc_die_with_parent(void);
#endif
