/*
 * process.c - the writer as a process of its own: forked before the executors start, it runs the same compiled programs
 * on the same shared memory, and is killed with the process that it came from.
 */
#include "core.h"
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

int process_start(struct core *core)
{
	pid_t child = fork();

	if (child < 0)
		return -errno;
	if (child == 0) {
		/* Killed with the thread that forked us; if it died before it was asked for, there is no such thread. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != core->pid)
			_exit(1);
		writer_main(core);
		_exit(0);
	}
	core->child = child;
	/* Where Yama guards it a child may trace its parent only if that says so. Where it does not, this fails. */
	(void)prctl(PR_SET_PTRACER, child, 0, 0, 0);
	region_drop_alias(&core->region);
	return 0;
}

/* A writer that dies of a signal takes its process with it, as it would if it were a thread. */
static void follow(int status)
{
	if (WIFSIGNALED(status)) {
		signal(WTERMSIG(status), SIG_DFL);
		kill(getpid(), WTERMSIG(status));
	}
	if (!the_core.counts->error)
		the_core.counts->error = -ECHILD;
	atomic_store(&the_core.shared.stop, 1);
	atomic_store(&the_core.writer_gone, 1);
}

/* Copy what it counted to where the result is read, and see whether it still lives. */
void process_watch(struct core *core)
{
	int status;

	if (core->counts != &core->remote)
		return;
	core->result->writer = core->remote;
	if (!core->child || waitpid(core->child, &status, WNOHANG) != core->child)
		return;
	core->child = 0;
	if (!atomic_load_explicit(&core->writer_gone, memory_order_acquire))
		follow(status);
}

/* Reap it; `now`: kill it first. */
void process_end(struct core *core, bool now)
{
	if (core->child && now)
		kill(core->child, SIGKILL);
	while (core->child && waitpid(core->child, NULL, 0) < 0 && errno == EINTR)
		;
	core->child = 0;
	if (core->counts == &core->remote)
		core->result->writer = core->remote;
}
