/*
 * program.c - turn the plan's writer steps into micro steps, one program for each image to come.
 *
 * What a store must write around the bytes that it means to change depends on what stands there at that moment (a
 * trap, or its own first half). So the compiler plays every program once on a shadow of the region.
 */
#include "core.h"
#include <string.h>

#define SHADOW_BEFORE 16		/* a store may reach this far in front of the region, or behind it */

struct shadow {
	uint8_t bytes[SHADOW_BEFORE + XMC_IMAGE_BYTES_MAX + SHADOW_BEFORE];
};

struct range {
	uint64_t start;			/* offset from the region's first byte */
	uint32_t len;
};

static uint32_t width_for(uint32_t len)
{
	return len <= 1 ? 1 : len <= 2 ? 2 : len <= 4 ? 4 : 8;
}

/* The bytes that a part names. REST leaves the head out wherever the head is part of the patch. */
static struct range part_range(const struct xmc_plan *plan, uint32_t part)
{
	uint32_t front = plan->split ? plan->split : plan->patch_len / 2;
	struct range all = { plan->patch, plan->patch_len };

	/* Where traps are planted, all that may need storing includes the byte that they stand on. */
	if (part == XMC_PART_ALL && plan->trap_is_ours)
		return (struct range){ plan->head, plan->patch + plan->patch_len - plan->head };

	switch (part) {
	case XMC_PART_FIRST:
		return (struct range){ plan->head, xmc_arch_trap_len };
	case XMC_PART_REST:
		if (plan->head == plan->patch)
			return (struct range){ plan->patch + xmc_arch_trap_len, plan->patch_len - xmc_arch_trap_len };
		return all;
	case XMC_PART_FRONT:
		return (struct range){ plan->patch, front };
	case XMC_PART_BACK:
		return (struct range){ plan->patch + front, plan->patch_len - front };
	default:
		return all;
	}
}

static int emit(struct program *program, struct micro micro)
{
	if (program->n == XMC_MICRO_MAX)
		return -EINVAL;
	program->micro[program->n++] = micro;
	return 0;
}

/* One store instruction of `width` bytes at offset `at`, writing what the shadow says by then. */
static int emit_store(struct core *core, struct program *program, const struct shadow *shadow, int64_t at,
		      uint32_t width, uint32_t step)
{
	struct micro micro = { .op = XMC_STEP_STORE, .width = width, .step = step };

	if (at < -SHADOW_BEFORE || at + (int64_t)width > XMC_IMAGE_BYTES_MAX + SHADOW_BEFORE)
		return -EINVAL;
	micro.address = core->region.data + (uint64_t)at;
	memcpy(&micro.value, shadow->bytes + SHADOW_BEFORE + at, width);
	return emit(program, micro);
}

/* The smallest single store that covers `r`; kept inside an aligned 8 where `r` is inside one. */
static int emit_whole(struct core *core, struct program *program, const struct shadow *shadow, struct range r,
		      uint32_t step)
{
	uint32_t width = width_for(r.len);
	uint64_t in_qword = (core->region.data + r.start) & 7;
	int64_t at = (int64_t)r.start;

	if (r.len > 8)
		return -ENOTSUP;
	if (in_qword + r.len <= 8 && in_qword + width > 8)
		at -= (int64_t)(in_qword + width - 8);
	return emit_store(core, program, shadow, at, width, step);
}

static int emit_qword(struct core *core, struct program *program, const struct shadow *shadow, struct range r,
		      uint32_t step)
{
	uint64_t in_qword = (core->region.data + r.start) & 7;

	if (in_qword + r.len > 8)
		return -ENOTSUP;
	return emit_store(core, program, shadow, (int64_t)(r.start - in_qword), 8, step);
}

/* Two stores that meet at the straddle point: one ends there, the other begins there. */
static int emit_split(struct core *core, struct program *program, const struct shadow *shadow, struct range r,
		      uint32_t step, bool back_first)
{
	const struct xmc_plan *plan = core->plan;
	uint64_t point = plan->patch + (plan->split ? plan->split : plan->patch_len / 2);
	uint32_t front, back;
	int rc;

	if (point <= r.start || point >= r.start + r.len)
		return emit_whole(core, program, shadow, r, step);
	front = width_for((uint32_t)(point - r.start));
	back = width_for((uint32_t)(r.start + r.len - point));
	rc = back_first ? emit_store(core, program, shadow, (int64_t)point, back, step) : 0;
	if (!rc)
		rc = emit_store(core, program, shadow, (int64_t)point - front, front, step);
	return rc || back_first ? rc : emit_store(core, program, shadow, (int64_t)point, back, step);
}

static int emit_bytes(struct core *core, struct program *program, const struct shadow *shadow, struct range r,
		      uint32_t step)
{
	int rc = 0;

	for (uint32_t i = 0; i < r.len && !rc; i++)
		rc = emit_store(core, program, shadow, (int64_t)r.start + i, 1, step);
	return rc;
}

static int compile_store(struct core *core, struct program *program, struct shadow *shadow, uint32_t image,
			 uint32_t step)
{
	const struct xmc_plan *plan = core->plan;
	const struct xmc_step *s = &plan->steps[step];
	struct range r = part_range(plan, s->part);
	uint8_t *at = shadow->bytes + SHADOW_BEFORE + r.start;

	if (!r.len)
		return -EINVAL;
	if (s->value == XMC_VALUE_TRAP)
		memcpy(at, xmc_arch_trap, xmc_arch_trap_len);
	else
		memcpy(at, plan->images[image].bytes + r.start, r.len);
	if (plan->observe && image % XMC_WITNESS_STORES != XMC_WITNESS_REAL)
		return emit_split(core, program, shadow, r, step, image % XMC_WITNESS_STORES == XMC_WITNESS_BACK_FIRST);
	switch (plan->store) {
	case XMC_STORE_QWORD:
		return emit_qword(core, program, shadow, r, step);
	case XMC_STORE_BYTES:
		return emit_bytes(core, program, shadow, r, step);
	case XMC_STORE_SPLIT:
		return emit_split(core, program, shadow, r, step, false);
	default:
		return emit_whole(core, program, shadow, r, step);
	}
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
		rc = emit(program, (struct micro){ .op = s->op, .address = at, .step = step });
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
	memcpy(shadow.bytes, (const uint8_t *)(uintptr_t)core->region.data - SHADOW_BEFORE, sizeof(shadow.bytes));
	memcpy(shadow.bytes + SHADOW_BEFORE, from->bytes, plan->region_len);
	for (uint32_t i = 0; i < plan->n_steps && !rc; i++) {
		const struct xmc_step *s = &plan->steps[i];

		if (s->op == XMC_STEP_STORE)
			rc = compile_store(core, program, &shadow, image, i);
		else if (is_line_step(s->op))
			rc = compile_lines(core, program, s, i);
		else if (s->op < XMC_STEP_OPS)
			rc = emit(program, (struct micro){ .op = s->op, .width = s->part, .value = s->value, .step = i });
		else
			rc = -EINVAL;
	}
	/* A discipline that leaves something else than the image behind would be blamed on the CPU. */
	if (!rc && plan->n_steps && memcmp(shadow.bytes + SHADOW_BEFORE, plan->images[image].bytes, plan->region_len))
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
	int rc = 0;

	for (uint32_t i = 0; i < core->plan->n_images && !rc; i++)
		rc = compile_image(core, i);
	for (uint32_t i = 0; i < core->plan->n_provocations && !rc; i++)
		rc = compile_provocation(core, i);
	return rc;
}
