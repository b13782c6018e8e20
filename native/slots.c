/* slots.c - the slots of the publish shape: where they lie, what fills them, and what makes them new again. */
#include "publish.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOT_BYTES (2 * XMC_ARCH_LINE)	/* a body begins in the first line and ends in the second */
#define APART 0x100000ull		/* between the region's window and the slots */

struct slots the_slots;

uint64_t slot_text(uint64_t generation)
{
	return (uint64_t)(uintptr_t)the_slots.base + (generation & the_slots.mask) * the_slots.stride + the_slots.body_at;
}

uint64_t slot_page(uint64_t generation)
{
	return slot_text(generation) & ~(XMC_PAGE - 1);
}

uint64_t slot_offset(uint64_t generation)
{
	if (!the_slots.paged)
		return slot_text(generation) - (uint64_t)(uintptr_t)the_slots.base;
	return generation % the_slots.frames * XMC_PAGE + (slot_text(generation) & (XMC_PAGE - 1));
}

/* Populated: the translation is there when the call returns, and no executor takes a page fault to get it. */
int slot_map(uint64_t generation, int prot)
{
	off_t offset = (off_t)(slot_offset(generation) & ~(XMC_PAGE - 1));
	void *page = (void *)(uintptr_t)slot_page(generation);
	const int flags = MAP_SHARED | MAP_FIXED | MAP_POPULATE;

	return mmap(page, XMC_PAGE, prot, flags, the_slots.fd, offset) == MAP_FAILED ? -errno : 0;
}

/* The pages of generations first..last, which lie in one run, become desert again. */
int slots_unmap(uint64_t first, uint64_t last)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
	uint64_t bytes = slot_page(last) + XMC_PAGE - slot_page(first);

	return mmap((void *)(uintptr_t)slot_page(first), bytes, PROT_NONE, flags, -1, 0) == MAP_FAILED ? -errno : 0;
}

/*
 * The fields hold a and b; the body returns a xor b, which is the generation and its complement. The hashes make a
 * mixture of two generations' fields, or of a field's halves, satisfy that by a chance of 2^-32 only.
 */
uint64_t second_field(uint64_t generation)
{
	uint32_t g = (uint32_t)generation, low = (g + 1) * 0x9e3779b1u, high = (g ^ 0x5bd1e995u) * 0x85ebca6bu;

	return low | (uint64_t)high << 32;
}

static void encode(uint8_t *body, const uint32_t *fields, uint64_t generation)
{
	uint64_t b = second_field(generation), a = b ^ code_of(generation);

	memcpy(body + fields[0], &a, 8);
	memcpy(body + fields[1], &b, 8);
}

void body_store(const struct core *core, uint64_t at, uint64_t generation, uint32_t part)
{
	const struct xmc_publish *publish = core->publish;
	uint32_t from = part == XMC_PART_BACK ? publish->front : 0;
	uint32_t to = part == XMC_PART_FRONT ? publish->front : core->plan->region_len;
	uint8_t body[XMC_IMAGE_BYTES_MAX + 8];

	memset(body, xmc_arch_trap[0], sizeof(body));
	memcpy(body, core->plan->images[0].bytes, core->plan->region_len);
	encode(body, publish->fields, generation);
	for (uint32_t i = from; i < to; i += 8) {
		uint64_t word;

		memcpy(&word, body + i, 8);
		xmc_arch_store(at + i, word, 8);
	}
	xmc_arch_sync_range(at, core->plan->region_len);
}

int publish_check(const struct xmc_plan *plan, const struct xmc_publish *publish)
{
	uint32_t end = plan->region_len;

	if (publish->n_steps > XMC_STEPS_MAX || !publish->n_steps || !plan->window || plan->observe)
		return -EINVAL;
	if (end < 8 || publish->fields[0] > end - 8 || publish->fields[1] > end - 8)
		return -EINVAL;
	if (!publish->front || publish->front % 8 || publish->front > XMC_ARCH_LINE || publish->front >= end ||
	    end - publish->front > XMC_ARCH_LINE - 8)
		return -EINVAL;
	if (!publish->n_slots || publish->n_slots & (publish->n_slots - 1) || publish->n_slots > 1u << 18)
		return -EINVAL;
	if (publish->address != XMC_ADDRESS_REUSED && publish->n_slots < 4 * XMC_BLOCK)
		return -EINVAL;
	return 0;
}

