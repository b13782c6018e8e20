/* publish.c - the writer of the publish shape: make a slot new, fill it, make it reachable; in steps. */
#include "publish.h"
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SYNC_CORE 32			/* MEMBARRIER_CMD_PRIVATE_EXPEDITED_SYNC_CORE: the kernel's ABI */

static int membarrier(uint32_t command)
{
	return syscall(SYS_membarrier, command, 0, 0) < 0 ? -errno : 0;
}

int publish_register(const struct xmc_publish *publish)
{
	int rc = publish->address == XMC_ADDRESS_REUSED ? 0 : membarrier(SYNC_CORE << 1);

	for (uint32_t i = 0; i < publish->n_steps && !rc; i++)
		if (publish->steps[i].op == XMC_PUB_MEMBARRIER && publish->steps[i].part > 1)
			rc = membarrier(publish->steps[i].part << 1);
	return rc;
}

/*
 * Wait until every executor has acquired a generation younger than `generation`. Acquire pairs with the executor's
 * store of `adopted` (loops.S): whatever it executed of older generations was executed before, so our stores to their
 * slots come after.
 */
static int drain(struct core *core, uint64_t generation)
{
	for (uint32_t i = 0; i < core->plan->n_executors; i++)
		while (atomic_load_explicit(&core->executors[i].adopted, memory_order_acquire) <= generation) {
			if (run_stopping(core))
				return -EINTR;
			xmc_arch_relax();
		}
	return 0;
}

/* A block of packed slots is full of breakpoints again, and everyone has serialized since. */
static int renew_int3(struct core *core, uint64_t generation)
{
	uint64_t last = generation + XMC_BLOCK - 1 - core->publish->n_slots;
	uint8_t *slots = the_slots.alias + (generation & the_slots.mask) * the_slots.stride;
	int rc = drain(core, last);

	if (rc)
		return rc;
	memset(slots, xmc_arch_trap[0], XMC_BLOCK * the_slots.stride);
	return membarrier(SYNC_CORE);
}

/*
 * Addresses whose frames are needed again become desert; when the ring of addresses begins anew everyone serializes,
 * because only then an address counts as never executed. Rarely, and many at a time: the shootdown interrupts and so
 * serializes every executor, which must not happen around each publication.
 */
static int renew_fresh(struct core *core, uint64_t generation)
{
	uint64_t last = generation - XMC_FRAMES + XMC_BLOCK - 1;
	int rc = drain(core, last);

	if (!rc)
		rc = slots_unmap(generation - XMC_FRAMES, last);
	return rc || generation & the_slots.mask ? rc : membarrier(SYNC_CORE);
}

static int renew(struct core *core, uint64_t generation)
{
	uint32_t address = core->publish->address;

	if (generation % XMC_BLOCK)
		return 0;
	if (address == XMC_ADDRESS_INT3 && generation >= core->publish->n_slots)
		return renew_int3(core, generation);
	if (address == XMC_ADDRESS_FRESH && generation >= XMC_FRAMES)
		return renew_fresh(core, generation);
	return 0;
}

static int make_alias(uint64_t generation)
{
	off_t offset = (off_t)(slot_offset(generation) & ~(XMC_PAGE - 1));
	void *p = mmap(NULL, XMC_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, the_slots.fd, offset);

	if (p == MAP_FAILED)
		return -errno;
	the_slots.temporary = p;
	return 0;
}

static int drop_alias(void)
{
	void *p = the_slots.temporary;

	the_slots.temporary = NULL;
	return p && munmap(p, XMC_PAGE) < 0 ? -errno : 0;
}

static int fill_slot(struct core *core, uint64_t generation, uint32_t part)
{
	uint64_t offset = slot_offset(generation);

	if (core->publish->fill_via == XMC_FILL_PROCESS)
		return helper_fill(core, generation, part);
	if (core->publish->fill_via == XMC_FILL_SAME)
		body_store(core, slot_text(generation), generation, part);
	else if (the_slots.temporary)
		body_store(core, (uint64_t)(uintptr_t)the_slots.temporary + offset % XMC_PAGE, generation, part);
	else if (the_slots.alias)
		body_store(core, (uint64_t)(uintptr_t)the_slots.alias + offset, generation, part);
	else
		return -EINVAL;
	return 0;
}

static const int slot_rights[] = {
	[XMC_RIGHTS_RX] = PROT_READ | PROT_EXEC,
	[XMC_RIGHTS_RW] = PROT_READ | PROT_WRITE,
	[XMC_RIGHTS_RWX] = PROT_READ | PROT_WRITE | PROT_EXEC,
};

