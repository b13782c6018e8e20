/* plan.c - the resolved plan of a record, as the core wants it. */
#include "agent.h"
#include <string.h>

/* Said for people, or for Python. */
static void ignore(struct reader *r, const struct json *value, void *at)
{
	(void)r, (void)value, (void)at;
}

static void read_image(struct reader *r, const struct json *value, void *at);
static void read_pad(struct reader *r, const struct json *value, void *at);

static void read_images(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = at;

	plan->n_images = read_array(r, value, XMC_IMAGES_MAX, sizeof(plan->images[0]), read_image, plan->images);
}

static void read_pads(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = at;

	plan->n_pads = read_array(r, value, XMC_PADS_MAX, sizeof(plan->pads[0]), read_pad, plan->pads);
}

/* All images are as long as the first. */
static void read_image_bytes(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = &job_of(r)->plan;
	struct xmc_image *image = at;
	uint32_t len = read_hex(r, value, image->bytes, XMC_IMAGE_BYTES_MAX);

	if (image == plan->images)
		plan->region_len = len;
	else if (len != plan->region_len)
		refuse(r, "has %u bytes; give %u, as many as the first image has", len, plan->region_len);
}

static void read_pad_bytes(struct reader *r, const struct json *value, void *at)
{
	struct xmc_pad *pad = at;

	pad->len = read_hex(r, value, pad->bytes, XMC_PAD_BYTES_MAX);
}

static void read_image(struct reader *r, const struct json *value, void *at)
{
	static const struct field fields[] = {
		FIELD_READ("bytes", read_image_bytes),
		FIELD(struct xmc_image, CODEC_U64, "returns", value),
		FIELD(struct xmc_image, CODEC_BOOL, "traps", traps),
		FIELDS_END,
	};

	read_fields(r, value, fields, at);
}

static void read_pad(struct reader *r, const struct json *value, void *at)
{
	static const struct field fields[] = {
		FIELD(struct xmc_pad, CODEC_I32, "offset", offset),
		FIELD_READ("bytes", read_pad_bytes),
		FIELDS_END,
	};

	read_fields(r, value, fields, at);
}

static void read_region(struct reader *r, const struct json *value, void *at)
{
	static const struct field fields[] = {
		FIELD_READ("images", read_images),
		FIELD_READ("pads", read_pads),
		FIELD(struct xmc_plan, CODEC_U32, "entry", entry),
		FIELD(struct xmc_plan, CODEC_U32, "head", head),
		FIELD_READ("trap_pc", ignore),
		FIELD(struct xmc_plan, CODEC_U32, "patch", patch),
		FIELD(struct xmc_plan, CODEC_U32, "patch_len", patch_len),
		FIELD(struct xmc_plan, CODEC_U32, "split", split),
		FIELD(struct xmc_plan, CODEC_I32, "place", place),
		FIELDS_END,
	};

	read_fields(r, value, fields, at);
}

static void read_until(struct reader *r, const struct json *value, void *at)
{
	((struct xmc_plan *)at)->until = read_bool(r, value) ? XMC_UNTIL_FIRST_EVENT : XMC_UNTIL_DEADLINE;
}

static void read_limits(struct reader *r, const struct json *value, void *at)
{
	static const struct field fields[] = {
		FIELD(struct xmc_plan, CODEC_SECONDS, "seconds", limit_ns),
		FIELD(struct xmc_plan, CODEC_U64, "executions", limit_executions),
		FIELD(struct xmc_plan, CODEC_U64, "patches", limit_patches),
		FIELD_READ("until_first_event", read_until),
		FIELDS_END,
	};

	read_fields(r, value, fields, at);
}

static void read_cpu(struct reader *r, const struct json *value, void *at)
{
	*(int32_t *)at = (int32_t)read_integer(r, value, 0, INT32_MAX);
}

static void read_executors(struct reader *r, const struct json *value, void *at)
{
	struct xmc_plan *plan = at;

	plan->n_executors = read_array(r, value, XMC_EXECUTORS_MAX, sizeof(plan->executor_cpu[0]), read_cpu,
				       plan->executor_cpu);
}

static void read_cpus(struct reader *r, const struct json *value, void *at)
{
	static const struct field fields[] = {
		FIELD(struct xmc_plan, CODEC_I32, "writer", writer_cpu),
		FIELD_READ("executors", read_executors),
		FIELDS_END,
	};

	read_fields(r, value, fields, at);
}

/* The bit of the provocation of that name. */
static void read_guess(struct reader *r, const struct json *value, void *at)
{
	uint32_t bit = 1, *mask = *(uint32_t **)at;
	const struct json *p = job_of(r)->provocations;

	for (p = p ? p->first : NULL; p; p = p->next, bit <<= 1) {
		const struct json *name = json_member(p, "name");

		if (value->type == JSON_STRING && name && name->text.len == value->text.len &&
		    !memcmp(name->text.at, value->text.at, value->text.len)) {
			*mask |= bit;
			return;
		}
	}
	refuse(r, "is none of the plan's provocations; give the name of one");
}

