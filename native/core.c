/* core.c - the one run that a process can have at a time: take it, fill it, give it back. */
#include "core.h"
#include "publish.h"
#include "turns.h"
#include <sys/mman.h>
#include <unistd.h>

_Alignas(XMC_PAGE) struct core the_core;
static atomic_flag busy = ATOMIC_FLAG_INIT;

int core_take(void)
{
	return atomic_flag_test_and_set(&busy) ? -EBUSY : 0;
}

void core_give(void)
{
	atomic_flag_clear(&busy);
}

/* New, zeroed pages under the_core itself, which a forked writer will share. */
static int core_renew(void)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE | MAP_FIXED;

	return mmap(&the_core, sizeof(the_core), PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED ? -errno : 0;
}

/* Memory for the threads; touched here, so that no thread takes a page fault in its loop for the first time. */
int core_prepare(const struct xmc_plan *plan, const struct xmc_publish *publish, struct xmc_result *result)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE;
	void *executors, *alt;
	int rc = core_renew();

	if (rc)
		return rc;
	the_core.plan = plan;
	the_core.publish = publish;
	the_core.result = result;
	the_core.counts = via_process(plan->via) ? &the_core.remote : &result->writer;
	the_core.pid = getpid();
	turns_prepare(&the_core);
	the_core.mem_fd = -1;
	rc = region_map(&the_core.region, plan);
	if (rc)
		return rc;
	result->region_address = the_core.region.text;
	executors = mmap(NULL, plan->n_executors * sizeof(struct executor), PROT_READ | PROT_WRITE, flags, -1, 0);
	if (executors == MAP_FAILED)
		return -errno;
	the_core.executors = executors;
	alt = mmap(NULL, plan->n_executors * XMC_ALT_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (alt == MAP_FAILED)
		return -errno;
	the_core.alt_stacks = alt;
	for (uint32_t i = 0; i < plan->n_executors && !rc; i++) {
		struct executor *ex = &the_core.executors[i];

		ex->core = &the_core;
		ex->index = i;
		ex->out = &result->executors[i];
		rc = executor_prepare(ex);
	}
	if (!rc)
		rc = publish ? publish_prepare(&the_core) : program_compile(&the_core);
	return rc;
}

void core_release(void)
{
	if (the_core.executors)
		munmap(the_core.executors, the_core.plan->n_executors * sizeof(struct executor));
	if (the_core.alt_stacks)
		munmap(the_core.alt_stacks, the_core.plan->n_executors * XMC_ALT_BYTES);
	if (the_core.publish)
		publish_release(&the_core);
	region_unmap(&the_core.region);
	the_core.executors = NULL;
	the_core.alt_stacks = NULL;
}
