/* region.c - place the code under test in the middle of a desert: 4 GiB in which every wild branch faults. */
#include "core.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

/*
 * Low on purpose: below every library and (position-independent) program, so that where the kernel can only allow, and
 * not name, a range for system calls, "everything above the reservation" is that range (fault.c).
 */
#define LOW_HINT ((void *)0x1000000000ull)

static uint8_t *reserve(uint64_t bytes)
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	uint8_t *base = mmap(LOW_HINT, bytes, PROT_NONE, flags | MAP_FIXED_NOREPLACE, -1, 0);

	if (base != MAP_FAILED && base != LOW_HINT) {	/* a kernel that does not know the flag took it as a hint */
		munmap(base, bytes);
		base = MAP_FAILED;
	}
	return base != MAP_FAILED ? base : mmap(NULL, bytes, PROT_NONE, flags, -1, 0);
}

static const int rights[XMC_PROTECTS] = {
	[XMC_PROTECT_RW] = PROT_READ | PROT_WRITE,
	[XMC_PROTECT_RX] = PROT_READ | PROT_EXEC,
	[XMC_PROTECT_RWX] = PROT_READ | PROT_WRITE | PROT_EXEC,
};

static int map_same(const struct region *region, int prot)
{
	void *p = mmap(region->window, region->window_bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return p == MAP_FAILED ? -errno : 0;
}

/* As map_same, in huge pages: asked for before the memory is touched. Whether they came is seen afterwards. */
static int map_huge(const struct region *region, int prot)
{
	int rc = map_same(region, prot);

	return !rc && madvise(region->window, region->window_bytes, MADV_HUGEPAGE) < 0 ? -ENOTSUP : rc;
}

uint32_t region_huge_pages(const struct region *region)
{
	FILE *maps = fopen("/proc/self/smaps", "re");
	unsigned long from, to, kib = 0;
	bool ours = false;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			ours = from == (unsigned long)(uintptr_t)region->window;
		else if (ours && sscanf(line, "AnonHugePages: %lu kB", &kib) == 1)
			break;
	}
	if (maps)
		fclose(maps);
	return ours ? (uint32_t)(kib * 1024 / XMC_HUGE_BYTES) : 0;
}

