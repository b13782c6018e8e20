/*
 * fault.c - signal handlers: whose fault is it, and how does the thread go on?
 *
 * A handler finds its executor by the alternate stack that it runs on: no thread-local storage, whose base a torn
 * instruction may have changed, and no system call. It blames the region only while that executor is in a loop.
 */
#include "core.h"
#include <string.h>
#include <sys/prctl.h>

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#define PR_SYS_DISPATCH_OFF 0
#define PR_SYS_DISPATCH_ON 1
#endif
#define PR_SYS_DISPATCH_INCLUSIVE_ON_ 2		/* Linux 6.17: the range is what is stopped, not what is let through */

static const int fault_signals[] = { SIGILL, SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGSYS };
#define N_FAULTS (sizeof(fault_signals) / sizeof(fault_signals[0]))

static struct sigaction saved[N_FAULTS + 3];

static struct executor *executor_here(void)
{
	uint8_t here;
	uint64_t at = (uint64_t)(uintptr_t)&here - (uint64_t)(uintptr_t)the_core.alt_stacks;
	uint64_t index = at / XMC_ALT_BYTES;

	return index < the_core.plan->n_executors ? &the_core.executors[index] : NULL;
}

/* Not the region's doing: say where, in memory that outlives us, and die of the same signal. */
static void crash(int sig, const siginfo_t *info, const void *context)
{
	struct xmc_crash *c = &the_core.result->crash;

	if (!c->signal) {
		c->code = info->si_code;
		c->tid = own_tid();
		c->pc = xmc_arch_pc(context);
		c->address = (uint64_t)(uintptr_t)info->si_addr;
		c->signal = sig;
	}
	signal(sig, SIG_DFL);
	if (info->si_code <= 0)		/* sent, not raised by an instruction that will raise it again */
		raise(sig);
}

static void leave_region(struct executor *ex, int sig, const siginfo_t *info, void *context)
{
	struct xmc_frame *f = &ex->frame;

	f->fault_signal = sig;
	f->fault_code = info->si_code;
	f->fault_pc = xmc_arch_pc(context);
	f->fault_address = sig == SIGSEGV || sig == SIGBUS ? (uint64_t)(uintptr_t)info->si_addr : 0;
	xmc_arch_registers(context, f->fault_registers);
	xmc_arch_recover(context, f);
}

static void on_fault(int sig, siginfo_t *info, void *context)
{
	struct executor *ex = executor_here();

	if (ex && ex->frame.active && info->si_code > 0)
		leave_region(ex, sig, info, context);
	else
		crash(sig, info, context);
}

/*
 * An execution that is interrupted inside the patched bytes goes on from there, whatever they are by then: mark it, and
 * let the value loop leave with whatever it returns.
 */
static void mark_interior(struct executor *ex, void *context)
{
	uint64_t offset = xmc_arch_pc(context) - ex->core->region.text;

	if (ex->frame.active && !ex->frame.interior_left && offset > ex->core->plan->head &&
	    offset < ex->core->plan->patch + ex->core->plan->patch_len) {
		ex->frame.interior_left = xmc_arch_end_batch(context);
		ex->frame.n_values = 0;		/* until the next batch */
	}
}

/*
 * Stay in the handler for as long as the writer says. Not until `stop`: the writer may be half way through a patch
 * then, and lets everyone go when it has ended. The acquire loads pair with its release stores of `park`: the bytes
 * that it stored meanwhile precede our leaving.
 */
static void park_here(struct executor *ex)
{
	struct shared *shared = &ex->core->shared;
	uint64_t park = atomic_load_explicit(&shared->park, memory_order_acquire);

	if (!(park & 1))
		return;
	atomic_store_explicit(&ex->parked, park, memory_order_release);
	while (atomic_load_explicit(&shared->park, memory_order_acquire) == park)
		xmc_arch_relax();
}

/* The writer's signal. Its entry and exit are the point; the count, released, says that they happened. */
static void on_kick(int sig, siginfo_t *info, void *context)
{
	struct executor *ex = executor_here();

	(void)sig;
	(void)info;
	if (!ex)
		return;
	mark_interior(ex, context);
	park_here(ex);
	atomic_fetch_add_explicit(&ex->kicks, 1, memory_order_release);
}

