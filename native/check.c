/* check.c - does a plan contradict itself? Whoever made it may be anyone: nothing past this point checks again. */
#include "core.h"

static int check_images(const struct xmc_plan *plan)
{
	uint32_t end = plan->patch + plan->patch_len;

	if (plan->n_images < 2 || plan->n_images > XMC_IMAGES_MAX || !plan->region_len || !plan->patch_len)
		return -EINVAL;
	if (plan->region_len > XMC_IMAGE_BYTES_MAX || end > plan->region_len || plan->head >= end ||
	    plan->entry >= plan->region_len || plan->split >= plan->patch_len)
		return -EINVAL;
	if (plan->guard_is_ours && plan->head + xmc_arch_guard_len > end)
		return -EINVAL;
	for (uint32_t i = 1; i < plan->n_images; i++)
		for (uint32_t at = 0; at < plan->region_len; at++)
			if ((at < plan->patch || at >= end) && plan->images[i].bytes[at] != plan->images[0].bytes[at])
				return -EINVAL;
	return 0;
}

/* Rights and mappings are those of the executors' memory map, which another process cannot change. */
static int check_via(const struct xmc_plan *plan)
{
	if (plan->via >= XMC_VIAS || (plan->huge_pages && plan->via != XMC_VIA_SAME))
		return -EINVAL;
	for (uint32_t i = 0; i < plan->n_steps; i++) {
		const struct xmc_step *step = &plan->steps[i];

		if (step->op == XMC_STEP_REMAP && plan->via != XMC_VIA_ALIAS)
			return -EINVAL;
		if (step->op == XMC_STEP_PROTECT && (via_process(plan->via) || step->part >= XMC_PROTECTS))
			return -EINVAL;
	}
	return 0;
}

static int check_provocations(const struct xmc_plan *plan)
{
	if (!plan->n_provocations || plan->n_provocations > XMC_PROVOCATIONS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < plan->n_provocations; i++) {
		const struct xmc_provocation *p = &plan->provocations[i];

		if (p->n_writer > 4 || p->n_executor > 4 || p->antagonist >= XMC_ANTAGONISTS ||
		    (p->antagonist && p->antagonist_cpu < 0))
			return -EINVAL;
	}
	return 0;
}

static int check_turns(const struct xmc_plan *plan)
{
	if (plan->n_turns > XMC_TURNS_MAX || (plan->n_turns && !plan->slice_us))
		return -EINVAL;
	for (uint32_t i = 0; i < plan->n_turns; i++) {
		const struct xmc_turn *turn = &plan->turns[i];

		if (turn->provocation >= plan->n_provocations || turn->pace_log2 > 40 || !turn->executors ||
		    turn->executors > plan->n_executors)
			return -EINVAL;
	}
	return 0;
}

int plan_check(const struct xmc_plan *plan)
{
	if (plan->abi != XMC_ABI || check_images(plan))
		return -EINVAL;
	if (plan->place < -4096 - XMC_IMAGE_BYTES_MAX || plan->place > 4096 || plan->n_pads > XMC_PADS_MAX)
		return -EINVAL;
	for (uint32_t i = 0; i < plan->n_pads; i++)
		if (plan->pads[i].len > XMC_PAD_BYTES_MAX || plan->pads[i].offset <= -XMC_PAD_REACH ||
		    plan->pads[i].offset >= XMC_PAD_REACH)
			return -EINVAL;
	if (plan->n_steps > XMC_STEPS_MAX || plan->n_exec_steps > XMC_STEPS_MAX)
		return -EINVAL;
	if (check_via(plan) || check_provocations(plan) || check_turns(plan))
		return -EINVAL;
	if (!plan->n_executors || plan->n_executors > XMC_EXECUTORS_MAX || plan->pace_log2 > 40)
		return -EINVAL;
	return plan->limit_ns || plan->limit_executions || plan->limit_patches ? 0 : -EINVAL;
}
