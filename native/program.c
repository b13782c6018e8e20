/*
 * program.c - turn the plan's writer steps into micro steps, one program for each image to come.
 *
 * What a store must write around the bytes that it means to change depends on what stands there at that moment (a
 * trap, or its own first half). So the compiler plays every program once on a shadow of the region.
 */
#include "core.h"
#include <string.h>

struct shadow {
	uint8_t bytes[XMC_SHADOW_MARGIN + XMC_IMAGE_BYTES_MAX + XMC_SHADOW_MARGIN];
};

/* How many bytes the steps put over the head: a guard's or a trap's. */
static uint32_t head_len(const struct xmc_plan *plan)
{
	return plan->guard_is_ours ? xmc_arch_guard_len : xmc_arch_trap_len;
}

/* The patched bytes behind the head; none where the head lies behind other patched bytes. */
static struct range rest_of(const struct xmc_plan *plan)
{
	uint32_t end = plan->patch + plan->patch_len, behind = plan->head + head_len(plan);
	uint32_t start = behind > plan->patch ? behind : plan->patch;

	return (struct range){ start, plan->head > plan->patch || start > end ? 0 : end - start };
}

/* The bytes that a part names. REST leaves the head out wherever the head is part of the patch. */
static struct range part_range(const struct xmc_plan *plan, uint32_t part)
{
	uint32_t front = plan->split ? plan->split : plan->patch_len / 2;
	struct range all = { plan->patch, plan->patch_len };

	/* Where traps or guards are planted, all that may need storing includes the bytes that they stand on. */
	if (part == XMC_PART_ALL && (plan->trap_is_ours || plan->guard_is_ours) && plan->head < plan->patch)
		return (struct range){ plan->head, plan->patch + plan->patch_len - plan->head };

	switch (part) {
	case XMC_PART_FIRST:
		return (struct range){ plan->head, head_len(plan) };
	case XMC_PART_REST:
		return rest_of(plan);
	case XMC_PART_FRONT:
		return (struct range){ plan->patch, front };
	case XMC_PART_BACK:
		return (struct range){ plan->patch + front, plan->patch_len - front };
	default:
		return all;
	}
}

int program_emit(struct program *program, struct micro micro)
{
	if (program->n == XMC_MICRO_MAX)
		return -EINVAL;
	program->micro[program->n++] = micro;
	return 0;
}

static int compile_store(struct core *core, struct program *program, struct shadow *shadow, uint32_t image,
                         uint32_t step)
{
	const struct xmc_plan *plan = core->plan;
	const struct xmc_step *s = &plan->steps[step];
	struct range r = part_range(plan, s->part);
	uint8_t *at = shadow->bytes + XMC_SHADOW_MARGIN + r.start;
	struct shadow before = *shadow;
	struct store_job job = {
		.plan = plan,
		.program = program,
		.shadow = shadow->bytes + XMC_SHADOW_MARGIN,
		.before = before.bytes + XMC_SHADOW_MARGIN,
		.data = core->region.data,
		.step = step,
	};

	if (!r.len || (s->value == XMC_VALUE_GUARD && r.len < xmc_arch_guard_len))
		return -EINVAL;
	if (s->value == XMC_VALUE_TRAP)
		memcpy(at, xmc_arch_trap, xmc_arch_trap_len);
	else if (s->value == XMC_VALUE_GUARD)
		memcpy(at, xmc_arch_guard, xmc_arch_guard_len);
	else
		memcpy(at, plan->images[image].bytes + r.start, r.len);
	if (plan->observe && image % XMC_WITNESS_STORES != XMC_WITNESS_REAL)
		return store_compile_split(&job, r, image % XMC_WITNESS_STORES == XMC_WITNESS_BACK_FIRST);
	return store_compile(&job, plan->store, r);
}

static bool is_line_step(uint32_t op)
{
	return op == XMC_STEP_FLUSH || op == XMC_STEP_OWN || op == XMC_STEP_SHARE;
}

/* One micro step for each line that the part touches. */
static int compile_lines(struct core *core, struct program *program, const struct xmc_step *s, uint32_t step)
{
	struct range r = part_range(core->plan, s->part);
	uint64_t first = (core->region.data + r.start) & ~(XMC_ARCH_LINE - 1);
	int rc = r.len ? 0 : -EINVAL;

	for (uint64_t at = first; at < core->region.data + r.start + r.len && !rc; at += XMC_ARCH_LINE)
		rc = program_emit(program, (struct micro){ .op = s->op, .address = at, .step = step });
	return rc;
}

static int compile_image(struct core *core, uint32_t image)
{
	const struct xmc_plan *plan = core->plan;
	const struct xmc_image *from = &plan->images[(image + plan->n_images - 1) % plan->n_images];
	struct program *program = &core->programs[image];
	struct shadow shadow;
	int rc = 0;

	/* The neighbourhood is read from memory: the same on both sides of every patch. */
	memcpy(shadow.bytes, (const uint8_t *)(uintptr_t)core->region.data - XMC_SHADOW_MARGIN, sizeof(shadow.bytes));
	memcpy(shadow.bytes + XMC_SHADOW_MARGIN, from->bytes, plan->region_len);
	for (uint32_t i = 0; i < plan->n_steps && !rc; i++) {
		const struct xmc_step *s = &plan->steps[i];

		if (s->op == XMC_STEP_STORE)
			rc = compile_store(core, program, &shadow, image, i);
		else if (is_line_step(s->op))
			rc = compile_lines(core, program, s, i);
		else if (s->op < XMC_STEP_OPS)
			rc = program_emit(
				program, (struct micro){ .op = s->op, .width = s->part, .value = s->value, .step = i });
		else
			rc = -EINVAL;
	}
	/* A discipline that leaves something else than the image behind would be blamed on the CPU. */
	if (!rc && plan->n_steps &&
	    memcmp(shadow.bytes + XMC_SHADOW_MARGIN, plan->images[image].bytes, plan->region_len))
		rc = -EINVAL;
	return rc;
}

static int compile_provocation(struct core *core, uint32_t index)
{
	const struct xmc_provocation *provocation = &core->plan->provocations[index];
	int rc = 0;

	for (uint32_t i = 0; i < provocation->n_writer && !rc; i++)
		rc = is_line_step(provocation->writer[i].op) ?
			     compile_lines(core, &core->provoke[index], &provocation->writer[i], i) :
			     -EINVAL;
	return rc;
}

int program_compile(struct core *core)
{
	int rc = xmc_arch_has_store(core->plan->store) ? 0 : -ENOTSUP;

	for (uint32_t i = 0; i < core->plan->n_images && !rc; i++)
		rc = compile_image(core, i);
	for (uint32_t i = 0; i < core->plan->n_provocations && !rc; i++)
		rc = compile_provocation(core, i);
	return rc;
}