int memory_file(void)
{
	int fd = memfd_create("stress-region", MFD_CLOEXEC | MFD_EXEC);

	if (fd < 0 && errno == EINVAL)		/* before Linux 6.3 there is no MFD_EXEC, and no need of it */
		fd = memfd_create("stress-region", MFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int map_alias(struct region *region, int prot)
{
	int fd = memory_file();
	void *text, *data;

	if (fd < 0)
		return fd;
	region->fd = fd;
	if (ftruncate(fd, (off_t)region->window_bytes) < 0)
		return -errno;
	text = mmap(region->window, region->window_bytes, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	data = text == MAP_FAILED ? MAP_FAILED :
				    mmap(NULL, region->window_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (data == MAP_FAILED)
		return -errno;
	region->alias = data;
	return 0;
}

/* The file of descriptor `fd` opened once more: for who keeps books by open files, another one. */
static int open_again(int fd)
{
	char path[32];
	int other;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	other = open(path, O_RDWR | O_CLOEXEC);
	return other < 0 ? -ENOTSUP : other;
}

static int map_reopened(struct region *region, int prot)
{
	int rc = map_alias(region, prot), fd = rc ? rc : open_again(region->fd);
	void *data;

	if (fd < 0)
		return fd;
	data = mmap(region->alias, region->window_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
	close(fd);
	return data == MAP_FAILED ? -errno : 0;
}

/* Of 0 bytes of a shared mapping mremap makes a second one (mremap(2)); it begins with the rights of the first. */
static int map_twice(struct region *region, int prot)
{
	const int flags = MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED;
	void *text = mmap(region->window, region->window_bytes, prot, flags, -1, 0), *data;

	if (text == MAP_FAILED)
		return -errno;
	data = mremap(text, 0, region->window_bytes, MREMAP_MAYMOVE);
	if (data == MAP_FAILED || mprotect(data, region->window_bytes, PROT_READ | PROT_WRITE) < 0)
		return -ENOTSUP;
	region->alias = data;
	return 0;
}

/*
 * It is removed at once, and so goes with the last that has it attached. SHM_EXEC says what may be executed; QEMU 7.2
 * and Valgrind 3.19 forget that, so the right is given once more.
 */
static int attach_twice(struct region *region)
{
	int id = shmget(IPC_PRIVATE, region->window_bytes, 0700);
	void *text, *data;

	if (id < 0)
		return -ENOTSUP;
	text = shmat(id, region->window, SHM_RDONLY | SHM_EXEC | SHM_REMAP);
	data = shmat(id, NULL, 0);
	shmctl(id, IPC_RMID, NULL);
	if (text == (void *)-1 || data == (void *)-1 || mprotect(text, region->window_bytes, PROT_READ | PROT_EXEC) < 0)
		return -ENOTSUP;
	region->alias = data;
	return 0;
}

static int map_for(struct region *region, const struct xmc_plan *plan)
{
	if (plan->huge_pages)
		return map_huge(region, rights[XMC_PROTECT_RWX]);
	switch (plan->via) {
	case XMC_VIA_ALIAS:
	case XMC_VIA_PROCESS:
		return map_alias(region, rights[XMC_PROTECT_RX]);
	case XMC_VIA_REOPEN:
		return map_reopened(region, rights[XMC_PROTECT_RX]);
	case XMC_VIA_MREMAP:
		return map_twice(region, rights[XMC_PROTECT_RX]);
	case XMC_VIA_SHMAT:
		return attach_twice(region);
	case XMC_VIA_PTRACE:
		/*
		 * A tracer's write obeys the mapping's rights where the mapping is shared, and a writer's process must be
		 * able to flush the very lines that are fetched: hence a memfd, writable where it is executed.
		 */
		return map_alias(region, rights[XMC_PROTECT_RWX]);
	case XMC_VIA_PROCMEM:
		return map_same(region, rights[XMC_PROTECT_RW]);	/* until it is filled */
	default:
		return map_same(region, rights[XMC_PROTECT_RWX]);
	}
}

/* Breakpoints everywhere, far away a system call to try containment with, then pads, then image 0. */
static void fill(uint8_t *mapping, uint64_t bytes, const struct xmc_plan *plan)
{
	uint8_t *first = mapping + bytes / 2 + plan->place;

	for (uint64_t i = 0; i + xmc_arch_trap_len <= XMC_PAGE; i += xmc_arch_trap_len)
		memcpy(mapping + i, xmc_arch_trap, xmc_arch_trap_len);
	for (uint64_t page = XMC_PAGE; page < bytes; page += XMC_PAGE)
		memcpy(mapping + page, mapping, XMC_PAGE);
	memcpy(mapping + bytes - XMC_GATE_AT, xmc_arch_gate, XMC_GATE_BYTES);
	for (uint32_t i = 0; i < plan->n_pads; i++)
		memcpy(first + plan->pads[i].offset, plan->pads[i].bytes, plan->pads[i].len);
	memcpy(first, plan->images[0].bytes, plan->region_len);
	xmc_arch_sync_range((uint64_t)(uintptr_t)mapping, bytes);
}

/*
 * The arena: a few pages of one file, mapped over and over. Many addresses are what the steps want, and memory is not.
 */
static int map_arena(uint8_t **arena)
{
	const uint64_t page = 4096, block = 16 * page, bytes = XMC_ARENA_PAGES * page;
	int fd = memory_file(), rc = 0;
	uint8_t *base, *data;

	if (fd < 0)
		return fd;
	base = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	data = ftruncate(fd, (off_t)block) < 0 ? MAP_FAILED :
					       mmap(NULL, block, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED || data == MAP_FAILED) {
		rc = -errno;
		close(fd);
		return rc;
	}
	for (uint64_t at = 0; at < block; at += page)
		xmc_arch_fill_arena(data + at, (uint32_t)page);
	munmap(data, block);
	for (uint64_t at = 0; at < bytes && !rc; at += block)
		if (mmap(base + at, block, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0) ==
		    MAP_FAILED)
			rc = -errno;
	close(fd);
	*arena = base;
	return rc;
}

static bool wants(const struct xmc_plan *plan, uint32_t op)
{
	for (uint32_t i = 0; i < plan->n_provocations; i++)
		for (uint32_t j = 0; j < plan->provocations[i].n_executor; j++)
			if (plan->provocations[i].executor[j].op == op)
				return true;
	return false;
}

int region_map(struct region *region, const struct xmc_plan *plan)
{
	uint64_t unit = plan->huge_pages ? XMC_HUGE_BYTES : XMC_PAGE, bait;
	uint8_t *writable;
	int rc;

	region->fd = -1;
	region->window_bytes = plan->huge_pages ? 2 * XMC_HUGE_BYTES : XMC_MAP_BYTES;
	region->reserved = 2 * XMC_REACH + region->window_bytes + unit;	/* room to align the window */
	region->reservation = reserve(region->reserved);
	if (region->reservation == MAP_FAILED) {
		region->reservation = NULL;
		return -errno;
	}
	region->window = (uint8_t *)(((uintptr_t)region->reservation + XMC_REACH + unit - 1) & ~(uintptr_t)(unit - 1));
	rc = map_for(region, plan);
	if (rc < 0)
		return rc;
	writable = region->alias ? region->alias : region->window;
	region->text = (uint64_t)(uintptr_t)region->window + region->window_bytes / 2 + (uint64_t)(int64_t)plan->place;
	region->data = (uint64_t)(uintptr_t)writable + region->window_bytes / 2 + (uint64_t)(int64_t)plan->place;
	fill(writable, region->window_bytes, plan);
	if (plan->huge_pages && region_huge_pages(region) < region->window_bytes / XMC_HUGE_BYTES)
		return -ENOTSUP;
	if (wants(plan, XMC_EXEC_MISPREDICT)) {
		bait = region->window_bytes - XMC_PAGE;		/* far behind the region and its pads */
		region->bait = (uint64_t)(uintptr_t)region->window + bait;
		xmc_arch_fill_bait(writable + bait, region->bait, region->text + plan->entry);
	}
	if (wants_antagonist(plan, XMC_ANTAGONIST_SMT) || wants(plan, XMC_EXEC_EVICT_TLB) || wants(plan, XMC_EXEC_COLD_BRANCHES))
		rc = map_arena(&region->arena);
	if (rc)
		return rc;
	/* A forked writer is to have no translation of the code, nor make the executors' pages copy-on-write. */
	if (via_process(plan->via) && madvise(region->reservation, region->reserved, MADV_DONTFORK) < 0)
		return -errno;
	return plan->via == XMC_VIA_PROCMEM ? region_protect(region, XMC_PROTECT_RX) : 0;
}

int region_protect(const struct region *region, uint32_t protect)
{
	return mprotect(region->window, region->window_bytes, rights[protect]) < 0 ? -errno : 0;
}

/* Executors that fetch meanwhile fault and wait for the kernel's lock: they never find the address unmapped. */
int region_remap(const struct region *region)
{
	void *p = mmap(region->window, region->window_bytes, rights[XMC_PROTECT_RX], MAP_SHARED | MAP_FIXED, region->fd, 0);

	return p == MAP_FAILED ? -errno : 0;
}

bool region_holds(const struct region *region, uint64_t address)
{
	return address - (uint64_t)(uintptr_t)region->window < region->window_bytes;
}

void region_drop_alias(struct region *region)
{
	if (region->alias)
		munmap(region->alias, region->window_bytes);
	region->alias = NULL;
}

void region_unmap(struct region *region)
{
	if (region->arena)
		munmap(region->arena, XMC_ARENA_PAGES * 4096ull);
	region_drop_alias(region);
	if (region->reservation && region->fd >= 0)
		close(region->fd);
	if (region->reservation)
		munmap(region->reservation, region->reserved);
	*region = (struct region){ 0 };
}