/* The steps that change or need mappings; each is a system call. */
static int run_mapping_step(const struct xmc_step *s, uint64_t generation)
{
	switch (s->op) {
	case XMC_PUB_ALIAS:
		return make_alias(generation);
	case XMC_PUB_DROP_ALIAS:
		return drop_alias();
	case XMC_PUB_MAP:
		return slot_map(generation, slot_rights[s->value]);
	case XMC_PUB_PROTECT:
		return mprotect((void *)(uintptr_t)slot_page(generation), XMC_PAGE, slot_rights[s->value]) ? -errno : 0;
	case XMC_PUB_UNMAP:
		return slots_unmap(generation, generation);
	default:
		return -EINVAL;
	}
}

static int run_step(struct core *core, const struct xmc_step *s, uint64_t generation)
{
	switch (s->op) {
	case XMC_PUB_FILL:
		return fill_slot(core, generation, s->part);
	case XMC_PUB_MFENCE:
		xmc_arch_mfence();
		return 0;
	case XMC_PUB_SFENCE:
		xmc_arch_sfence();
		return 0;
	case XMC_PUB_LFENCE:
		xmc_arch_lfence();
		return 0;
	case XMC_PUB_SERIALIZE:
		xmc_arch_serialize();
		return 0;
	case XMC_PUB_MEMBARRIER:
		return membarrier(s->part);
	case XMC_PUB_MEET:
		return generation < 2 ? 0 : drain(core, generation - 2);
	case XMC_PUB_DRAIN:
		return generation < core->publish->n_slots ? 0 : drain(core, generation - core->publish->n_slots);
	case XMC_PUB_BRANCH:
		/* One aligned store, in program order behind the body's: the whole of the discipline (APM 7.6.1). */
		xmc_arch_store(core->region.data, xmc_arch_jump(core->region.text, slot_text(generation)), 8);
		return 0;
	case XMC_PUB_PUBLISH:
		step_publish(core, NULL, generation);
		return 0;
	case XMC_PUB_DELAY:
		run_spin(core, s->value);
		return 0;
	case XMC_PUB_AWAIT:
		return step_await(core, &(struct micro){ .value = s->value }, generation);
	default:
		return run_mapping_step(s, generation);
	}
}

static void touch_line(uint32_t op, uint64_t address)
{
	if (op == XMC_STEP_FLUSH)
		xmc_arch_flush(address);
	else if (op == XMC_STEP_OWN)
		xmc_arch_own(address);
	else
		(void)*(volatile uint8_t *)(uintptr_t)address;	/* volatile: the read is the step */
}

/* Where the lines that are about to be filled can be touched. */
static uint64_t slot_head(uint64_t generation)
{
	const uint8_t *slots = the_slots.alias ? the_slots.alias : the_slots.view;

	return (uint64_t)(uintptr_t)slots + slot_offset(generation);
}

/* What the provocation does to the lines that are about to be filled: the head's, the tail's, or both. */
static void provoke(const struct core *core, uint64_t generation, uint32_t provocation)
{
	const struct xmc_provocation *p = &core->plan->provocations[provocation];
	uint64_t head = slot_head(generation);

	for (uint32_t i = 0; i < p->n_writer; i++) {
		if (p->writer[i].part != XMC_PART_BACK)
			touch_line(p->writer[i].op, head);
		if (p->writer[i].part != XMC_PART_FIRST && p->writer[i].part != XMC_PART_FRONT)
			touch_line(p->writer[i].op, head + core->publish->front);
	}
}

/*
 * Before the first byte, but behind the waiting, as in the toggle shape: an executor that meets any byte of this
 * generation and then loads `begun` sees it, which tells what was in flight from what was complete.
 */
static void announce(struct core *core, uint64_t generation)
{
	atomic_store_explicit(&core->shared.begun, generation, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
}

int publish_once(struct core *core, uint64_t generation, uint32_t provocation)
{
	const struct xmc_publish *publish = core->publish;
	int rc = renew(core, generation);
	bool begun = false;

	for (uint32_t i = 0; i < publish->n_steps && !rc; i++) {
		if (!begun && publish->steps[i].op != XMC_PUB_MEET && publish->steps[i].op != XMC_PUB_DRAIN) {
			provoke(core, generation, provocation);
			announce(core, generation);
			begun = true;
		}
		rc = run_step(core, &publish->steps[i], generation);
		if (rc)
			core->counts->failed_step = i + 1;
	}
	return rc;
}
