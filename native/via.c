/*
 * via.c - ways to the bytes that are no store instruction: the kernel copies them, through its own mapping of the page.
 *
 * Nothing says that its copy is one event: it is a memcpy of 1 to 8 bytes, whatever instructions the kernel has chosen
 * for that on this CPU, cut in two where the bytes cross a page.
 */
#include "core.h"
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define AWHILE_NS 100000ull

/* It does nothing, in one sleep. While a tracer holds it the executors, threads of the same process, run on. */
void *victim_main(void *arg)
{
	struct core *core = arg;

	atomic_store_explicit(&core->victim_tid, own_tid(), memory_order_release);
	while (!run_stopping(core))
		syscall(SYS_futex, &core->shared.stop, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	return NULL;
}

/* `stop` is set: whoever did that need not know of the victim. */
void victim_wake(struct core *core)
{
	syscall(SYS_futex, &core->shared.stop, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

/* Whether a thread sleeps in the kernel, as far as /proc tells. */
static bool asleep(pid_t tid)
{
	char path[32], text[128];
	const char *name_end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
	name_end = strrchr(text, ')');
	return !name_end || strlen(name_end) < 3 || name_end[2] == 'S';
}

/*
 * Become the tracer of the victim and stop it, and only it: SEIZE and INTERRUPT stop one thread. It is stopped where it
 * sleeps, or it might hold a lock that its siblings need: a translator's, which runs one thread at a time.
 */
static int attach(struct core *core)
{
	pid_t victim;
	int status;

	while (!(victim = atomic_load_explicit(&core->victim_tid, memory_order_acquire))) {
		if (run_stopping(core))
			return -EINTR;
		xmc_arch_relax();
	}
	while (!asleep(victim)) {
		if (run_stopping(core))
			return -EINTR;
		sleep_until(now_ns() + AWHILE_NS);
	}
	if (ptrace(PTRACE_SEIZE, victim, NULL, NULL) < 0 || ptrace(PTRACE_INTERRUPT, victim, NULL, NULL) < 0)
		return -errno;
	while (waitpid(victim, &status, __WALL) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFSTOPPED(status) ? 0 : -ESRCH;
}

int via_open(struct core *core)
{
	if (core->plan->via == XMC_VIA_PTRACE) {
		int rc = attach(core);

		return rc && run_stopping(core) ? 0 : rc;	/* a short run may be over, and its victim gone, first */
	}
	if (core->plan->via != XMC_VIA_PROCMEM)
		return 0;
	core->mem_fd = open("/proc/self/mem", O_WRONLY | O_CLOEXEC);
	return core->mem_fd < 0 ? -errno : 0;
}

/*
 * POKEDATA writes 8 bytes, always. What surrounds ours is read through our own mapping of the same memory and written
 * back unchanged; where ours lie in one aligned 8, those are the 8.
 */
static int poke(struct core *core, const struct micro *m)
{
	uint64_t at = (m->address & 7) + m->width <= 8 ? m->address & ~7ull : m->address, word;

	memcpy(&word, (const void *)(uintptr_t)at, sizeof(word));
	memcpy((uint8_t *)&word + (m->address - at), &m->value, m->width);
	at += core->region.text - core->region.data;
	if (ptrace(PTRACE_POKEDATA, atomic_load(&core->victim_tid), (void *)(uintptr_t)at, (void *)(uintptr_t)word) < 0)
		return -errno;
	return 0;
}

static ssize_t write_process(pid_t pid, uint64_t address, const void *bytes, size_t len)
{
	struct iovec from = { (void *)(uintptr_t)bytes, len }, to = { (void *)(uintptr_t)address, len };

	return process_vm_writev(pid, &from, 1, &to, 1, 0);
}

int via_store(struct core *core, const struct micro *m)
{
	ssize_t n;

	if (m->form || m->width > sizeof(m->value))
		return -ENOTSUP;
	if (core->plan->via == XMC_VIA_PTRACE)
		return poke(core, m);
	if (core->plan->via == XMC_VIA_PROCMEM)
		n = pwrite(core->mem_fd, &m->value, m->width, (off_t)m->address);
	else
		n = write_process(core->pid, m->address, &m->value, m->width);
	return n == (ssize_t)m->width ? 0 : n < 0 ? -errno : -EIO;
}

void via_close(struct core *core)
{
	if (core->mem_fd >= 0)
		close(core->mem_fd);
	core->mem_fd = -1;
	/* A tracer that ends lets its tracees go; this one only does it sooner, so that its victim can be joined. */
	if (core->plan->via == XMC_VIA_PTRACE)
		ptrace(PTRACE_DETACH, atomic_load(&core->victim_tid), NULL, NULL);
}

/* Write a byte where we may not: a kernel may have been told to refuse that (proc_mem.force_override). */
static bool can_procmem(void)
{
	struct xmc_plan plan = { .via = XMC_VIA_PROCMEM, .n_images = 2, .region_len = 1 };
	struct region region = { 0 };
	uint8_t byte = xmc_arch_trap[0];
	int fd = open("/proc/self/mem", O_WRONLY | O_CLOEXEC);
	bool can = fd >= 0 && !region_map(&region, &plan) && pwrite(fd, &byte, 1, (off_t)region.text) == 1;

	region_unmap(&region);
	if (fd >= 0)
		close(fd);
	return can;
}

static bool can_vmwritev(void)
{
	uint8_t from = 1, to = 0;

	return write_process(getpid(), (uint64_t)(uintptr_t)&to, &from, 1) == 1;
}

/* Let a child trace the calling thread for as long as it takes to say so. It waits until it has been permitted to. */
static bool can_ptrace(void)
{
	int status = 1, go[2];
	pid_t us = own_tid(), child;
	uint8_t byte = 0;

	if (pipe2(go, O_CLOEXEC) < 0)
		return false;
	child = fork();
	if (child == 0) {
		close(go[1]); /* or our own copy would keep the read below from ending if the parent dies */
		_exit(read(go[0], &byte, 1) != 1 || ptrace(PTRACE_SEIZE, us, NULL, NULL) < 0);
	}
	if (child > 0)
		(void)prctl(PR_SET_PTRACER, child, 0, 0, 0); /* as in process.c */
	if (child > 0 && write(go[1], &byte, 1) == 1)
		while (waitpid(child, &status, 0) < 0 && errno == EINTR)
			;
	close(go[0]);
	close(go[1]);
	return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

uint64_t via_probe(void)
{
	return (can_procmem() ? XMC_FEATURE_PROCMEM : 0ull) | (can_vmwritev() ? XMC_FEATURE_VMWRITEV : 0ull) |
	       (can_ptrace() ? XMC_FEATURE_PTRACE : 0ull);
}