/* A provocation's signal: like the writer's, but nobody waits for it. */
static void on_poke(int sig, siginfo_t *info, void *context)
{
	struct executor *ex = executor_here();

	(void)sig;
	(void)info;
	if (ex)
		mark_interior(ex, context);
}

/* The watchdog's signal: a thread that sits in the desert or in the region without progress hangs there. */
static void on_watch(int sig, siginfo_t *info, void *context)
{
	struct executor *ex = executor_here();
	uint64_t in;

	if (!ex || !ex->frame.active)
		return;
	in = xmc_arch_pc(context) - (uint64_t)(uintptr_t)ex->core->region.reservation;
	if (in < ex->core->region.reserved)
		leave_region(ex, sig, info, context);
}

static int install(int sig, void (*handler)(int, siginfo_t *, void *), struct sigaction *old)
{
	struct sigaction sa = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

	sigfillset(&sa.sa_mask);	/* one handler at a time: they share the frame's fault members */
	return sigaction(sig, &sa, old) < 0 ? -errno : 0;
}

int fault_install(struct core *core)
{
	int rc = 0;

	core->kick_signal = SIGRTMIN + 4;
	core->watch_signal = SIGRTMIN + 5;
	core->poke_signal = SIGRTMIN + 6;
	for (size_t i = 0; i < N_FAULTS && !rc; i++)
		rc = install(fault_signals[i], on_fault, &saved[i]);
	if (!rc)
		rc = install(core->kick_signal, on_kick, &saved[N_FAULTS]);
	if (!rc)
		rc = install(core->watch_signal, on_watch, &saved[N_FAULTS + 1]);
	if (!rc)
		rc = install(core->poke_signal, on_poke, &saved[N_FAULTS + 2]);
	return rc;
}

void fault_remove(void)
{
	for (size_t i = 0; i < N_FAULTS; i++)
		sigaction(fault_signals[i], &saved[i], NULL);
	sigaction(the_core.kick_signal, &saved[N_FAULTS], NULL);
	sigaction(the_core.watch_signal, &saved[N_FAULTS + 1], NULL);
	sigaction(the_core.poke_signal, &saved[N_FAULTS + 2], NULL);
}

/* Give the calling thread its alternate stack, and let the handled signals through whatever mask it inherited. */
int fault_adopt_thread(struct executor *ex)
{
	stack_t alt = { .ss_sp = ex->core->alt_stacks + ex->index * XMC_ALT_BYTES, .ss_size = XMC_ALT_BYTES };
	sigset_t handled;

	sigemptyset(&handled);
	for (size_t i = 0; i < N_FAULTS; i++)
		sigaddset(&handled, fault_signals[i]);
	sigaddset(&handled, ex->core->kick_signal);
	sigaddset(&handled, ex->core->watch_signal);
	sigaddset(&handled, ex->core->poke_signal);
	if (sigaltstack(&alt, NULL) < 0)
		return -errno;
	return -pthread_sigmask(SIG_UNBLOCK, &handled, NULL);
}

/* An alternate stack that is still set when its thread ends makes the sanitizers fail, and would be unmapped in use. */
void fault_release_thread(void)
{
	stack_t none = { .ss_flags = SS_DISABLE };

	fault_release_syscalls();
	sigaltstack(&none, NULL);
}

void fault_release_syscalls(void)
{
	prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_OFF, 0, 0, 0);
}

/*
 * Stop system calls made from the region: a torn instruction may become one. Newer kernels take the range to stop;
 * older ones only a range to let through, which cannot wrap around, so it serves where everything else lies above.
 */
bool fault_contain_syscalls(const struct region *region)
{
	uint64_t first = (uint64_t)(uintptr_t)region->reservation, end = first + region->reserved;
	uint64_t here = (uint64_t)(uintptr_t)&fault_contain_syscalls;

	if (!prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_INCLUSIVE_ON_, first, region->reserved, 0))
		return true;
	return here > end && !prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON, end, UINT64_MAX - end, 0);
}