static void read_guesses(struct reader *r, const struct json *value, void *at)
{
	uint32_t *mask = &((struct xmc_publish *)at)->guesses;

	read_array(r, value, XMC_PROVOCATIONS_MAX, 0, read_guess, &mask);
}

static void read_guesses_flushed(struct reader *r, const struct json *value, void *at)
{
	uint32_t *mask = &((struct xmc_publish *)at)->guesses_flushed;

	read_array(r, value, XMC_PROVOCATIONS_MAX, 0, read_guess, &mask);
}

static void read_offset(struct reader *r, const struct json *value, void *at)
{
	*(uint32_t *)at = (uint32_t)read_integer(r, value, 0, UINT32_MAX);
}

static void read_body_fields(struct reader *r, const struct json *value, void *at)
{
	struct xmc_publish *publish = at;

	if (read_array(r, value, 2, sizeof(publish->fields[0]), read_offset, publish->fields) != 2)
		refuse(r, "does not fit; give two offsets");
}

static void read_publish(struct reader *r, const struct json *value, void *at)
{
	static const struct field fields[] = {
		FIELD_WORD(struct xmc_publish, "address", "address", address),
		FIELD_WORD(struct xmc_publish, "reach", "reach", reach),
		FIELD(struct xmc_publish, CODEC_U32, "slots", n_slots),
		FIELD_READ("fields", read_body_fields),
		FIELD(struct xmc_publish, CODEC_U32, "front", front),
		FIELD_WORD(struct xmc_publish, "fill_via", "via", fill_via),
		FIELD_READ("guesses", read_guesses),
		FIELD_READ("guesses_flushed", read_guesses_flushed),
		FIELDS_END,
	};
	struct job *job = job_of(r);

	(void)at;
	job->published = value->type != JSON_NULL;
	if (job->published)
		read_fields(r, value, fields, &job->publish);
}

/* In the publish shape these say how a body is filled, and the region holds only the branch that leads to it. */
static void read_via(struct reader *r, const struct json *value, void *at)
{
	((struct xmc_plan *)at)->via = job_of(r)->published ? XMC_VIA_ALIAS : read_word(r, value, "via");
}

static void read_store(struct reader *r, const struct json *value, void *at)
{
	((struct xmc_plan *)at)->store = job_of(r)->published ? XMC_STORE_WHOLE : read_word(r, value, "store");
}

static void read_pages(struct reader *r, const struct json *value, void *at)
{
	bool usual = value->type == JSON_STRING && piece_is(value->text, "4k");
	bool huge = value->type == JSON_STRING && piece_is(value->text, "2m");

	if (!usual && !huge)
		refuse(r, "is no size of pages; give \"4k\" or \"2m\"");
	((struct xmc_plan *)at)->huge_pages = huge;
}

void plan_read(struct reader *r, const struct json *plan, struct job *job)
{
	/* Provocations before what names them, and the shape before what it decides. */
	static const struct field fields[] = {
		FIELD_READ("cell", ignore),
		FIELD_READ("repeat", ignore),
		FIELD_READ("provocations", read_provocations),
		{ .name = "publish", .read = read_publish, .optional = true },
		FIELD_READ("region", read_region),
		FIELD_READ("via", read_via),
		FIELD_READ("store", read_store),
		FIELD(struct xmc_plan, CODEC_BOOL, "window", window),
		FIELD(struct xmc_plan, CODEC_BOOL, "traps", trap_is_ours),
		FIELD(struct xmc_plan, CODEC_BOOL, "faults", fault_is_ours),
		FIELD(struct xmc_plan, CODEC_BOOL, "guards", guard_is_ours),
		FIELD_READ("pages", read_pages),
		FIELD(struct xmc_plan, CODEC_BOOL, "observe", observe),
		FIELD_READ("writer", read_writer),
		FIELD_READ("executor", read_executor),
		FIELD_READ("cpus", read_cpus),
		FIELD_READ("limits", read_limits),
		FIELD(struct xmc_plan, CODEC_U64, "seed", seed),
		FIELD(struct xmc_plan, CODEC_U32, "pace_log2", pace_log2),
		FIELD(struct xmc_plan, CODEC_U32, "slice_us", slice_us),
		FIELD_READ("turns", read_turns),
		FIELD(struct xmc_plan, CODEC_U32, "hang_ms", hang_ms),
		FIELDS_END,
	};

	memset(job, 0, sizeof(*job));
	job->plan.abi = XMC_ABI;
	r->job = job;
	read_fields(r, plan, fields, &job->plan);
}
