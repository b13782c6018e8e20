/*
 * export.c - the patches of a plan as they are compiled here, for whoever runs or explains them elsewhere: the
 * one-file reproducer, and the page about an event.
 */
#include "core.h"
#include <string.h>

/* Whether `op` acts on an address of the region. */
static bool has_address(uint32_t op)
{
	return op == XMC_STEP_STORE || op == XMC_STEP_FLUSH || op == XMC_STEP_OWN || op == XMC_STEP_SHARE;
}

static struct xmc_micro told(const struct micro *m, uint32_t program)
{
	struct xmc_micro told = { .program = program, .op = m->op,     .width = m->width,
		                  .form = m->form,    .step = m->step, .value = m->value };

	if (has_address(m->op))
		told.offset = (int64_t)(m->address - the_core.region.data);
	if (m->form) {
		told.operand_bytes = m->form == XMC_STORE_CMPXCHG16B ? 2 * m->width : m->width;
		told.value = 0;
		memcpy(told.operand, (const void *)(uintptr_t)m->value, told.operand_bytes);
	}
	return told;
}

static int tell(const struct program *program, uint32_t index, uint32_t n, struct xmc_micro *out, int used)
{
	for (uint32_t i = 0; i < program->n; i++, used++) {
		if ((uint32_t)used == n)
			return -ENOSPC;
		out[used] = told(&program->micro[i], index);
	}
	return used;
}

int xmc_compile(const struct xmc_plan *plan, uint32_t n, struct xmc_micro *out)
{
	static struct xmc_result result;
	int rc = plan_check(plan);

	if (rc)
		return rc;
	rc = core_take();
	if (rc)
		return rc;
	rc = core_prepare(plan, NULL, &result);
	for (uint32_t i = 0; i < plan->n_images && rc >= 0; i++)
		rc = tell(&the_core.programs[i], i, n, out, rc);
	for (uint32_t i = 0; i < plan->n_provocations && rc >= 0; i++)
		rc = tell(&the_core.provoke[i], plan->n_images + i, n, out, rc);
	core_release();
	core_give();
	return rc;
}