static bool has_step(const struct xmc_publish *publish, uint32_t op)
{
	for (uint32_t i = 0; i < publish->n_steps; i++)
		if (publish->steps[i].op == op)
			return true;
	return false;
}

static void shape_slots(const struct core *core)
{
	const struct xmc_publish *publish = core->publish;
	struct slots *a = &the_slots;

	a->paged = has_step(publish, XMC_PUB_MAP);
	/* A stride of a page and two lines spreads the bodies over the cache's sets, each alone on its page all the same. */
	a->stride = a->paged ? XMC_PAGE + SLOT_BYTES : SLOT_BYTES;
	a->mask = publish->n_slots - 1;
	a->bytes = (publish->n_slots * a->stride + XMC_PAGE - 1) & ~(XMC_PAGE - 1);
	/* Four for each address that is mapped over: who keeps an old translation finds old code, not what comes next. */
	a->frames = publish->address == XMC_ADDRESS_REUSED ? 4 * publish->n_slots : XMC_FRAMES;
	a->file_bytes = a->paged ? a->frames * XMC_PAGE : a->bytes;
	a->body_at = XMC_ARCH_LINE - publish->front;
	a->base = core->region.window + core->region.window_bytes + APART;
}

static uint8_t *map_file(int prot)
{
	void *p = mmap(NULL, the_slots.file_bytes, prot, MAP_SHARED | MAP_POPULATE, the_slots.fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* What a page holds before anything is filled in; then generation 0, reachable. */
static int fill_slots(struct core *core, uint8_t *writable)
{
	const int rx = PROT_READ | PROT_EXEC;
	uint64_t text = core->region.text;
	int rc = 0;

	/* A page that nobody has used holds zeros; a pack is full of breakpoints. */
	memset(writable, core->publish->address == XMC_ADDRESS_FRESH ? 0 : xmc_arch_trap[0], the_slots.file_bytes);
	body_store(core, (uint64_t)(uintptr_t)writable + slot_offset(0), 0, XMC_PART_ALL);
	if (core->publish->reach == XMC_REACH_BRANCH)
		xmc_arch_store(core->region.data, xmc_arch_jump(text, slot_text(0)), 8);
	if (the_slots.paged)
		rc = slot_map(0, rx);
	else if (mmap(the_slots.base, the_slots.bytes, rx, MAP_SHARED | MAP_FIXED | MAP_POPULATE, the_slots.fd, 0) ==
		 MAP_FAILED)
		rc = -errno;
	return rc;
}

int publish_prepare(struct core *core)
{
	const struct xmc_publish *publish = core->publish;
	uint8_t *writable;
	int rc;

	the_slots = (struct slots){ .fd = memory_file() };
	if (the_slots.fd < 0)
		return the_slots.fd;
	shape_slots(core);
	if (ftruncate(the_slots.fd, (off_t)the_slots.file_bytes) < 0)
		return -errno;
	the_slots.view = map_file(PROT_READ);
	writable = map_file(PROT_READ | PROT_WRITE);
	if (!the_slots.view || !writable)
		return -ENOMEM;
	the_slots.alias = writable;
	rc = fill_slots(core, writable);
	if (!rc && publish->fill_via == XMC_FILL_PROCESS)
		rc = helper_start(core);
	/* Where the point is that nobody here can write it, nobody here may. */
	if (has_step(publish, XMC_PUB_ALIAS) || (publish->fill_via == XMC_FILL_PROCESS && the_slots.paged)) {
		munmap(the_slots.alias, the_slots.file_bytes);
		the_slots.alias = NULL;
	}
	for (uint32_t i = 0; i < core->plan->n_executors && !rc; i++) {
		struct xmc_frame *f = &core->executors[i].frame;

		f->base = slot_text(0);
		f->mask = the_slots.mask;
		f->stride = the_slots.stride;
		f->adopted = (uint64_t)(uintptr_t)&core->executors[i].adopted;
		f->random = core->plan->seed + i;
		f->expect = code_of(0);
	}
	return rc;
}

void publish_release(struct core *core)
{
	(void)core;
	helper_end();
	if (the_slots.alias)
		munmap(the_slots.alias, the_slots.file_bytes);
	if (the_slots.view)
		munmap(the_slots.view, the_slots.file_bytes);
	if (the_slots.temporary)
		munmap(the_slots.temporary, XMC_PAGE);
	if (the_slots.fd > 0)
		close(the_slots.fd);
	the_slots = (struct slots){ 0 };
}
