/*
 * stores.c - one store step as the stores of the plan's style: which instructions, where, of what width.
 *
 * A store that covers more than its part writes what the shadow says stands there: nothing changes but the part.
 */
#include "core.h"
#include <string.h>

static uint32_t width_for(uint32_t len)
{
	return len <= 1 ? 1 : len <= 2 ? 2 : len <= 4 ? 4 : 8;
}

/* Where a store of `width` bytes that covers `r` begins: inside one aligned block of `block` bytes where `r` is. */
static int64_t place_store(const struct store_job *job, struct range r, uint32_t width, uint32_t block)
{
	uint64_t in_block = (job->data + r.start) & (block - 1);
	uint64_t beyond = in_block + width > block ? in_block + width - block : 0;

	return (int64_t)r.start - (in_block + r.len <= block ? (int64_t)beyond : 0);
}

static bool is_inside(const struct store_job *job, struct range r, uint32_t block)
{
	return ((job->data + r.start) & (block - 1)) + r.len <= block;
}

static bool is_in_shadow(int64_t at, uint32_t width)
{
	return at >= -XMC_SHADOW_MARGIN && at + (int64_t)width <= XMC_IMAGE_BYTES_MAX + XMC_SHADOW_MARGIN;
}

/* One plain store of `width` bytes at offset `at`. */
static int emit_plain(const struct store_job *job, int64_t at, uint32_t width)
{
	struct micro micro = { .op = XMC_STEP_STORE, .width = width, .step = job->step };

	if (!is_in_shadow(at, width))
		return -EINVAL;
	micro.address = job->data + (uint64_t)at;
	memcpy(&micro.value, job->shadow + at, width);
	return program_emit(job->program, micro);
}

/* One store of a form of its own; its operand is the bytes to come and, for whom it may concern, those before them. */
static int emit_form(const struct store_job *job, uint32_t form, int64_t at, uint32_t width)
{
	struct program *program = job->program;
	uint8_t *operand = program->operands + program->operand_bytes;
	uint32_t bytes = form == XMC_STORE_CMPXCHG16B ? 2 * width : width;
	struct micro micro = { .op = XMC_STEP_STORE, .width = width, .step = job->step, .form = form };

	if (!is_in_shadow(at, width) || program->operand_bytes + bytes > XMC_OPERAND_BYTES)
		return -EINVAL;
	program->operand_bytes += bytes;
	memcpy(operand, job->shadow + at, width);
	if (bytes > width)
		memcpy(operand + width, job->before + at, width);
	micro.address = job->data + (uint64_t)at;
	micro.value = (uint64_t)(uintptr_t)operand;
	return program_emit(program, micro);
}

static int emit_sse16(const struct store_job *job, struct range r)
{
	return r.len > 16 ? -ENOTSUP : emit_form(job, XMC_STORE_SSE16, place_store(job, r, 16, 16), 16);
}

static int emit_avx32(const struct store_job *job, struct range r)
{
	if (r.len > 32 || !xmc_arch_has_store(XMC_STORE_AVX32))
		return -ENOTSUP;
	return emit_form(job, XMC_STORE_AVX32, place_store(job, r, 32, 32), 32);
}

static int emit_whole(const struct store_job *job, struct range r)
{
	uint32_t width = width_for(r.len);

	if (r.len > 16)
		return emit_avx32(job, r);
	return r.len > 8 ? emit_sse16(job, r) : emit_plain(job, place_store(job, r, width, 8), width);
}

static int emit_qword(const struct store_job *job, struct range r)
{
	return is_inside(job, r, 8) ? emit_plain(job, place_store(job, r, 8, 8), 8) : -ENOTSUP;
}

static int emit_bytes(const struct store_job *job, struct range r)
{
	int rc = 0;

	for (uint32_t i = 0; i < r.len && !rc; i++)
		rc = emit_plain(job, (int64_t)r.start + i, 1);
	return rc;
}

static int emit_reversed(const struct store_job *job, struct range r)
{
	int rc = 0;

	for (uint32_t i = r.len; i > 0 && !rc; i--)
		rc = emit_plain(job, (int64_t)r.start + i - 1, 1);
	return rc;
}

static int emit_cmpxchg16b(const struct store_job *job, struct range r)
{
	return is_inside(job, r, 16) ? emit_form(job, XMC_STORE_CMPXCHG16B, place_store(job, r, 16, 16), 16) : -ENOTSUP;
}

static int emit_movsb(const struct store_job *job, struct range r)
{
	return emit_form(job, XMC_STORE_MOVSB, (int64_t)r.start, r.len);
}

static int emit_nt(const struct store_job *job, struct range r)
{
	uint32_t width = r.len <= 4 ? 4 : 8;

	return r.len > 8 ? -ENOTSUP : emit_form(job, XMC_STORE_NT, place_store(job, r, width, 8), width);
}

/* Plain stores that cover `r`: one where one can, else ascending ones of 8. None reaches past the anchored end. */
static int emit_run(const struct store_job *job, struct range r, bool anchored_at_end)
{
	uint32_t width = width_for(r.len);
	int64_t end = (int64_t)r.start + r.len;
	int rc = 0;

	if (r.len <= 8)
		return emit_plain(job, anchored_at_end ? end - width : (int64_t)r.start, width);
	for (int64_t at = (int64_t)r.start; at < end && !rc; at += 8)
		rc = emit_plain(job, at + 8 <= end ? at : end - 8, 8);
	return rc;
}

/* Two runs that meet at the straddle point: one ends there, the other begins there. */
int store_compile_split(const struct store_job *job, struct range r, bool back_first)
{
	const struct xmc_plan *plan = job->plan;
	uint64_t point = plan->patch + (plan->split ? plan->split : plan->patch_len / 2), end = r.start + r.len;
	struct range front = { r.start, (uint32_t)(point - r.start) }, back = { point, (uint32_t)(end - point) };
	int rc = 0;

	if (point <= r.start || point >= end)
		return r.len <= 8 ? emit_whole(job, r) : emit_run(job, r, point >= end);
	if (back_first)
		rc = emit_run(job, back, false);
	if (!rc)
		rc = emit_run(job, front, true);
	return rc || back_first ? rc : emit_run(job, back, false);
}

static int emit_split(const struct store_job *job, struct range r)
{
	return store_compile_split(job, r, false);
}

static int (*const emitters[XMC_STORES])(const struct store_job *job, struct range r) = {
	[XMC_STORE_WHOLE] = emit_whole, [XMC_STORE_QWORD] = emit_qword,           [XMC_STORE_BYTES] = emit_bytes,
	[XMC_STORE_SPLIT] = emit_split, [XMC_STORE_REVERSED] = emit_reversed,     [XMC_STORE_SSE16] = emit_sse16,
	[XMC_STORE_AVX32] = emit_avx32, [XMC_STORE_CMPXCHG16B] = emit_cmpxchg16b, [XMC_STORE_MOVSB] = emit_movsb,
	[XMC_STORE_NT] = emit_nt,
};

int store_compile(const struct store_job *job, uint32_t store, struct range r)
{
	return emitters[store](job, r);
}
